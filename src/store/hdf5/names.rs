//! The names of all datasets of a file.
//!
//! Owns: [`all`]. Must not know: what a dataset is stored as. Invariant: no dataset that has a name is left out, and groups that contain themselves have an end.

use hdf5::{Group, LocationInfo, LocationToken, LocationType};

use super::{can_follow, raw};

/// The absolute paths of the datasets of `root`'s file, in order. A dataset that has several names is there under each; a group that has several, under the one that is
/// found first, those of other files under each link.
///
/// A soft link to a group of this file is not followed: by hard links alone that has been, or will be, reached.
pub(super) fn all(root: Group) -> hdf5::Result<Vec<String>> {
    let start = root.loc_info()?;
    let id = |about: &LocationInfo| (about.fileno, about.token);
    // Those that could be met again: entered by a link that is not hard, or by one of several.
    let mut seen: Vec<(u64, LocationToken)> = vec![id(&start)];
    let (mut left, mut names) = (vec![(root, String::new())], Vec::new());
    while let Some((group, at)) = left.pop() {
        for name in group.member_names()? {
            if !can_follow(&group, &name) {
                continue;
            }
            let here = format!("{at}/{name}");
            match group.loc_type_by_name(&name)? {
                LocationType::Dataset => names.push(here),
                LocationType::Group => {
                    let is_hard = raw::link(&group, &name) == Some(raw::Link::Hard);
                    let inner = group.group(&name)?;
                    let about = inner.loc_info()?;
                    if !is_hard && about.fileno == start.fileno {
                        continue;
                    }
                    if !is_hard || about.num_links > 1 {
                        if seen.contains(&id(&about)) {
                            continue;
                        }
                        seen.push(id(&about));
                    }
                    left.push((inner, here));
                }
                _ => {}
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

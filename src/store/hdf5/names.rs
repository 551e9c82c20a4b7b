//! The names of the datasets of a file.
//!
//! Owns: [`all`], [`some`]. Must not know: what a dataset is stored as. Invariant: no dataset that has a name is left out, and groups that contain themselves have an end.

use hdf5::{Group, LocationInfo, LocationToken, LocationType};

use super::{can_follow, raw};

/// The absolute paths of the datasets of `root`'s file, in order. A dataset that has several names is there under each; a group that has several, under the one that is
/// found first, those of other files under each link.
///
/// A soft link to a group of this file is not followed: by hard links alone that has been, or will be, reached.
pub(super) fn all(root: &Group) -> hdf5::Result<Vec<String>> {
    let mut names = Vec::new();
    walk(root, &mut |name| {
        names.extend(name);
        true
    })?;
    names.sort_unstable();
    Ok(names)
}

/// The absolute paths of datasets in `group` and below, at most `limit`, as far as they are found soon: for messages.
pub(super) fn some(group: &Group, limit: usize) -> Vec<String> {
    let (mut names, mut looked_at) = (Vec::new(), 0);
    // What cannot be listed is no part of the message that it is for.
    let _ = walk(group, &mut |name| {
        names.extend(name);
        looked_at += 1;
        names.len() < limit && looked_at < SOON
    });
    names.sort_unstable();
    names
}

/// So many links are looked at for a message.
const SOON: usize = 10_000;

/// Looks at each link in a group and below, until `goes_on` does not: it is given the path of what is a dataset.
fn walk(root: &Group, goes_on: &mut dyn FnMut(Option<String>) -> bool) -> hdf5::Result<()> {
    let start = root.loc_info()?;
    let id = |about: &LocationInfo| (about.fileno, about.token);
    // Those that could be met again: entered by a link that is not hard, or by one of several.
    let mut seen: Vec<(u64, LocationToken)> = vec![id(&start)];
    let at = root.name().trim_end_matches('/').to_owned();
    let mut left = vec![(root.clone(), at)];
    while let Some((group, at)) = left.pop() {
        for name in group.member_names()? {
            let here = format!("{at}/{name}");
            let kind = if can_follow(&group, &name) { Some(group.loc_type_by_name(&name)?) } else { None };
            if !goes_on((kind == Some(LocationType::Dataset)).then(|| here.clone())) {
                return Ok(());
            }
            if kind == Some(LocationType::Group) {
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
        }
    }
    Ok(())
}

//! What is public, seen when it changes: a listing made from the sources, beside the one that is committed (tests/api.txt).
//!
//! Owns: the listing, and the rules of the surface: what may be public, who may look inside, one name for one thing. Must not know: what anything does.
//! Invariant: each check is also run on bad input made here, so that a check that sees nothing cannot pass.

mod impls;
mod listing;
mod made;
mod names;
mod rules;
mod text;
mod tree;

#[cfg(test)]
mod fails;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use listing::Listing;
use made::Macros;
use names::{Front, Names};
use support::code::{root, sources};
use tree::Tree;

/// The sources of the crate, by path.
fn crate_files() -> BTreeMap<String, String> {
    let files: BTreeMap<_, _> = sources(&["src"]).into_iter().map(|file| (file.path, file.text)).collect();
    assert!(files.len() > 100, "found only {} files: looked in the wrong place", files.len());
    files
}

/// The listing of a crate.
///
/// # Errors
/// What is wrong with what is public: names that lead nowhere, globs, one name for two things.
fn list(files: &BTreeMap<String, String>) -> Result<String, String> {
    let tree = Tree::load(files, false)?;
    let macros = Macros::of(&tree);
    let names = Names { tree: &tree, macros: &macros };
    let front = Front::of(&names);
    if !front.problems.is_empty() {
        return Err(front.problems.join("\n"));
    }
    let mut listing = Listing::definitions(&names, &front);
    impls::implement(&names, &front, &mut listing);
    Ok(listing.to_string())
}

/// Each line with those it stands under, in order.
fn facts(listing: &str) -> Vec<String> {
    let mut above: Vec<&str> = Vec::new();
    let mut facts = Vec::new();
    for line in listing.lines() {
        let depth = (line.len() - line.trim_start().len()) / 4;
        above.truncate(depth);
        above.push(line.trim_start());
        facts.push(above.join(" | "));
    }
    facts
}

/// What is in one listing and not in the other: lines with `-` and `+`. `None` if they are the same.
fn difference(committed: &str, now: &str) -> Option<String> {
    if committed == now {
        return None;
    }
    let (was, is) = (facts(committed), facts(now));
    let (before, after): (BTreeSet<_>, BTreeSet<_>) = (was.iter().collect(), is.iter().collect());
    let gone = before.difference(&after).map(|fact| (fact, format!("- {fact}")));
    let new = after.difference(&before).map(|fact| (fact, format!("+ {fact}")));
    let changed: BTreeSet<_> = gone.chain(new).collect();
    let lines: Vec<String> = changed.into_iter().map(|(_, line)| line).collect();
    Some(if lines.is_empty() { "the same lines in another order".into() } else { lines.join("\n") })
}

#[test]
fn what_is_public_is_what_was_agreed_on() {
    let now = list(&crate_files()).unwrap_or_else(|problems| panic!("\n{problems}\n"));
    let file = root().join("tests/api.txt");
    if std::env::var_os("UPDATE_API").is_some_and(|v| v == "1") {
        fs::write(&file, &now).expect("tests/api.txt can be written");
        return;
    }
    let committed = fs::read_to_string(&file).unwrap_or_default().replace("\r\n", "\n");
    if let Some(difference) = difference(&committed, &now) {
        panic!("what is public has changed:\n\n{difference}\n\nIf it is meant: UPDATE_API=1 cargo test --test api\n");
    }
}

#[track_caller]
fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn only_the_front_store_and_ext_are_public() {
    let tree = Tree::load(&crate_files(), false).expect("the crate can be read");
    assert_none(rules::wrong_front(&tree));
}

#[test]
fn programs_are_written_as_a_user_would() {
    let files = sources(&["examples"]);
    assert!(files.len() > 20, "found only {} files: looked in the wrong place", files.len());
    assert_none(rules::wrong_programs(&files, rules::INSIDE));
}

#[test]
fn one_name_is_one_thing() {
    let tree = Tree::load(&crate_files(), true).expect("the crate can be read");
    assert_none(rules::wrong_names(&tree, rules::SHARED));
}

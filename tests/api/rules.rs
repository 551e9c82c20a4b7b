//! The rules of the surface, and what is excepted from them and why.
//!
//! Owns: which modules are public, which programs look inside, which types share a name. Must not know: the listing. Invariant: an exception that nothing needs
//! is told too, so that the lists here only shrink.

use std::collections::{BTreeMap, BTreeSet};

use support::code::{Source, code_only, first_segments, is_word};
use syn::Item;

use crate::names::leaves;
use crate::tree::{Tree, is_pub, type_names};

/// The modules that users have.
const PUBLIC: &[&str] = &["book", "ext", "prelude", "store"]; // the book is there in the documentation alone

/// The rooms that users do not have.
const ROOMS: &[&str] = &["id", "error", "shape", "kernel", "device", "task", "cost", "schedule", "runtime", "array", "report"];

/// The programs that look inside, by how their paths begin, and what for.
pub const INSIDE: &[(&str, &str)] = &[
    ("examples/replay.rs", "decides a recorded run again"),
    ("examples/devices.rs", "tells rates, links and drivers"),
    ("examples/two_pools.rs", "makes devices of its own"),
    ("examples/gpu_lab", "drives a GPU by hand"),
    ("examples/compare", "measures the machine beside the work"),
    ("examples/custom_kernel/tests", "tests"),
    ("examples/common/adapter.rs", "what drivers say of GPUs"),
    ("examples/common/report.rs", "the peak memory and the processor of the machine"),
    ("examples/common/session.rs", "the memory that is left, and the SIMD level"),
];

/// Types that share a name, and why they may.
pub const SHARED: &[(&str, &str)] = &[("Sealed", "each closed set of types has a trait of that name, which nobody names")];

/// What is wrong in lib.rs: a public module or glob that the surface does not have. The tree is without `internals`.
pub fn wrong_front(tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    for item in &tree.modules[&Vec::new()].items {
        if let Item::Mod(module) = item
            && is_pub(&module.vis)
            && !PUBLIC.contains(&module.ident.to_string().as_str())
        {
            wrong.push(format!("src/lib.rs: `pub mod {}`: public are the front, {}", module.ident, PUBLIC.join(", ")));
        }
    }
    for module in tree.modules.values().filter(|module| module.file == "src/lib.rs") {
        for item in &module.items {
            if let Item::Use(u) = item
                && is_pub(&u.vis)
                && leaves(&u.tree).iter().any(|leaf| leaf.binding == "*")
            {
                wrong.push("src/lib.rs: `pub use ..::*` hides what is public".into());
            }
        }
    }
    wrong
}

/// The rooms that a program names, with their lines.
fn rooms_named(file: &Source) -> Vec<(usize, String)> {
    let code = code_only(&file.text);
    let mut named = Vec::new();
    for (start, root) in code.match_indices("chunkwise::") {
        if code[..start].ends_with(is_word) {
            continue;
        }
        let line = 1 + code[..start].matches('\n').count();
        let rooms = first_segments(&code[start + root.len()..]).into_iter().filter(|name| ROOMS.contains(&name.as_str()));
        named.extend(rooms.map(|room| (line, room)));
    }
    named
}

/// Programs that name rooms, and are not among those that may.
pub fn wrong_programs(files: &[Source], inside: &[(&str, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut looked = BTreeSet::new();
    for file in files {
        let excepted = inside.iter().find(|(path, _)| file.path.starts_with(path));
        for (line, room) in rooms_named(file) {
            match excepted {
                Some((path, _)) => drop(looked.insert(*path)),
                None => wrong.push(format!(
                    "{}:{line}: `chunkwise::{room}` is inside: write chunkwise::X or chunkwise::ext::X",
                    file.path
                )),
            }
        }
    }
    let idle = inside.iter().filter(|(path, _)| !looked.contains(path));
    wrong.extend(idle.map(|(path, _)| format!("{path} names no room: take it off the list of tests/api/rules.rs")));
    wrong
}

/// Types that share a name with another and are not in the list, with their places. The tree is with `internals`.
pub fn wrong_names(tree: &Tree, shared: &[(&str, &str)]) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for module in tree.modules.values() {
        for item in &module.items {
            for name in type_names(item) {
                places.entry(name.to_string()).or_default().push(format!("{}:{}", module.file, name.span().start().line));
            }
        }
    }
    places.retain(|_, places| places.len() > 1);
    let listed: BTreeSet<&str> = shared.iter().map(|(name, _)| *name).collect();
    let unlisted = places.iter().filter(|(name, _)| !listed.contains(name.as_str()));
    let mut wrong: Vec<String> =
        unlisted.map(|(name, places)| format!("`{name}` is {} things: {}", places.len(), places.join(", "))).collect();
    let idle = listed.iter().filter(|name| !places.contains_key(**name));
    wrong.extend(idle.map(|name| format!("`{name}` is one thing: take it off the list of tests/api/rules.rs")));
    wrong
}

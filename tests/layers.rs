//! Keeps the house in order: which room may name which, file sizes and headers, where `unsafe` and wgpu may stand,
//! that modules lie where the compiler looks for them.
//!
//! Owns: the order of the rooms (see ARCHITECTURE.md). Must not know: what any room does. Invariant: each check is also run on
//! bad input made here, so that a check that sees nothing cannot pass.

use std::fs;
use std::path::Path;

use support::code::{Source, code_only, first_segments, is_word, lines_with, sources, without_tests};

/// Lower rooms first. A room may name the rooms of earlier lines only; two rooms of one line do not name each other.
const ROOMS: &[&[&str]] = &[
    &["id"],
    &["error"],
    &["shape"],
    &["kernel"],
    &["device"],
    &["task"],
    &["cost"],
    &["schedule"],
    &["store"],
    &["runtime"],
    &["array"],
    &["delayed", "report"],
];

/// What lib.rs re-exports that every room may use by its short name, and the room it belongs to. `ext`, `Array`, .. are what macros name where users call them.
const SHORT_NAMES: &[(&str, &str)] = &[
    ("Error", "error"),
    ("Result", "error"),
    ("Bytes", "error"),
    ("ext", "kernel"),
    ("Array", "array"),
    ("where_", "array"),
    ("map", "array"),
];

/// The only files that may contain `unsafe`, and what for.
const UNSAFE: &[(&str, &str)] = &[
    ("src/shape/view.rs", "chunk bytes become slices here and nowhere else"),
    ("src/shape/view/read.rs", "elements are gathered by strides"),
    ("src/shape/copy.rs", "chunks are copied by strides, which no slice has"),
    ("src/shape/copy/tiles.rs", "tiles are turned in registers"),
    ("src/device/block.rs", "memory that the system zeroes when it is used"),
    ("src/device/buffer.rs", "memory that is handed out as windows, and becomes a Vec without a copy"),
    ("src/device/mod.rs", "windows become views where the scheduler has made sure of the access; what a device promises"),
    ("src/device/cpu.rs", "the promise of a device"),
    ("src/device/io.rs", "the promise of a device"),
    ("src/device/faulty.rs", "the promise of a device"),
    ("src/device/gpu/executor.rs", "the promise of a device"),
    ("src/device/gpu/pipelines/compile.rs", "shaders without a counter in each loop"),
    ("src/device/gpu/pipelines/disk.rs", "a driver's own cache, from a file"),
    ("src/device/gpu/vulkan.rs", "the size of a GPU's memory"),
    ("src/device/system.rs", "calls of the system: memory, disk"),
    ("src/store/mark.rs", "locks of open files, which std does not have"),
    ("src/store/hdf5/mappings.rs", "calls of the HDF5 library that the safe binding lacks"),
    ("src/store/hdf5/raw.rs", "calls of the HDF5 library that the safe binding lacks"),
    ("src/kernel/stream.rs", "stores past the caches, and prefetches"),
    ("src/device/shared.rs", "the memory of a strided array that others have too"),
    ("src/store/hdf5/types.rs", "element types that the safe binding cannot compare or make"),
    ("src/cost/gpu_tests.rs", "the promise of a device that is made up"),
    ("examples/compare/tests/fake.rs", "the promise of a device"),
    ("examples/gpu_lab/host.rs", "chunks are lent to a device that is driven by hand"),
    ("examples/gpu_lab/tests.rs", "the promise of a device, broken"),
    ("benches/link.rs", "chunks are lent to a device that is driven by hand"),
    ("examples/common/process.rs", "the environment, the allocator, the terminal: calls of the system"),
];

const LONGEST_FILE: usize = 500;

/// The room of a file of `src/`; lib.rs has none.
fn room(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let first = inside.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib").then_some(name)
}

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|line| line.contains(&room))
}

/// Names of the crate's root that this code reaches, with their lines: `a` and `b` of `crate::a`, `crate::{a::X, b}`, and the
/// same through `super`, when it climbs out of the room.
fn root_names(path: &str, code: &str) -> Vec<(usize, String)> {
    let depth = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod").split('/').count();
    let mut names = Vec::new();
    let mut from = 0;
    while let Some((start, after)) = next_root(code, from, depth) {
        let line = 1 + code[..start].matches('\n').count();
        names.extend(first_segments(&code[after..]).into_iter().map(|name| (line, name)));
        from = after;
    }
    names
}

/// The next `crate::` (or `super::` repeated `depth` times) from byte `from`: where it starts and where it ends.
fn next_root(code: &str, from: usize, depth: usize) -> Option<(usize, usize)> {
    let climb = "super::".repeat(depth);
    let find = |pattern: &str| {
        let starts = code[from..].match_indices(pattern).map(|(k, _)| from + k);
        starts.into_iter().find(|&k| !code[..k].ends_with(is_word)).map(|k| (k, k + pattern.len()))
    };
    [find("crate::"), find(&climb)].into_iter().flatten().min()
}

fn wrong_rooms(file: &Source) -> Vec<String> {
    let Some(own) = room(&file.path) else { return Vec::new() };
    let Some(own_rank) = rank(own) else {
        return vec![format!("{}: room `{own}` has no place in the order of tests/layers.rs", file.path)];
    };
    let code = without_tests(&code_only(&file.text));
    let mut wrong = Vec::new();
    for (line, name) in root_names(&file.path, &code) {
        let target = SHORT_NAMES.iter().find(|(short, _)| *short == name).map_or(name.as_str(), |(_, room)| room);
        let problem = match rank(target) {
            _ if target == own => continue,
            Some(rank) if rank < own_rank => continue,
            Some(_) => format!("`{own}` must not know `{target}`"),
            None => format!("`crate::{name}` hides which room it belongs to: write crate::ROOM::{name}"),
        };
        wrong.push(format!("{}:{line}: {problem}", file.path));
    }
    wrong
}

fn wrong_shape(file: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = file.text.lines().count();
    if lines > LONGEST_FILE {
        wrong.push(format!("{}: {lines} lines, more than {LONGEST_FILE}", file.path));
    }
    if !file.text.starts_with("//! ") {
        wrong.push(format!("{}: does not open with `//! ` and what the file is for", file.path));
    }
    wrong
}

fn wrong_words(file: &Source) -> Vec<String> {
    let code = code_only(&file.text);
    let mut wrong = Vec::new();
    if !UNSAFE.iter().any(|(path, _)| *path == file.path) {
        let lines = lines_with(&code, "unsafe").into_iter();
        wrong.extend(lines.map(|n| format!("{}:{n}: `unsafe`, but the file is not in the list of tests/layers.rs", file.path)));
    }
    if !file.path.starts_with("src/device/gpu/") {
        for word in ["wgpu", "pollster"] {
            let lines = lines_with(&code, word).into_iter();
            wrong.extend(lines.map(|n| format!("{}:{n}: `{word}` belongs in src/device/gpu only", file.path)));
        }
    }
    wrong
}

/// Attributes that take a module from elsewhere: what several programs share is in `support` or `examples/common`.
fn wrong_places(file: &Source) -> Vec<String> {
    let code = code_only(&file.text);
    let attribute = |(start, _): (usize, &str)| {
        let text: String = code[start..].chars().take_while(|&c| c != ']').filter(|c| !c.is_whitespace()).collect();
        let line = 1 + code[..start].matches('\n').count();
        let elsewhere = text.starts_with("#[path=") || text.starts_with("#[cfg_attr(") && text.contains(",path=");
        elsewhere.then(|| format!("{}:{line}: `#[path]` hides where a module lies", file.path))
    };
    code.match_indices("#[").filter_map(attribute).collect()
}

/// What the room that decides must not see: kernels are numbers there, and no code of theirs is called.
fn wrong_kernels(file: &Source) -> Vec<String> {
    if room(&file.path) != Some("schedule") {
        return Vec::new();
    }
    let code = code_only(&file.text);
    let names =
        root_names(&file.path, &without_tests(&code)).into_iter().filter(|(_, name)| name == "kernel").map(|(line, _)| line);
    let mut lines: Vec<usize> = names.chain(lines_with(&code, "Kernel")).collect();
    lines.sort_unstable();
    lines.dedup();
    lines.into_iter().map(|n| format!("{}:{n}: `schedule` decides by numbers and names no kernel", file.path)).collect()
}

#[track_caller]
fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn no_room_names_a_higher_one() {
    let files = sources(&["src"]);
    assert!(files.len() > 5, "found only {} files: looked in the wrong place", files.len());
    assert_none(files.iter().flat_map(wrong_rooms).collect());
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    assert_none(sources(&["src", "tests", "examples", "benches"]).iter().flat_map(wrong_shape).collect());
}

#[test]
fn unsafe_and_wgpu_stay_where_they_belong() {
    assert_none(sources(&["src", "examples", "benches"]).iter().flat_map(wrong_words).collect());
    for (path, _) in UNSAFE {
        let Ok(text) = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)) else { continue };
        assert!(!lines_with(&code_only(&text), "unsafe").is_empty(), "{path} has no `unsafe`: take it off the list");
    }
}

#[test]
fn modules_lie_where_their_names_say() {
    let files = sources(&["src", "tests", "examples", "benches"]);
    assert!(files.len() > 100, "found only {} files: looked in the wrong place", files.len());
    assert_none(files.iter().flat_map(wrong_places).collect());
}

#[test]
fn the_scheduler_names_no_kernel() {
    let files = sources(&["src/schedule"]);
    assert!(files.len() > 5, "found only {} files: looked in the wrong place", files.len());
    assert_none(files.iter().flat_map(wrong_kernels).collect());
}

mod the_checks_can_fail {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn upward_names_are_found_in_every_spelling() {
        for text in [
            "use crate::runtime::Session;",
            "use crate::{error::Result, runtime};",
            "use crate::{\n    shape::{DType, Region},\n    schedule::Scheduler,\n};",
            "fn f() { crate::device::Cpu::new(); }",
            "use super::super::device;",
            "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::array::Array;",
            "const A: char = '\"'; use crate::task::TaskGraph; const B: char = '\"';",
            "fn f<'a>(x: &'a str) { crate::cost::price(x) }",
            "const S: &str = r#\"a \" b\"#; use crate::store::hdf5;",
            "/* outer /* inner */ */ use crate::report::draw;",
            "macro_rules! m { () => { $crate::delayed::f() } }",
        ] {
            assert_eq!(wrong_rooms(&source("src/kernel/x.rs", text)).len(), 1, "{text}");
        }
    }

    #[test]
    fn downward_names_comments_strings_and_tests_are_left_alone() {
        for text in [
            "use crate::shape::DType; use crate::kernel::Work; use crate::{Error, id::TaskId};",
            "use super::Kernel; use super::super::shape;",
            "// use crate::runtime::Session;\n//! crate::runtime\n/* crate::array */",
            "const S: &str = \"crate::runtime\"; const R: &str = r\"crate::array\"; const B: &[u8] = b\"crate::task\";",
            "#[cfg(test)]\nmod tests {\n    use crate::runtime::Session;\n}\n",
            "#[cfg(test)]\n#[path = \"x.rs\"]\nuse crate::runtime::Session;",
            "fn mycrate() { mycrate::runtime() }",
        ] {
            assert_none(wrong_rooms(&source("src/kernel/x.rs", text)));
        }
    }

    #[test]
    fn rooms_without_a_place_and_names_through_the_root_are_found() {
        assert_eq!(wrong_rooms(&source("src/attic/x.rs", "")).len(), 1);
        assert_eq!(wrong_rooms(&source("src/attic.rs", "")).len(), 1);
        assert_eq!(wrong_rooms(&source("src/array/x.rs", "use crate::Session;")).len(), 1);
        assert_eq!(wrong_rooms(&source("src/report/x.rs", "use crate::delayed::f;")).len(), 1);
        assert_none(wrong_rooms(&source("src/lib.rs", "pub use crate::array::Array;")));
    }

    #[test]
    fn line_numbers_are_those_of_the_file() {
        let wrong = wrong_rooms(&source("src/id.rs", "/* a\nb */\nconst S: &str = \"\n\";\nuse crate::error::Error;"));
        assert!(wrong[0].starts_with("src/id.rs:5:"), "{wrong:?}");
    }

    #[test]
    fn long_files_and_missing_headers_are_found() {
        assert_eq!(wrong_shape(&source("src/x.rs", &format!("//! x\n{}", "\n".repeat(LONGEST_FILE)))).len(), 1);
        assert_none(wrong_shape(&source("src/x.rs", &format!("//! x\n{}", "\n".repeat(LONGEST_FILE - 1)))));
        for text in ["", "// x", "fn main() {}", "\n//! late"] {
            assert_eq!(wrong_shape(&source("src/x.rs", text)).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn strange_unsafe_and_wgpu_are_found() {
        for text in ["fn f() { unsafe { g() } }", "use wgpu::Device;", "#[cfg(test)] mod t { unsafe fn f() {} }"] {
            assert_eq!(wrong_words(&source("src/task/x.rs", text)).len(), 1, "{text}");
        }
        for text in ["#![deny(unsafe_code)]", "// unsafe wgpu", "const S: &str = \"wgpu\";", "let my_wgpu = 1;"] {
            assert_none(wrong_words(&source("src/task/x.rs", text)));
        }
        assert_none(wrong_words(&source("src/device/gpu/x.rs", "use wgpu::Device;")));
        assert_none(wrong_words(&source("src/shape/view.rs", "unsafe fn f() {}")));
    }

    #[test]
    fn modules_from_elsewhere_are_found() {
        for text in [
            "#[path = \"x.rs\"]\nmod x;",
            "#[cfg(test)] #[path=\"x.rs\"] mod x;",
            "#[path\n = r\"x.rs\"] mod x;",
            "#[cfg_attr(unix, path = \"unix.rs\")]\nmod x;",
            "#[cfg_attr(all(unix, test), allow(dead_code), path = \"x.rs\")] mod x;",
        ] {
            assert_eq!(wrong_places(&source("tests/x.rs", text)).len(), 1, "{text}");
        }
        for text in [
            "// #[path = \"x.rs\"]",
            "const S: &str = \"#[path = x]\";",
            "#[serde(path = \"x\")] struct A;",
            "#[allow(dead_code)] mod x; let path = 1;",
            "#[cfg_attr(unix, allow(dead_code))]\nfn f() { [path = 1] }",
        ] {
            assert_none(wrong_places(&source("tests/x.rs", text)));
        }
    }

    #[test]
    fn kernels_in_the_scheduler_are_found() {
        for text in [
            "use crate::kernel::Work;",
            "use crate::{id::TaskId, kernel::{Work, Kernel}};",
            "use super::super::kernel;",
            "fn f(k: &dyn Kernel) {}",
            "#[cfg(test)]\nmod tests { impl Kernel for X {} }",
        ] {
            assert_eq!(wrong_kernels(&source("src/schedule/x.rs", text)).len(), 1, "{text}");
            assert_none(wrong_kernels(&source("src/runtime/x.rs", text)));
        }
        for text in [
            "// crate::kernel, Kernel",
            "const S: &str = \"Kernel\";",
            "use crate::id::KernelId;",
            "fn f(tasks: &TaskGraph) { tasks.kernels() }",
        ] {
            assert_none(wrong_kernels(&source("src/schedule/x.rs", text)));
        }
    }
}

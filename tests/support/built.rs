//! Where the example programs lie, built if need be.
//!
//! Owns: finding them, and one call of cargo. Must not know: any program. Invariant: a program that runs is as new as its sources: `cargo test
//! --test NAME` builds that test alone, and must test neither nothing nor what the sources were once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::SystemTime;

/// The program `name`, up to date.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let program = folder().join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if !is_fresh(&program) {
        static BUILT: LazyLock<Result<(), String>> = LazyLock::new(build);
        if let Err(why) = &*BUILT {
            panic!("{} cannot be built: {why}", program.display());
        }
    }
    assert!(program.exists(), "there is no example {name}");
    program
}

/// `target/PROFILE/examples`: beside the `deps` folder that this test program lies in.
fn folder() -> PathBuf {
    let this = std::env::current_exe().expect("path of this test");
    let profile = this.parent().and_then(Path::parent).expect("target/PROFILE/deps/test");
    profile.join("examples")
}

/// Whether no source is newer, by the list that the compiler left beside the program: `PROGRAM: SOURCE SOURCE ...`.
pub fn is_fresh(program: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    let (Some(built), Ok(list)) = (changed(program), std::fs::read_to_string(program.with_extension("d"))) else {
        return false;
    };
    // Blanks within a path are written with a backslash.
    let list = list.replace("\\ ", "\0");
    let Some((listed, sources)) = list.lines().next().and_then(|line| line.split_once(": ")) else { return false };
    let same = |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
    if !same(Path::new(&listed.replace('\0', " ")), program) {
        return false; // the folder was copied or moved, and the list is about another one
    }
    let older = |source: SystemTime| source <= built;
    sources.split_whitespace().all(|path| changed(Path::new(&path.replace('\0', " "))).is_some_and(older))
}

/// All examples at once, as this test was built: nothing else is compiled, and `cargo test` finds them done. Cargo itself lets one build wait for another.
fn build() -> Result<(), String> {
    let folder = folder();
    let profile = folder.parent().and_then(Path::file_name).map_or("debug".into(), |name| name.to_string_lossy());
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).args(["build", "--examples", "--quiet"]);
    cargo.args(["--profile", if profile == "debug" { "dev" } else { &profile }]);
    if !has_gpus() {
        cargo.arg("--no-default-features"); // the default is that one
    }
    let target = folder.ancestors().nth(2).expect("target/PROFILE/examples");
    let output = cargo.arg("--target-dir").arg(target).output().map_err(|e| format!("cannot run cargo: {e}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Whether the library of this test has the feature `gpu`, which is not one of this crate.
fn has_gpus() -> bool {
    let session = chunkwise::Session::builder().threads(1).placement(chunkwise::Placement::Auto).cache_dir("").build();
    session.is_ok_and(|session| !session.why_no_gpu().contains("feature `gpu` is off"))
}

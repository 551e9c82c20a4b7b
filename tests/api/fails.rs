//! The checks of this folder on input that is wrong: each must find it.

use super::*;

/// A crate of these files; each begins with its path.
fn files(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(path, text)| (format!("src/{path}"), (*text).to_owned())).collect()
}

#[track_caller]
fn listed(of: &[(&str, &str)]) -> String {
    list(&files(of)).expect("is listed")
}

/// What a change of `b.rs` does to the listing of a crate that has `a` and `b` of it.
#[track_caller]
fn change(before: &str, after: &str) -> String {
    let with = |b: &str| listed(&[("lib.rs", "mod b; pub use b::{A, T};"), ("b.rs", b)]);
    difference(&with(before), &with(after)).expect("the listing differs")
}

const PLAIN: &str = "pub struct A { pub x: u8 } pub trait T { fn f(&self); } impl A { pub fn g(&self, y: u8) -> u8 { y } }";

#[test]
fn every_kind_of_change_is_seen() {
    for (from, to, seen) in [
        ("pub x: u8", "pub x: u16", "- chunkwise::A | struct A {..} | pub x: u8"),
        ("pub x: u8", "pub x: u16", "+ chunkwise::A | struct A {..} | pub x: u16"),
        ("pub x: u8", "pub x: u8, y: u8", "+ chunkwise::A | struct A {..} | private fields"),
        ("pub struct A", "#[derive(Clone)] pub struct A", "+ chunkwise::A | derive | Clone"),
        ("pub struct A", "#[non_exhaustive] pub struct A", "+ chunkwise::A | #[non_exhaustive] struct A {..}"),
        ("pub struct A { pub x: u8 }", "pub enum A { X(u8), Y { z: u8 } }", "+ chunkwise::A | enum A | Y { z: u8 }"),
        ("fn f(&self);", "fn f(&self) {}", "+ chunkwise::T | trait T | fn f(&self) {..}"),
        ("trait T {", "trait T: Send {", "+ chunkwise::T | trait T: Send"),
        ("trait T {", "unsafe trait T {", "+ chunkwise::T | unsafe trait T"),
        ("fn f(&self);", "fn f(&self); const C: u8 = 1; type X: Clone;", "+ chunkwise::T | trait T | type X: Clone;"),
        ("y: u8) -> u8", "y: &mut [u8; 4]) -> Vec<u8>", "+ chunkwise::A | impl A | fn g(&self, y: &mut [u8; 4]) -> Vec<u8>"),
        ("pub fn g", "pub const unsafe fn g", "+ chunkwise::A | impl A | const unsafe fn g(&self, y: u8) -> u8"),
        (
            "pub fn g",
            "#[cfg(feature = \"gpu\")] pub fn g",
            "+ chunkwise::A | impl A | #[cfg(feature = \"gpu\")] fn g(&self, y: u8) -> u8",
        ),
        (
            "impl A",
            "impl<U> From<Vec<U>> for A { fn from(_: Vec<U>) -> A { A { x: 1 } } } impl A",
            "+ chunkwise::A | impl<U> From<Vec<U>> for A",
        ),
        ("impl A", "impl T for [u8; 3] { fn f(&self) {} } impl A", "+ chunkwise::T | impl T for [u8; 3]"),
        ("impl A", "impl dyn T { pub fn h(&self) {} } impl A", "+ chunkwise::T | impl dyn T | fn h(&self)"),
        (
            "impl A",
            "mod c { impl super::A { pub const N: usize = 1; } } impl A",
            "+ chunkwise::A | impl super::A | const N: usize",
        ),
        (
            "impl A",
            "macro_rules! m { ($($t:ty),*) => {$( impl T for $t { fn f(&self) {} } )*}; } m!(u8, u16); impl A",
            "+ chunkwise::T | made by m! in src/b.rs: impl T for $t | m!(u8, u16)",
        ),
    ] {
        assert!(PLAIN.contains(from), "{from}");
        let found = change(PLAIN, &PLAIN.replacen(from, to, 1));
        assert!(found.lines().any(|line| line == seen), "{to}: no `{seen}` in\n{found}");
    }
}

#[test]
fn what_users_do_not_have_is_not_listed() {
    let hidden = "
        impl A { fn private(&self) {} pub(crate) fn here(&self) {} #[doc(hidden)] pub fn hidden(&self) {}
            #[cfg(feature = \"internals\")] pub fn inside(&self) {} #[cfg(test)] pub fn tested(&self) {} }
        pub struct Unexported; impl T for Unexported { fn f(&self) {} } trait Own {} impl Own for A {} impl From<Unexported> for A {}
        #[cfg(test)] mod tests { impl super::A { pub fn more(&self) {} } }";
    let with = |b: &str| listed(&[("lib.rs", "mod b; pub use b::{A, T};"), ("b.rs", b)]);
    assert_eq!(difference(&with(PLAIN), &with(&format!("{PLAIN}{hidden}"))), None);
}

#[test]
fn the_order_and_layout_of_the_source_do_not_matter() {
    let other = "impl A { pub fn g(\n        &self,\n        mut y: u8,\n    ) -> u8 { y } }\npub trait T {\n    /// Doc.\n    fn f(&self);\n}\npub struct A {\n    pub x: u8,\n}\n";
    let with = |b: &str| listed(&[("lib.rs", "mod b; pub use b::{A, T};"), ("b.rs", b)]);
    assert_eq!(difference(&with(PLAIN), &with(other)), None);
}

#[test]
fn names_are_followed_through_modules_and_macros() {
    let text = listed(&[
        (
            "lib.rs",
            "#[cfg(not(feature = \"internals\"))] mod a; #[cfg(feature = \"internals\")] pub mod a; pub mod store; pub use a::{mandelbrot, Id};\n\
                    pub mod ext { pub use crate::a::Deep as D; pub use crate::Id; } pub use ndarray;",
        ),
        (
            "a/mod.rs",
            "mod deep; mod mandelbrot; pub use self::deep::Deep; pub use mandelbrot::mandelbrot;\n\
                      macro_rules! ids { ($($n:ident($t:ty);)*) => {$( pub struct $n(pub $t); impl $n { pub fn at(i: usize) -> Self { x } } )*}; }\n\
                      ids! { Id(u16); Other(u8); }",
        ),
        ("a/deep.rs", "pub type Deep = u8;"),
        ("a/mandelbrot.rs", "pub fn mandelbrot<T: Copy>(x: &T) -> T where T: Send { *x }"),
        ("store/mod.rs", "mod own; pub use own::open; pub fn create() {}"),
        ("store/own.rs", "pub fn open() {}"),
    ]);
    let wanted = "\
chunkwise::Id
    made by ids! in src/a/mod.rs: Id(u16)
    ids! has impl $n
        pub fn at(i: usize) -> Self
    ids! has pub struct $n(pub $t)
chunkwise::ext::D
    type Deep = u8
chunkwise::mandelbrot
    fn mandelbrot<T: Copy>(x: &T) -> T where T: Send
chunkwise::ndarray
    pub use ndarray
chunkwise::store::create
    fn create()
chunkwise::store::open
    fn open()
pub use chunkwise::ext::Id = chunkwise::Id
";
    assert_eq!(text, wanted);
}

#[test]
fn what_cannot_be_listed_is_an_error() {
    for (lib, why) in [
        ("mod b; pub use b::Missing;", "leads nowhere"),
        ("mod b; pub use b::*;", "glob"),
        ("pub use elsewhere::X;", "leads nowhere, or into another crate"),
        ("pub use serde::Serialize;", "another crate"),
        ("mod c;", "src/c/mod.rs: no such file"),
        ("pub fn f( {}", "src/lib.rs:1"),
        ("mod b; pub use b::A; pub mod ext { pub struct A; }", "`A` is two things: chunkwise::A, chunkwise::ext::A"),
        ("mod b; pub use b::A; pub use b::T as A;", "`A` is two things"),
    ] {
        let error = list(&files(&[("lib.rs", lib), ("b.rs", PLAIN)])).expect_err(lib);
        assert!(error.contains(why), "{lib}: {error}");
    }
}

#[test]
fn an_old_listing_is_told_from_the_new_one() {
    let now = listed(&[("lib.rs", "pub fn f() {} pub fn g() {}")]);
    assert_eq!(difference(&now, &now), None);
    assert_eq!(difference("", &now).map(|d| d.lines().count()), Some(4));
    let (f, g) = now.split_at(now.find("chunkwise::g").expect("g"));
    assert_eq!(difference(&format!("{g}{f}"), &now).as_deref(), Some("the same lines in another order"));
}

#[test]
fn a_public_room_and_a_glob_are_found() {
    let wrong = |lib: &str| rules::wrong_front(&Tree::load(&files(&[("lib.rs", lib)]), false).expect("is read"));
    for lib in [
        "pub mod kernel {}",
        "#[cfg(feature = \"gpu\")] pub mod gpu {}",
        "pub use ndarray::*;",
        "pub mod ext { pub use crate::a::{B, c::*}; }",
    ] {
        assert_eq!(wrong(lib).len(), 1, "{lib}");
    }
    for lib in [
        "mod kernel {}",
        "#[cfg(feature = \"internals\")] pub mod kernel {}",
        "pub mod ext {} pub mod store {} pub mod prelude {}",
        "use a::*;",
    ] {
        assert_none(wrong(lib));
    }
}

#[test]
fn programs_that_look_inside_are_found() {
    let source = |text: &str| support::code::Source { path: "examples/x.rs".into(), text: text.into() };
    for text in [
        "use chunkwise::shape::DType;",
        "use chunkwise::{Array, device::{Cpu, Device}};",
        "fn f(t: chunkwise::runtime::Record) {}",
    ] {
        assert_eq!(rules::wrong_programs(&[source(text)], &[]).len(), 1, "{text}");
        assert_none(rules::wrong_programs(&[source(text)], &[("examples/x.rs", "a reason")]));
    }
    for text in [
        "use chunkwise::{Array, store};",
        "use chunkwise::ext::Kernel;",
        "// chunkwise::shape::DType",
        "use my_chunkwise::shape::X;",
        "const S: &str = \"chunkwise::shape::X\";",
    ] {
        assert_none(rules::wrong_programs(&[source(text)], &[]));
        assert_eq!(rules::wrong_programs(&[source(text)], &[("examples/x.rs", "a reason")]).len(), 1, "{text}");
    }
}

#[test]
fn two_things_of_one_name_are_found() {
    let wrong = |a: &str, shared: &[(&str, &str)]| {
        let tree = Tree::load(&files(&[("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", PLAIN)]), true).expect("is read");
        rules::wrong_names(&tree, shared)
    };
    for a in [
        "struct A;",
        "\nenum A {}",
        "mod c { trait A {} }",
        "type A = u8;",
        "params!(pub struct A { m });",
        "#[cfg(feature = \"internals\")] pub struct A;",
    ] {
        let found = wrong(a, &[]);
        assert_eq!(found.len(), 1, "{a}: {found:?}");
        let line = if a.starts_with('\n') { 2 } else { 1 };
        assert_eq!(found[0], format!("`A` is 2 things: src/a.rs:{line}, src/b.rs:1"));
        assert_none(wrong(a, &[("A", "a reason")]));
    }
    for a in ["fn A() {}", "#[cfg(test)] mod tests { struct A; }", "trait U { type A; }", "mod c { use crate::b::A; }"] {
        assert_none(wrong(a, &[]));
        assert_eq!(wrong(a, &[("A", "a reason")]), ["`A` is one thing: take it off the list of tests/api/rules.rs"]);
    }
}

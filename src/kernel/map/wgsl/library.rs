//! The functions in `shaders/` that generated modules take text from.
//!
//! Owns: [`WgslLibrary`]. Must not know: programs. Invariant: what is taken stands in a file, each item once, with all that it calls.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The files, in the order in which their items are written.
const FILES: [&str; 8] = [
    include_str!("../../../../shaders/map.wgsl"),
    include_str!("../../../../shaders/math_f32.wgsl"),
    include_str!("../../../../shaders/math_f32_angles.wgsl"),
    include_str!("../../../../shaders/math_f64.wgsl"),
    include_str!("../../../../shaders/math_f64_angles.wgsl"),
    include_str!("../../../../shaders/math_f64_powers.wgsl"),
    include_str!("../../../../shaders/random.wgsl"),
    include_str!("../../../../shaders/narrow.wgsl"),
];

/// What is in the place of items of the same names, where a driver's quotients of `f64` are not the nearest numbers.
const QUOTIENTS: &str = include_str!("../../../../shaders/quotients_f64.wgsl");

static LIBRARY: LazyLock<WgslLibrary> = LazyLock::new(|| WgslLibrary::of(&FILES, ""));
static MENDED: LazyLock<WgslLibrary> = LazyLock::new(|| WgslLibrary::of(&FILES, QUOTIENTS));

/// All functions and constants, by name.
pub(super) struct WgslLibrary {
    items: BTreeMap<&'static str, LibraryItem>,
}

/// A function or a constant.
struct LibraryItem {
    /// Where it stands among all.
    number: usize,
    text: &'static str,
    /// The items that it names, each as often as it does.
    calls: Vec<&'static str>,
    /// Bytes of it and of all that it calls, each as often as it is called.
    inlined: usize,
}

/// The identifiers of some text.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

impl WgslLibrary {
    /// With quotients of `f64` that do not rest on the driver's being right, if that is asked for.
    pub(super) fn get(mends_quotients: bool) -> &'static Self {
        if mends_quotients { &MENDED } else { &LIBRARY }
    }

    /// Of files in which each item begins at the start of a line, and what is indented, or closes it, belongs to it. Those of the last one may take the place of others.
    fn of(files: &[&'static str], last: &'static str) -> Self {
        let (mut items, mut number) = (BTreeMap::new(), 0);
        for &file in files.iter().chain([&last]) {
            let mut from = 0;
            while let Some((start, name)) = next(file, from) {
                let end = end(file, start);
                let known = items.insert(name, LibraryItem { number, text: &file[start..end], calls: Vec::new(), inlined: 0 });
                debug_assert!(known.is_none() || file == last, "{name} is there twice");
                (from, number) = (end, number + 1);
            }
        }
        let names: Vec<&'static str> = items.keys().copied().collect();
        for item in items.values_mut() {
            // The first two words are its keyword and its name.
            let named = words(item.text).skip(2).filter_map(|word| names.binary_search(&word).ok());
            item.calls = named.map(|at| names[at]).collect();
        }
        let mut this = Self { items };
        names.into_iter().for_each(|name| _ = this.inline(name));
        this
    }

    /// Finds out how much an item is, inlined. WGSL has no recursion.
    fn inline(&mut self, name: &'static str) -> usize {
        let Some(LibraryItem { text, calls, inlined, .. }) = self.items.get(name) else { return 0 };
        if *inlined > 0 {
            return *inlined;
        }
        let (own, calls) = (text.len(), calls.clone());
        let inlined = own + calls.into_iter().filter(|call| *call != name).map(|call| self.inline(call)).sum::<usize>();
        self.items.entry(name).and_modify(|item| item.inlined = inlined);
        inlined
    }

    /// Bytes of what these name, and of all that that calls, each as often as it is called.
    pub(super) fn inlined_bytes<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> usize {
        names.into_iter().filter_map(|name| self.items.get(name)).map(|item| item.inlined).sum()
    }

    /// Whether there is such a function.
    pub(super) fn has(&self, name: &str) -> bool {
        self.items.contains_key(name)
    }

    /// The text of these items and of all that they name, in the order of the files.
    pub(super) fn text<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> String {
        let mut wanted: Vec<&str> = names.into_iter().collect();
        let mut taken = BTreeMap::new();
        while let Some(name) = wanted.pop() {
            let Some(item) = self.items.get(name) else { continue };
            if taken.insert(item.number, item.text).is_none() {
                wanted.extend(&item.calls);
            }
        }
        taken.into_values().collect()
    }
}

/// Where the next item begins, and its name.
fn next(file: &'static str, from: usize) -> Option<(usize, &'static str)> {
    let mut at = from;
    for line in file[from..].split_inclusive('\n') {
        let name = ["fn ", "const ", "struct "].iter().find_map(|keyword| line.strip_prefix(keyword));
        if let Some(name) = name.and_then(|rest| words(rest).next()) {
            return Some((at, name));
        }
        at += line.len();
    }
    None
}

/// Where an item ends: behind the line that closes it.
fn end(file: &str, start: usize) -> usize {
    let mut at = start;
    for (number, line) in file[start..].split_inclusive('\n').enumerate() {
        at += line.len();
        let is_last = line.starts_with('}') || line.starts_with(')') || number == 0 && line.contains(';');
        if is_last {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_comes_with_all_that_it_calls() {
        let file = "// a\nconst ONE = 1u; // one\n// b\nfn f(a: u32) -> u32 {\n    return a + ONE;\n}\nfn g() {\n    f(ONE);\n}\nfn h() {\n}\n";
        let library = WgslLibrary::of(&[file], "");
        assert!(library.has("g") && !library.has("b"));
        assert_eq!(
            library.text(["g"]),
            "const ONE = 1u; // one\nfn f(a: u32) -> u32 {\n    return a + ONE;\n}\nfn g() {\n    f(ONE);\n}\n"
        );
        assert_eq!(library.text(["h", "what"]), "fn h() {\n}\n");
        let [one, f] = ["const ONE = 1u; // one\n", "fn f(a: u32) -> u32 {\n    return a + ONE;\n}\n"].map(str::len);
        assert_eq!(library.inlined_bytes(["f", "f", "ONE"]), 2 * (f + one) + one);
        let mended = WgslLibrary::of(&[file], "fn f(a: u32) -> u32 {\n    return a;\n}\n");
        assert_eq!(mended.text(["f"]), "fn f(a: u32) -> u32 {\n    return a;\n}\n");
        assert_eq!(mended.text(["h", "g"]).matches("fn f(").count(), 1);
    }

    #[test]
    fn functions_say_what_they_work_on() {
        for name in WgslLibrary::get(true).items.keys() {
            let prefix = name.split('_').next().unwrap();
            let is_known = ["f", "d", "i", "u", "l", "m", "b", "opaque", "half", "brain", "wide", "philox", "Wide", "Philox"]
                .contains(&prefix);
            assert!(is_known || name.chars().all(|c| !c.is_lowercase()), "{name}");
        }
    }
}

//! Rust source as text: what tests that keep the house in order look at.
//!
//! Owns: [`sources`], code without comments and strings, items under `#[cfg(test)]`. Must not know: which rule is checked. Invariant: lines keep their numbers.

use std::fs;
use std::path::{Path, PathBuf};

/// One source file: its path from the repository root with `/`, and its text.
pub struct Source {
    /// From the repository root, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// Where the repository is.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// All Rust files in these folders of the repository, by path.
///
/// # Panics
/// If one cannot be read.
pub fn sources(folders: &[&str]) -> Vec<Source> {
    let root = &root();
    let mut files = Vec::new();
    for folder in folders {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    let read = |file: PathBuf| {
        let path = file.strip_prefix(root).expect("below root").to_string_lossy().replace('\\', "/");
        Source { path, text: fs::read_to_string(&file).expect("source is UTF-8") }
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("readable folder").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The code with comments and the contents of strings and chars replaced by blanks; lines keep their numbers.
pub fn code_only(text: &str) -> String {
    let s: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < s.len() {
        let end = end_of_literal_or_comment(&s, i);
        if end > i {
            out.extend(s[i..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            i = end;
        } else {
            out.push(s[i]);
            i += 1;
        }
    }
    out
}

/// Where the comment, string or char that starts at `i` ends; `i` if none starts there.
fn end_of_literal_or_comment(s: &[char], i: usize) -> usize {
    let at = |k: usize| s.get(k).copied().unwrap_or('\0');
    let starts_word = i == 0 || !is_word(s[i - 1]);
    match s[i] {
        '/' if at(i + 1) == '/' => (i..s.len()).find(|&k| s[k] == '\n').unwrap_or(s.len()),
        '/' if at(i + 1) == '*' => end_of_block_comment(s, i),
        '"' => end_of_string(s, i + 1),
        'r' if starts_word || at(i.wrapping_sub(1)) == 'b' => {
            let hashes = s[i + 1..].iter().take_while(|&&c| c == '#').count();
            if at(i + 1 + hashes) != '"' {
                return i; // an identifier, or r#raw one
            }
            let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let body = i + 2 + hashes;
            (body..s.len()).find(|&k| s[k..].starts_with(&close)).map_or(s.len(), |k| k + close.len())
        }
        '\'' if at(i + 1) == '\\' => (i + 3..s.len()).find(|&k| s[k] == '\'').map_or(s.len(), |k| k + 1),
        '\'' if at(i + 2) == '\'' => i + 3, // a char; anything else is a lifetime
        _ => i,
    }
}

fn end_of_block_comment(s: &[char], start: usize) -> usize {
    let (mut depth, mut i) = (0, start);
    while i < s.len() {
        match (s[i], s.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    i
}

fn end_of_string(s: &[char], mut i: usize) -> usize {
    while i < s.len() {
        match s[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    s.len()
}

/// Whether it may stand in an identifier.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `code` (already `code_only`) with each item under a `#[cfg(test)]` or `#[cfg(all(test, ..))]` replaced by blanks.
pub fn without_tests(code: &str) -> String {
    let s: Vec<char> = code.chars().collect();
    let mut out = s.clone();
    let mut i = 0;
    while i < s.len() {
        let rest: String = s[i..].iter().take(24).filter(|c| !c.is_whitespace()).collect();
        if rest.starts_with("#[cfg(test)]") || rest.starts_with("#[cfg(all(test,") {
            let end = end_of_item(&s, i);
            out[i..end].iter_mut().filter(|c| **c != '\n').for_each(|c| *c = ' ');
            i = end;
        } else {
            i += 1;
        }
    }
    out.into_iter().collect()
}

/// The end of the item at `start`, attributes included: its `;` or the brace that closes it.
fn end_of_item(s: &[char], start: usize) -> usize {
    let (mut braces, mut brackets) = (0, 0);
    for (i, &c) in s.iter().enumerate().skip(start) {
        match c {
            '[' | '(' => brackets += 1,
            ']' | ')' => brackets -= 1,
            '{' => braces += 1,
            '}' => braces -= 1,
            _ => {}
        }
        if brackets == 0 && braces == 0 && (c == ';' || c == '}') {
            return i + 1;
        }
    }
    s.len()
}

/// First segments of the path or `{}` group that `rest` starts with.
pub fn first_segments(rest: &str) -> Vec<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|&c| is_word(c)).collect::<String>();
    let Some(group) = rest.trim_start().strip_prefix('{') else {
        return vec![word(rest)];
    };
    let mut names = vec![word(group)];
    let mut depth = 0;
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(&group[i + 1..])),
            _ => {}
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

/// The lines of `code` on which `word` stands as a whole word.
pub fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let has = |line: &str| line.split(|c| !is_word(c)).any(|w| w == word);
    code.lines().enumerate().filter(|(_, line)| has(line)).map(|(i, _)| i + 1).collect()
}

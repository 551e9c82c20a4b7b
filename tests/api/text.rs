//! Tokens as a line of text, spaced as rustfmt would.
//!
//! Owns: [`text`]. Must not know: what is listed. Invariant: the same tokens give the same text, however their source was broken into lines.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;

/// Punctuation of several characters that is one piece. `>>` is not: it closes two lists.
const LONG: &[&str] = &["::", "->", "=>", "..=", "...", "..", "==", "!=", "<=", "&&", "||"];

/// The tokens on one line.
pub fn text(tokens: impl ToTokens) -> String {
    let mut pieces = Vec::new();
    flatten(tokens.to_token_stream(), &mut pieces);
    let mut line = String::new();
    let mut before = "";
    for (i, piece) in pieces.iter().enumerate() {
        let next = pieces.get(i + 1).map_or("", String::as_str);
        if piece == "," && (next == ">" || next.is_empty()) {
            continue; // left over from a list of several lines
        }
        if !before.is_empty() && spaced(before, piece) {
            line.push(' ');
        }
        line.push_str(piece);
        before = piece;
    }
    line
}

fn flatten(tokens: TokenStream, pieces: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                let mut inner = Vec::new();
                flatten(group.stream(), &mut inner);
                if open == "(" && inner.last().is_some_and(|last| last == ",") && commas(&inner) > 1 {
                    inner.pop();
                }
                pieces.extend([open.to_owned()].into_iter().chain(inner).chain([close.to_owned()]).filter(|p| !p.is_empty()));
            }
            TokenTree::Punct(punct) => {
                let mut piece = punct.as_char().to_string();
                let mut joint = punct.spacing() == Spacing::Joint;
                while let (true, Some(TokenTree::Punct(next))) = (joint, tokens.peek()) {
                    let longer = format!("{piece}{}", next.as_char());
                    if !LONG.contains(&longer.as_str()) {
                        break;
                    }
                    joint = next.spacing() == Spacing::Joint;
                    piece = longer;
                    tokens.next();
                }
                if let ("'", Some(TokenTree::Ident(name))) = (piece.as_str(), tokens.peek()) {
                    piece = format!("'{name}");
                    tokens.next();
                }
                pieces.push(piece);
            }
            other => pieces.push(other.to_string()),
        }
    }
}

/// Commas that are in no inner bracket.
fn commas(pieces: &[String]) -> usize {
    let mut depth = 0;
    let mut count = 0;
    for piece in pieces {
        match piece.as_str() {
            "(" | "[" | "{" | "<" => depth += 1,
            ")" | "]" | "}" | ">" => depth -= 1,
            "," if depth == 0 => count += 1,
            _ => {}
        }
    }
    count
}

fn spaced(before: &str, piece: &str) -> bool {
    const KEYWORDS: &[&str] = &["for", "in", "where", "impl", "dyn", "as", "mut", "const", "unsafe"];
    let word = before.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    match (before, piece) {
        ("(" | "[" | "<" | "::" | "&" | "#" | "$" | "." | "?" | "*" | "!", _) => false,
        (_, ")" | "]" | ">" | "," | ";" | ":" | "::" | "." | "!") => false,
        ("{", "}") => false,
        ("for" | "impl", "<") => false,
        (_, "(") => !(word && !KEYWORDS.contains(&before) || [">", ")"].contains(&before)),
        (_, "<") => !word,
        (_, "?") => !(word || before == ")"),
        _ => true,
    }
}

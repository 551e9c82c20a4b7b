//! What macros of the crate make, which the parser of Rust does not see.
//!
//! Owns: [`Macros`], [`outlines`]. Must not know: what is public. Invariant: nothing is expanded: what is told is the macro's own text, and what it was called with.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{Item, ItemMacro};

use crate::text::text;
use crate::tree::{ModulePath, Tree, idents};

/// A `macro_rules!`.
pub struct Definition {
    pub module: ModulePath,
    pub name: String,
    pub file: String,
    /// Whether it is `#[macro_export]`, and so public whatever its module is.
    exported: bool,
    /// What it matches, and what it makes of it.
    pub arms: Vec<(TokenStream, TokenStream)>,
}

/// All macros of a crate.
pub struct Macros {
    definitions: Vec<Definition>,
}

impl Macros {
    pub fn of(tree: &Tree) -> Self {
        let mut definitions = Vec::new();
        for (path, module) in &tree.modules {
            for item in &module.items {
                if let Item::Macro(ItemMacro { ident: Some(name), mac, attrs, .. }) = item {
                    let exported = attrs.iter().any(|a| a.path().is_ident("macro_export"));
                    let (name, file, arms) = (name.to_string(), module.file.clone(), arms(mac.tokens.clone()));
                    definitions.push(Definition { module: path.clone(), name, file, exported, arms });
                }
            }
        }
        Self { definitions }
    }

    /// The macro that `invocation` in `module` calls, if it is one of the crate: the nearest of that name.
    pub fn called(&self, module: &[String], invocation: &ItemMacro) -> Option<&Definition> {
        if invocation.ident.is_some() {
            return None; // it defines one
        }
        let name = invocation.mac.path.segments.last()?.ident.to_string();
        let of_name = || self.definitions.iter().filter(|d| d.name == name);
        of_name().find(|d| d.module == module).or_else(|| of_name().next())
    }

    /// The macro that makes the type `wanted` in a module, by its call there.
    pub fn maker(&self, module: &[String], items: &[Item], wanted: &str) -> Option<(&Definition, TokenStream)> {
        items.iter().find_map(|item| {
            let Item::Macro(invocation) = item else { return None };
            let definition = self.called(module, invocation)?;
            let makes_types = definition.arms.iter().flat_map(|(_, body)| outlines(body.clone())).any(|o| o.is_type());
            let named = makes_types && idents(invocation.mac.tokens.clone()).iter().any(|ident| ident == wanted);
            named.then(|| (definition, invocation.mac.tokens.clone()))
        })
    }

    /// The module and name of each public macro.
    pub fn exported(&self) -> impl Iterator<Item = (&ModulePath, &String)> {
        self.definitions.iter().filter(|d| d.exported).map(|d| (&d.module, &d.name))
    }

    /// A macro by its place.
    pub fn get(&self, module: &[String], name: &str) -> Option<&Definition> {
        self.definitions.iter().find(|d| d.module == module && d.name == name)
    }
}

/// `(..) => {..}; (..) => {..}`.
fn arms(tokens: TokenStream) -> Vec<(TokenStream, TokenStream)> {
    let groups = tokens.into_iter().filter_map(|token| if let TokenTree::Group(g) = token { Some(g.stream()) } else { None });
    let groups: Vec<TokenStream> = groups.collect();
    groups.chunks_exact(2).map(|arm| (arm[0].clone(), arm[1].clone())).collect()
}

/// One item of a macro's body, without its own body.
pub struct Outline {
    /// `#[derive(..)]` and all up to the `{` of a body, or the `;`.
    pub head: Vec<TokenTree>,
    /// What is in the braces.
    pub body: TokenStream,
}

impl Outline {
    /// Whether it begins (after attributes) with this word, or has it after `pub`, `unsafe`, `const`.
    pub fn is(&self, word: &str) -> bool {
        let words = self.head.iter().filter_map(|t| if let TokenTree::Ident(i) = t { Some(i.to_string()) } else { None });
        let before = |w: &String| ["pub", "unsafe", "const", "async"].contains(&w.as_str());
        let mut words = words.peekable();
        while words.next_if(before).is_some() {}
        words.next().is_some_and(|w| w == word)
    }

    pub fn is_type(&self) -> bool {
        ["struct", "enum", "union", "trait"].iter().any(|kind| self.is(kind))
    }

    pub fn is_pub(&self) -> bool {
        let mut head = self.head.iter().filter(|t| !matches!(t, TokenTree::Punct(p) if p.as_char() == '$'));
        let first = head.find(|t| matches!(t, TokenTree::Ident(_)));
        first.is_some_and(|t| ["pub", "vis"].contains(&t.to_string().as_str()))
    }

    pub fn text(&self) -> String {
        text(TokenStream::from_iter(self.head.iter().cloned()))
    }

    /// What it has that users see: of an `impl` its public functions and its types, of a type its fields.
    pub fn lines(&self) -> Vec<String> {
        if !self.is("impl") {
            return if self.body.is_empty() { Vec::new() } else { vec![format!("{{ {} }}", text(self.body.clone()))] };
        }
        let inner = outlines(self.body.clone());
        inner.iter().filter(|o| o.is_pub() || o.is("type")).map(Outline::text).collect()
    }

    /// The idents of the trait and of the type that an `impl` is for; no trait if it has none.
    pub fn implemented(&self) -> (Vec<String>, Vec<String>) {
        let words = |part: &[TokenTree]| idents(TokenStream::from_iter(part.iter().cloned()));
        let (of_trait, of_type) = self.parts();
        (words(of_trait), words(of_type))
    }

    /// Whether an `impl` is for a type that is called by a path, or a reference to one: neither a tuple nor `$t`.
    pub fn is_for_a_path(&self) -> bool {
        let mut tokens = self.parts().1.iter();
        let first = tokens.find(|t| !matches!(t, TokenTree::Punct(p) if p.as_char() == '&'));
        matches!(first, Some(TokenTree::Ident(_)))
    }

    /// An `impl` without its parameters, before and after `for`.
    fn parts(&self) -> (&[TokenTree], &[TokenTree]) {
        let start = self.head.iter().position(|t| t.to_string() == "impl").map_or(0, |i| i + 1);
        let mut rest = &self.head[start..];
        if rest.first().is_some_and(|t| t.to_string() == "<") {
            let mut depth = 0;
            let closes = |t: &TokenTree| {
                depth += i32::from(t.to_string() == "<") - i32::from(t.to_string() == ">");
                depth == 0
            };
            rest = &rest[rest.iter().position(closes).map_or(rest.len(), |i| i + 1)..];
        }
        match rest.iter().position(|t| t.to_string() == "for") {
            Some(i) => (&rest[..i], &rest[i + 1..]),
            None => (&[], rest),
        }
    }
}

/// The items of a macro's body, those in its repetitions too.
pub fn outlines(body: TokenStream) -> Vec<Outline> {
    let mut found = Vec::new();
    let mut head: Vec<TokenTree> = Vec::new();
    let mut tokens = body.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let begins = head.iter().all(|t| !matches!(t, TokenTree::Ident(_)));
        match (&token, tokens.peek()) {
            (TokenTree::Punct(p), Some(TokenTree::Group(group))) if begins && p.as_char() == '#' => {
                let attribute = group.stream();
                let is_derive = attribute.clone().into_iter().next().is_some_and(|t| t.to_string() == "derive");
                let kept = tokens.next().filter(|_| is_derive);
                head.extend(kept.map(|group| [token, group]).into_iter().flatten());
            }
            (TokenTree::Punct(p), Some(TokenTree::Group(group))) if begins && p.as_char() == '$' => {
                found.extend(outlines(group.stream())); // of attributes: nothing
                tokens.next();
                while tokens.next_if(|t| matches!(t, TokenTree::Punct(p) if "*+?,".contains(p.as_char()))).is_some() {}
            }
            (TokenTree::Punct(p), _) if p.as_char() == ';' => {
                found.push(Outline { head: std::mem::take(&mut head), body: TokenStream::new() });
            }
            (TokenTree::Group(group), _) if group.delimiter() == Delimiter::Brace => {
                found.push(Outline { head: std::mem::take(&mut head), body: group.stream() });
            }
            _ => head.push(token),
        }
    }
    found
}

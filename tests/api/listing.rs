//! What is public, as text.
//!
//! Owns: [`Listing`]. Must not know: where names come from. Invariant: sorted, one fact a line, so that the order of the source is not in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use quote::ToTokens;
use syn::{Attribute, Fields, FnArg, Item, ItemEnum, ItemStruct, ItemTrait, Pat, Signature, TraitItem};

use crate::names::{Front, Names, Target};
use crate::text::text;
use crate::tree::{Tree, condition, is_hidden, is_pub, name};

/// What a heading is of, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Definition,
    Derived,
    Inherent,
    Trait,
    Made,
}

/// Facts under headings, of each public path.
#[derive(Default)]
pub struct Listing {
    blocks: BTreeMap<String, BTreeMap<(Part, String), BTreeSet<String>>>,
    again: BTreeSet<String>,
}

impl Listing {
    /// All that `front` has; impls come from `crate::impls`.
    pub fn definitions(names: &Names<'_>, front: &Front) -> Self {
        let mut listing = Self::default();
        for (target, export) in &front.first {
            match target {
                Target::Item(module, wanted) => listing.define(names, (module, wanted), &export.path, &export.condition),
                Target::Outside(path) => {
                    let renamed = if path.rsplit("::").next() == export.path.rsplit("::").next() { "" } else { ", renamed" };
                    let heading = format!("{}pub use {path}{renamed}", export.condition);
                    listing.add(&export.path, (Part::Definition, heading), []);
                }
                Target::Module(_) => {}
            }
        }
        for export in &front.again {
            let first = &front.first[&export.target].path;
            listing.again.insert(format!("{}pub use {} = {first}", export.condition, export.path));
        }
        listing
    }

    /// Puts lines under a heading of what users know as `path`.
    pub fn add(&mut self, path: &str, heading: (Part, String), lines: impl IntoIterator<Item = String>) {
        self.blocks.entry(path.to_owned()).or_default().entry(heading).or_default().extend(lines);
    }

    fn define(&mut self, names: &Names<'_>, (module, wanted): (&[String], &str), path: &str, condition_of_use: &str) {
        let items = &names.tree.modules[module].items;
        let found = items.iter().filter(|item| name(item).is_some_and(|(name, _)| name == wanted));
        let mut any = false;
        for item in found {
            any = true;
            let at = format!("{condition_of_use}{}", condition(crate::tree::attributes(item)));
            let mut put = |heading: String, lines: Vec<String>| {
                self.add(path, (Part::Definition, format!("{at}{heading}")), lines);
            };
            match item {
                Item::Fn(f) => put(signature(&f.sig), Vec::new()),
                Item::Const(c) => put(format!("const {}: {}", c.ident, text(&c.ty)), Vec::new()),
                Item::Static(s) => put(format!("static {}{}: {}", mutable(&s.mutability), s.ident, text(&s.ty)), Vec::new()),
                Item::Type(t) => put(format!("type {}{} = {}", t.ident, text(&t.generics), text(&t.ty)), Vec::new()),
                Item::Struct(s) => put(head_of_struct(s), fields(names.tree, &s.fields)),
                Item::Enum(e) => put(head_of_enum(e), variants(names.tree, e)),
                Item::Trait(t) => put(head_of_trait(t), members(names.tree, t)),
                Item::Union(u) => put(format!("union {}{}", u.ident, text(&u.generics)), Vec::new()),
                Item::Macro(_) => {
                    let arms = names.macros.get(module, wanted).map_or(&[][..], |d| &d.arms);
                    put(format!("macro {wanted}!"), arms.iter().map(|(matched, _)| format!("({})", text(matched))).collect());
                }
                _ => {}
            }
            let derived = derives(crate::tree::attributes(item));
            if !derived.is_empty() {
                self.add(path, (Part::Derived, "derive".into()), derived);
            }
        }
        if let (false, Some((macro_, call))) = (any, names.macros.maker(module, items, wanted)) {
            let made_of = own_part(&text(call), wanted);
            let heading = format!("{condition_of_use}made by {}! in {}: {made_of}", macro_.name, macro_.file);
            self.add(path, (Part::Definition, heading), []);
            for outline in macro_.arms.iter().flat_map(|(_, body)| crate::made::outlines(body.clone())) {
                let made = format!("{}! has {}", macro_.name, outline.text());
                self.add(path, (Part::Made, made), outline.lines());
            }
        }
    }
}

/// What concerns `name` of a macro's call of many entries, each ended by `;` or `,`.
fn own_part(call: &str, name: &str) -> String {
    let is_of = |part: &&str| part.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
    let own: Vec<&str> = call.split("; ").filter(is_of).collect();
    // Docs come as attributes.
    own.iter()
        .map(|part| part.rsplit("] ").next().unwrap_or(part).trim_end_matches(';').to_owned())
        .collect::<Vec<_>>()
        .join("; ")
}

/// A signature without names that callers do not see: `mut`, patterns, attributes.
pub fn signature(signature: &Signature) -> String {
    let mut signature = signature.clone();
    signature.inputs.pop_punct();
    for input in &mut signature.inputs {
        match input {
            FnArg::Receiver(receiver) => {
                receiver.attrs.clear();
                if receiver.reference.is_none() && receiver.colon_token.is_none() {
                    receiver.mutability = None;
                }
            }
            FnArg::Typed(argument) => {
                argument.attrs.clear();
                match &mut *argument.pat {
                    Pat::Ident(name) => (name.mutability, name.by_ref, name.subpat) = (None, None, None),
                    other => *other = syn::parse_quote!(_),
                }
            }
        }
    }
    text(signature)
}

fn mutable(mutability: &syn::StaticMutability) -> &'static str {
    if matches!(mutability, syn::StaticMutability::Mut(_)) { "mut " } else { "" }
}

/// `#[non_exhaustive]` and `#[repr(..)]`, as text with a blank behind.
fn marks(attrs: &[Attribute]) -> String {
    let marks = attrs.iter().filter(|a| a.path().is_ident("non_exhaustive") || a.path().is_ident("repr"));
    marks.map(|a| format!("{} ", text(a))).collect()
}

/// The traits that are derived, by their last names.
fn derives(attrs: &[Attribute]) -> Vec<String> {
    let mut derived = Vec::new();
    for attribute in attrs.iter().filter(|a| a.path().is_ident("derive")) {
        let _ = attribute.parse_nested_meta(|meta| {
            derived.extend(meta.path.segments.last().map(|s| s.ident.to_string()));
            Ok(())
        });
    }
    derived
}

fn head_of_struct(item: &ItemStruct) -> String {
    let shape = match &item.fields {
        Fields::Unit => ";",
        Fields::Unnamed(_) => "(..)",
        Fields::Named(_) => " {..}",
    };
    joined(&[
        format!("{}struct {}{}{shape}", marks(&item.attrs), item.ident, text(&item.generics)),
        text(&item.generics.where_clause),
    ])
}

fn head_of_enum(item: &ItemEnum) -> String {
    let where_ = text(&item.generics.where_clause);
    joined(&[format!("{}enum {}{}", marks(&item.attrs), item.ident, text(&item.generics)), where_])
}

fn head_of_trait(item: &ItemTrait) -> String {
    let unsafety = if item.unsafety.is_some() { "unsafe " } else { "" };
    let bounds = if item.supertraits.is_empty() { String::new() } else { format!(": {}", text(&item.supertraits)) };
    joined(&[format!("{unsafety}trait {}{}{bounds}", item.ident, text(&item.generics)), text(&item.generics.where_clause)])
}

/// With blanks between, and nothing for what is empty.
pub fn joined(parts: &[String]) -> String {
    parts.iter().filter(|p| !p.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn fields(tree: &Tree, fields: &Fields) -> Vec<String> {
    let mut lines = Vec::new();
    for (i, field) in fields.iter().enumerate().filter(|(_, field)| tree.has(&field.attrs)) {
        let name = field.ident.as_ref().map_or_else(|| i.to_string(), ToString::to_string);
        if is_pub(&field.vis) && !is_hidden(&field.attrs) {
            lines.push(format!("{}pub {name}: {}", condition(&field.attrs), text(&field.ty)));
        } else {
            lines.push("private fields".into());
        }
    }
    lines
}

fn variants(tree: &Tree, item: &ItemEnum) -> Vec<String> {
    let line = |variant: &syn::Variant| {
        let field = |f: &syn::Field| match &f.ident {
            Some(name) => format!("{name}: {}", text(&f.ty)),
            None => text(&f.ty),
        };
        let all = variant.fields.iter().map(field).collect::<Vec<_>>().join(", ");
        let fields = match &variant.fields {
            Fields::Unit => String::new(),
            Fields::Unnamed(_) => format!("({all})"),
            Fields::Named(_) => format!(" {{ {all} }}"),
        };
        let value = variant.discriminant.as_ref().map(|(_, value)| format!(" = {}", text(value))).unwrap_or_default();
        format!("{}{}{}{fields}{value}", condition(&variant.attrs), marks(&variant.attrs), variant.ident)
    };
    item.variants.iter().filter(|v| tree.has(&v.attrs) && !is_hidden(&v.attrs)).map(line).collect()
}

fn members(tree: &Tree, item: &ItemTrait) -> Vec<String> {
    let given = |is: bool| if is { " {..}" } else { ";" };
    let kept = |attrs: &[Attribute], line: String| if tree.has(attrs) { shown(attrs, line) } else { None };
    let line = |member: &TraitItem| match member {
        TraitItem::Fn(f) => kept(&f.attrs, signature(&f.sig) + given(f.default.is_some())),
        TraitItem::Const(c) => {
            kept(&c.attrs, format!("const {}: {}", c.ident, text(&c.ty)) + if c.default.is_some() { " = .." } else { ";" })
        }
        TraitItem::Type(t) => {
            let bounds = if t.bounds.is_empty() { String::new() } else { format!(": {}", text(&t.bounds)) };
            let default = t.default.as_ref().map(|(_, ty)| format!(" = {}", text(ty))).unwrap_or_default();
            kept(&t.attrs, format!("type {}{}{bounds}{default};", t.ident, text(&t.generics)))
        }
        other => Some(text(other.to_token_stream())),
    };
    item.items.iter().filter_map(line).collect()
}

/// The line, under its `#[cfg(..)]`, unless it is hidden.
pub fn shown(attrs: &[Attribute], line: String) -> Option<String> {
    (!is_hidden(attrs)).then(|| condition(attrs) + &line)
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, headings) in &self.blocks {
            writeln!(f, "{path}")?;
            for ((_, heading), lines) in headings {
                writeln!(f, "    {heading}")?;
                lines.iter().try_for_each(|line| writeln!(f, "        {line}"))?;
            }
        }
        self.again.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

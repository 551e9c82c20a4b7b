//! The crate's modules, read from its files.
//!
//! Owns: [`Tree`], which `cfg` holds. Must not know: what is public. Invariant: a module is where the compiler looks for it, and what a user's build never has
//! (tests, doc tests, and the feature `internals` unless asked for) is not in it.

use std::collections::BTreeMap;

use proc_macro2::TokenTree;
use syn::punctuated::Punctuated;
use syn::{Attribute, Ident, Item, Meta, Token, Visibility};

use crate::text::text;

/// The names that lead to a module from the crate's root.
pub type ModulePath = Vec<String>;

/// One module.
pub struct Module {
    /// The file it is in.
    pub file: String,
    pub items: Vec<Item>,
    /// Whether it, or one it is in, is `#[doc(hidden)]`.
    pub hidden: bool,
}

/// All modules of a crate.
pub struct Tree {
    pub modules: BTreeMap<ModulePath, Module>,
    internals: bool,
}

/// Where a module is read from.
struct Place {
    path: ModulePath,
    file: String,
    /// Where the files of its modules are.
    folder: String,
    hidden: bool,
}

impl Tree {
    /// Reads the crate that begins in `src/lib.rs`, with the feature `internals` or without it.
    pub fn load(files: &BTreeMap<String, String>, internals: bool) -> Result<Self, String> {
        let mut tree = Self { modules: BTreeMap::new(), internals };
        let root = Place { path: Vec::new(), file: "src/lib.rs".into(), folder: "src".into(), hidden: false };
        tree.read(files, root)?;
        Ok(tree)
    }

    fn read(&mut self, files: &BTreeMap<String, String>, place: Place) -> Result<(), String> {
        let source = files.get(&place.file).ok_or_else(|| format!("{}: no such file", place.file))?;
        let file = syn::parse_file(source).map_err(|e| format!("{}:{}: {e}", place.file, e.span().start().line))?;
        self.enter(files, place, file.items)
    }

    fn enter(&mut self, files: &BTreeMap<String, String>, place: Place, items: Vec<Item>) -> Result<(), String> {
        let mut kept = Vec::new();
        for mut item in items {
            if !self.has(attributes(&item)) {
                continue;
            }
            if let Item::Mod(module) = &mut item {
                let name = module.ident.to_string();
                let folder = format!("{}/{name}", place.folder);
                let path = [&place.path[..], std::slice::from_ref(&name)].concat();
                let hidden = place.hidden || is_hidden(&module.attrs);
                let inner = |file| Place { path, file, folder: folder.clone(), hidden };
                match module.content.take() {
                    Some((_, items)) => self.enter(files, inner(place.file.clone()), items)?,
                    None => {
                        let beside = format!("{folder}.rs");
                        let file = if files.contains_key(&beside) { beside } else { format!("{folder}/mod.rs") };
                        self.read(files, inner(file))?;
                    }
                }
            }
            kept.push(item);
        }
        self.modules.insert(place.path, Module { file: place.file, items: kept, hidden: place.hidden });
        Ok(())
    }

    /// Whether a build with all features (`internals` as it was asked for) has what these attributes are on.
    pub fn has(&self, attrs: &[Attribute]) -> bool {
        let holds = |cfg: &Meta| holds(cfg, &|feature| Some(feature != "internals" || self.internals));
        cfgs(attrs).iter().all(|cfg| holds(cfg) != Some(false))
    }
}

/// The `#[cfg(..)]`s that a user's build may or may not meet, as text with a blank behind, or nothing.
pub fn condition(attrs: &[Attribute]) -> String {
    let open = |cfg: &&Meta| holds(cfg, &|feature| (feature == "internals").then_some(false)) != Some(true);
    cfgs(attrs).iter().filter(open).map(|cfg| format!("#[cfg({})] ", text(cfg))).collect()
}

fn cfgs(attrs: &[Attribute]) -> Vec<Meta> {
    attrs.iter().filter(|a| a.path().is_ident("cfg")).filter_map(|a| a.parse_args().ok()).collect()
}

/// Whether a `cfg` holds, where that is known; `feature` says it of a feature.
fn holds(cfg: &Meta, feature: &dyn Fn(&str) -> Option<bool>) -> Option<bool> {
    match cfg {
        Meta::Path(path) if path.is_ident("test") || path.is_ident("doctest") => Some(false),
        Meta::NameValue(pair) if pair.path.is_ident("feature") => feature(text(&pair.value).trim_matches('"')),
        Meta::List(list) => {
            let inner = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()?;
            let mut inner = inner.iter().map(|cfg| holds(cfg, feature));
            match list.path.get_ident()?.to_string().as_str() {
                "not" => inner.next()?.map(|holds| !holds),
                "all" => inner
                    .try_fold(Some(true), |all, one| match one {
                        Some(false) => Err(Some(false)),
                        one => Ok(all.and(one)),
                    })
                    .unwrap_or_else(|known| known),
                "any" => inner
                    .try_fold(Some(false), |any, one| match one {
                        Some(true) => Err(Some(true)),
                        one => Ok(any.and(one)),
                    })
                    .unwrap_or_else(|known| known),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether `#[doc(hidden)]` is among them.
pub fn is_hidden(attrs: &[Attribute]) -> bool {
    let hides =
        |a: &Attribute| matches!(&a.meta, Meta::List(list) if list.path.is_ident("doc") && text(&list.tokens) == "hidden");
    attrs.iter().any(hides)
}

/// Whether it is plain `pub`.
pub fn is_pub(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// The attributes of an item.
pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Union(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

/// The name of an item that has one, and its visibility.
pub fn name(item: &Item) -> Option<(&Ident, &Visibility)> {
    Some(match item {
        Item::Const(i) => (&i.ident, &i.vis),
        Item::Enum(i) => (&i.ident, &i.vis),
        Item::Fn(i) => (&i.sig.ident, &i.vis),
        Item::Static(i) => (&i.ident, &i.vis),
        Item::Struct(i) => (&i.ident, &i.vis),
        Item::Trait(i) => (&i.ident, &i.vis),
        Item::Type(i) => (&i.ident, &i.vis),
        Item::Union(i) => (&i.ident, &i.vis),
        Item::Macro(i) => (i.ident.as_ref()?, &Visibility::Inherited),
        _ => return None,
    })
}

/// The names of the types that an item brings: what "one name, one thing" is about. Of a macro's call, those that stand in it as `struct X`.
pub fn type_names(item: &Item) -> Vec<Ident> {
    match item {
        Item::Enum(_) | Item::Struct(_) | Item::Trait(_) | Item::Type(_) | Item::Union(_) => {
            name(item).into_iter().map(|(name, _)| name.clone()).collect()
        }
        Item::Macro(call) if call.ident.is_none() => {
            let tokens: Vec<TokenTree> = call.mac.tokens.clone().into_iter().collect();
            let named = |pair: &[TokenTree]| match pair {
                [TokenTree::Ident(kind), TokenTree::Ident(name)] if kind == "struct" || kind == "enum" => Some(name.clone()),
                _ => None,
            };
            tokens.windows(2).filter_map(named).collect()
        }
        _ => Vec::new(),
    }
}

/// All identifiers in a stream, those in brackets too.
pub fn idents(tokens: proc_macro2::TokenStream) -> Vec<String> {
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Ident(ident) => vec![ident.to_string()],
            TokenTree::Group(group) => idents(group.stream()),
            _ => Vec::new(),
        })
        .collect()
}

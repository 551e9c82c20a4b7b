//! What public types can do: functions of theirs, and traits, from any file of the crate.
//!
//! Owns: [`implement`]. Must not know: how a listing looks. Invariant: an impl is told under one public name: that of the type, else of the trait, else of a type
//! that the trait is about; what users cannot name is not told.

use syn::visit::Visit;
use syn::{ImplItem, Item, ItemImpl, ItemMacro, Path, Type, TypeParamBound};

use crate::listing::{Listing, Part, joined, shown, signature};
use crate::made::{Outline, outlines};
use crate::names::{Front, Names, Target};
use crate::text::text;
use crate::tree::{condition, is_pub};

/// Looks up names of one module.
struct Here<'a> {
    names: &'a Names<'a>,
    front: &'a Front,
    module: &'a [String],
}

/// What a name is to users.
enum Seen<'a> {
    Public(&'a str),
    /// Of this crate, and not for users.
    Private,
    /// Of another crate, or a type parameter.
    Foreign,
}

impl<'a> Here<'a> {
    fn see(&self, path: &[String]) -> Seen<'a> {
        match self.names.resolve(self.module, path) {
            Some(target @ Target::Item(..)) => match (self.front.first.get(&target), &target) {
                (Some(export), _) => Seen::Public(&export.path),
                (None, Target::Item(module, name)) if self.names.macros.get(module, name).is_some() => Seen::Foreign,
                (None, _) => Seen::Private,
            },
            _ => Seen::Foreign,
        }
    }

    fn see_path(&self, path: &Path) -> Seen<'a> {
        self.see(&path.segments.iter().map(|s| s.ident.to_string()).collect::<Vec<_>>())
    }
}

/// The paths of types in a piece of syntax.
#[derive(Default)]
struct Paths(Vec<Path>);

impl<'s> Visit<'s> for Paths {
    fn visit_path(&mut self, path: &'s Path) {
        self.0.push(path.clone());
        syn::visit::visit_path(self, path);
    }
}

/// Adds all impls of the crate to the listing.
pub fn implement(names: &Names<'_>, front: &Front, listing: &mut Listing) {
    for (path, module) in names.tree.modules.iter().filter(|(_, m)| !m.hidden) {
        let here = Here { names, front, module: path };
        for item in &module.items {
            match item {
                Item::Impl(item) if item.trait_.is_some() => here.of_trait(item, listing),
                Item::Impl(item) => here.inherent(item, listing),
                Item::Macro(call) => here.made(call, listing),
                _ => {}
            }
        }
    }
}

/// What is behind references, brackets and boxes of pointers.
fn peeled(ty: &Type) -> &Type {
    match ty {
        Type::Reference(r) => peeled(&r.elem),
        Type::Paren(p) => peeled(&p.elem),
        Type::Group(g) => peeled(&g.elem),
        other => other,
    }
}

impl Here<'_> {
    fn of_type(&self, ty: &Type) -> Seen<'_> {
        match peeled(ty) {
            Type::Path(path) => self.see_path(&path.path),
            Type::TraitObject(object) => {
                let of = |bound: &TypeParamBound| {
                    if let TypeParamBound::Trait(of) = bound { Some(self.see_path(&of.path)) } else { None }
                };
                object.bounds.iter().find_map(of).unwrap_or(Seen::Foreign)
            }
            _ => Seen::Foreign,
        }
    }

    fn inherent(&self, item: &ItemImpl, listing: &mut Listing) {
        let Seen::Public(owner) = self.of_type(&item.self_ty) else { return };
        let line = |member: &ImplItem| match member {
            ImplItem::Fn(f) if is_pub(&f.vis) => shown(&f.attrs, signature(&f.sig)),
            ImplItem::Const(c) if is_pub(&c.vis) => shown(&c.attrs, format!("const {}: {}", c.ident, text(&c.ty))),
            ImplItem::Macro(m) => shown(&m.attrs, text(&m.mac)),
            _ => None,
        };
        let members = item.items.iter().filter(|member| self.names.tree.has(member_attributes(member)));
        let lines: Vec<String> = members.filter_map(line).collect();
        if !lines.is_empty() {
            listing.add(owner, (Part::Inherent, head(item)), lines);
        }
    }

    fn of_trait(&self, item: &ItemImpl, listing: &mut Listing) {
        let Some((_, trait_, _)) = &item.trait_ else { return };
        let about = {
            let mut paths = Paths::default();
            paths.visit_path(trait_);
            paths.visit_type(&item.self_ty);
            paths.0
        };
        let seen: Vec<Seen<'_>> = about.iter().map(|path| self.see_path(path)).collect();
        if seen.iter().any(|s| matches!(s, Seen::Private)) {
            return;
        }
        let mut owners = [self.of_type(&item.self_ty), self.see_path(trait_)].into_iter().chain(seen);
        let Some(owner) = owners.find_map(|s| if let Seen::Public(path) = s { Some(path) } else { None }) else { return };
        let line = |member: &ImplItem| match member {
            ImplItem::Type(t) => shown(&t.attrs, format!("type {}{} = {}", t.ident, text(&t.generics), text(&t.ty))),
            _ => None,
        };
        listing.add(owner, (Part::Trait, head(item)), item.items.iter().filter_map(line));
    }

    fn made(&self, call: &ItemMacro, listing: &mut Listing) {
        let Some(definition) = self.names.macros.called(self.module, call) else { return };
        let told = |outline: &Outline, owner: &str, listing: &mut Listing| {
            let heading = format!("made by {}! in {}: {}", definition.name, definition.file, outline.text());
            let call = format!("{}({})", text(&call.mac.path) + "!", text(&call.mac.tokens));
            listing.add(owner, (Part::Made, heading), outline.lines().into_iter().chain([call]));
        };
        for outline in definition.arms.iter().flat_map(|(_, body)| outlines(body.clone())).filter(|o| o.is("impl")) {
            let (of_trait, of_type) = outline.implemented();
            let ends = |idents: &[String]| idents.iter().map(|ident| self.see(std::slice::from_ref(ident))).collect::<Vec<_>>();
            let of_trait = if of_trait.first().is_some_and(|first| self.names.tree.modules.contains_key(&self.below(first))) {
                let path: Vec<String> = of_trait.into_iter().take(2).collect();
                vec![self.see(&path)] // `sealed::Sealed`
            } else {
                ends(&of_trait)
            };
            let of_type = ends(&of_type);
            if of_trait.iter().chain(&of_type).any(|s| matches!(s, Seen::Private)) {
                continue;
            }
            let public = |s: &Seen<'_>| if let Seen::Public(path) = s { Some(path.to_string()) } else { None };
            // Of a tuple or what the macro is called with, the trait is the one that has it.
            let (first, then) = if outline.is_for_a_path() { (&of_type, &of_trait) } else { (&of_trait, &of_type) };
            let owner = first.iter().chain(then).find_map(public);
            owner.into_iter().for_each(|owner| told(&outline, &owner, listing));
        }
    }

    fn below(&self, name: &str) -> Vec<String> {
        [self.module, &[name.to_owned()]].concat()
    }
}

fn member_attributes(member: &ImplItem) -> &[syn::Attribute] {
    match member {
        ImplItem::Fn(f) => &f.attrs,
        ImplItem::Const(c) => &c.attrs,
        ImplItem::Type(t) => &t.attrs,
        ImplItem::Macro(m) => &m.attrs,
        _ => &[],
    }
}

/// `unsafe impl<T: X> Trait for Type<T> where ..`.
fn head(item: &ItemImpl) -> String {
    let unsafety = if item.unsafety.is_some() { "unsafe " } else { "" };
    let of = match &item.trait_ {
        Some((not, path, _)) => format!("{}{} for ", if not.is_some() { "!" } else { "" }, text(path)),
        None => String::new(),
    };
    let head = format!("{}{unsafety}impl{} {of}{}", condition(&item.attrs), text(&item.generics), text(&item.self_ty));
    joined(&[head, text(&item.generics.where_clause)])
}

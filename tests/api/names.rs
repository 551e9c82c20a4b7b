//! What a name means in a module, and what a user can name.
//!
//! Owns: [`Target`], [`Front`]. Must not know: how things are shown. Invariant: a name that cannot be followed is an error where it is exported, and never
//! taken for a name from outside.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Item, UseTree};

use crate::made::Macros;
use crate::tree::{ModulePath, Tree, attributes, condition, is_hidden, is_pub, name};

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An item of this name in that module.
    Item(ModulePath, String),
    Module(ModulePath),
    /// Something of another crate.
    Outside(String),
}

/// One name that a `use` brings: under which name, and the path.
pub struct Leaf {
    pub binding: String,
    pub path: Vec<String>,
}

/// The names that a `use` brings; a glob is the binding `*`.
pub fn leaves(tree: &UseTree) -> Vec<Leaf> {
    fn walk(tree: &UseTree, path: &[String], into: &mut Vec<Leaf>) {
        let with = |name: String| [path, &[name]].concat();
        match tree {
            UseTree::Path(p) => walk(&p.tree, &with(p.ident.to_string()), into),
            UseTree::Group(group) => group.items.iter().for_each(|tree| walk(tree, path, into)),
            UseTree::Glob(_) => into.push(Leaf { binding: "*".into(), path: path.to_vec() }),
            UseTree::Name(n) if n.ident == "self" => {
                into.push(Leaf { binding: path.last().cloned().unwrap_or_default(), path: path.to_vec() });
            }
            UseTree::Name(n) => into.push(Leaf { binding: n.ident.to_string(), path: with(n.ident.to_string()) }),
            UseTree::Rename(r) => into.push(Leaf { binding: r.rename.to_string(), path: with(r.ident.to_string()) }),
        }
    }
    let mut into = Vec::new();
    walk(tree, &[], &mut into);
    into
}

/// The other crates whose names users get from this one.
const OTHERS: &[&str] = &["half", "ndarray", "num_complex"];

/// How many `use`s are followed, at most; what goes on longer goes round.
const FARTHEST: usize = 16;

/// Follows names through a crate.
pub struct Names<'t> {
    pub tree: &'t Tree,
    pub macros: &'t Macros,
}

impl Names<'_> {
    /// What `path` means in `module`. `None`: it begins here and leads nowhere.
    pub fn resolve(&self, module: &[String], path: &[String]) -> Option<Target> {
        self.follow(module, path, 0)
    }

    fn follow(&self, module: &[String], path: &[String], steps: usize) -> Option<Target> {
        let outside = || Target::Outside(path.join("::"));
        if steps > FARTHEST {
            return Some(outside());
        }
        let mut at = None;
        for (i, segment) in path.iter().enumerate() {
            let last = i + 1 == path.len();
            at = Some(match (segment.as_str(), at) {
                ("crate", None) => Target::Module(Vec::new()),
                ("self", None) => Target::Module(module.to_vec()),
                ("super", None) => Target::Module(module[..module.len().checked_sub(1)?].to_vec()),
                ("super", Some(Target::Module(here))) => Target::Module(here[..here.len().checked_sub(1)?].to_vec()),
                (name, None) => match self.lookup(module, (name, last), steps) {
                    Some(target) => target,
                    None => return Some(outside()),
                },
                (name, Some(Target::Module(here))) => self.lookup(&here, (name, last), steps)?,
                (_, Some(Target::Outside(start))) => return Some(Target::Outside([&[start], &path[i..]].concat().join("::"))),
                (_, Some(item @ Target::Item(..))) => item, // something of an item
            });
        }
        at
    }

    /// A name of a module. One that more names follow is a module's, if there is one; the last is a thing's, which may be called as its module is.
    fn lookup(&self, module: &[String], (wanted, last): (&str, bool), steps: usize) -> Option<Target> {
        let inner = [module, &[wanted.to_owned()]].concat();
        let inner = self.tree.modules.contains_key(&inner).then_some(Target::Module(inner));
        if last { self.thing(module, wanted, steps).or(inner) } else { inner.or_else(|| self.thing(module, wanted, steps)) }
    }

    fn thing(&self, module: &[String], wanted: &str, steps: usize) -> Option<Target> {
        let items = &self.tree.modules.get(module)?.items;
        let is_it = |item: &&Item| name(item).is_some_and(|(name, _)| name == wanted);
        if items.iter().any(|item| is_it(&item)) || self.macros.maker(module, items, wanted).is_some() {
            return Some(Target::Item(module.to_vec(), wanted.to_owned()));
        }
        let uses = items.iter().filter_map(|item| if let Item::Use(u) = item { Some(u) } else { None });
        let leaf = uses.flat_map(|u| leaves(&u.tree)).find(|leaf| leaf.binding == wanted)?;
        let first = leaf.path.first()?;
        if first == wanted && !self.tree.modules.contains_key(&[module, std::slice::from_ref(first)].concat()) {
            return Some(Target::Outside(leaf.path.join("::"))); // `use ndarray;`
        }
        self.follow(module, &leaf.path, steps + 1)
    }
}

/// One name that users have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Export {
    pub path: String,
    pub target: Target,
    /// The `#[cfg(..)]` it stands under, with a blank behind.
    pub condition: String,
}

/// All that users can name.
#[derive(Default)]
pub struct Front {
    /// The name under which users see a thing first, by the thing.
    pub first: BTreeMap<Target, Export>,
    /// The other names of those things.
    pub again: BTreeSet<Export>,
    /// Why this is not the whole truth.
    pub problems: Vec<String>,
}

impl Front {
    /// The front of the crate: of its root, and of what is public in it.
    pub fn of(names: &Names<'_>) -> Self {
        let mut front = Self::default();
        let mut exports = Vec::new();
        front.walk(names, &[], "chunkwise", &mut exports);
        // The root comes before its modules; the prelude has only what is elsewhere too.
        let order = |e: &Export| (e.path.matches("::").count(), e.path.starts_with("chunkwise::prelude::"), e.path.clone());
        exports.sort_by_key(order);
        for export in exports {
            if front.first.contains_key(&export.target) {
                front.again.insert(export);
            } else {
                front.first.insert(export.target.clone(), export);
            }
        }
        front.problems.extend(front.shared_names());
        front
    }

    fn walk(&mut self, names: &Names<'_>, module: &[String], path: &str, into: &mut Vec<Export>) {
        let Some(here) = names.tree.modules.get(module) else { return };
        for item in here.items.iter().filter(|item| !is_hidden(attributes(item))) {
            let condition = condition(attributes(item));
            let export = |name: &str, target| Export { path: format!("{path}::{name}"), target, condition: condition.clone() };
            match item {
                Item::Use(u) if is_pub(&u.vis) => {
                    for leaf in leaves(&u.tree) {
                        let at = format!("{}: `pub use {}`", here.file, leaf.path.join("::"));
                        match names.resolve(module, &leaf.path) {
                            _ if leaf.binding == "*" => self.problems.push(format!("{at}: a glob hides what is public")),
                            None => self.problems.push(format!("{at} leads nowhere")),
                            Some(Target::Outside(path)) if !OTHERS.contains(&path.split("::").next().unwrap_or_default()) => {
                                self.problems
                                    .push(format!("{at} leads nowhere, or into another crate than {}", OTHERS.join(", ")));
                            }
                            Some(Target::Module(m)) => self.walk(names, &m, &format!("{path}::{}", leaf.binding), into),
                            Some(target) => into.push(export(&leaf.binding, target)),
                        }
                    }
                }
                Item::Mod(m) if is_pub(&m.vis) => {
                    let name = m.ident.to_string();
                    self.walk(names, &[module, std::slice::from_ref(&name)].concat(), &format!("{path}::{name}"), into);
                }
                _ => {
                    if let Some((name, _)) = name(item).filter(|(_, vis)| is_pub(vis)) {
                        into.push(export(&name.to_string(), Target::Item(module.to_vec(), name.to_string())));
                    }
                }
            }
        }
        if module.is_empty() {
            let exported =
                names.macros.exported().map(|(module, name)| (name.clone(), Target::Item(module.clone(), name.clone())));
            into.extend(exported.map(|(name, target)| Export {
                path: format!("chunkwise::{name}"),
                target,
                condition: String::new(),
            }));
        }
    }

    /// Names that two things have.
    fn shared_names(&self) -> Vec<String> {
        let mut by_name: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut targets: BTreeMap<&str, BTreeSet<&Target>> = BTreeMap::new();
        for export in self.first.values().chain(&self.again) {
            let name = export.path.rsplit("::").next().unwrap_or_default();
            by_name.entry(name).or_default().insert(&export.path);
            targets.entry(name).or_default().insert(&export.target);
        }
        let shared = by_name.iter().filter(|(name, _)| targets[*name].len() > 1);
        shared
            .map(|(name, paths)| format!("`{name}` is two things: {}", Vec::from_iter(paths.iter().copied()).join(", ")))
            .collect()
    }
}

//! Which file of a crate uses which, and the circles that this makes.
//!
//! Every name is followed to the file that defines it: through `use`, groups, globs, renames and
//! re-exports, and inside macros as far as their text shows paths. What is not seen: methods that a
//! file adds to a type of another.
//!
//! ```text
//!   files ─parse─▶ modules: items, imports, paths ─resolve─▶ arrows between files ─▶ circles
//! ```
//! A file and the `mod.rs` of its own folder may know each other, so the arrow up to it does not
//! count.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Item, UseTree,
    visit::{self, Visit},
};

/// Globs and re-exports that are followed one after the other, at most.
const STEPS_MAX: usize = 24;

/// Segments from the crate's root on.
type Name = Vec<String>;

/// What a module says.
#[derive(Default)]
struct Module {
    file: usize,
    items: BTreeSet<String>,
    /// By the name that it has here.
    imports: Vec<(String, Name)>,
    globs: Vec<Name>,
    /// All that it names by a path.
    paths: Vec<Name>,
}

/// A crate, read.
#[derive(Default)]
pub struct Crate {
    /// From the crate's root on.
    files: Vec<String>,
    modules: BTreeMap<Name, Module>,
}

/// What a name stands for.
enum Found {
    Module(Name),
    Item(usize),
}

impl Crate {
    /// The files of a crate by their paths from its root on, of which `lib.rs` is one.
    pub fn parse(files: &BTreeMap<String, String>) -> Self {
        let mut read = Self::default();
        read.add_file(files, "lib.rs", "", vec![]);
        read
    }

    fn add_file(&mut self, files: &BTreeMap<String, String>, path: &str, folder: &str, module: Name) {
        let parsed = syn::parse_file(&files[path]).unwrap_or_else(|error| panic!("{path}: {error}"));
        let file = self.files.len();
        self.files.push(path.into());
        self.modules.insert(module.clone(), Module { file, ..Module::default() });
        let mut reader = Reader { read: self, file, module: module.clone(), children: vec![] };
        reader.visit_file(&parsed);
        for child in reader.children {
            // As the compiler looks for it: relative to the module, not to the file.
            let inside = &child[module.len()..];
            let stem = format!("{folder}{}", inside.join("/"));
            let (in_file, in_folder) = (format!("{stem}.rs"), format!("{stem}/mod.rs"));
            let path = if files.contains_key(&in_file) { in_file } else { in_folder };
            self.add_file(files, &path, &format!("{stem}/"), child);
        }
    }

    fn lookup(&self, module: &Name, name: &str, is_last: bool, steps: usize) -> Option<Found> {
        let here = self.modules.get(module)?;
        let child = [module.as_slice(), &[name.to_owned()]].concat();
        let is_item = here.items.contains(name);
        if self.modules.contains_key(&child) && !(is_last && is_item) {
            return Some(Found::Module(child));
        }
        if is_item {
            return Some(Found::Item(here.file));
        }
        let steps = steps.checked_sub(1)?;
        let imported = here.imports.iter().find(|(alias, _)| alias == name);
        if let Some((_, path)) = imported
            && let Some(found) = self.resolve(module, path, steps)
        {
            return Some(found);
        }
        here.globs.iter().find_map(|glob| match self.resolve(module, glob, steps)? {
            Found::Module(other) if other != *module => self.lookup(&other, name, is_last, steps),
            _ => None,
        })
    }

    /// Follows a path that `module` names; `None` for what other crates define.
    fn resolve(&self, module: &Name, path: &[String], steps: usize) -> Option<Found> {
        let mut at = module.clone();
        let mut rest = path;
        if let ["crate", ..] | ["self", ..] | ["super", ..] =
            path.iter().map(String::as_str).collect::<Vec<_>>()[..]
        {
            if path[0] == "crate" {
                at.clear();
            }
            rest = &path[usize::from(path[0] != "super")..];
            while rest.first().is_some_and(|segment| segment == "super") {
                at.pop()?;
                rest = &rest[1..];
            }
        } else if path.len() == 1 && steps < STEPS_MAX && self.is_import_of_itself(module, path) {
            return None;
        }
        for (number, segment) in rest.iter().enumerate() {
            match self.lookup(&at, segment, number + 1 == rest.len(), steps)? {
                Found::Module(inner) => at = inner,
                found @ Found::Item(_) => return Some(found),
            }
        }
        Some(Found::Module(at))
    }

    /// `use name;` names a crate, and not itself.
    fn is_import_of_itself(&self, module: &Name, path: &[String]) -> bool {
        self.modules[module].imports.iter().any(|(alias, whole)| *alias == path[0] && whole == path)
    }

    /// The files that each file uses, but for those that may know each other.
    fn arrows(&self) -> BTreeMap<usize, BTreeSet<usize>> {
        let mut arrows: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (name, module) in &self.modules {
            for path in &module.paths {
                let Some(Found::Item(to)) = self.resolve(name, path, STEPS_MAX) else { continue };
                if to != module.file && !self.is_parent(to, module.file) {
                    arrows.entry(module.file).or_default().insert(to);
                }
            }
        }
        arrows
    }

    /// Whether `parent` is the `mod.rs` that declares the module of `child`.
    fn is_parent(&self, parent: usize, child: usize) -> bool {
        let own = Path::new(&self.files[child]);
        let folder = if own.ends_with("mod.rs") { own.parent().and_then(Path::parent) } else { own.parent() };
        let name = if folder.is_some_and(|folder| folder == Path::new("")) { "lib.rs" } else { "mod.rs" };
        folder.is_some_and(|folder| Path::new(&self.files[parent]) == folder.join(name))
    }

    /// Each circle: the files in it, and the arrows between them as `a -> b`.
    pub fn circles(&self) -> Vec<(BTreeSet<String>, Vec<String>)> {
        let arrows = self.arrows();
        let reach: Vec<_> = (0..self.files.len()).map(|file| reachable(&arrows, file)).collect();
        let (mut seen, mut circles) = (BTreeSet::new(), vec![]);
        for file in 0..self.files.len() {
            let tied: BTreeSet<_> =
                reach[file].iter().copied().filter(|other| reach[*other].contains(&file)).collect();
            if tied.len() < 2 || !seen.insert(tied.clone()) {
                continue;
            }
            let inside = |from: &usize| arrows.get(from).into_iter().flatten().filter(|to| tied.contains(to));
            let shown = tied.iter().flat_map(|from| inside(from).map(move |to| (*from, *to)));
            let shown = shown.map(|(from, to)| format!("{} -> {}", self.files[from], self.files[to]));
            circles.push((tied.iter().map(|file| self.files[*file].clone()).collect(), shown.collect()));
        }
        circles
    }
}

fn reachable(arrows: &BTreeMap<usize, BTreeSet<usize>>, from: usize) -> BTreeSet<usize> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(file) = open.pop() {
        open.extend(arrows.get(&file).into_iter().flatten().filter(|to| found.insert(**to)));
    }
    found
}

/// Reads a file into modules.
struct Reader<'a> {
    read: &'a mut Crate,
    file: usize,
    module: Name,
    /// Modules that are files of their own.
    children: Vec<Name>,
}

impl Reader<'_> {
    fn here(&mut self) -> &mut Module {
        self.read.modules.get_mut(&self.module).expect("a module that was begun")
    }

    fn define(&mut self, name: impl ToString) {
        self.here().items.insert(name.to_string());
    }

    fn import(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &with(&path.ident)),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, before)),
            UseTree::Glob(_) => self.here().globs.push(before.to_vec()),
            UseTree::Name(name) if name.ident == "self" => {
                let alias = before.last().cloned().unwrap_or_default();
                self.add_import(alias, before.to_vec());
            }
            UseTree::Name(name) => self.add_import(name.ident.to_string(), with(&name.ident)),
            UseTree::Rename(rename) if rename.ident == "self" => {
                self.add_import(rename.rename.to_string(), before.to_vec());
            }
            UseTree::Rename(rename) => self.add_import(rename.rename.to_string(), with(&rename.ident)),
        }
    }

    fn add_import(&mut self, alias: String, path: Name) {
        self.here().paths.push(path.clone());
        self.here().imports.push((alias, path));
    }

    /// Paths in the text of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons): (Name, usize) = (vec![], 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if path.is_empty() || colons == 2 => {
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    self.end_path(&mut path);
                    colons = 0;
                    match other {
                        TokenTree::Ident(ident) => path.push(ident.to_string()),
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        _ => {}
                    }
                }
            }
        }
        self.end_path(&mut path);
    }

    fn end_path(&mut self, path: &mut Name) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.here().paths.push(path);
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name) = match item {
            Item::Const(item) => (&item.attrs, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
            Item::Static(item) => (&item.attrs, Some(&item.ident)),
            Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.ident)),
            Item::Union(item) => (&item.attrs, Some(&item.ident)),
            Item::Impl(item) => (&item.attrs, None),
            Item::Use(item) => (&item.attrs, None),
            Item::Mod(item) => (&item.attrs, None),
            _ => return visit::visit_item(self, item),
        };
        if is_test(attributes) {
            return;
        }
        if let Some(name) = name {
            self.define(name);
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let name = [self.module.as_slice(), &[item.ident.to_string()]].concat();
        let Some((_, items)) = &item.content else { return self.children.push(name) };
        let outer = std::mem::replace(&mut self.module, name.clone());
        self.read.modules.insert(name, Module { file: self.file, ..Module::default() });
        items.iter().for_each(|item| self.visit_item(item));
        self.module = outer;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // `::name` is another crate's.
        if item.leading_colon.is_none() {
            self.import(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.here().paths.push(segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let circles = Crate::parse(&files).circles();
        circles.into_iter().map(|(files, _)| files.into_iter().collect()).collect()
    }

    #[test]
    fn a_circle_is_seen_through_groups_globs_renames_constants_re_exports_and_macros() {
        let ways = [
            "use super::b::B;",
            "use super::{b::{self, B as Other}};",
            "use super::b::*; fn f() { B::new() }",
            "use super::b; const X: usize = b::LIMIT;",
            "use crate::B;",
            "fn f() { crate::b::g() }",
            "fn f() { log!(\"x\", n = crate::b::LIMIT) }",
            "fn f() { use super::b::g; g() }",
            "mod inner { use super::super::b::B; }",
            "impl super::b::T for u8 {}",
        ];
        let b = "use crate::a::A; pub struct B; pub const LIMIT: usize = 1; pub fn g() {} pub trait T {}";
        for way in ways {
            let a = format!("{way} pub struct A;");
            let files = [("lib.rs", "mod a; mod b; pub use b::B;"), ("a.rs", &a), ("b.rs", b)];
            assert_eq!(circles(&files), [["a.rs", "b.rs"]], "{way}");
        }
    }

    #[test]
    fn tests_comments_and_names_of_other_crates_make_no_arrows() {
        let ways = [
            "// use super::b::B;",
            "#[cfg(test)] mod tests { use super::super::b::B; }",
            "use b::B;",
            "use ::b::B;",
            "const X: &str = \"super::b::B\";",
        ];
        for way in ways {
            let a = format!("{way}\npub struct A;");
            let b = "use super::a::A; pub struct B;";
            assert_eq!(circles(&[("lib.rs", "mod a; mod b;"), ("a.rs", &a), ("b.rs", b)]).len(), 0, "{way}");
        }
    }

    #[test]
    fn a_file_and_its_parent_may_know_each_other_but_a_grandchild_may_not() {
        let files = |child: &'static str, grandchild: &'static str| {
            [
                ("lib.rs", "mod x;"),
                ("x/mod.rs", "mod y; use y::Y; pub struct X;"),
                ("x/y/mod.rs", child),
                ("x/y/z.rs", grandchild),
            ]
        };
        assert_eq!(circles(&files("mod z; use super::X; pub struct Y;", "use super::Y;")).len(), 0);
        let tied = circles(&files("mod z; use z::Z; pub struct Y;", "use crate::x::X; pub struct Z;"));
        assert_eq!(tied, [["x/mod.rs", "x/y/mod.rs", "x/y/z.rs"]]);
    }
}

//! The storeys of `ARCHITECTURE.md`: no file of `src/` uses one of a storey above its own, and no two use each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, UseTree};

type Module = Vec<String>;

/// What one file has and names.
#[derive(Default)]
struct Source {
    modules: BTreeSet<String>,
    /// What its `use` lines call by these names.
    imports: BTreeMap<String, Module>,
    /// All paths in it, those of its `use` lines too.
    paths: Vec<Module>,
    /// It does no more than to declare and to re-export.
    is_front: bool,
}

/// By files, and which names are taken.
type Arrows = BTreeMap<(PathBuf, PathBuf), BTreeSet<String>>;

struct House {
    root: PathBuf,
    sources: BTreeMap<Module, Source>,
}

impl House {
    fn read(root: &Path) -> Self {
        let mut house = Self {
            root: root.to_owned(),
            sources: BTreeMap::new(),
        };
        house.read_module(Vec::new());
        house
    }

    fn file(&self, module: &[String]) -> PathBuf {
        match module {
            [] => "lib.rs".into(),
            module => format!("{}.rs", module.join("/")).into(),
        }
    }

    fn read_module(&mut self, module: Module) {
        let path = self.root.join(self.file(&module));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let mut source = Source::default();
        let others = |item: &&Item| !matches!(item, Item::Mod(_) | Item::Use(_));
        source.is_front = file.items.iter().filter(others).count() == 0;
        source.visit_file(&file);
        for child in &source.modules {
            self.read_module([&module[..], std::slice::from_ref(child)].concat());
        }
        self.sources.insert(module, source);
    }

    /// The module in which this path, as `module` writes it, ends: that which defines the name, or the module that
    /// is named. `None` if it leads out of the house.
    fn resolve(&self, module: &Module, path: &[String], depth: usize) -> Option<Module> {
        assert!(depth < 50, "{path:?} in {module:?} is a circle of names");
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => module.split_last()?.1.to_vec(),
            _ if self.sources[module].modules.contains(first) => {
                [&module[..], std::slice::from_ref(first)].concat()
            }
            _ => {
                let import = self.sources[module].imports.get(first)?;
                // What is imported from a crate of the same name leads out.
                if import.first() == Some(first) && !self.is_ours(module, import) {
                    return None;
                }
                let target = self.resolve(module, import, depth + 1)?;
                if !self.names_module(module, import, depth) {
                    return Some(target);
                }
                target
            }
        };
        while let Some((next, after)) = rest.split_first() {
            if next == "super" {
                at.pop();
            } else if self.sources[&at].modules.contains(next) {
                at.push(next.clone());
            } else if let Some(import) = self.sources[&at].imports.get(next) {
                let import = [import, after].concat();
                return self.resolve(&at, &import, depth + 1);
            } else {
                break;
            }
            rest = after;
        }
        Some(at)
    }

    fn is_ours(&self, module: &Module, path: &[String]) -> bool {
        let roots = ["crate", "self", "super"];
        roots.contains(&path[0].as_str()) || self.sources[module].modules.contains(&path[0])
    }

    /// Whether this path is that of a module, and not of something in one.
    fn names_module(&self, module: &Module, path: &[String], depth: usize) -> bool {
        let target = self.resolve(module, path, depth + 1);
        target.is_some_and(|target| target.last() == path.last())
    }

    fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (module, source) in &self.sources {
            for path in &source.paths {
                let Some(target) = self.resolve(module, path, 0) else {
                    continue;
                };
                // A front file shows its rooms; and a module may be named just to say what is in it.
                let is_shown = source.is_front && target.starts_with(module);
                let is_named = self.sources[&target].is_front && target.last() == path.last();
                if target == *module || is_shown || is_named {
                    continue;
                }
                let ends = (self.file(module), self.file(&target));
                arrows.entry(ends).or_default().insert(path.join("::"));
            }
        }
        arrows
    }
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        match item {
            Item::Mod(module) if module.content.is_none() => {
                self.modules.insert(module.ident.to_string());
            }
            item => visit::visit_item(self, item),
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.take_in(&item.tree, &mut Vec::new());
    }

    /// Who may see something is no use of it.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter();
        self.paths
            .push(segments.map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.take_in_tokens(call.tokens.clone());
    }
}

impl Source {
    fn take_in(&mut self, tree: &UseTree, before: &mut Module) {
        let mut import = |name: String, path: Module| {
            self.paths.push(path.clone());
            self.imports.insert(name, path);
        };
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.take_in(&path.tree, before);
                before.pop();
            }
            UseTree::Name(name) if name.ident == "self" => {
                import(before.last().expect("a path").clone(), before.clone());
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                import(name.clone(), [&before[..], &[name]].concat());
            }
            UseTree::Rename(rename) => {
                let path = [&before[..], &[rename.ident.to_string()]].concat();
                import(rename.rename.to_string(), path);
            }
            UseTree::Glob(_) => self.paths.push([&before[..], &["*".into()]].concat()),
            UseTree::Group(group) => group
                .items
                .iter()
                .for_each(|tree| self.take_in(tree, before)),
        }
    }

    /// Paths in the arguments of macros.
    fn take_in_tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Module::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons < 2 {
                        self.paths.push(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.paths.push(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.take_in_tokens(group.stream());
                    }
                }
            }
        }
        self.paths.push(path);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let mut conditions = attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"));
    conditions.any(|condition| {
        let condition = match &condition.meta {
            syn::Meta::List(list) => list.tokens.to_string().replace(' ', ""),
            _ => String::new(),
        };
        condition == "test" || condition.starts_with("all(test,")
    })
}

/// The storey of each file and folder, as `ARCHITECTURE.md` lists them.
fn storeys(text: &str) -> BTreeMap<String, usize> {
    let list = text.split("```").nth(1).expect("a list");
    let mut storeys = BTreeMap::new();
    for line in list.lines() {
        let mut words = line.split_whitespace();
        let Some(Ok(number)) = words.next().map(str::parse) else {
            continue;
        };
        let is_room = |word: &&str| word.ends_with('/') || word.ends_with(".rs");
        for room in words.take_while(is_room) {
            storeys.insert(room.trim_end_matches('/').to_owned(), number);
        }
    }
    storeys
}

/// The file, or the folder, of `src` that a file is or is in.
fn room(file: &Path) -> String {
    let room = file.iter().next().expect("a file").to_string_lossy();
    room.into_owned()
}

/// What is wrong with these arrows.
fn faults(arrows: &Arrows, storeys: &BTreeMap<String, usize>) -> Vec<String> {
    let mut faults = Vec::new();
    let storey = |file: &Path| {
        let room = room(file);
        let folder = room.trim_end_matches(".rs");
        let found = storeys.get(&room).or_else(|| storeys.get(folder));
        *found.unwrap_or_else(|| panic!("{room} is in no storey of ARCHITECTURE.md"))
    };
    let folder = |file: &Path| room(file).trim_end_matches(".rs").to_owned();
    for ((from, to), names) in arrows {
        let (here, there) = (storey(from), storey(to));
        let neighbours = folder(from) == folder(to) || from.iter().chain(to).count() == 2;
        if there > here || (there == here && !neighbours) {
            faults.push(format!(
                "{from:?} ({here}) uses {to:?} ({there}): {names:?}"
            ));
        }
    }
    // What each file uses, on whatever way.
    let mut reached: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for (from, to) in arrows.keys() {
        reached.entry(from).or_default().insert(to);
    }
    loop {
        let before: usize = reached.values().map(BTreeSet::len).sum();
        for from in reached.keys().copied().collect::<Vec<_>>() {
            let next: BTreeSet<_> = (reached[from].iter())
                .flat_map(|to| reached.get(to).into_iter().flatten().copied())
                .collect();
            reached.get_mut(from).expect("a key").extend(next);
        }
        if before == reached.values().map(BTreeSet::len).sum::<usize>() {
            break;
        }
    }
    for ((from, to), names) in arrows {
        if reached
            .get(&**to)
            .is_some_and(|reached| reached.contains(&**from))
        {
            faults.push(format!("in a circle {from:?} uses {to:?}: {names:?}"));
        }
    }
    faults
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn no_file_uses_one_above_it_and_no_two_use_each_other() {
    let house = House::read(&path("src"));
    let storeys = storeys(&fs::read_to_string(path("ARCHITECTURE.md")).unwrap());
    let faults = faults(&house.arrows(), &storeys);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// A front file has rooms, and nothing of its own.
#[test]
fn the_front_of_each_folder_declares_and_shows_only() {
    let house = House::read(&path("src"));
    for (module, source) in &house.sources {
        if module.len() == 1 && !source.modules.is_empty() {
            assert!(source.is_front, "{module:?}");
        }
    }
}

#[test]
fn the_plans_name_files_that_are_there() {
    for plan in ["ARCHITECTURE.md", "tests/README.md"] {
        let text = fs::read_to_string(path(plan)).unwrap();
        let named = text.split('`').filter(|word| word.ends_with(".rs"));
        for file in named {
            let places = ["", "src/"].map(|place| path(place).join(file));
            assert!(places.iter().any(|place| place.exists()), "{plan}: {file}");
        }
    }
}

/// The faults of a house of these files, whose `low` stands under `high`.
fn faults_of(name: &str, files: &[(&str, &str)]) -> Vec<String> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    for (file, text) in files {
        let file = root.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let storeys = storeys("```text\n3 lib.rs\n2 high/ text\n1 low/\n```");
    faults(&House::read(&root).arrows(), &storeys)
}

#[test]
fn an_arrow_that_runs_up_is_found_however_it_is_written() {
    for (case, low) in [
        ("plain", "use crate::high::Up;"),
        ("list", "use crate::{high::{Up as Renamed}};"),
        ("path", "fn f() -> crate::high::Up { loop {} }"),
        ("module", "use crate::high; fn f(_: high::Up) {}"),
        ("function", "fn f() { use super::high::Up; }"),
        (
            "macro",
            "fn f() { println!(\"{}\", 1 + crate::high::Up::N); }",
        ),
        ("type", "use crate::high::deep::Up; impl Up {}"),
        ("star", "use crate::high::deep::*;"),
    ] {
        let front = "mod deep; pub use deep::Up;";
        let found = faults_of(
            case,
            &[
                ("lib.rs", "mod high; mod low;"),
                ("high.rs", front),
                (
                    "high/deep.rs",
                    "pub struct Up; impl Up { const N: u8 = 1; }",
                ),
                ("low.rs", low),
            ],
        );
        assert_eq!(found.len(), 1, "{case}: {found:?}");
        let beginning = "\"low.rs\" (1) uses \"high/deep.rs\" (2): ";
        assert!(found[0].starts_with(beginning), "{case}: {found:?}");
    }
}

#[test]
fn a_circle_is_found_and_tests_may_look_anywhere() {
    let circle = |name, three| {
        let files = [
            ("lib.rs", "mod low;"),
            (
                "low.rs",
                "mod one; mod two; mod three; pub use {one::One, three::Three};",
            ),
            ("low/one.rs", "use super::two::Two; pub struct One(Two);"),
            ("low/two.rs", "use super::Three; pub struct Two(Three);"),
            ("low/three.rs", three),
        ];
        faults_of(name, &files)
    };
    let found = circle("circle", "pub struct Three(super::One);");
    assert_eq!(found.len(), 3, "{found:?}");
    let found = circle(
        "line",
        "pub struct Three; #[cfg(test)] mod t { use crate::low::One; }",
    );
    assert!(found.is_empty(), "{found:?}");
}

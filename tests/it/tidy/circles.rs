//! No two files need each other, be it through others: what a file imports stands below it.
//!
//! What counts is a `use` that is no re-export, and a path that begins with `crate::`, `super::` or `self::`. A path
//! leads to the file of the longest module that it names. A re-export is a table of contents and needs nothing.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::source::{Source, sources};

/// A module as the names from the crate's root to it.
type Module = Vec<String>;

#[test]
fn no_files_import_each_other_in_a_circle() {
    let modules = modules();
    let imports = modules.iter().map(|(module, source)| (module.clone(), imports(module, &source.code, &modules)));
    let found: Vec<Vec<&str>> = circles(&imports.collect())
        .iter()
        .map(|circle| circle.iter().map(|module| &*modules[module].name).collect())
        .collect();
    assert!(found.is_empty(), "files import each other in a circle: {found:#?}");
}

/// All modules with a file of their own.
pub(super) fn modules() -> BTreeMap<Module, &'static Source> {
    sources().iter().filter_map(|source| Some((module_of(&source.name)?, source))).collect()
}

/// The module that a file holds; none for the program, which is a crate of its own.
fn module_of(file: &str) -> Option<Module> {
    let path = file.strip_prefix("src/")?.strip_suffix(".rs")?;
    match path {
        "main" => None,
        "lib" => Some(Vec::new()),
        _ => Some(path.strip_suffix("/mod").unwrap_or(path).split('/').map(str::to_owned).collect()),
    }
}

/// The modules, with files of their own, that the code of `module` imports.
pub(super) fn imports<V>(module: &Module, code: &str, modules: &BTreeMap<Module, V>) -> BTreeSet<Module> {
    let statement = Regex::new(r"(?s)(?P<public>\bpub(?:\([^)]*\))?\s+)?\buse\s+(?P<tree>[^;]+);").unwrap();
    // `pub(in crate::a)` says who may look in, not what is needed.
    let reach_of_names = Regex::new(r"\bpub\(in [^)]*\)").unwrap();
    let path = Regex::new(r"\b(?:crate|super|self)(?:::\w+)+").unwrap();
    let mut paths = Vec::new();
    for found in statement.captures_iter(code).filter(|found| found.name("public").is_none()) {
        expand(&found["tree"].split_whitespace().collect::<Vec<_>>().join(" "), "", &mut paths);
    }
    let rest = statement.replace_all(code, "");
    let rest = reach_of_names.replace_all(&rest, "pub");
    paths.extend(path.find_iter(&rest).map(|found| found.as_str().to_owned()));
    let resolved = paths.iter().filter_map(|path| resolve(path, module, modules));
    resolved.filter(|found| found != module && !found.is_empty()).collect()
}

/// The paths of a `use`: `a::{b, c::{d, e}}` has three.
fn expand(tree: &str, before: &str, paths: &mut Vec<String>) {
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        paths.push(format!("{before}{}", path.trim()));
        return;
    };
    let before = format!("{before}{}", head.trim());
    let (mut depth, mut begin) = (0_usize, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                if !group[begin..at].trim().is_empty() {
                    expand(&group[begin..at], &before, paths);
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// The longest module with a file that `path`, written in `module`, names; none if it leads out of the crate.
fn resolve<V>(path: &str, module: &Module, modules: &BTreeMap<Module, V>) -> Option<Module> {
    let mut names = path.split("::").map(str::trim).peekable();
    let mut found = match names.peek().copied()? {
        "crate" => Module::new(),
        "self" | "super" => module.clone(),
        first => {
            let below: Module = module.iter().cloned().chain([first.to_owned()]).collect();
            return modules.contains_key(&below).then(|| resolve(&format!("self::{path}"), module, modules)).flatten();
        }
    };
    while let Some(name) = names.next_if(|name| matches!(*name, "crate" | "self" | "super")) {
        if name == "super" {
            found.pop();
        }
    }
    found.extend(names.map(str::to_owned));
    while !modules.contains_key(&found) {
        found.pop()?;
    }
    Some(found)
}

/// The groups of modules that each reach all others of their group.
fn circles(imports: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<BTreeSet<Module>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        imports.keys().map(|from| (from, reach(from, imports))).collect();
    let circle = |from: &Module| -> BTreeSet<Module> {
        reached[from].iter().filter(|to| reached[**to].contains(from)).map(|to| (*to).clone()).collect()
    };
    imports.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}

/// What `from` imports, and what that imports, and so on.
fn reach<'m>(from: &Module, imports: &'m BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<&'m Module> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Module> = imports[from].iter().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(imports.get(module).into_iter().flatten());
        }
    }
    reached
}

mod itself {
    use super::*;

    fn module(path: &str) -> Module {
        path.split("::").map(str::to_owned).collect()
    }

    #[test]
    fn imports_lead_to_the_longest_module() {
        let modules: BTreeMap<Module, ()> = ["a", "a::b", "a::b::c", "a::d", "e"].map(|path| (module(path), ())).into();
        let found = |code: &str| -> Vec<String> {
            imports(&module("a::b"), code, &modules).iter().map(|module| module.join("::")).collect()
        };
        assert_eq!(found("use crate::a::d::Thing;"), ["a::d"]);
        assert_eq!(found("use super::{d, Other};"), ["a", "a::d"]);
        assert_eq!(found("use self::c::Thing; use c::{self, More as Same};"), ["a::b::c"]);
        assert_eq!(found("fn f() { super::super::e::go() }"), ["e"]);
        assert_eq!(found("pub(in crate::a) fn f() {}"), [""; 0]);
        assert_eq!(found("use crate::{a::{b::c::{X, Y}, d}, e as z};"), ["a::b::c", "a::d", "e"]);
        assert_eq!(found("pub use self::c::Thing; pub(in crate::a) use super::d; use std::fmt; use d::x;"), [""; 0]);
    }

    #[test]
    fn a_circle_is_found_whatever_its_length() {
        let imports = |arrows: &[(&str, &str)]| {
            let mut imports = BTreeMap::<Module, BTreeSet<Module>>::new();
            for (from, to) in arrows {
                imports.entry(module(to)).or_default();
                imports.entry(module(from)).or_default().insert(module(to));
            }
            circles(&imports)
                .iter()
                .map(|circle| circle.iter().map(|m| m.join("::")).collect())
                .collect::<Vec<Vec<_>>>()
        };
        assert!(imports(&[("a", "b"), ("b", "c"), ("a", "c")]).is_empty());
        assert_eq!(imports(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]), [["a", "b", "c"]]);
    }
}

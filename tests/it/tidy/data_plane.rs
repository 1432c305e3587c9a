//! The layers inside the data plane: lanes are strangers, meet where a connection is given to one, and share what is
//! below them.

use std::collections::BTreeSet;

use regex::Regex;

use super::circles;
use super::layers::why_not;
use super::source::sources;

/// The rooms of `src/proxy`, top first; `mod` is its root, which puts them together. An arrow goes from a room to one in a
/// lower row; rooms of one row are strangers.
const ROOMS: &[&[&str]] = &[
    &["accept"],
    &["mod"],
    &["h1", "h2", "pingora", "health", "mirror"],
    &["express"],
    &["request", "worker"],
    &["upstream"],
    &["codec"],
    &["io"],
    &["unread"],
    &["shared", "seats", "descriptors"],
    &["mirror_queue"],
];

/// The only folder that names the engine's crates.
const ENGINE_FOLDER: &str = "src/proxy/pingora/";

/// Who may name that folder's module: what puts the lanes together, and what gives a connection to one of them. They see
/// its types and none of the engine's.
const COMPOSITION: [&str; 2] = ["src/proxy/mod.rs", "src/proxy/accept/listener.rs"];

#[test]
fn arrows_between_rooms_go_only_down() {
    let modules = circles::modules();
    let mut wrong = Vec::new();
    let mut found = BTreeSet::new();
    for (module, source) in &modules {
        let Some(from) = room(module) else { continue };
        found.insert(from);
        for imported in circles::imports(module, &source.code, &modules) {
            if let Some(why) = room(&imported).and_then(|to| why_not(ROOMS, from, to)) {
                wrong.push(format!("{}: `{}`: {why}", source.name, imported.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(found, ROOMS.iter().flat_map(|row| row.iter().copied()).collect(), "src/proxy and its rooms differ");
}

#[test]
fn only_one_folder_names_the_engine() {
    let engine = Regex::new(r"\bpingora_\w+").unwrap();
    let folder = Regex::new(r"\bpingora\b").unwrap();
    for source in sources().iter().filter(|source| !source.name.starts_with(ENGINE_FOLDER)) {
        assert!(!engine.is_match(&source.code), "{} names the engine; only {ENGINE_FOLDER} may", source.name);
        let composes = COMPOSITION.contains(&&*source.name);
        assert!(composes || !folder.is_match(&source.code), "{} names the lane `pingora`", source.name);
    }
}

/// The room of the data plane that a module belongs to.
fn room(module: &[String]) -> Option<&str> {
    match module {
        [proxy] if proxy == "proxy" => Some("mod"),
        [proxy, room, ..] if proxy == "proxy" => Some(room),
        _ => None,
    }
}

mod itself {
    use super::*;

    #[test]
    fn rooms_of_modules() {
        let room = |path: &str| room(&path.split("::").map(str::to_owned).collect::<Vec<_>>()).map(str::to_owned);
        assert_eq!(room("proxy").as_deref(), Some("mod"));
        assert_eq!(room("proxy::codec::h2::frames").as_deref(), Some("codec"));
        assert_eq!(room("traffic::route"), None);
    }

    #[test]
    fn arrows_that_are_refused() {
        assert!(why_not(ROOMS, "h1", "pingora").is_some(), "lanes are strangers");
        assert!(why_not(ROOMS, "request", "h1").is_some(), "up");
        assert!(why_not(ROOMS, "pingora", "accept").is_some(), "up");
        assert!(why_not(ROOMS, "h1", "request").is_none(), "down");
        assert!(why_not(ROOMS, "accept", "accept").is_none(), "itself");
    }
}

//! The rules that span several sections of the file: names that must exist and be told apart, sockets, routes that match
//! the same.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::section::flag::MAX_FLAGS_OF_SERVICE;
use super::section::listener::Listener;
use super::section::route::{HeaderMatch, HostMatch, PathMatch, Route};
use super::syntax::fields::Fields;
use super::syntax::problem::Problem;
use super::syntax::read::{Items, PathStep, Read as _, Reader};
use super::syntax::tree::{Key, Node, Value};
use crate::coop::in_pieces;
use crate::model::Address;

/// How many listeners a process may have.
pub(crate) const MAX_LISTENERS: usize = 256;
/// How many services a file may have.
pub(crate) const MAX_SERVICES: usize = 100_000;
/// How many routes a file may have.
pub(crate) const MAX_ROUTES: usize = 200_000;

/// The listeners, each with a name of its own.
pub(crate) fn read_listeners<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    bounds: RangeInclusive<usize>,
) -> Option<Vec<Listener>> {
    let items = reader.items(node, "a list", |reader, node| Listener::read(node, reader))?;
    reader.count(items.total, &bounds, node.place)?;
    let unique = check_names(reader, &items, |listener| Some(&listener.name), "listener");
    let apart = check_listener_addresses(reader, &items);
    if unique && apart { items.all() } else { None }
}

/// Whether all names of a list's items are different.
fn check_names<'n, T>(
    reader: &mut Reader<'n>,
    items: &Items<'n, T>,
    name: impl Fn(&T) -> Option<&crate::model::Name>,
    what: &str,
) -> bool {
    let mut lines = ahash::HashMap::default();
    let mut unique = true;
    for (at, node, item) in in_pieces(&items.good) {
        let (Some(name), Some((key, value))) = (name(item), node.field("name")) else { continue };
        if let Some(line) = lines.insert(name, value.place.line) {
            unique = false;
            reader.below(PathStep::Item(*at), node.place, |reader| {
                reader.below(PathStep::Field(&key.text), key.place, |reader| {
                    let message = format!("another {what} has this name, on line {line}");
                    let problem = Problem::new(value.place, message).found(value.shown());
                    reader.note(problem.help("names are metric labels: give each its own"));
                });
            });
        }
    }
    unique
}

/// Whether no two listeners need the same socket.
fn check_listener_addresses<'n>(reader: &mut Reader<'n>, items: &Items<'n, Listener>) -> bool {
    let mut apart = true;
    for (position, (at, node, listener)) in items.good.iter().enumerate() {
        let earlier = items.good.iter().take(position);
        let mut earlier = earlier.filter(|(_, _, other)| clash(&other.address, &listener.address));
        let (Some((other, ..)), Some((key, value))) = (earlier.next(), node.field("address")) else { continue };
        apart = false;
        let message = format!("`listeners[{other}]` needs the same socket");
        reader.below(PathStep::Item(*at), node.place, |reader| {
            reader.below(PathStep::Field(&key.text), key.place, |reader| {
                reader.note(Problem::new(value.place, message).help(OWN_PORT));
            });
        });
    }
    apart
}

const OWN_PORT: &str = "give each its own port";

/// Notes when telemetry or the control API need a socket that something else needs as well.
pub(crate) fn check_addresses(
    fields: &mut Fields<'_, '_>,
    listeners: &[Listener],
    sections: [(&'static str, Option<&Address>); 2],
) {
    let listeners = listeners.iter().enumerate();
    let mut taken: Vec<(String, &Address, Option<&'static str>)> =
        listeners.map(|(at, listener)| (format!("`listeners[{at}]`"), &listener.address, None)).collect();
    for (section, address) in sections {
        let Some(address) = address else { continue };
        if let Some((who, _, other)) = taken.iter().find(|(_, other, _)| clash(other, address)) {
            note_clash(fields, section, who, *other, address);
        }
        taken.push((format!("`{section}`"), address, Some(section)));
    }
}

/// Notes that `section` needs the socket that `who` needs, at the section's address in the file, or else, when
/// its address is the default, at that of the section `other`.
fn note_clash(
    fields: &mut Fields<'_, '_>,
    section: &'static str,
    who: &str,
    other: Option<&'static str>,
    address: &Address,
) {
    let (message, place) = match written_address(fields, section) {
        Some(place) => (format!("{who} needs the same socket"), Some(place)),
        None => {
            let message = format!("{who} needs {address}, where `{section}` listens by default");
            (message, other.and_then(|other| written_address(fields, other)))
        }
    };
    let Some((section, (key, value))) = place else {
        fields.fault_here(&message, &format!("give `{section}` its own address: `{section}: {{ address: … }}`"));
        return;
    };
    let way = [(PathStep::Field(&section.text), section.place), (PathStep::Field(&key.text), key.place)];
    fields.note_below(&way, Problem::new(value.place, message).help(OWN_PORT));
}

/// A key and its value, as the file writes them.
type FieldEntry<'n> = (Key<'n>, Node<'n>);

/// The section and the address in it, if the file writes one.
fn written_address<'n>(fields: &Fields<'_, 'n>, section: &str) -> Option<(&'n Key<'n>, &'n FieldEntry<'n>)> {
    let (key, node) = fields.get(section)?;
    Some((key, node.field("address")?))
}

/// Whether two sockets cannot both be bound. Port 0 never clashes.
fn clash(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Unix(one), Address::Unix(other)) => one == other,
        (Address::Inet(one), Address::Inet(other)) => inet_clash(one, other),
        _ => false,
    }
}

fn inet_clash(one: &SocketAddr, other: &SocketAddr) -> bool {
    let every = one.ip().is_unspecified() || other.ip().is_unspecified();
    let same_family = one.is_ipv4() == other.is_ipv4();
    one.port() != 0 && one.port() == other.port() && (one.ip() == other.ip() || (every && same_family))
}

/// The routes: each leads to a service that exists, has a name of its own, and can be told from the others.
pub(crate) fn read_routes<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    bounds: RangeInclusive<usize>,
) -> Option<Vec<Route>> {
    let items = reader.items(node, "a list", |reader, node| Route::read(node, reader))?;
    reader.count(items.total, &bounds, node.place)?;
    let known = check_services(reader, &items);
    let unique = check_names(reader, &items, |route| route.name.as_ref(), "route");
    let distinct = check_matches(reader, &items);
    if known && unique && distinct { items.all() } else { None }
}

/// The names of a section's entries, those with faults of their own included.
fn declared<'n>(root: &'n Node<'n>, section: &str) -> ahash::HashSet<&'n str> {
    match root.field(section).map(|(_, node)| &node.value) {
        Some(Value::Map(entries)) => entries.iter().map(|(key, _)| &*key.text).collect(),
        _ => ahash::HashSet::default(),
    }
}

fn check_services<'n>(reader: &mut Reader<'n>, items: &Items<'n, Route>) -> bool {
    let declared = declared(reader.root, "services");
    let mut known = true;
    for (at, node, route) in in_pieces(&items.good) {
        if declared.contains(&*route.service) {
            continue;
        }
        known = false;
        let Some((key, value)) = node.field("service") else { continue };
        let near = reader.nearest(&route.service, declared.iter().copied());
        let problem = Problem::new(value.place, "no service has this name").found(value.shown()).nearest(near);
        let way = [(PathStep::Item(*at), node.place), (PathStep::Field(&key.text), key.place)];
        reader.note_below(&way, problem.help("a route leads to a name under `services`"));
    }
    known
}

/// Notes every receiver that a rollout names and the file does not have. The tree is looked at rather than what was
/// read of it, so that a service with another fault is looked at all the same.
pub(crate) fn check_receivers(fields: &mut Fields<'_, '_>, section: &str) {
    let declared = declared(fields.reader.root, "alerts");
    let Some((section, Node { value: Value::Map(services), .. })) = fields.get(section) else { return };
    for (name, service) in services {
        let Some((rollout, node)) = service.field("rollout") else { continue };
        let Some((alerts, Node { value: Value::List(items), .. })) = node.field("alerts") else { continue };
        for (at, item) in items.iter().enumerate() {
            let Value::Text(text) = &item.value else { continue };
            if declared.contains(&*text.text) {
                continue;
            }
            let near = fields.reader.nearest(&text.text, declared.iter().copied());
            let problem = Problem::new(item.place, "no receiver has this name").found(item.shown()).nearest(near);
            let way = [
                (PathStep::Field(&section.text), section.place),
                (PathStep::Field(&name.text), name.place),
                (PathStep::Field(&rollout.text), rollout.place),
                (PathStep::Field(&alerts.text), alerts.place),
                (PathStep::Item(at), item.place),
            ];
            fields.note_below(&way, problem.help("a rollout tells names under the file's `alerts`"));
        }
    }
}

/// Notes flags whose names cannot be part of a header's, services that do not exist, and those that have too many flags.
pub(crate) fn check_flags(fields: &mut Fields<'_, '_>) {
    let services = declared(fields.reader.root, "services");
    let Some((section, Node { value: Value::Map(flags), .. })) = fields.get("flags") else { return };
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (key, flag) in flags {
        let way = [(PathStep::Field(&section.text), section.place), (PathStep::Field(&key.text), key.place)];
        if !is_header_part(&key.text) {
            let problem = Problem::new(key.place, "a flag's name is part of a header's");
            fields.note_below(&way, problem.help("write lower-case letters, digits and `-`, such as `new-checkout`"));
        }
        let Some((list, Node { value: Value::List(items), .. })) = flag.field("services") else { continue };
        for (at, item) in items.iter().enumerate() {
            let Value::Text(text) = &item.value else { continue };
            let count = counts.entry(&text.text).or_default();
            *count += 1;
            let problem = if !services.contains(&*text.text) {
                let near = fields.reader.nearest(&text.text, services.iter().copied());
                Problem::new(item.place, "no service has this name").found(item.shown()).nearest(near)
            } else if *count > MAX_FLAGS_OF_SERVICE {
                Problem::new(item.place, format!("the service has more than {MAX_FLAGS_OF_SERVICE} flags"))
                    .help("each is a header of its requests: remove flags that are on for everybody")
            } else {
                continue;
            };
            let [section, flag] = way;
            let way = [section, flag, (PathStep::Field(&list.text), list.place), (PathStep::Item(at), item.place)];
            fields.note_below(&way, problem);
        }
    }
}

fn is_header_part(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// What tells a route from every other, for one of its hosts.
type RouteKey<'a> = (Option<&'a HostMatch>, &'a Option<PathMatch>, &'a [String], &'a [(http::HeaderName, HeaderMatch)]);

/// Whether no two routes match the same requests in the same way; the second would never be chosen.
fn check_matches<'n>(reader: &mut Reader<'n>, items: &Items<'n, Route>) -> bool {
    let mut seen: ahash::HashMap<RouteKey<'_>, (usize, u32)> = ahash::HashMap::default();
    let mut distinct = true;
    for (at, node, route) in in_pieces(&items.good) {
        let matches = &route.matches;
        let any: &[Option<&HostMatch>] = &[None];
        let hosts: Vec<Option<&HostMatch>> = matches.hosts.iter().map(Some).collect();
        let hosts = if hosts.is_empty() { any } else { &hosts };
        let twin = hosts.iter().find_map(|host| {
            let identity = (*host, &matches.path, matches.methods.as_slice(), matches.headers.as_slice());
            seen.insert(identity, (*at, node.place.line))
        });
        if let Some((other, line)) = twin {
            distinct = false;
            let place = node.field("match").map_or(node.place, |(key, _)| key.place);
            reader.below(PathStep::Item(*at), node.place, |reader| {
                let problem = Problem::new(place, format!("matches what `routes[{other}]` on line {line} matches"));
                reader
                    .note(problem.help("only one of them could ever be chosen: remove one, or make one more specific"));
            });
        }
    }
    distinct
}

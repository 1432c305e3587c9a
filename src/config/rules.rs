//! How the whole file is read, and the rules that span several of its sections.

use std::net::SocketAddr;

use super::section::alerts;
use super::section::listener::MAX_NETWORKS;
use super::section::route::{HeaderMatch, HostMatch, PathMatch};
use super::syntax::problem::Problem;
use super::syntax::read::{Fields, Items, Read, Reader, Step};
use super::syntax::yaml::{Node, Value};
use super::{Config, Format, Listener, Origin, Route, Service, load};
use crate::coop::in_pieces;
use crate::model::Address;

/// How many listeners a process may have.
const MAX_LISTENERS: usize = 256;
/// How many services a file may have.
const MAX_SERVICES: usize = 100_000;
/// How many routes a file may have.
const MAX_ROUTES: usize = 200_000;

impl Read for Config {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        if let Some(problem) = load::empty(node) {
            reader.note(problem);
            return None;
        }
        let mut fields = reader.fields(
            node,
            &[
                "version",
                "listeners",
                "telemetry",
                "admin",
                "runtime",
                "shutdown",
                "state",
                "access_log",
                "limits",
                "paths",
                "headers",
                "trusted_proxies",
                "services",
                "alerts",
                "routes",
            ],
        )?;
        let version = fields.required("version");
        let listeners = fields.required_with("listeners", read_listeners);
        let telemetry: Option<Option<super::Telemetry>> = fields.optional("telemetry");
        let admin = fields.or("admin", super::Admin::default());
        let runtime = fields.or("runtime", super::Runtime::default());
        let shutdown = fields.or("shutdown", super::Shutdown::default());
        let state = fields.or("state", super::State::default());
        let access_log = fields.or("access_log", super::AccessLog::default());
        let limits = fields.or("limits", super::Limits::default());
        let paths = fields.or("paths", super::Paths::default());
        let headers = fields.or("headers", super::Headers::default());
        let trusted_proxies = fields.with("trusted_proxies", |reader, node| reader.list(node, 0..=MAX_NETWORKS));
        let services = fields.with("services", |reader, node| {
            reader.map(node, MAX_SERVICES, |reader, node| Service::read(node, reader))
        });
        let alerts = fields.with("alerts", alerts::read);
        alerts::check_names(&mut fields);
        let routes = read_routes(&mut fields);
        let telemetry_address = telemetry.iter().flatten().map(|telemetry| ("telemetry", &telemetry.address));
        let admin_address = admin.iter().map(|admin| ("admin", &admin.address));
        check_addresses(&mut fields, listeners.as_deref().unwrap_or_default(), telemetry_address.chain(admin_address));
        fields.done()?;
        Some(Self {
            version: version?,
            listeners: listeners?,
            telemetry: telemetry?,
            admin: admin?,
            runtime: runtime?,
            shutdown: shutdown?,
            state: state?,
            access_log: access_log?,
            limits: limits?,
            paths: paths?,
            headers: headers?,
            trusted_proxies: trusted_proxies?.unwrap_or_default(),
            services: services?.unwrap_or_default(),
            alerts: alerts?.unwrap_or_default(),
            routes: routes?,
            origin: Origin::default(),
        })
    }
}

impl Read for Format {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        match reader.text(node, "`1`")? {
            "1" => Some(Self::V1),
            _ => {
                reader.wrong(node, "`1`", Some("this is the version of the file's format, and this Weir knows only 1"))
            }
        }
    }
}

/// The listeners, each with a name of its own.
fn read_listeners<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Vec<Listener>> {
    let items = reader.items(node, "a list", |reader, node| Listener::read(node, reader))?;
    if let Value::List(all) = &node.value {
        reader.count(all.len(), &(1..=MAX_LISTENERS), node.place)?;
    }
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
            reader.below(Step::Item(*at), node.place, |reader| {
                reader.below(Step::Field(&key.text), key.place, |reader| {
                    let message = format!("another {what} has this name, on line {line}");
                    let problem = Problem::new(value.place, message).found_node(value);
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
        reader.below(Step::Item(*at), node.place, |reader| {
            reader.below(Step::Field(&key.text), key.place, |reader| {
                reader.note(Problem::new(value.place, message).help(OWN_PORT));
            });
        });
    }
    apart
}

const OWN_PORT: &str = "give each its own port";

/// Notes when telemetry or the control API need a socket that something else needs as well.
fn check_addresses<'a>(
    fields: &mut Fields<'_, '_>,
    listeners: &'a [Listener],
    sections: impl Iterator<Item = (&'static str, &'a Address)>,
) {
    let mut taken: Vec<(String, &Address, Option<&'static str>)> = Vec::new();
    let named = |(at, listener): (usize, &'a Listener)| (format!("`listeners[{at}]`"), &listener.address, None);
    taken.extend(listeners.iter().enumerate().map(named));
    for (section, address) in sections {
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
    let written = |section: &'static str| {
        let (key, node) = fields.get(section)?;
        Some((key, node.field("address")?))
    };
    let (message, place) = match written(section) {
        Some(place) => (format!("{who} needs the same socket"), Some(place)),
        None => (format!("{who} needs {address}, where `{section}` listens by default"), other.and_then(written)),
    };
    let Some((section, (key, value))) = place else {
        fields.fault_here(&message, &format!("give `{section}` its own address: `{section}: {{ address: … }}`"));
        return;
    };
    fields.reader.below(Step::Field(&section.text), section.place, |reader| {
        reader.below(Step::Field(&key.text), key.place, |reader| {
            reader.note(Problem::new(value.place, message).help(OWN_PORT));
        });
    });
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
fn read_routes(fields: &mut Fields<'_, '_>) -> Option<Vec<Route>> {
    // Services with faults of their own are declared all the same.
    let services: ahash::HashSet<&str> = match fields.get("services").map(|(_, node)| &node.value) {
        Some(Value::Map(entries)) => entries.iter().map(|(key, _)| &*key.text).collect(),
        _ => ahash::HashSet::default(),
    };
    let routes = fields.with("routes", |reader, node| {
        let items = reader.items(node, "a list", |reader, node| Route::read(node, reader))?;
        reader.count(items.total, &(0..=MAX_ROUTES), node.place)?;
        let known = check_services(reader, &items, &services);
        let unique = check_names(reader, &items, |route| route.name.as_ref(), "route");
        let distinct = check_matches(reader, &items);
        if known && unique && distinct { items.all() } else { None }
    });
    routes.map(Option::unwrap_or_default)
}

fn check_services<'n>(reader: &mut Reader<'n>, items: &Items<'n, Route>, services: &ahash::HashSet<&str>) -> bool {
    let mut known = true;
    for (at, node, route) in in_pieces(&items.good) {
        if services.contains(&*route.service) {
            continue;
        }
        known = false;
        let Some((key, value)) = node.field("service") else { continue };
        reader.below(Step::Item(*at), node.place, |reader| {
            reader.below(Step::Field(&key.text), key.place, |reader| {
                let near = reader.nearest(&route.service, services.iter().copied());
                let problem = Problem::new(value.place, "no service has this name").found_node(value).nearest(near);
                reader.note(problem.help("a route leads to a name under `services`"));
            });
        });
    }
    known
}

/// What tells a route from every other, for one of its hosts.
type Identity<'a> = (Option<&'a HostMatch>, &'a Option<PathMatch>, &'a [String], &'a [(http::HeaderName, HeaderMatch)]);

/// Whether no two routes match the same requests in the same way; the second would never be chosen.
fn check_matches<'n>(reader: &mut Reader<'n>, items: &Items<'n, Route>) -> bool {
    let mut seen: ahash::HashMap<Identity<'_>, (usize, u32)> = ahash::HashMap::default();
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
            reader.below(Step::Item(*at), node.place, |reader| {
                let problem = Problem::new(place, format!("matches what `routes[{other}]` on line {line} matches"));
                reader
                    .note(problem.help("only one of them could ever be chosen: remove one, or make one more specific"));
            });
        }
    }
    distinct
}

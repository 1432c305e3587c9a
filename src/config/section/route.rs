//! A route: conditions that a request meets, and the service it then goes to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::normalization::Headers;
use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{PathStep, Read, Reader};
use crate::config::syntax::section::section;
use crate::config::syntax::tree::{Node, Value};
use crate::config::syntax::{scalar, schema, values};
use crate::model::Name;

section! {
    /// Match rules that lead to one service. Of several that fit, the most specific wins.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) struct Route {
        /// Its name: a metric label, unique among routes.
        pub(crate) name: Option<Name> as Option<values::Name> = optional(),
        /// What a request must meet; default: nothing, every request fits.
        pub(crate) matches as "match": Match = section(),
        /// The service that gets the request.
        pub(crate) service: Name as values::Name = required(),
        /// Its requests are health probes: counted by status, but no part of what the versions are judged by, of their rates
        /// and durations, and of their use. Default: false.
        pub(crate) probe: bool = or(false),
        /// What becomes of headers on this route; what is left out is as at the listener.
        pub(crate) headers: Headers = section(),
    }
}

/// What a request must meet: all that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Match {
    /// The request's host is one of these; empty: any. Sorted, each once.
    pub(crate) hosts: Vec<HostMatch>,
    /// The path; without it any.
    pub(crate) path: Option<PathMatch>,
    /// The method is one of these, upper case; empty: any. Sorted, each once.
    pub(crate) methods: Vec<String>,
    /// Headers that must fit, sorted by name, each name once.
    pub(crate) headers: Vec<(HeaderName, HeaderMatch)>,
}

/// A condition on the host, without its port, in lower case, without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum HostMatch {
    /// This host: a name or an IP address (IPv6 without brackets).
    Exact(String),
    /// Every name with one or more labels before this suffix; `*.example.com` is kept as `example.com`.
    Wildcard(String),
}

/// A condition on the path, which is matched without its query.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PathMatch {
    /// A prefix on segment boundaries: `/shop` fits `/shop` and `/shop/cart`, not `/shopping`. It begins with
    /// `/` and, but for `/` itself and `//`, does not end with it.
    Prefix(String),
    /// This path, byte for byte.
    Exact(String),
    /// A regular expression (the `regex` crate's syntax) that fits the whole path. It compiles.
    Regex(String),
}

/// A condition on a header's value. The first value of the header counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum HeaderMatch {
    /// This value, byte for byte.
    Exact(String),
    /// A value that begins so.
    Prefix(String),
    /// A regular expression (the `regex` crate's syntax) that fits the whole value. It compiles.
    Regex(String),
    /// `true`: the header is there, whatever its value; `false`: it is not there.
    Present(bool),
}

/// How many hosts one route may name.
const MAX_HOSTS: usize = 10_000;
/// How many methods one route may name.
const MAX_METHODS: usize = 32;
/// How many conditions on headers one route may have; each is looked up in every request that gets so far.
const MAX_HEADERS: usize = 32;
/// The longest path or header value that is matched.
const MAX_TEXT: usize = 8 * 1024;

section! {
    /// What a request must meet: all that is set. Of `path`, `exact` and `regex`, at most one is set.
    impl Match as "Match" {
        /// A host, `*.example.com` for every name below, or a list of them; default: any.
        host: Vec<HostMatch> as OneOrMany<Host> = list(1..=MAX_HOSTS, read_hosts),
        /// A prefix of the path, on segment boundaries; default: any path.
        path: Option<PathMatch> as Option<Path> = with(read_prefix),
        /// The whole path.
        exact: Option<PathMatch> as Option<Path> = with(read_exact),
        /// A regular expression that fits the whole path.
        regex: Option<PathMatch> as Option<String> = with(read_path_regex),
        /// A method, or a list of them; default: any.
        method: Vec<Method> as OneOrMany<Method> = list(1..=MAX_METHODS, read_methods),
        /// Conditions on headers, by name: the exact value, or `exact`, `prefix`, `regex` or `present`.
        headers: Vec<(HeaderName, HeaderMatch)> as BTreeMap<String, HeaderMatch> = section_with(read_headers),
    }
    rules(fields) {
        check_one_path(&mut fields);
    }
    => Match {
        hosts: host,
        path: path.or(exact).or(regex),
        methods: method.into_iter().map(|Method(method)| method).collect(),
        headers,
    }
}

fn check_one_path(fields: &mut Fields<'_, '_>) {
    let set: Vec<_> = ["path", "exact", "regex"].into_iter().filter(|name| fields.get(name).is_some()).collect();
    if let [first, second, ..] = set.as_slice() {
        let message = format!("`{first}` and `{second}` together");
        fields.fault_at(second, |place| {
            Problem::new(place, message).help("a route has one condition on the path: make it two routes")
        });
    }
}

/// One thing, or a list of them. Never built.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[expect(dead_code, reason = "describes to the schema what is read as a list")]
enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Vec<T>),
}

/// One value or a list of values, sorted, each once.
fn one_or_many<'n, T: Read + Ord>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    bounds: RangeInclusive<usize>,
    what: &str,
) -> Option<Vec<T>> {
    let mut values = if let Value::List(_) = &node.value {
        reader.list(node, bounds)?
    } else if let Value::Map(_) = &node.value {
        return reader.wrong(node, format!("{what}, or a list of them"), None);
    } else {
        vec![T::read(node, reader)?]
    };
    values.sort();
    values.dedup();
    Some(values)
}

fn read_hosts<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    bounds: RangeInclusive<usize>,
) -> Option<Vec<HostMatch>> {
    one_or_many(reader, node, bounds, "a host")
}

fn read_methods<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>, bounds: RangeInclusive<usize>) -> Option<Vec<Method>> {
    one_or_many(reader, node, bounds, "a method")
}

impl Read for HostMatch {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        const EXPECTED: &str = "a host such as `shop.example.com`, or `*.example.com` for every name below";
        let text = reader.text(node, EXPECTED)?;
        let help = if let Some(suffix) = text.strip_prefix("*.") {
            match values::host_name(suffix) {
                Some(suffix) => return Some(Self::Wildcard(suffix)),
                None => None,
            }
        } else if text == "*" {
            Some("leave `host` out to match every host")
        } else {
            match scalar::host(text) {
                Ok(host) => return Some(Self::Exact(host)),
                Err(_) if text.contains('*') => Some("`*` stands alone before the first dot"),
                Err(wrong) => wrong.help,
            }
        };
        reader.wrong(node, EXPECTED, help)
    }
}

impl PathMatch {
    /// The prefix `path`; a slash at its end says nothing, because prefixes end on segment boundaries. After another
    /// slash it does: `/a//` is the prefix of paths whose second segment is empty.
    fn prefix(path: &str) -> Self {
        match path.strip_suffix('/') {
            Some(shorter) if !shorter.is_empty() && !shorter.ends_with('/') => Self::Prefix(shorter.to_owned()),
            _ => Self::Prefix(path.to_owned()),
        }
    }
}

fn read_prefix<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<PathMatch> {
    read_path(reader, node).map(|path| PathMatch::prefix(&path))
}

fn read_exact<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<PathMatch> {
    read_path(reader, node).map(PathMatch::Exact)
}

fn read_path_regex<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<PathMatch> {
    read_regex(reader, node).map(PathMatch::Regex)
}

fn read_path<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<String> {
    const EXPECTED: &str = "a path that begins with `/`, without query";
    let text = reader.text(node, EXPECTED)?;
    let help = if !text.starts_with('/') {
        Some("begin with `/`; a host belongs into `host`")
    } else if text.contains(['?', '#']) {
        Some("a route does not look at the query")
    } else if text.contains('*') {
        Some("a path has no wildcards: `path` is a prefix already; for patterns use `regex`")
    } else if text.bytes().any(|b| !b.is_ascii_graphic()) {
        Some("write blanks and letters beyond ASCII as clients send them: percent-encoded")
    } else if text.len() > MAX_TEXT {
        Some("the path is longer than any request may be")
    } else if text.split('/').any(|segment| segment == "." || segment == "..") {
        Some("requests with `.` and `..` are refused or resolved before routing: write the resolved path")
    } else {
        return Some(text.to_owned());
    };
    reader.wrong(node, EXPECTED, help)
}

/// How many regular expressions a file may have, and how large one may be once compiled: they are the only
/// values whose judging is costly, and each is tried on every request that gets so far.
const MAX_REGEXES: usize = 1_000;
const MAX_REGEX_BYTES: usize = 256 * 1024;
const MAX_REGEX_TEXT: usize = 1_024;

/// A regular expression that compiles when it is anchored at both ends.
fn read_regex<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<String> {
    const EXPECTED: &str = "a regular expression (the syntax of Rust's regex crate) of 1024 bytes at most";
    let text = reader.text(node, EXPECTED)?;
    reader.regexes += 1;
    if reader.regexes > MAX_REGEXES {
        let place = node.place;
        reader.note(
            Problem::new(place, format!("more than {MAX_REGEXES} regular expressions"))
                .help("use `path` and `exact`, which cost nothing however many there are"),
        );
        return None;
    }
    if text.len() > MAX_REGEX_TEXT {
        return reader.wrong(node, EXPECTED, None);
    }
    // By itself as well: `a)|(b` is only an expression once something is put around it.
    match compile(text).and_then(|_| compile(&format!("^(?:{text})$"))) {
        Ok(_) => Some(text.to_owned()),
        Err(regex::Error::CompiledTooBig(_)) => {
            reader.wrong(node, EXPECTED, Some("this one is too large once compiled: shorten its repetitions"))
        }
        Err(_) => reader.wrong(
            node,
            EXPECTED,
            Some("check that brackets are closed; look-around and back-references do not exist"),
        ),
    }
}

fn compile(text: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build()
}

/// A method, upper case.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Method(String);

impl Read for Method {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        const EXPECTED: &str = "a method in upper case, such as `GET`";
        let text = reader.text(node, EXPECTED)?;
        if text.bytes().any(|b| b.is_ascii_lowercase()) {
            return reader.wrong(node, EXPECTED, Some("methods are case-sensitive: write it in upper case"));
        }
        if scalar::is_token(text) && text.len() <= 64 {
            return Some(Self(text.to_owned()));
        }
        reader.wrong(node, EXPECTED, None)
    }
}

pub(super) fn read_headers<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Vec<(HeaderName, HeaderMatch)>> {
    let Value::Map(entries) = &node.value else {
        return reader.wrong(node, "fields: `header-name: value`", None);
    };
    reader.count(entries.len(), &(0..=MAX_HEADERS), node.place)?;
    let mut headers: Vec<(HeaderName, HeaderMatch)> = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        reader.below(PathStep::Field(&key.text), key.place, |reader| {
            let condition = HeaderMatch::read(value, reader);
            let Some(name) = scalar::header_name(&key.text) else {
                reader.note(Problem::new(key.place, "not the name of a header").expected(scalar::HEADER_EXPECTED));
                return;
            };
            if headers.iter().any(|(earlier, _)| *earlier == name) {
                reader.note(
                    Problem::new(key.place, "this header stands twice")
                        .help("the case of a name does not matter: remove one"),
                );
                return;
            }
            headers.extend(condition.map(|condition| (name, condition)));
        });
    }
    headers.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    (headers.len() == entries.len()).then_some(headers)
}

impl Read for HeaderMatch {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        if !node.has_fields() {
            return read_value(reader, node).map(Self::Exact);
        }
        let mut fields = Fields::of(node, reader, &["exact", "prefix", "regex", "present"])?;
        let exact = fields.with("exact", |reader, node| read_value(reader, node).map(Self::Exact));
        let prefix = fields.with("prefix", |reader, node| read_value(reader, node).map(Self::Prefix));
        let regex = fields.with("regex", |reader, node| read_regex(reader, node).map(Self::Regex));
        let present = fields.with("present", |reader, node| bool::read(node, reader).map(Self::Present));
        if fields.names().count() != 1 {
            fields.fault_here("not one condition", "give exactly one of `exact`, `prefix`, `regex` and `present`");
        }
        fields.done()?;
        exact?.or(prefix?).or(regex?).or(present?)
    }
}

fn read_value<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<String> {
    const EXPECTED: &str = "a header's value, or one of `exact`, `prefix`, `regex` and `present`";
    let text = reader.text(node, EXPECTED)?;
    let fits = text.len() <= MAX_TEXT && text.trim() == text && !text.chars().any(char::is_control);
    if fits {
        return Some(text.to_owned());
    }
    reader.wrong(node, EXPECTED, Some("a value has no control characters and no blanks at its ends"))
}

impl JsonSchema for HeaderMatch {
    fn schema_name() -> Cow<'static, str> {
        "Header".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let ways = [
            schema::described::<String>(generator, "This value."),
            schema::described::<HeaderCondition>(generator, "Another condition."),
        ];
        schema::any_of("A condition on a header's value.", &ways)
    }
}

/// A condition on a header's value, exactly one of these.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes to the schema what is read as a `HeaderMatch`; never built")]
enum HeaderCondition {
    /// This value.
    Exact(String),
    /// A value that begins so.
    Prefix(String),
    /// A regular expression that fits the whole value.
    Regex(String),
    /// Whether the header is there.
    Present(bool),
}

values::schema_only!(
    /// The host of a request.
    Host,
    schema::text(
        "^(\\*\\.)?[A-Za-z0-9_.:\\[\\]-]{1,253}$",
        "A host without its port; `*.example.com` is every name below.",
        &["shop.example.com", "*.example.com"]
    )
);
values::schema_only!(
    /// The path of a request.
    Path,
    schema::text("^/", "A path, which begins with `/`.", &["/checkout"])
);

impl JsonSchema for Method {
    fn schema_name() -> Cow<'static, str> {
        "Method".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema::text("^[A-Z][A-Z0-9_-]*$", "A method, in upper case.", &["GET", "POST"])
    }
}

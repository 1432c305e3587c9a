//! A route: conditions that a request meets, and the service it then goes to.

use http::HeaderName;
use schemars::JsonSchema;

use super::values;
use crate::model::Name;

/// Match rules that lead to one service. Of several that fit, the most specific wins.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Route {
    /// Its name: a metric label, unique among routes.
    #[schemars(with = "Option<values::Name>")]
    pub name: Option<Name>,
    /// What a request must meet; default: nothing, every request fits.
    #[schemars(with = "Option<shape::Match>", rename = "match")]
    pub matches: Match,
    /// The service that gets the request.
    #[schemars(with = "values::Name")]
    pub service: Name,
}

/// What a request must meet: all that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Match {
    /// The request's host is one of these; empty: any. Sorted, each once.
    pub hosts: Vec<HostMatch>,
    /// The path; without it any.
    pub path: Option<PathMatch>,
    /// The method is one of these, upper case; empty: any. Sorted, each once.
    pub methods: Vec<String>,
    /// Headers that must fit, sorted by name, each name once.
    pub headers: Vec<(HeaderName, HeaderMatch)>,
}

/// A condition on the host, without its port, in lower case, without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostMatch {
    /// This host: a name or an IP address (IPv6 without brackets).
    Exact(String),
    /// Every name with one or more labels before this suffix; `*.example.com` is kept as `example.com`.
    Wildcard(String),
}

/// A condition on the path, which is matched without its query.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathMatch {
    /// A prefix on segment boundaries: `/shop` fits `/shop` and `/shop/cart`, not `/shopping`. It begins with
    /// `/` and, but for `/` itself, does not end with it.
    Prefix(String),
    /// This path, byte for byte.
    Exact(String),
    /// A regular expression (the `regex` crate's syntax) that fits the whole path. It compiles.
    Regex(String),
}

/// A condition on a header's value. The first value of the header counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeaderMatch {
    /// This value, byte for byte.
    Exact(String),
    /// A value that begins so.
    Prefix(String),
    /// A regular expression (the `regex` crate's syntax) that fits the whole value. It compiles.
    Regex(String),
    /// `true`: the header is there, whatever its value; `false`: it is not there.
    Present(bool),
}

/// What the file says where the type says it in another shape.
mod shape {
    use std::collections::BTreeMap;

    use super::{JsonSchema, values};

    /// What a request must meet: all that is set. Of `path`, `exact` and `regex`, at most one is set.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(super) struct Match {
        /// A host, `*.example.com` for every name below, or a list of them; default: any.
        host: Option<OneOrMany<Host>>,
        /// A prefix of the path, on segment boundaries; default: any path.
        path: Option<Path>,
        /// The whole path.
        exact: Option<Path>,
        /// A regular expression that fits the whole path.
        regex: Option<String>,
        /// A method, or a list of them; default: any.
        method: Option<OneOrMany<Method>>,
        /// Conditions on headers, by name: the exact value, or `exact`, `prefix`, `regex` or `present`.
        headers: Option<BTreeMap<String, Header>>,
    }

    /// One thing, or a list of them.
    #[derive(JsonSchema)]
    #[schemars(untagged, inline)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(super) enum OneOrMany<T> {
        /// One.
        One(T),
        /// Several.
        Many(Vec<T>),
    }

    /// A condition on a header's value.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(super) enum Header {
        /// This value.
        Value(String),
        /// Another condition.
        Condition(HeaderCondition),
    }

    /// A condition on a header's value, exactly one of these.
    #[derive(JsonSchema)]
    #[schemars(rename_all = "snake_case")]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(super) enum HeaderCondition {
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
        crate::config::schema::text(
            "^(\\*\\.)?[A-Za-z0-9_.:\\[\\]-]{1,253}$",
            "A host without its port; `*.example.com` is every name below.",
            &["shop.example.com", "*.example.com"]
        )
    );
    values::schema_only!(
        /// The path of a request.
        Path,
        crate::config::schema::text("^/", "A path, which begins with `/`.", &["/checkout"])
    );
    values::schema_only!(
        /// The method of a request.
        Method,
        crate::config::schema::text("^[A-Z][A-Z0-9_-]*$", "A method, in upper case.", &["GET", "POST"])
    );
}

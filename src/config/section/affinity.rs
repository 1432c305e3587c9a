//! What lets a request have a version other than its turn: affinity keeps a client where it was, an override
//! names the version.

use std::borrow::Cow;
use std::path::PathBuf;

use http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::listener::MAX_NETWORKS;
use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Read, Reader};
use crate::config::syntax::section::{section, words};
use crate::config::syntax::tree::{Node, Value};
use crate::config::syntax::values::{self, Cidr, Period};
use crate::config::syntax::{scalar, schema};

/// Keeps one client on one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Affinity {
    /// What tells clients apart.
    pub(crate) key: AffinityKey,
    /// What a change of weights does to clients.
    pub(crate) mode: AffinityMode,
    /// Makes this service's choice independent of other services'; default: the service's name.
    pub(crate) salt: Option<String>,
}

/// What tells clients apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AffinityKey {
    /// The value of a request header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie {
        /// The cookie's name.
        name: String,
        /// How Weir sets it on clients that have none; without, the application sets it.
        made: Option<MadeCookie>,
    },
    /// A claim of a JSON Web Token.
    Jwt {
        /// Where the token is.
        token: Token,
        /// The claim's name.
        claim: String,
    },
    /// The client's address.
    Address,
}

/// Where a client's token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// In this request header.
    Header(HeaderName),
    /// In this cookie.
    Cookie(String),
}

words! {
    /// What a change of weights does to clients.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum AffinityMode {
        /// A client's version follows from its key and the weights alone: more weight moves clients to the canary, less moves
        /// them back.
        #[default]
        Monotone = "monotone",
        /// Who has been on the canary stays there until it ends, whatever its weight. Needs `ttl` and `secret_file`: the cookie
        /// says which version its client was given.
        Sticky = "sticky",
    }
}

/// A cookie that Weir sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MadeCookie {
    /// For how long clients keep it.
    pub(crate) ttl: Period,
    /// When it goes over TLS only.
    pub(crate) secure: SecureCookie,
    /// With which requests of other sites browsers send it.
    pub(crate) same_site: SameSite,
    /// The keys that sign it.
    pub(crate) secret_file: Option<PathBuf>,
}

words! {
    /// When a cookie is `Secure`: when browsers send it over TLS only.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum SecureCookie {
        /// If its client came over TLS, to Weir or to a trusted proxy that says so in `X-Forwarded-Proto`.
        #[default]
        Auto = "auto",
        /// Always.
        Always = "always",
        /// Never.
        Never = "never",
    }
}

words! {
    /// With which requests that another site leads to browsers send a cookie.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum SameSite {
        /// When a person follows a link.
        #[default]
        Lax = "lax",
        /// With none.
        Strict = "strict",
        /// With all. Browsers ask for `Secure` with it.
        None = "none",
    }
}

section! {
    /// Lets a request name its version. At least one of `header` and `cookie` is set.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Override {
        /// The request header whose value is a version's name.
        pub(crate) header: Option<HeaderName> as Option<values::HeaderName> = optional(),
        /// The cookie whose value is a version's name.
        pub(crate) cookie: Option<String> = with(scalar::cookie_name),
        /// Who may do so: `anyone`, or a list of networks; default: who has a signature under `secret_file`.
        pub(crate) from: Option<OverrideFrom> = optional(),
        /// A file with keys, one a line, the first of which signs: a value that one of them signed counts from everywhere until
        /// it expires.
        pub(crate) secret_file: Option<PathBuf> = optional(),
    }
    rules(fields) {
        check_permission(&mut fields, from.as_ref());
        if fields.get("header").is_none() && fields.get("cookie").is_none() {
            fields.fault_here("nothing names the version", "add `header: NAME` or `cookie: NAME`");
        }
    }
}

/// Who may name a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OverrideFrom {
    /// Every client.
    Anyone,
    /// Clients at these addresses. Never empty.
    Addresses(Vec<Cidr>),
}

/// Bounds of the life of Weir's own cookie; browsers cap it at 400 days.
const TTL: std::ops::RangeInclusive<Period> = Period::from_secs(1)..=Period::from_secs(365 * 86_400);
/// The longest salt, and name of a claim.
const MAX_SALT: usize = 256;

section! {
    /// Keeps one client on one version. Exactly one of `header`, `cookie`, `jwt` and `address` is set.
    impl Affinity as "Affinity" {
        /// The request header whose value tells clients apart.
        header: Option<HeaderName> as Option<values::HeaderName> = optional(),
        /// The cookie whose value tells clients apart.
        cookie: Option<String> = with(scalar::cookie_name),
        /// A claim of a JSON Web Token tells clients apart. Its signature is not checked: who is wrong about itself gets another
        /// version, and nothing else follows.
        jwt: Option<Jwt> = optional(),
        /// `true`: the client's address tells clients apart; of IPv6 its network (/64).
        address: Option<bool> = with(scalar::only_true),
        /// With `cookie`: Weir sets the cookie for that long on clients that have none, `1s` to `365d`.
        ttl: Option<Period> = within(TTL),
        /// With `ttl`: when the cookie is `Secure`: `auto`, if its client came over TLS, `always`, or `never`.
        secure: SecureCookie = or(SecureCookie::Auto),
        /// With `ttl`: the cookie's `SameSite`. With `none`, browsers want it `Secure`.
        same_site: SameSite = or(SameSite::Lax),
        /// With `ttl`: a file with keys, one a line, the first of which signs the cookie; all replicas have the same. Without,
        /// clients can choose their key, and by trying also their version.
        secret_file: Option<PathBuf> = optional(),
        /// What a change of weights does to clients.
        mode: AffinityMode = or(AffinityMode::Monotone),
        /// Makes this service's choice independent of other services'; default: the service's name.
        salt: Option<String> = with(read_salt),
    }
    rules(fields) {
        check_key(&mut fields);
        check_cookie(&mut fields, (secure, same_site));
        check_mode(&mut fields, mode);
    }
    => {
        let key = match (header, cookie, jwt, address) {
            (Some(header), ..) => AffinityKey::Header(header),
            (None, Some(name), ..) => {
                AffinityKey::Cookie { name, made: ttl.map(|ttl| MadeCookie { ttl, secure, same_site, secret_file }) }
            }
            (None, None, Some(Jwt { token, claim }), _) => AffinityKey::Jwt { token, claim },
            (None, None, None, _) => AffinityKey::Address,
        };
        Affinity { key, mode, salt }
    }
}

/// A claim of a JSON Web Token, and where the token is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Jwt {
    token: Token,
    claim: String,
}

section! {
    /// A claim of a JSON Web Token (RFC 7519), of 8 KiB at most. At most one of `header` and `cookie` is set.
    impl Jwt as "Jwt" {
        /// The request header that has the token, maybe behind `Bearer`; default: `authorization`.
        header: Option<HeaderName> as Option<values::HeaderName> = optional(),
        /// The cookie that has the token.
        cookie: Option<String> = with(scalar::cookie_name),
        /// The claim, a text or a whole number; default: `sub`.
        claim: Option<String> = with(read_claim),
    }
    rules(fields) {
        if fields.get("header").is_some() && fields.get("cookie").is_some() {
            fields.fault_at("cookie", |place| {
                Problem::new(place, "`header` and `cookie` together").help("a token is in one place: keep one of them")
            });
        }
    }
    => {
        let token = match (header, cookie) {
            (_, Some(cookie)) => Token::Cookie(cookie),
            (Some(header), None) => Token::Header(header),
            (None, None) => Token::Header(http::header::AUTHORIZATION),
        };
        Jwt { token, claim: claim.unwrap_or_else(|| "sub".to_owned()) }
    }
}

fn check_key(fields: &mut Fields<'_, '_>) {
    let set = ["header", "cookie", "jwt", "address"].into_iter().filter(|name| fields.get(name).is_some());
    let set: Vec<_> = set.collect();
    match set.as_slice() {
        [_] => {}
        [] => fields.fault_here(
            "nothing tells clients apart",
            "add one of `header: NAME`, `cookie: NAME`, `jwt: { claim: sub }` and `address: true`",
        ),
        [_, second, ..] => {
            let named: Vec<String> = set.iter().map(|name| format!("`{name}`")).collect();
            let message = format!("{} together", named.join(" and "));
            fields.fault_at(second, |place| {
                Problem::new(place, message).help("one thing tells clients apart: keep one of them")
            });
        }
    }
    if fields.get("ttl").is_some() && fields.get("cookie").is_none() {
        fields.fault_at("ttl", |place| {
            Problem::new(place, "`ttl` without `cookie`")
                .help("`ttl` is the life of a cookie that Weir sets: remove it")
        });
    }
}

/// What is said of a cookie that Weir sets.
fn check_cookie(fields: &mut Fields<'_, '_>, (secure, same_site): (Option<SecureCookie>, Option<SameSite>)) {
    for field in ["secure", "same_site", "secret_file"] {
        if fields.get(field).is_some() && fields.get("ttl").is_none() {
            fields.fault_at(field, |place| {
                Problem::new(place, format!("`{field}` without `ttl`"))
                    .help("it is about a cookie that Weir sets: add `ttl: 30d`, or remove it")
            });
        }
    }
    if (secure, same_site) == (Some(SecureCookie::Never), Some(SameSite::None)) {
        fields.fault_at("same_site", |place| {
            Problem::new(place, "`same_site: none` with `secure: never`")
                .help("browsers refuse such a cookie: write `secure: always`")
        });
    }
}

fn read_claim<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<String> {
    const EXPECTED: &str = "the name of a claim, 1 to 256 bytes, such as `sub`";
    let text = reader.text(node, EXPECTED)?;
    if (1..=MAX_SALT).contains(&text.len()) { Some(text.to_owned()) } else { reader.wrong(node, EXPECTED, None) }
}

/// Who may name a version must be said.
fn check_permission(fields: &mut Fields<'_, '_>, from: Option<&Option<OverrideFrom>>) {
    let signed = fields.get("secret_file").is_some();
    if fields.get("from").is_none() && !signed {
        fields.fault_here("nothing says who may name a version", "add `from: [10.0.0.0/8]` or `secret_file: FILE`");
    }
    if signed && from == Some(&Some(OverrideFrom::Anyone)) {
        fields.fault_at("from", |place| {
            Problem::new(place, "`from: anyone` with `secret_file`")
                .help("nobody needs a signature then: name the networks that need none, or remove `from`")
        });
    }
}

/// To be sticky is to remember, and what a client says of that must be signed, or each could choose its version.
fn check_mode(fields: &mut Fields<'_, '_>, mode: Option<AffinityMode>) {
    let remembers = fields.get("ttl").is_some() && fields.get("secret_file").is_some();
    if mode == Some(AffinityMode::Sticky) && !remembers {
        fields.fault_at("mode", |place| {
            Problem::new(place, "`sticky` without a cookie that Weir sets and signs").help(
                "the cookie says which version its client was given: add `cookie: NAME`, `ttl: 30d` and \
                 `secret_file: FILE`, with the same keys for all replicas",
            )
        });
    }
}

fn read_salt<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<String> {
    const EXPECTED: &str = "a text of 1 to 256 bytes";
    let text = reader.text(node, EXPECTED)?;
    if (1..=MAX_SALT).contains(&text.len()) { Some(text.to_owned()) } else { reader.wrong(node, EXPECTED, None) }
}

impl Read for OverrideFrom {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        if let Value::Text(text) = &node.value
            && text.text == "anyone"
        {
            return Some(Self::Anyone);
        }
        if let Value::Text(_) = &node.value {
            return reader.wrong(node, "`anyone`, or a list of networks such as `[10.0.0.0/8]`", None);
        }
        reader.list(node, 1..=MAX_NETWORKS).map(Self::Addresses)
    }
}

impl JsonSchema for OverrideFrom {
    fn schema_name() -> Cow<'static, str> {
        "From".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let ways = [
            schema::described::<Anyone>(generator, "Every client."),
            schema::described::<Vec<Cidr>>(generator, "Clients at these addresses."),
        ];
        schema::any_of("Who may name a version.", &ways)
    }
}

values::schema_only! {
    Anyone,
    schema::words("The word `anyone`.", &[("anyone", "Every client.")])
}

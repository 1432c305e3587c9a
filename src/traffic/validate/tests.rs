//! The rules as tables; see `corpus` for published attacks and `properties` for what holds of all requests.

use std::net::IpAddr;

use super::refusal::*;
use super::spelling::{Backslash, EncodedSlash, NonAscii, Paths};
use super::{Framing, Limits, Validated, is_grpc, path, validate};
use crate::traffic::{HttpVersion, Refusal, Request};

mod corpus;
mod properties;

/// A request head that owns its parts.
#[derive(Clone, Debug)]
pub(in crate::traffic) struct Head {
    pub(in crate::traffic) version: HttpVersion,
    pub(in crate::traffic) method: String,
    pub(in crate::traffic) target: Vec<u8>,
    pub(in crate::traffic) authority: Option<Vec<u8>>,
    pub(in crate::traffic) headers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Head {
    pub(in crate::traffic) fn new(version: HttpVersion, method: &str, target: &str) -> Self {
        Self {
            version,
            method: method.to_owned(),
            target: target.as_bytes().to_vec(),
            authority: None,
            headers: vec![],
        }
    }

    /// `GET target` over HTTP/1.1 with a host.
    pub(in crate::traffic) fn get(target: &str) -> Self {
        Self::new(HttpVersion::Http11, "GET", target).with("Host", "shop.example.com")
    }

    /// `POST /` over HTTP/1.1 with a host.
    fn post() -> Self {
        Self { method: "POST".to_owned(), ..Self::get("/") }
    }

    /// `GET target` over HTTP/2 with an authority.
    fn http2(target: &str) -> Self {
        let authority = Some(b"shop.example.com".to_vec());
        Self { authority, ..Self::new(HttpVersion::Http2, "GET", target) }
    }

    /// A request of `version` whose only field is `Host: host`.
    fn host(version: HttpVersion, host: &str) -> Self {
        Self::new(version, "GET", "/").with("Host", host)
    }

    pub(in crate::traffic) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_bytes().to_vec(), value.as_ref().to_vec()));
        self
    }

    fn valid(&self) -> Result<Validated<'_>, Refusal> {
        validate(self, &Limits::default())
    }

    fn refused(&self) -> Option<Refusal> {
        self.valid().err()
    }
}

impl Request for Head {
    fn version(&self) -> HttpVersion {
        self.version
    }
    fn method(&self) -> &str {
        &self.method
    }
    fn target(&self) -> &[u8] {
        &self.target
    }
    fn authority(&self) -> Option<&[u8]> {
        self.authority.as_deref()
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.headers.iter();
        fields.find(|(own, _)| own.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value.as_slice())
    }
    fn for_each_header(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.headers.iter().for_each(|(name, value)| visit(name, value));
    }
    fn client(&self) -> Option<IpAddr> {
        None
    }
}

/// What is refused as far as it can be, and slashes are merged.
const STRICT: Paths = Paths {
    encoded_slash: EncodedSlash::Refuse,
    backslash: Backslash::Refuse,
    merge_slashes: true,
    non_ascii: NonAscii::Refuse,
};

/// What of `path` is forwarded, and what is matched.
fn both(path: &str, paths: Paths) -> Result<(String, String), Refusal> {
    path::normalise(path, paths).map(|normal| (normal.forwarded.to_string(), normal.into_matched().into_owned()))
}

fn forwarded(path: &str, paths: Paths) -> Result<String, Refusal> {
    both(path, paths).map(|(forwarded, _)| forwarded)
}

fn matched(path: &str, paths: Paths) -> Result<String, Refusal> {
    both(path, paths).map(|(_, matched)| matched)
}

#[test]
fn a_plain_request_is_valid_as_it_is_and_nothing_is_copied() {
    use std::borrow::Cow;
    let head = Head::get("/cart/items?id=7&x=%zz?");
    let valid = head.valid().unwrap();
    assert_eq!(valid.host, "shop.example.com");
    assert_eq!(valid.authority, "shop.example.com");
    assert_eq!(valid.path, "/cart/items");
    assert_eq!(valid.query, Some("id=7&x=%zz?"));
    assert_eq!(valid.target, "/cart/items?id=7&x=%zz?");
    assert!(!valid.target_changed);
    assert_eq!(valid.framing, Framing::None);
    assert!(!valid.expect_continue);
    assert_eq!(valid.upgrade, None);
    let borrowed = |text: &Cow<'_, str>| matches!(text, Cow::Borrowed(_));
    assert!(borrowed(&valid.host) && borrowed(&valid.path) && borrowed(&valid.target));
}

#[test]
fn a_body_has_exactly_one_framing() {
    let framing = |head: Head| head.valid().map(|valid| valid.framing);
    assert_eq!(framing(Head::post()), Ok(Framing::None));
    for (value, length) in [("0", 0), ("5", 5), ("18446744073709551615", u64::MAX)] {
        assert_eq!(framing(Head::post().with("Content-Length", value)), Ok(Framing::Length(length)));
    }
    for value in ["chunked", "Chunked", "CHUNKED"] {
        assert_eq!(framing(Head::post().with("Transfer-Encoding", value)), Ok(Framing::Chunked));
    }
    for value in [
        "",
        "+5",
        "-1",
        "-0",
        "00",
        "005",
        "0200",
        "5, 5",
        "5,10",
        "1 0",
        "1_0",
        "0x5",
        "0o5",
        "abc",
        "5 ",
        " 5",
        "18446744073709551616",
        "99999999999999999999",
    ] {
        assert_eq!(framing(Head::post().with("Content-Length", value)), Err(CONTENT_LENGTH_INVALID), "{value}");
    }
    for value in ["", "xchunked", "chunked, chunked", "chunked, gzip", ", chunked", "chunked,", "identity", "gzip"] {
        let head = Head::post().with("Transfer-Encoding", value);
        assert_eq!(framing(head), Err(TRANSFER_ENCODING_INVALID), "{value}");
    }
    for value in ["\u{b}chunked", "chunked\0"] {
        assert_eq!(framing(Head::post().with("Transfer-Encoding", value)), Err(FIELD_VALUE_INVALID), "{value}");
    }
    assert_eq!(framing(Head::post().with("Transfer-Encoding", "gzip, chunked")), Err(TRANSFER_ENCODING_UNSUPPORTED));
    let twice = Head::post().with("Transfer-Encoding", "chunked").with("transfer-encoding", "chunked");
    assert_eq!(framing(twice), Err(TRANSFER_ENCODING_INVALID));
    let twice = Head::post().with("Content-Length", "5").with("content-length", "5");
    assert_eq!(framing(twice), Err(CONTENT_LENGTH_REPEATED));
    let old = Head { version: HttpVersion::Http10, ..Head::post() };
    assert_eq!(framing(old.with("Transfer-Encoding", "chunked")), Err(TRANSFER_ENCODING_VERSION));
}

#[test]
fn a_length_beside_chunks_is_refused_in_both_orders_and_closes() {
    let first = Head::post().with("Content-Length", "6").with("Transfer-Encoding", "chunked");
    let last = Head::post().with("Transfer-Encoding", "chunked").with("Content-Length", "6");
    for head in [first, last] {
        assert_eq!(head.refused(), Some(FRAMING_CONFLICT));
        assert!(head.refused().unwrap().close);
    }
}

#[test]
fn a_body_over_the_limit_is_refused_where_its_length_is_declared() {
    let limits = Limits { body_bytes: Some(10), ..Limits::default() };
    let refused = |value: &str| validate(&Head::post().with("Content-Length", value), &limits).err();
    assert_eq!(refused("10"), None);
    assert_eq!(refused("11"), Some(BODY_TOO_LARGE));
}

#[test]
fn http11_needs_exactly_one_valid_host() {
    assert_eq!(Head::new(HttpVersion::Http11, "GET", "/").refused(), Some(HOST_MISSING));
    assert_eq!(Head::get("/").with("host", "shop.example.com").refused(), Some(HOST_REPEATED));
    for host in [
        "",
        "a, b",
        "a,b",
        "user@a",
        "user:secret@a",
        "a/path",
        "a?q",
        "a#f",
        "a b",
        "a:",
        "a:0",
        "a:080",
        "a:65536",
        "a:+80",
        "a:8o",
        "a:80:90",
        ":80",
        "a..b",
        ".a",
        ".",
        "a..",
        "%61",
        "a\\b",
        "[::1",
        "::1",
        "[::1]x",
        "[::1%25lo]",
        "[v1.a]",
        "x[::1]",
        "[]",
        "é",
        "*",
        "*.a",
        &"a".repeat(64),
        &["a"; 128].join("."),
    ] {
        assert_eq!(Head::host(HttpVersion::Http11, host).refused(), Some(HOST_INVALID), "{host}");
    }
    for (host, name) in [
        ("a", "a"),
        ("Shop.Example.COM", "shop.example.com"),
        ("a.b.:8080", "a.b"),
        ("a:1", "a"),
        ("a:65535", "a"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[2001:DB8::1]:443", "[2001:db8::1]"),
        ("under_score", "under_score"),
    ] {
        let head = Head::host(HttpVersion::Http11, host);
        let valid = head.valid().unwrap();
        assert_eq!((&*valid.host, valid.authority), (name, host));
    }
}

#[test]
fn http10_may_come_without_a_host_but_not_with_a_bad_one() {
    let none = Head::new(HttpVersion::Http10, "GET", "/");
    assert_eq!(none.valid().map(|valid| valid.host.into_owned()), Ok(String::new()));
    assert_eq!(Head::host(HttpVersion::Http10, "").refused(), Some(HOST_INVALID));
    assert_eq!(Head::host(HttpVersion::Http10, "a").with("Host", "b").refused(), Some(HOST_REPEATED));
}

#[test]
fn an_absolute_target_becomes_origin_form_and_agrees_with_the_host() {
    for (target, forwarded, path, query) in [
        ("http://shop.example.com/a?b", "/a?b", "/a", Some("b")),
        ("HTTP://SHOP.example.com:80/a", "/a", "/a", None),
        ("http://shop.example.com", "/", "/", None),
        ("http://shop.example.com?q", "/?q", "/", Some("q")),
        ("http://shop.example.com/x/../a?q", "/a?q", "/a", Some("q")),
    ] {
        let head = Head::get(target);
        let valid = head.valid().unwrap();
        assert_eq!((&*valid.target, &*valid.path, valid.query), (forwarded, path, query), "{target}");
        assert!(valid.target_changed, "{target}");
    }
    for target in ["http://other.example.com/", "http://shop.example.com:81/", "https://shop.example.com:80/"] {
        assert_eq!(Head::get(target).refused(), Some(HOST_MISMATCH), "{target}");
    }
    for target in ["http://u@shop.example.com/", "http:///a", "http://a:b/"] {
        assert_eq!(Head::get(target).refused(), Some(HOST_INVALID), "{target}");
    }
    let target = "http://shop.example.com/";
    assert_eq!(Head::new(HttpVersion::Http11, "GET", target).refused(), Some(HOST_MISSING));
    let old = Head::new(HttpVersion::Http10, "GET", target);
    assert_eq!(old.valid().map(|valid| valid.host.into_owned()), Ok("shop.example.com".to_owned()));
}

#[test]
fn the_asterisk_is_for_options() {
    let options = |target| Head { method: "OPTIONS".to_owned(), ..Head::get(target) };
    for (target, changed) in [("*", false), ("http://shop.example.com", true)] {
        let head = options(target);
        let valid = head.valid().unwrap();
        assert_eq!((&*valid.target, &*valid.path, valid.target_changed), ("*", "/", changed));
    }
    assert_eq!(Head::get("*").refused(), Some(TARGET_ASTERISK));
    assert_eq!(Head::http2("*").refused(), Some(TARGET_ASTERISK));
}

#[test]
fn a_target_is_printable_ascii_in_a_known_form() {
    for target in ["", "path", "ftp://a/", "shop.example.com:443", "/a#b", "/a b", "/a\tb", "/\0", "/\x7f", "/café"] {
        assert_eq!(Head::get(target).refused(), Some(TARGET_INVALID), "{target:?}");
    }
    assert_eq!(Head::http2("http://shop.example.com/").refused(), Some(TARGET_INVALID));
    for target in ["/a|b", "/a?x={\"y\":[1]}&z=\\", "/~a/(b)'c", "/?", "/a??b"] {
        assert_eq!(Head::get(target).refused(), None, "{target}");
    }
}

#[test]
fn connect_trace_and_what_is_no_token_are_no_methods() {
    let refused = |method: &str| Head { method: method.to_owned(), ..Head::get("/") }.refused();
    for method in ["GET", "get", "PROPFIND", "M-SEARCH", "X_Y", &"A".repeat(32)] {
        assert_eq!(refused(method), None, "{method}");
    }
    for method in ["", "GE T", "GÉT", "G\0", "GET,POST", "(GET)"] {
        assert_eq!(refused(method), Some(METHOD_INVALID), "{method}");
    }
    assert_eq!(refused(&"A".repeat(33)), Some(METHOD_TOO_LONG));
    assert_eq!(refused("CONNECT"), Some(METHOD_UNSUPPORTED));
    assert_eq!(refused("TRACE"), Some(METHOD_UNSUPPORTED));
}

#[test]
fn limits_hold_to_the_byte() {
    let limits = Limits { target_bytes: 20, fields: 3, header_bytes: 60, ..Limits::default() };
    let refused = |head: &Head| validate(head, &limits).err();
    for version in [HttpVersion::Http11, HttpVersion::Http2] {
        let head = Head { version, ..Head::host(HttpVersion::Http11, "a") };
        let target = |bytes: usize| Head { target: format!("/{}", "a".repeat(bytes - 1)).into_bytes(), ..head.clone() };
        assert_eq!((refused(&target(20)), refused(&target(21))), (None, Some(TARGET_TOO_LONG)));
        let three = head.clone().with("a", "").with("b", "");
        assert_eq!((refused(&three), refused(&three.clone().with("c", ""))), (None, Some(FIELDS_TOO_MANY)));
        // `Host: a` is 9 bytes, so 51 are left, of which the second field's name and frame take 5.
        let sized = |bytes: usize| head.clone().with("x", "v".repeat(bytes));
        assert_eq!((refused(&sized(46)), refused(&sized(47))), (None, Some(FIELDS_TOO_LARGE)));
    }
}

#[test]
fn header_names_are_tokens_and_values_have_no_control_bytes() {
    for name in ["", "Bad[Name", "X-Test ", "X:Y", "X-T\u{e9}st", "X\0"] {
        assert_eq!(Head::get("/").with(name, "v").refused(), Some(FIELD_NAME_INVALID), "{name:?}");
    }
    for value in ["\0", "a\rb", "a\nb", "\x0b", "a\x07", "\x7f"] {
        assert_eq!(Head::get("/").with("X", value).refused(), Some(FIELD_VALUE_INVALID), "{value:?}");
    }
    let unusual = Head::get("/").with("X", b"caf\xe9 \t x").with("Y", "").with("!#$%&'*+-.^`|~", "é");
    assert_eq!(unusual.refused(), None);
}

#[test]
fn a_name_with_an_underscore_is_seen_and_refused_where_it_would_frame_the_message() {
    let heads = [Head::get("/"), Head::http2("/"), Head::http2("/").with("content-type", "application/grpc")];
    for head in heads {
        for name in ["Transfer_Encoding", "TRANSFER_ENCODING", "content_length", "Content_Length"] {
            assert_eq!(head.clone().with(name, "5").refused(), Some(FIELD_NAME_UNDERSCORE), "{name}");
        }
        for name in ["_", "x_y", "user_id", "X_Forwarded_For"] {
            assert!(head.clone().with(name, "v").valid().unwrap().underscores, "{name}");
        }
        assert!(!head.with("x-y", "v_w").valid().unwrap().underscores);
    }
}

#[test]
fn a_grpc_call_comes_over_http2() {
    let call = |head: Head, kind: &str| is_grpc(&head.with("content-type", kind));
    assert!(call(Head::http2("/"), "application/grpc") && call(Head::http2("/"), "application/grpc+proto"));
    assert!(!call(Head::http2("/"), "application/json") && !is_grpc(&Head::http2("/")));
    assert!(!call(Head::get("/"), "application/grpc"));
}

#[test]
fn connection_nominates_only_what_is_hop_by_hop() {
    for value in ["close", "Keep-Alive, Upgrade", "TE", "Upgrade, HTTP2-Settings", "X-Secret,,", ""] {
        assert_eq!(Head::get("/").with("Connection", value).refused(), None, "{value}");
    }
    for value in [
        "host",
        "close, Host",
        "Authorization",
        "Content-Length",
        "transfer-encoding",
        "Cookie",
        "X-Forwarded-For",
        "x-forwarded-proto",
        "Forwarded",
        "Via",
        "Weir-Version",
        "X-Request-Id",
        "If-Match",
    ] {
        assert_eq!(Head::get("/").with("Connection", value).refused(), Some(CONNECTION_NOMINATES), "{value}");
    }
    let second = Head::get("/").with("Connection", "close").with("Connection", "host");
    assert_eq!(second.refused(), Some(CONNECTION_NOMINATES));
    assert_eq!(Head::get("/").with("Connection", "a b").refused(), Some(CONNECTION_INVALID));
}

#[test]
fn an_upgrade_needs_connection_http11_and_no_body() {
    let offer = Head::get("/").with("Connection", "keep-alive, Upgrade").with("Upgrade", "foo/2, WebSocket");
    let upgrade = offer.valid().unwrap().upgrade.unwrap();
    assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["foo/2", "WebSocket"]);
    assert_eq!(upgrade.choose(&["websocket"]), Some("WebSocket"));
    assert_eq!(upgrade.choose(&["h2c"]), None);
    let none = |head: Head| head.valid().unwrap().upgrade.is_none();
    assert!(none(Head::get("/").with("Upgrade", "websocket")));
    assert!(none(Head { version: HttpVersion::Http10, ..offer.clone() }));
    assert!(none(offer.clone().with("Content-Length", "1")));
    assert!(!none(offer.with("Content-Length", "0")));
    for value in ["", ",", "web socket", "a/b/c", "/1"] {
        let head = Head::get("/").with("Connection", "upgrade").with("Upgrade", value);
        assert_eq!(head.refused(), Some(UPGRADE_INVALID), "{value}");
    }
}

#[test]
fn only_continue_may_be_expected() {
    let expect = |head: Head| head.valid().map(|valid| valid.expect_continue);
    let post = || Head::post().with("Content-Length", "5");
    assert_eq!(expect(post().with("Expect", "100-Continue")), Ok(true));
    assert_eq!(expect(Head::get("/").with("Expect", "100-continue")), Ok(false), "no body to wait for");
    let old = Head { version: HttpVersion::Http10, ..post() };
    for value in ["100-continue", "200-ok", "100-continue, 100-continue"] {
        assert_eq!(expect(old.clone().with("Expect", value)), Ok(false), "HTTP/1.0 knows no expectations");
    }
    for value in ["200-ok", "", "100-continue, 100-continue"] {
        assert_eq!(expect(post().with("Expect", value)), Err(EXPECTATION_UNKNOWN), "{value}");
    }
    let twice = post().with("Expect", "100-continue").with("Expect", "100-continue");
    assert_eq!(expect(twice), Err(EXPECTATION_UNKNOWN));
}

#[test]
fn http2_has_one_authority_and_no_connection_headers() {
    let head = Head::http2("/a").with("host", "SHOP.example.com").with("te", "trailers").with("content-length", "3");
    let valid = head.valid().unwrap();
    assert_eq!((&*valid.host, valid.framing), ("shop.example.com", Framing::Frames { length: Some(3) }));
    let only_host = Head { authority: None, ..Head::http2("/").with("host", "a") };
    assert_eq!(only_host.valid().map(|valid| valid.host.into_owned()), Ok("a".to_owned()));
    assert_eq!(Head { authority: None, ..Head::http2("/") }.refused(), Some(HOST_MISSING));
    for authority in ["", "u@a", "a,b"] {
        let head = Head { authority: Some(authority.into()), ..Head::http2("/") };
        assert_eq!(head.refused(), Some(HOST_INVALID), "{authority}");
    }
    for host in ["other.example.com", "shop.example.com:80"] {
        assert_eq!(Head::http2("/").with("host", host).refused(), Some(HOST_MISMATCH), "{host}");
    }
    for name in ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(Head::http2("/").with(name, "chunked").refused(), Some(CONNECTION_SPECIFIC), "{name}");
    }
}

#[test]
fn a_path_has_one_spelling() {
    for (path, expected) in [
        ("/", "/"),
        ("/a/b/", "/a/b/"),
        ("/a/../admin", "/admin"),
        ("/./admin", "/admin"),
        ("//admin", "/admin"),
        ("/a///b//", "/a/b/"),
        ("/a/%2e%2E/admin", "/admin"),
        ("/.%2e/admin", "/admin"),
        ("/../../admin", "/admin"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/..", "/"),
        ("/a//../b", "/a/b"),
        ("/%61dm%69n", "/admin"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/%7euser", "/~user"),
        ("/a%252fb", "/a%252fb"),
        ("/...", "/..."),
        ("/.a/..b", "/.a/..b"),
        ("/%E9t%E9", "/%E9t%E9"),
    ] {
        assert_eq!(matched(path, STRICT), Ok(expected.to_owned()), "{path}");
        let forwarded = forwarded(path, STRICT).unwrap();
        assert!(forwarded.eq_ignore_ascii_case(expected), "{path}: {forwarded}");
    }
    for paths in [STRICT, Paths::default(), MOST] {
        for path in ["/%", "/%2", "/%zz", "/%+1", "/a%2/b", "/%é"] {
            assert_eq!(both(path, paths), Err(PATH_ENCODING_INVALID), "{path}");
        }
        for path in [
            "/a%00",
            "/%0d%0aX",
            "/%7f",
            "/%c0%af",
            "/%C1%9c",
            "/%e0%80%af",
            "/%f0%80%80%af",
            "/a/..;/b",
            "/.;x",
            "/%2e%2e;x=1/admin",
        ] {
            assert_eq!(both(path, paths), Err(PATH_AMBIGUOUS), "{path}");
        }
    }
    for path in ["/a%2fadmin", "/a%2Fadmin", "/a%5cb", "/a\\b"] {
        assert_eq!(both(path, STRICT), Err(PATH_AMBIGUOUS), "{path}");
    }
}

/// As much as can be is let through as it comes.
const MOST: Paths = Paths {
    encoded_slash: EncodedSlash::Keep,
    backslash: Backslash::Keep,
    merge_slashes: false,
    non_ascii: NonAscii::Keep,
};

#[test]
fn odd_spellings_become_what_was_chosen() {
    const DECODE: Paths = Paths { encoded_slash: EncodedSlash::Decode, ..MOST };
    const ENCODE: Paths = Paths { non_ascii: NonAscii::Encode, ..MOST };
    const MERGE: Paths = Paths { merge_slashes: true, ..MOST };
    let default = Paths::default();
    for (paths, path, forwarded, matched) in [
        (default, "/api/queues/%2F/orders", "/api/queues/%2F/orders", "/api/queues/%2F/orders"),
        (default, "/@types%2fnode", "/@types%2fnode", "/@types%2Fnode"),
        (default, "/bucket//key", "/bucket//key", "/bucket//key"),
        (default, "/web/https://cdn.test/a", "/web/https://cdn.test/a", "/web/https://cdn.test/a"),
        (default, "//admin", "//admin", "//admin"),
        (default, "/x%2f..%2fadmin", "/x%2f..%2fadmin", "/x%2F..%2Fadmin"),
        (default, "/x/..%2fadmin", "/x/..%2fadmin", "/x/..%2Fadmin"),
        (default, "/x//../admin", "/x/admin", "/x/admin"),
        (default, "/;x/a", "/;x/a", "//a"),
        (default, "/%41%2f%c3", "/A%2f%c3", "/A%2F%C3"),
        (default, "/a<b>|\"{}[]^`", "/a<b>|\"{}[]^`", "/a%3Cb%3E%7C%22%7B%7D%5B%5D%5E%60"),
        (default, "/!$&'()*+,=:@-._~", "/!$&'()*+,=:@-._~", "/!$&'()*+,=:@-._~"),
        (MERGE, "/;x/a", "/;x/a", "/a"),
        (MERGE, "//a///b", "/a/b", "/a/b"),
        (DECODE, "/x%2f..%2fadmin", "/admin", "/admin"),
        (DECODE, "/x%2F%2e%2E%2fadmin", "/admin", "/admin"),
        (DECODE, "/a%2f%2Fb", "/a//b", "/a//b"),
        (DECODE, "/a%252fb", "/a%252fb", "/a%252fb"),
        (Paths { merge_slashes: true, ..DECODE }, "/a%2f%2Fb/", "/a/b/", "/a/b/"),
        (MOST, "/a\\b%5c", "/a\\b%5c", "/a%5Cb%5C"),
        (MOST, "/café", "/café", "/caf%C3%A9"),
        (MOST, "/é;é/é", "/é;é/é", "/%C3%A9/%C3%A9"),
        (ENCODE, "/café/../é%c3", "/%C3%A9%c3", "/%C3%A9%C3"),
    ] {
        assert_eq!(both(path, paths), Ok((forwarded.to_owned(), matched.to_owned())), "{path} {paths:?}");
    }
    assert_eq!(both("/a%5cb", default), Err(PATH_AMBIGUOUS));
}

#[test]
fn targets_beyond_ascii_are_for_the_operator_to_let_in() {
    let valid = |target: &str, non_ascii| {
        let limits = Limits { paths: Paths { non_ascii, ..Paths::default() }, ..Limits::default() };
        validate(&Head::get(target), &limits).map(|valid| (valid.target.to_string(), valid.path.to_string()))
    };
    let target = "/café?q=ü";
    let of = |target: &str, path: &str| Ok((target.to_owned(), path.to_owned()));
    assert_eq!(valid(target, NonAscii::Refuse), Err(TARGET_INVALID));
    assert_eq!(valid(target, NonAscii::Keep), of(target, "/caf%C3%A9"));
    assert_eq!(valid(target, NonAscii::Encode), of("/caf%C3%A9?q=%C3%BC", "/caf%C3%A9"));
    assert_eq!(valid("/a?q=ü", NonAscii::Encode), of("/a?q=%C3%BC", "/a"));
    assert_eq!(valid("/a?q=%zz", NonAscii::Encode), of("/a?q=%zz", "/a"));
    for non_ascii in [NonAscii::Keep, NonAscii::Encode] {
        for target in ["/é\x7f", "/é é", "/é#", "é", "/\0é"] {
            assert_eq!(valid(target, non_ascii), Err(TARGET_INVALID), "{target:?}");
        }
        let latin1 = Head { target: b"/caf\xe9".to_vec(), ..Head::get("/") };
        let limits = Limits { paths: Paths { non_ascii, ..Paths::default() }, ..Limits::default() };
        assert_eq!(validate(&latin1, &limits).err(), Some(TARGET_INVALID), "it is no UTF-8");
    }
}

#[test]
fn what_is_forwarded_is_what_was_matched_but_for_parameters() {
    for (target, forwarded, path) in [
        ("/x/../a/b?c=/../d", "/a/b?c=/../d", "/a/b"),
        ("/x/../a//b?c=/../d", "/a//b?c=/../d", "/a//b"),
        ("/a;v=1/b;w/c?q", "/a;v=1/b;w/c?q", "/a/b/c"),
        ("/%61;v=1?", "/a;v=1?", "/a"),
        ("/;x/a", "/;x/a", "//a"),
    ] {
        let head = Head::get(target);
        let valid = head.valid().unwrap();
        assert_eq!((&*valid.target, &*valid.path), (forwarded, path), "{target}");
        assert_eq!(valid.target_changed, target != forwarded);
    }
}

#[test]
fn causes_are_a_closed_set_of_snake_case_names() {
    let mut causes: Vec<_> = ALL.iter().map(|refusal| refusal.cause).collect();
    causes.sort_unstable();
    causes.dedup();
    assert_eq!(causes.len(), ALL.len());
    for refusal in ALL {
        assert!(refusal.cause.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{refusal:?}");
        assert!([400, 413, 414, 417, 431, 501].contains(&refusal.status), "{refusal:?}");
    }
}

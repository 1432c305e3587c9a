//! RFC 9113 §8: what makes a request malformed, and how responses are framed.

use super::table::{Bed, Case, Step, Wanted};
use crate::harness::frame::{
    END_HEADERS, END_STREAM, Fields, HEADERS, PROTOCOL_ERROR, STREAM_CLOSED, WHOLE, block, data, frame, get, post,
    request,
};

fn head(fields: Fields<'_>) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &block(fields))
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_8_1_bodies_and_trailers() {
    let upload = |length: &str, pieces: &[Vec<u8>]| {
        [vec![post(1, "/sink", &[("content-length", length.as_bytes())])], pieces.to_vec()].concat()
    };
    let trailers = |fields: Fields<'_>| frame(HEADERS, WHOLE, 1, &block(fields));
    let open = |rest: Vec<u8>| vec![post(1, "/sink", &[]), data(1, 0, b"a"), rest];
    // After an answer, or without one.
    let reset = || Wanted::Reset(1, PROTOCOL_ERROR);
    let either = || Wanted::Any(vec![reset(), Wanted::Status(1, 400)]);
    Bed::start()
        .await
        .check(vec![
            Case::new(
                "9113/8.1 trailers that do not end the stream",
                open(frame(HEADERS, END_HEADERS, 1, &block(&[("x-after", b"1")]))),
                reset(),
            )
            .general(either()),
            Case::new("9113/8.1 trailers", open(trailers(&[("x-after", b"1")])), Wanted::Status(1, 200)),
            Case::new("9113/8.1 empty trailers", open(trailers(&[])), Wanted::Status(1, 200)),
            Case::new(
                "9113/8.1 trailers without a body",
                vec![post(1, "/sink", &[]), trailers(&[("x-after", b"1")])],
                Wanted::Status(1, 200),
            ),
            Case::new("9113/8.1 a pseudo-header field in trailers", open(trailers(&[(":path", b"/")])), reset())
                .general(either()),
            Case::new("9113/8.1 :status in trailers", open(trailers(&[(":status", b"200")])), reset())
                .general(either()),
            Case::new("9113/8.1 an upper-case name in trailers", open(trailers(&[("X-After", b"1")])), reset())
                .general(either()),
            Case::new("9113/8.1 connection in trailers", open(trailers(&[("connection", b"close")])), reset())
                .general(either()),
            Case::new(
                "9113/8.1 trailers twice",
                vec![post(1, "/hold", &[]), trailers(&[("x-after", b"1")]), trailers(&[("x-after", b"2")])],
                Wanted::Any(vec![Wanted::Reset(1, STREAM_CLOSED), Wanted::Goaway(STREAM_CLOSED)]),
            )
            // The engine's code says less.
            .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/8.1.1 a body as long as promised",
                upload("3", &[data(1, END_STREAM, b"abc")]),
                Wanted::Status(1, 200),
            ),
            Case::new("9113/8.1.1 a body shorter than promised", upload("4", &[data(1, END_STREAM, b"abc")]), reset())
                .general(either()),
            Case::new("9113/8.1.1 a body longer than promised", upload("2", &[data(1, END_STREAM, b"abc")]), reset())
                .general(either()),
            Case::new(
                "9113/8.1.1 a body longer than promised, in several frames",
                upload("2", &[data(1, 0, b"a"), data(1, 0, b"b"), data(1, END_STREAM, b"c")]),
                reset(),
            )
            .general(either()),
            Case::new(
                "9113/8.1.1 a body shorter than promised, before trailers",
                upload("4", &[data(1, 0, b"abc"), trailers(&[("x-after", b"1")])]),
                reset(),
            )
            .general(either()),
            Case::new(
                "9113/8.1.1 a length and no body",
                head_of("POST", "/sink", &[("content-length", b"3")]),
                reset(),
            )
            .general(either()),
            Case::new(
                "9113/8.1.1 a length of 0 and no body",
                head_of("POST", "/sink", &[("content-length", b"0")]),
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/8.1.1 two lengths",
                head_of("POST", "/sink", &[("content-length", b"0"), ("content-length", b"3")]),
                either(),
            ),
            Case::new("9113/8.1.1 a length with a sign", upload("+3", &[data(1, END_STREAM, b"abc")]), either()),
            Case::new("9113/8.1.1 an empty length", upload("", &[data(1, END_STREAM, b"abc")]), either()),
            Case::new(
                "9113/8.1.1 a length above 2^64",
                upload("18446744073709551619", &[data(1, END_STREAM, b"abc")]),
                either(),
            ),
            Case::new(
                "9113/8.1 an answer before the request has ended",
                vec![post(1, "/refuse-body", &[]), data(1, 0, b"abc")],
                Wanted::Status(1, 413),
            ),
        ])
        .await;
}

fn head_of(method: &str, path: &str, more: Fields<'_>) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &request(method, path, more))
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_8_2_fields() {
    let with = |name: &str, value: &[u8]| get(1, "/", &[(name, value)]);
    let bad = |name, field: &str, value: &[u8]| Case::malformed(name, with(field, value));
    let good = |name, field: &str, value: &[u8]| Case::new(name, with(field, value), Wanted::Status(1, 200));
    let raw = |name: &[u8]| {
        let field = crate::harness::frame::literal(name, b"1");
        frame(HEADERS, WHOLE, 1, &[request("GET", "/", &[]), field].concat())
    };
    let (crumbs, apart) = ("9113/8.2.3 crumbs of a cookie are joined", "9113/8.2.3 a cookie in one piece");
    let te = "9113/8.2.2 te: trailers";
    Bed::start()
        .await
        .check(vec![
            bad("9113/8.2.1 an upper-case name", "X-Upper", b"1"),
            bad("9113/8.2.1 an upper-case letter at the end of a name", "x-uppeR", b"1"),
            bad("9113/8.2.1 a space in a name", "a b", b"1"),
            bad("9113/8.2.1 a colon in a name", "a:b", b"1"),
            bad("9113/8.2.1 a name that is empty", "", b"1"),
            bad("9113/8.2.1 CR and LF in a name", "a\r\nb", b"1"),
            bad("9113/8.2.1 NUL in a name", "a\0b", b"1"),
            bad("9113/8.2.1 DEL in a name", "a\x7fb", b"1"),
            Case::malformed("9113/8.2.1 a name that is no ASCII", raw(b"caf\xc3\xa9")),
            bad("9113/8.2.1 NUL in a value", "x-value", b"a\0b"),
            bad("9113/8.2.1 CR in a value", "x-value", b"a\rb"),
            bad("9113/8.2.1 LF in a value", "x-value", b"a\nb"),
            bad("9113/8.2.1 a field smuggled in a value", "x-value", b"a\r\nx-smuggled: 1"),
            bad("9113/8.2.1 a value that begins with a space", "x-value", b" a"),
            bad("9113/8.2.1 a value that begins with a tab", "x-value", b"\ta"),
            bad("9113/8.2.1 a value that ends with a space", "x-value", b"a "),
            bad("9113/8.2.1 a value that ends with a tab", "x-value", b"a\t"),
            good("9113/8.2.1 a tab within a value", "x-value", b"a\tb"),
            good("9113/8.2.1 a value that is no ASCII", "x-value", b"caf\xc3\xa9 \xff"),
            good("9113/8.2.1 a value that is empty", "x-value", b""),
            bad("9113/8.2.2 connection", "connection", b"close"),
            bad("9113/8.2.2 connection: keep-alive", "connection", b"keep-alive"),
            bad("9113/8.2.2 proxy-connection", "proxy-connection", b"keep-alive"),
            bad("9113/8.2.2 keep-alive", "keep-alive", b"timeout=5"),
            bad("9113/8.2.2 transfer-encoding", "transfer-encoding", b"chunked"),
            bad("9113/8.2.2 upgrade", "upgrade", b"websocket"),
            bad("9113/8.2.2 te: gzip", "te", b"gzip"),
            bad("9113/8.2.2 te: trailers and more", "te", b"trailers, deflate"),
            Case::new(te, get(1, "/", &[("te", b"trailers"), ("x-nonce", te.as_bytes())]), Wanted::Status(1, 200)),
            Case::new(
                crumbs,
                get(
                    1,
                    "/",
                    &[("cookie", b"a=1"), ("x-nonce", crumbs.as_bytes()), ("cookie", b"b=2"), ("cookie", b"c=3")],
                ),
                Wanted::Status(1, 200),
            )
            .reaches("cookie", Some("a=1; b=2; c=3")),
            Case::new(
                apart,
                get(1, "/", &[("x-nonce", apart.as_bytes()), ("cookie", b"a=1; b=2")]),
                Wanted::Status(1, 200),
            )
            .reaches("cookie", Some("a=1; b=2")),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_8_3_pseudo_header_fields() {
    type One<'a> = (&'a str, &'a [u8]);
    const METHOD: One<'_> = (":method", b"GET");
    const SCHEME: One<'_> = (":scheme", b"http");
    const HOST: One<'_> = (":authority", b"shop.test");
    const PATH: One<'_> = (":path", b"/");
    let bad = |name, fields: Fields<'_>| Case::malformed(name, head(fields));
    // Whether it is malformed too is a question of taste.
    let refused = |name, fields: Fields<'_>| Case::new(name, head(fields), Wanted::Status(1, 400));
    let good = |name, fields: Fields<'_>| Case::new(name, head(fields), Wanted::Status(1, 200));
    let path = |path: &'static [u8]| [METHOD, SCHEME, HOST, (":path", path)];
    let host = |host: &'static [u8]| [METHOD, SCHEME, PATH, (":authority", host)];
    let (by_host, both) = ("9113/8.3.1 host in the place of :authority", "9113/8.3.1 host that agrees with :authority");
    Bed::start()
        .await
        .check(vec![
            bad("9113/8.3 a pseudo-header field after others", &[METHOD, SCHEME, HOST, ("a", b"b"), PATH]),
            bad("9113/8.3 a pseudo-header field that nobody knows", &[METHOD, SCHEME, HOST, PATH, (":what", b"1")]),
            bad("9113/8.3 :status in a request", &[METHOD, SCHEME, HOST, PATH, (":status", b"200")]),
            bad("9113/8.3 :method twice", &[METHOD, METHOD, SCHEME, HOST, PATH]),
            bad("9113/8.3 :scheme twice", &[METHOD, SCHEME, SCHEME, HOST, PATH]),
            bad("9113/8.3 :path twice", &[METHOD, SCHEME, HOST, PATH, PATH]),
            bad("9113/8.3 :authority twice", &[METHOD, SCHEME, HOST, HOST, PATH]),
            bad("9113/8.3.1 no :method", &[SCHEME, HOST, PATH]),
            bad("9113/8.3.1 no :scheme", &[METHOD, HOST, PATH]),
            bad("9113/8.3.1 no :path", &[METHOD, SCHEME, HOST]),
            refused("9113/8.3.1 neither :authority nor host", &[METHOD, SCHEME, PATH]),
            bad("9113/8.3.1 an empty :path", &path(b"")),
            refused("9113/8.3.1 a :path without a slash", &path(b"shop")),
            refused("9113/8.3.1 a :path of * for GET", &path(b"*")),
            refused("9113/8.3.1 a :path with a space", &path(b"/a b")),
            bad("9113/8.3.1 a :path with CR and LF", &path(b"/ HTTP/1.1\r\nx-smuggled: 1")),
            bad("9113/8.3.1 a :path with NUL", &path(b"/a\0")),
            bad("9113/8.3.1 a :method with a space", &[(":method", b"GET / HTTP/1.1"), SCHEME, HOST, PATH]),
            bad("9113/8.3.1 an empty :method", &[(":method", b""), SCHEME, HOST, PATH]),
            bad("9113/8.3.1 an empty :scheme", &[METHOD, (":scheme", b""), HOST, PATH]),
            refused("9113/8.3.1 user information in :authority", &host(b"user@shop.test")),
            refused("9113/8.3.1 a space in :authority", &host(b"shop.test evil")),
            bad("9113/8.3.1 CR and LF in :authority", &host(b"shop.test\r\nx-smuggled: 1")),
            refused("9113/8.3.1 an empty :authority", &host(b"")),
            refused(
                "9113/8.3.1 host that differs from :authority",
                &[METHOD, SCHEME, HOST, PATH, ("host", b"other.test")],
            ),
            refused("9113/8.3.1 host twice", &[METHOD, SCHEME, PATH, ("host", b"shop.test"), ("host", b"shop.test")]),
            good(by_host, &[METHOD, SCHEME, PATH, ("host", b"shop.test"), ("x-nonce", by_host.as_bytes())])
                .reaches("host", Some("shop.test")),
            good(both, &[METHOD, SCHEME, HOST, PATH, ("host", b"shop.test"), ("x-nonce", both.as_bytes())])
                .reaches("host", Some("shop.test")),
            good("9113/8.3.1 pseudo-header fields in another order", &[PATH, HOST, SCHEME, METHOD, ("a", b"b")]),
            good("9113/8.3.1 a method that nobody knows", &[(":method", b"BREW"), SCHEME, HOST, PATH]),
            good("9113/8.3.1 the other scheme", &[METHOD, (":scheme", b"https"), HOST, PATH]),
            good("9113/8.3.1 OPTIONS of a path", &[(":method", b"OPTIONS"), SCHEME, HOST, PATH]),
            Case::new(
                "9113/8.5 CONNECT",
                head(&[(":method", b"CONNECT"), (":authority", b"shop.test:443")]),
                Wanted::Status(1, 501),
            ),
            bad("9113/8.5 CONNECT with a :path", &[(":method", b"CONNECT"), HOST, PATH]),
            bad("9113/8.5 CONNECT with a :scheme", &[(":method", b"CONNECT"), HOST, SCHEME]),
            Case::new("9113/8.5 TRACE", head(&[(":method", b"TRACE"), SCHEME, HOST, PATH]), Wanted::Status(1, 501)),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_8_responses_have_the_body_that_their_kind_has() {
    Bed::start()
        .await
        .check(vec![
            Case::new("9113/8.1 HEAD", head_of("HEAD", "/bytes/1000", &[]), Wanted::Body(1, 200, 0)),
            Case::new("9113/8.1 204", get(1, "/status/204", &[]), Wanted::Body(1, 204, 0)),
            Case::new("9113/8.1 304", get(1, "/status/304", &[]), Wanted::Body(1, 304, 0)),
            Case::new("9113/8.1 a body with a length", get(1, "/bytes/30000", &[]), Wanted::Body(1, 200, 30_000)),
            Case::new("9113/8.1 a body in chunks", get(1, "/chunked/30000", &[]), Wanted::Body(1, 200, 30_000)),
            Case::new("9113/8.1 an interim response", get(1, "/early-hints", &[]), Wanted::Statuses(1, vec![103, 200]))
                // The engine keeps interim responses to itself.
                .general(Wanted::Statuses(1, vec![200])),
            Case::new(
                "9113/8.1 interim responses one after the other",
                get(1, "/informs/3/1", &[]),
                Wanted::Statuses(1, vec![102, 102, 102, 200]),
            )
            .general(Wanted::Statuses(1, vec![200])),
            Case::new(
                "9113/8.1 a client that waits for 100",
                vec![
                    Step::Send(post(1, "/continue", &[("expect", b"100-continue")])),
                    Step::Send(data(1, END_STREAM, b"abc")),
                ],
                Wanted::Status(1, 200),
            ),
            Case::new("9113/8.1 no route", get(1, "/status/404", &[]), Wanted::Status(1, 404)),
        ])
        .await;
}

//! RFC 7541: header blocks, integer by integer.

use super::table::{Bed, Case, Sent, Step, Wanted};
use crate::harness::frame::{
    COMPRESSION_ERROR, CONTINUATION, END_HEADERS, END_STREAM, Fields, HEADER_TABLE_SIZE, HEADERS, PROTOCOL_ERROR,
    Representation, WHOLE, frame, get, indexed, indexing, integer, plain, post, representations, request, settings,
    table_size,
};
use crate::harness::{Frames, express_lane};

const WRONG: Wanted = Wanted::Goaway(COMPRESSION_ERROR);

/// A block that cannot be read. The engine ends the connection too, with a code that says less.
fn wrong(name: &'static str, sent: impl Into<Sent>) -> Case {
    Case::new(name, sent, WRONG).general(Wanted::Goaway(PROTOCOL_ERROR))
}

/// A request whose block begins and ends with these bytes.
fn around(stream: u32, before: &[u8], after: &[u8], more: Fields<'_>) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &[before, &request("GET", "/", more), after].concat())
}

fn after(bytes: &[u8]) -> Vec<u8> {
    around(1, &[], bytes, &[])
}

fn before(bytes: &[u8]) -> Vec<u8> {
    around(1, bytes, &[], &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_7541_2_to_4_the_dynamic_table() {
    let (used, oldest, kept) = (
        "7541/2.3.2 a field that an earlier block has added",
        "7541/4.4 the oldest goes, the newest stays",
        "7541/4.3 a size that is enough keeps what is there",
    );
    // 32 + 5 + 35 bytes each: 56 of them fill 4,096 bytes, the 57th takes the first one's place.
    let many: Vec<u8> = (0..60).flat_map(|at| indexing(format!("n-{at:03}").as_bytes(), &[b'v'; 35])).collect();
    let add = |bytes: Vec<u8>| around(1, &[], &bytes, &[]);
    let own = |name: &'static str| -> Vec<(&'static str, &'static [u8])> { vec![("x-nonce", name.as_bytes())] };
    Bed::start()
        .await
        .check(vec![
            Case::new(
                used,
                vec![add(indexing(b"x-added", b"here")), around(3, &[], &indexed(62), &own(used))],
                Wanted::Status(3, 200),
            )
            .reaches("x-added", Some("here")),
            wrong(
                "7541/2.3.3 the place after the last one",
                vec![add(indexing(b"a", b"b")), around(3, &[], &indexed(63), &[])],
            ),
            wrong("7541/2.3.3 a place far away", after(&integer(0x80, 7, 100_000))),
            Case::new(
                oldest,
                vec![add(many.clone()), around(3, &[], &[indexed(62), indexed(62 + 55)].concat(), &own(oldest))],
                Wanted::Status(3, 200),
            )
            .reaches("n-059", Some(std::str::from_utf8(&[b'v'; 35]).unwrap()))
            .reaches("n-004", Some(std::str::from_utf8(&[b'v'; 35]).unwrap())),
            wrong("7541/4.4 what has gone is not there", vec![add(many), around(3, &[], &indexed(62 + 56), &[])]),
            wrong(
                "7541/4.4 a field larger than the table empties it",
                vec![
                    add([indexing(b"a", b"b"), indexing(b"large", &[b'v'; 4_096])].concat()),
                    around(3, &[], &indexed(62), &[]),
                ],
            ),
            Case::new(
                "7541/4.4 a field larger than the table is no error",
                add(indexing(b"large", &[b'v'; 4_096])),
                Wanted::Status(1, 200),
            ),
            Case::new("7541/4.2 the size that the setting allows", before(&table_size(4_096)), Wanted::Status(1, 200)),
            wrong("7541/4.2 a size above what the setting allows", before(&table_size(4_097))),
            Case::new(
                "7541/4.2 a size in two steps",
                before(&[table_size(0), table_size(4_096)].concat()),
                Wanted::Status(1, 200),
            ),
            wrong("7541/4.2 a size after a field", after(&table_size(100))),
            wrong(
                "7541/4.2 a size after a field, in CONTINUATION",
                vec![
                    frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[])),
                    frame(CONTINUATION, END_HEADERS, 1, &table_size(100)),
                ],
            ),
            Case::new(
                "7541/4.2 a size at the beginning of trailers",
                vec![post(1, "/sink", &[]), frame(HEADERS, WHOLE, 1, &table_size(100))],
                Wanted::Status(1, 200),
            ),
            wrong(
                "7541/4.3 a size of 0 empties the table",
                vec![
                    add(indexing(b"a", b"b")),
                    around(3, &[table_size(0), table_size(4_096)].concat(), &indexed(62), &[]),
                ],
            ),
            Case::new(
                kept,
                vec![add(indexing(b"x-kept", b"1")), around(3, &table_size(50), &indexed(62), &own(kept))],
                Wanted::Status(3, 200),
            )
            .reaches("x-kept", Some("1")),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_7541_5_integers_and_strings() {
    let value = |bytes: &[u8]| after(&[&[0, 1, b'a'], bytes].concat());
    let huffman = "7541/5.2 a string by Huffman's code";
    let www = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
    Bed::start()
        .await
        .check(vec![
            wrong("7541/5.1 an integer above 2^64", after(&[0xff; 12])),
            wrong("7541/5.1 an integer without end", after(&[&[0xff][..], &[0x80; 40], &[0]].concat())),
            wrong("7541/5.1 an integer of which the rest is missing", after(&[0xff, 0x80])),
            wrong("7541/5.1 a length above 2^32", value(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f])),
            Case::new(
                "7541/5.1 an integer with zeros that it does not need",
                // 127 in three bytes instead of two.
                value(&[&[0x7f, 0x80, 0x00][..], &[b'v'; 127]].concat()),
                Wanted::Any(vec![Wanted::Status(1, 200), WRONG]),
            )
            .general(Wanted::Any(vec![Wanted::Status(1, 200), Wanted::Goaway(PROTOCOL_ERROR)])),
            wrong("7541/5.2 a string longer than its block", value(&[10, b'v'])),
            wrong("7541/5.2 a name longer than its block", after(&[0, 10, b'a'])),
            wrong("7541/5.2 a name without a value", after(&[0, 1, b'a'])),
            Case::new("7541/5.2 an empty string", value(&[0]), Wanted::Status(1, 200)),
            Case::new("7541/5.2 an empty string by Huffman's code", value(&[0x80]), Wanted::Status(1, 200)),
            Case::new(
                huffman,
                after(
                    &[&request("", "", &[])[..0], &[0, 6], b"x-huff", &[0x8c], &www, &plain_field("x-nonce", huffman)]
                        .concat(),
                ),
                Wanted::Status(1, 200),
            )
            .reaches("x-huff", Some("www.example.com")),
            // The letter a is 00011, and three bits are left to fill with ones.
            Case::new("7541/5.2 padding of ones", value(&[0x81, 0b0001_1111]), Wanted::Status(1, 200)),
            wrong("7541/5.2 padding that is not all ones", value(&[0x81, 0b0001_1000])),
            wrong("7541/5.2 padding of a whole byte", value(&[0x82, 0b0001_1111, 0xff])),
            wrong("7541/5.2 a byte of padding and nothing else", value(&[0x81, 0xff])),
            wrong("7541/5.2 the end of a string within it", value(&[0x84, 0xff, 0xff, 0xff, 0xff])),
            wrong("7541/5.2 the end of a string after a letter", value(&[0x85, 0b0001_1111, 0xff, 0xff, 0xff, 0xff])),
        ])
        .await;
}

fn plain_field(name: &str, value: &str) -> Vec<u8> {
    [&[0], &plain(name.as_bytes())[..], &plain(value.as_bytes())].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_7541_6_representations() {
    let named = |high: u8, prefix: u32| [integer(high, prefix, 58), plain(b"by name")].concat();
    let new = |high: u8| [&[high][..], &plain(b"x-new"), &plain(b"1")].concat();
    let reach = |name: &'static str, bytes: Vec<u8>| {
        let nonce = plain_field("x-nonce", name);
        Case::new(name, after(&[bytes, nonce].concat()), Wanted::Status(1, 200))
    };
    let examples = [
        (1, vec![0x82, 0x86, 0x84, 0x41, 0x0f], &b"www.example.com"[..]),
        (3, vec![0x82, 0x86, 0x84, 0xbe, 0x58, 0x08], b"no-cache"),
        (5, vec![0x82, 0x87, 0x84, 0xbf, 0x40, 0x0a], b"custom-key\x0ccustom-value"),
    ];
    let examples = examples.map(|(stream, start, end)| frame(HEADERS, WHOLE, stream, &[&start, end].concat()));
    let coded = [
        (
            1,
            &[0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
        ),
        (3, &[0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
        (
            5,
            &[
                0x82, 0x87, 0x84, 0xbf, 0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 0x89, 0x25, 0xa8,
                0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf,
            ],
        ),
    ];
    let coded = coded.map(|(stream, block)| frame(HEADERS, WHOLE, stream, block));
    Bed::start()
        .await
        .check(vec![
            wrong("7541/6.1 index 0", after(&[0x80])),
            reach("7541/6.1 an index of the static table", indexed(16))
                .reaches("accept-encoding", Some("gzip, deflate")),
            reach("7541/6.2.1 indexing, with a name of the static table", named(0x40, 6))
                .reaches("user-agent", Some("by name")),
            reach("7541/6.2.1 indexing, with a new name", new(0x40)).reaches("x-new", Some("1")),
            reach("7541/6.2.2 without indexing, with a name of the static table", named(0, 4))
                .reaches("user-agent", Some("by name")),
            reach("7541/6.2.2 without indexing, with a new name", new(0)).reaches("x-new", Some("1")),
            reach("7541/6.2.3 never indexed, with a name of the static table", named(0x10, 4))
                .reaches("user-agent", Some("by name")),
            reach("7541/6.2.3 never indexed, with a new name", new(0x10)).reaches("x-new", Some("1")),
            reach(
                "7541/6.2.1 a name of the dynamic table",
                [indexing(b"x-new", b"1"), integer(0x40, 6, 62), plain(b"2")].concat(),
            )
            .reaches("x-new", Some("1|2")),
            wrong("7541/6.2.1 a name that no table has", after(&[integer(0x40, 6, 70), plain(b"v")].concat())),
            wrong("7541/6.2.2 a name that no table has", after(&[integer(0, 4, 70), plain(b"v")].concat())),
            wrong("7541/6.2.3 a name that no table has", after(&[integer(0x10, 4, 70), plain(b"v")].concat())),
            Case::new("7541/C.3 the examples", examples.concat(), Wanted::Status(5, 200)),
            Case::new("7541/C.4 the examples by Huffman's code", coded.concat(), Wanted::Status(5, 200)),
            Case::new(
                "7541/6.3 a size beside a request",
                vec![Step::Send(around(1, &table_size(0), &[], &[])), Step::End(1), Step::Send(get(3, "/", &[]))],
                Wanted::Status(3, 200),
            ),
        ])
        .await;
}

/// RFC 7541 §4.2: what we send after the client made its table smaller begins with that size, and uses nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn rfc_7541_4_2_a_client_without_a_dynamic_table_gets_no_place_of_it() {
    let bed = Bed::start().await;
    let mut frames = Frames::connect(&bed.clear).await;
    // What the table could hold is in it by then.
    for stream in [1, 3, 5] {
        frames.send(&get(stream, "/", &[])).await;
        frames.until("an answer", |seen| seen.on(stream).ended).await.unwrap();
    }
    frames.send(&settings(&[(HEADER_TABLE_SIZE, 0)])).await;
    frames.until("it is taken", |seen| seen.acknowledged >= 2).await.unwrap();
    for stream in [7, 9, 11] {
        frames.send(&get(stream, "/", &[])).await;
        frames.until("an answer", |seen| seen.on(stream).ended).await.unwrap();
        let got = frames.seen().on(stream);
        assert_eq!(got.status(), Some(200));
        let all = representations(&got.blocks[0]);
        let sizes = all.iter().take_while(|found| matches!(found, Representation::Size(_))).count();
        assert_eq!(sizes > 0, stream == 7, "the size is told once, at the beginning: {all:?}");
        for found in &all {
            let place = match found {
                Representation::Size(size) => *size,
                Representation::Indexed(index) | Representation::Literal { name: index, .. } => {
                    index.saturating_sub(61)
                }
            };
            assert_eq!(place, 0, "stream {stream} names the dynamic table: {found:?}");
        }
    }
    bed.weir.stop().await;
}

/// RFC 7541 §7.1: what is secret goes into no table, neither ours nor the client's.
#[tokio::test(flavor = "multi_thread")]
async fn rfc_7541_7_1_an_affinity_cookie_is_never_indexed() {
    use crate::harness::{Fixture as _, Origin, Target, Weir, shop};
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]).changed("    split:", "    affinity: { cookie: weir-shop, ttl: 1h }\n    split:");
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    let mut frames = Frames::connect(&web).await;
    frames.send(&get(1, "/", &[])).await;
    frames.until("an answer", |seen| seen.on(1).ended).await.unwrap();
    let got = frames.seen().on(1);
    // `set-cookie` is 55 in the static table.
    let all = representations(&got.blocks[0]);
    let cookie = all.iter().find(|found| matches!(found, Representation::Literal { name: 55, .. }));
    let indexing = matches!(cookie, Some(Representation::Literal { indexing: true, .. }));
    assert!(cookie.is_some(), "{all:?}");
    // The engine's encoder does as it likes.
    assert!(!express_lane() || !indexing, "{cookie:?}");
    weir.stop().await;
}

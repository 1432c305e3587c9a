//! Blocks of RFC 7541's appendix C, and what the RFCs forbid.

use super::table::TABLE;
use super::*;

mod properties;

const LIMIT: usize = 16 * 1024;

/// The fields of a block with pseudo-header fields first, as text.
fn text(lines: &FieldLines) -> Vec<(String, String)> {
    let all = [
        (Pseudo::Method, ":method"),
        (Pseudo::Scheme, ":scheme"),
        (Pseudo::Path, ":path"),
        (Pseudo::Authority, ":authority"),
        (Pseudo::Protocol, ":protocol"),
        (Pseudo::Status, ":status"),
    ];
    let owned = |name: &str, value: &[u8]| (name.to_owned(), String::from_utf8_lossy(value).into_owned());
    let pseudo = all.into_iter().filter_map(|(which, name)| Some(owned(name, lines.pseudo(which)?)));
    let regular = lines.iter().map(|field| {
        assert_eq!(field.line, [field.name.as_bytes(), b": ", field.value, b"\r\n"].concat());
        owned(field.name, field.value)
    });
    pseudo.chain(regular).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Reads blocks one after the other with one decoder.
fn check(blocks: &[(&str, &[(&str, &str)])]) {
    let (mut decoder, mut lines) = (Decoder::new(), FieldLines::new());
    for (hex, wanted) in blocks {
        lines.clear(LIMIT);
        decoder.decode(&bytes(hex), &mut lines).unwrap();
        let wanted: Vec<_> = wanted.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(text(&lines), wanted);
        assert_eq!(lines.flaw(), None);
    }
}

const FIRST: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
const SECOND: [(&str, &str); 5] = [FIRST[0], FIRST[1], FIRST[2], FIRST[3], ("cache-control", "no-cache")];
const THIRD: [(&str, &str); 5] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
];

#[test]
fn requests_of_appendix_c_3() {
    check(&[
        ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", &FIRST),
        ("8286 84be 5808 6e6f 2d63 6163 6865", &SECOND),
        ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", &THIRD),
    ]);
}

#[test]
fn requests_of_appendix_c_4_in_huffmans_code() {
    check(&[
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", &FIRST),
        ("8286 84be 5886 a8eb 1064 9cbf", &SECOND),
        ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", &THIRD),
    ]);
}

/// Appendix C.5 and C.6 have a table of 256 bytes: here the first block says so.
const SMALL_TABLE: &str = "3fe1 01";

const REDIRECT: [(&str, &str); 4] = [
    (":status", "302"),
    ("cache-control", "private"),
    ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
    ("location", "https://www.example.com"),
];

fn responses(first: &str, second: &str, third: &str) {
    let [_, private, date, location] = REDIRECT;
    let later = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
    let cookie = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
    check(&[
        (&format!("{SMALL_TABLE}{first}"), &[(":status", "302"), private, date, location]),
        (second, &[(":status", "307"), private, date, location]),
        (third, &[(":status", "200"), private, later, location, ("content-encoding", "gzip"), cookie]),
    ]);
}

#[test]
fn responses_of_appendix_c_5_leave_a_full_table() {
    responses(
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e \
         1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d \
         4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 \
         7369 6f6e 3d31",
    );
}

#[test]
fn responses_of_appendix_c_6_in_huffmans_code() {
    responses(
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b \
         97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf \
         cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    );
}

#[test]
fn fields_of_appendix_c_2() {
    check(&[
        ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", &[("custom-key", "custom-header")]),
        ("040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")]),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")]),
        ("82", &[(":method", "GET")]),
    ]);
}

#[test]
fn an_index_beyond_the_table_is_an_error() {
    for block in [&[0x80][..], &[0xBE], &[0xFF, 0x80, 0x80, 0x80, 0x80, 0x01], &[0x41, 0x05, b'a'], &[0x7E, 0x01, b'a']]
    {
        let mut lines = FieldLines::new();
        lines.clear(LIMIT);
        assert_eq!(Decoder::new().decode(block, &mut lines), Err(HpackError::Invalid), "{block:x?}");
    }
}

#[test]
fn what_is_encoded_is_decoded_and_named_the_third_time() {
    let (mut encoder, mut decoder, mut lines) = (Encoder::new(), Decoder::new(), FieldLines::new());
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        encoder.status(200, &mut block);
        encoder.field(b"Content-Type", b"text/plain", &mut block);
        encoder.field(b"X-Served-By", b"a", &mut block);
        encoder.field(b"content-length", b"5", &mut block);
        encoder.secret(b"x-token", b"b", &mut block);
        lines.clear(LIMIT);
        decoder.decode(&block, &mut lines).unwrap();
        assert_eq!(lines.status(), Some(200));
        let fields = [("content-type", "text/plain"), ("x-served-by", "a"), ("content-length", "5"), ("x-token", "b")];
        assert_eq!(text(&lines)[1..], fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(lines.iter().map(|field| field.never_indexed).collect::<Vec<_>>(), [false, false, false, true]);
        sizes.push(block.len());
    }
    assert_eq!(sizes[2], 1 + 1 + 1 + 4 + 11);
}

fn decoded(block: &[u8]) -> Result<FieldLines, HpackError> {
    let mut lines = FieldLines::new();
    lines.clear(LIMIT);
    Decoder::new().decode(block, &mut lines).map(|()| lines)
}

/// A field that is spelled out.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    fluke_hpack::encoder::encode_integer_into(0, 6, 0x40, &mut block).unwrap();
    for text in [name, value] {
        fluke_hpack::encoder::encode_integer_into(text.len(), 7, 0, &mut block).unwrap();
        block.extend_from_slice(text);
    }
    block
}

#[test]
fn a_block_that_ends_too_early_or_has_impossible_numbers_is_an_error() {
    let wrong: [&[u8]; 10] = [
        &[0x40],
        &[0x40, 1, b'a'],
        &[0x40, 1, b'a', 5, b'b'],
        &[0x7F],
        &[0x1F, 0xFF],
        &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        &[0x40, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        // Padding of a whole byte, padding of zeros, EOS.
        &[0x40, 1, b'a', 0x82, 0x07, 0xFF],
        &[0x40, 1, b'a', 0x81, 0x00],
        &[0x40, 1, b'a', 0x84, 0xFF, 0xFF, 0xFF, 0xFF],
    ];
    for block in wrong {
        assert_eq!(decoded(block).map(|_| ()), Err(HpackError::Invalid), "{block:x?}");
        let (mut decoder, mut lines) = (Decoder::new(), FieldLines::new());
        lines.clear(LIMIT);
        let parts = block.iter().try_for_each(|byte| decoder.decode_part(&[*byte], &mut lines));
        assert_eq!(parts.and_then(|()| decoder.finish()), Err(HpackError::Invalid), "{block:x?}");
    }
}

#[test]
fn the_tables_size_changes_within_our_setting_and_at_the_beginning_of_a_block_only() {
    for (block, wanted) in [
        (&[0x20, 0x3F, 0xE1, 0x1F, 0x82][..], Ok(())),
        (&[0x3F, 0xE2, 0x1F], Err(HpackError::Invalid)),
        (&[0x82, 0x20], Err(HpackError::Invalid)),
    ] {
        assert_eq!(decoded(block).map(|_| ()), wanted, "{block:x?}");
    }
    let (mut decoder, mut lines) = (Decoder::new(), FieldLines::new());
    lines.clear(LIMIT);
    decoder.decode_part(&[0x82], &mut lines).unwrap();
    assert_eq!(decoder.decode_part(&[0x20], &mut lines), Err(HpackError::Invalid), "the block goes on");
    let mut decoder = Decoder::new();
    decoder.decode(&literal(b"a", b"b"), &mut lines).unwrap();
    decoder.decode(&[0xBE], &mut lines).unwrap();
    assert_eq!(decoder.decode(&[0x20, 0x3F, 0xE1, 0x1F, 0xBE], &mut lines), Err(HpackError::Invalid), "it was emptied");
}

#[test]
fn what_is_malformed_is_told_by_the_first_thing_that_is() {
    let flaw = |fields: &[(&[u8], &[u8])]| {
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
        decoded(&block).unwrap().flaw()
    };
    let rows: [(&[u8], &[u8], Option<Flaw>); 28] = [
        (b"a", b"b", None),
        (b"a", b"", None),
        (b"a", b"b\tc \xFF", None),
        (b"", b"b", Some(Flaw::Name)),
        (b"A", b"b", Some(Flaw::Name)),
        (b"content-Type", b"b", Some(Flaw::Name)),
        (b"a b", b"b", Some(Flaw::Name)),
        (b"a:", b"b", Some(Flaw::Name)),
        (b"a\xE4", b"b", Some(Flaw::Name)),
        (b"a", b"a\0", Some(Flaw::Value)),
        (b"a", b"b\r\nc: d", Some(Flaw::Value)),
        (b"a", b"1234567\n12345678", Some(Flaw::Value)),
        (b"a", b"12345678\x7F123", Some(Flaw::Value)),
        (b"a", b" b", Some(Flaw::Value)),
        (b"a", b"b\t", Some(Flaw::Value)),
        (b"connection", b"close", Some(Flaw::ConnectionSpecific)),
        (b"keep-alive", b"", Some(Flaw::ConnectionSpecific)),
        (b"proxy-connection", b"a", Some(Flaw::ConnectionSpecific)),
        (b"transfer-encoding", b"chunked", Some(Flaw::ConnectionSpecific)),
        (b"upgrade", b"websocket", Some(Flaw::ConnectionSpecific)),
        (b"te", b"gzip", Some(Flaw::ConnectionSpecific)),
        (b"te", b"trailers, gzip", Some(Flaw::ConnectionSpecific)),
        (b"te", b"trailers", None),
        (b":", b"a", Some(Flaw::UnknownPseudo)),
        (b":Path", b"/", Some(Flaw::UnknownPseudo)),
        (b":path", b"/a\nb", Some(Flaw::PseudoValue(Pseudo::Path))),
        (b":authority", b"a ", Some(Flaw::PseudoValue(Pseudo::Authority))),
        (b":protocol", b"websocket", None),
    ];
    for (name, value, wanted) in rows {
        assert_eq!(flaw(&[(name, value)]), wanted, "{}", String::from_utf8_lossy(name));
        assert_eq!(flaw(&[(name, value), (b"B", b"")]), wanted.or(Some(Flaw::Name)));
    }
    assert_eq!(flaw(&[(b":path", b"/"), (b":path", b"/")]), Some(Flaw::RepeatedPseudo));
    assert_eq!(flaw(&[(b"a", b"b"), (b":path", b"/")]), Some(Flaw::LatePseudo));
    assert_eq!(flaw(&[(b":path", b"/"), (b"a", b"b")]), None);
    assert_eq!(decoded(&[0x39 | 0x80]).unwrap().flaw(), Some(Flaw::ConnectionSpecific), "from the static table");
}

#[test]
fn a_flaw_comes_again_with_its_entry() {
    let (mut decoder, mut lines) = (Decoder::new(), FieldLines::new());
    for (name, value, wanted) in [
        (&b"a"[..], &b"\n"[..], Flaw::Value),
        (b"B", b"", Flaw::Name),
        (b"te", b"gzip", Flaw::ConnectionSpecific),
        (b":x", b"", Flaw::UnknownPseudo),
    ] {
        for block in [&literal(name, value)[..], &[0xBE]] {
            lines.clear(LIMIT);
            decoder.decode(block, &mut lines).unwrap();
            assert_eq!(lines.flaw(), Some(wanted));
        }
        // The name of an entry, with another value.
        lines.clear(LIMIT);
        decoder.decode(&[0x0F, 0x2F, 8, b't', b'r', b'a', b'i', b'l', b'e', b'r', b's'], &mut lines).unwrap();
        let by_name = matches!(wanted, Flaw::Name | Flaw::UnknownPseudo);
        assert_eq!(lines.flaw(), Some(wanted).filter(|_| by_name));
    }
}

#[test]
fn a_status_has_three_digits() {
    for (value, wanted) in
        [("200", Some(200)), ("999", Some(999)), ("099", None), ("20", None), ("2000", None), ("+20", None)]
    {
        assert_eq!(decoded(&literal(b":status", value.as_bytes())).unwrap().status(), wanted, "{value}");
    }
    assert!(decoded(&[0x88]).unwrap().has_pseudo());
    assert!(!decoded(&literal(b"a", b"b")).unwrap().has_pseudo());
    assert!(decoded(&literal(b":b", b"b")).unwrap().has_pseudo());
}

#[test]
fn what_is_above_the_limit_is_read_for_the_table_and_not_kept() {
    let (mut decoder, mut lines) = (Decoder::new(), FieldLines::new());
    lines.clear(100);
    let block = [literal(b"a", &[b'b'; 30]), literal(b"c", &[b'd'; 60]), literal(b"e", b"f")].concat();
    decoder.decode(&block, &mut lines).unwrap();
    assert!(lines.overflows());
    assert_eq!((lines.size(), lines.len()), (63 + 93 + 34, 1));
    lines.clear(100);
    decoder.decode(&[0xBE, 0xC0], &mut lines).unwrap();
    assert_eq!(text(&lines), [("e".into(), "f".into()), ("a".into(), "b".repeat(30))]);
    assert!(!lines.overflows());
    // A byte each for 4,000.
    lines.clear(LIMIT);
    decoder.decode(&literal(b"a", &[b'b'; 3_999]), &mut lines).unwrap();
    lines.clear(4_032);
    decoder.decode(&[0xBE; 4], &mut lines).unwrap();
    assert_eq!(lines.len(), 1);
    lines.clear(4_031);
    assert_eq!(decoder.decode(&[0xBE; 4], &mut lines), Err(HpackError::TooLarge));
}

#[test]
fn a_field_that_is_too_long_is_passed_over() {
    let long = |name: usize, value: usize| [literal(&vec![b'a'; name], &vec![b'b'; value]), vec![0x82]].concat();
    for (name, value) in [(1, 130_928), (130_928, 2), (130_928, 130_928)] {
        for size in [7, 10_000, 130_930, 130_933, 130_934, 130_935, 300_000] {
            let (mut decoder, mut lines) = (Decoder::new(), FieldLines::new());
            lines.clear_for(1000, usize::MAX);
            decoder.decode(&literal(b"c", b"d"), &mut lines).unwrap();
            lines.clear_for(1000, usize::MAX);
            for part in long(name, value).chunks(size) {
                decoder.decode_part(part, &mut lines).unwrap();
                assert!(decoder.held() <= 4 * TABLE, "in parts of {size}");
            }
            decoder.finish().unwrap();
            assert!(lines.overflows() && lines.len() == 0, "in parts of {size}");
            assert_eq!(decoder.decode(&[0xBE], &mut lines), Err(HpackError::Invalid), "the table is empty");
        }
    }
    let mut lines = FieldLines::new();
    lines.clear(1000);
    let parts = long(1, 130_928).chunks(9_000).try_for_each(|part| Decoder::new().decode_part(part, &mut lines));
    assert_eq!(parts, Err(HpackError::TooLarge));
    let (mut decoder, mut lines) = (Decoder::new(), FieldLines::new());
    lines.clear(1000);
    let endless = [&[0x40][..], &[0xFF; 100_000]].concat();
    assert_eq!(decoder.decode_part(&endless, &mut lines), Err(HpackError::Invalid));
}

/// What an encoder writes of fields that come a first, second and third time.
fn three_times(name: &[u8], value: &[u8]) -> [usize; 3] {
    let mut encoder = Encoder::new();
    [(); 3].map(|()| {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        encoder.field(name, value, &mut block);
        block.len()
    })
}

#[test]
fn what_changes_or_is_secret_is_never_indexed() {
    for name in
        ["date", "etag", "location", "Set-Cookie", "content-length", "authorization", "Cookie", "proxy-authorization"]
    {
        let [first, second, third] = three_times(name.as_bytes(), b"value");
        assert!(first == second && second == third && third > 6, "{name}");
    }
    assert_eq!(three_times(b"server", b"value")[2], 1);
    assert_eq!(three_times(b"x-server", b"value")[2], 1);
    assert_eq!(three_times(b"server", &[b'a'; 129])[2], 133);
    for name in ["authorization", "Cookie", "proxy-authorization"] {
        let mut encoder = Encoder::new();
        for _ in 0..3 {
            let mut block = Vec::new();
            encoder.field(name.as_bytes(), b"v", &mut block);
            assert!(decoded(&block).unwrap().iter().all(|field| field.never_indexed));
        }
    }
}

#[test]
fn sizes_of_the_table_are_told_the_least_and_the_last() {
    let begun = |sizes: &[usize]| {
        let (mut encoder, mut block) = (Encoder::new(), Vec::new());
        sizes.iter().for_each(|size| encoder.set_table(*size));
        encoder.begin(&mut block);
        encoder.begin(&mut block);
        block
    };
    assert!(begun(&[]).is_empty());
    assert!(begun(&[4096, 65_536]).is_empty());
    assert_eq!(begun(&[10]), [0x2A]);
    assert_eq!(begun(&[10, 0]), [0x20]);
    assert_eq!(begun(&[10, 0, 20]), [0x20, 0x34]);
    assert_eq!(begun(&[0, 65_536]), [0x20, 0x3F, 0xE1, 0x1F]);
}

#[test]
fn requests_and_statuses_are_written_as_others_read_them() {
    let (mut encoder, mut decoder) = (Encoder::new(), fluke_hpack::Decoder::new());
    for method in ["GET", "POST", "PATCH"] {
        for (scheme, path) in [("http", "/"), ("https", "/a"), ("coap", "*")] {
            let mut block = Vec::new();
            encoder.request(method, scheme, b"a:1", path.as_bytes(), &mut block);
            let read = decoder.decode(&block).unwrap();
            let wanted = [(":method", method), (":scheme", scheme), (":authority", "a:1"), (":path", path)];
            assert_eq!(read, wanted.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())));
        }
    }
    for status in 100..1000 {
        let mut block = Vec::new();
        encoder.status(status, &mut block);
        assert_eq!(decoder.decode(&block).unwrap(), [(b":status".to_vec(), status.to_string().into_bytes())]);
    }
}

/// What both other sides read of messages that an encoder writes one after the other.
fn check_written(messages: &[Vec<(String, String)>]) {
    let (mut encoder, mut ours, mut theirs) = (Encoder::new(), Decoder::new(), fluke_hpack::Decoder::new());
    for fields in messages {
        let mut block = Vec::new();
        fields.iter().for_each(|(name, value)| encoder.field(name.as_bytes(), value.as_bytes(), &mut block));
        let mut lines = FieldLines::new();
        lines.clear(LIMIT);
        ours.decode(&block, &mut lines).unwrap();
        assert_eq!(&text(&lines), fields);
        let read = theirs.decode(&block).unwrap();
        let wanted = fields.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes()));
        assert!(read.into_iter().eq(wanted));
    }
}

#[test]
fn a_full_table_is_the_same_on_both_sides() {
    let fields = |from: usize| (from..from + 60).map(|at| (format!("x-{}", at % 90), "v".repeat(100 + at % 20)));
    // Backwards too: then the oldest entries are named before others drive them out.
    let forth = |from: usize| fields(from).collect();
    let back = |from: usize| fields(from).rev().collect();
    check_written(&[
        forth(0),
        forth(0),
        back(0),
        forth(30),
        forth(30),
        back(30),
        back(30),
        forth(10),
        back(10),
        back(0),
    ]);
}

#[test]
fn names_of_one_place_are_not_taken_for_each_other() {
    let message = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let (first, second) = ("x1a1y", "x2a1y");
    check_written(&[
        message(first, "a"),
        message(first, "a"),
        message(first, "a"),
        message(second, "b"),
        message(second, "c"),
        message(second, "c"),
        message(first, "a"),
    ]);
}

#[test]
fn a_decoders_memory_is_bounded_by_its_table() {
    let (mut decoder, mut lines) = (Decoder::new(), FieldLines::new());
    for round in 0..2_000 {
        lines.clear(LIMIT);
        decoder.decode(&literal(format!("a{round}").as_bytes(), &[b'b'; 100]), &mut lines).unwrap();
        assert!(decoder.table().bytes() <= 2 * TABLE);
    }
}

#[test]
fn the_longest_lengths_are_read() {
    let value = vec![b'b'; (1 << 21) + 300];
    let mut lines = FieldLines::new();
    lines.clear(usize::MAX);
    Decoder::new().decode(&literal(b"a", &value), &mut lines).unwrap();
    assert_eq!(lines.size(), value.len() + 33);
}

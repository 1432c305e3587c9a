//! Blocks of RFC 7541's appendix C, and what the RFCs forbid.

use super::*;

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

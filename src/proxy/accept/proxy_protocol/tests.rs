use proptest::prelude::*;

use super::*;

fn header(bytes: &[u8]) -> Header {
    match parse(bytes) {
        Ok(Parsed::Header(header)) => header,
        other => panic!("not a header: {other:?} of {bytes:?}"),
    }
}

fn pair(bytes: &[u8]) -> (String, String) {
    let header = header(bytes);
    (header.source.unwrap().to_string(), header.destination.unwrap().to_string())
}

fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[command, family], &length, body].concat()
}

const V4_BODY: &[u8] = &[192, 0, 2, 1, 10, 0, 0, 9, 0xDC, 0x04, 0x01, 0xBB];

#[test]
fn a_version_1_line_tells_client_and_destination() {
    let bytes = b"PROXY TCP4 192.0.2.1 10.0.0.9 56324 443\r\nGET / HTTP/1.1\r\n";
    assert_eq!(pair(bytes), ("192.0.2.1:56324".into(), "10.0.0.9:443".into()));
    assert_eq!(&bytes[header(bytes).consumed..], b"GET / HTTP/1.1\r\n");
    let bytes = b"PROXY TCP6 2001:db8::1 ::ffff:10.0.0.9 0 65535\r\n";
    assert_eq!(pair(bytes), ("[2001:db8::1]:0".into(), "[::ffff:10.0.0.9]:65535".into()));
}

#[test]
fn the_longest_line_of_the_specification_is_read() {
    let full = "ffff:f...f:ffff".replace("f...f", "ffff:ffff:ffff:ffff:ffff:ffff");
    let line = format!("PROXY TCP6 {full} {full} 65535 65535\r\n");
    assert!(line.len() <= MAX_V1);
    assert_eq!(header(line.as_bytes()).consumed, line.len());
    let unknown = format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n");
    assert_eq!(unknown.len(), MAX_V1);
    assert_eq!(header(unknown.as_bytes()), Header { source: None, destination: None, consumed: MAX_V1 });
}

#[test]
fn an_unknown_client_has_no_address() {
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN what ever  1\r\n"] {
        assert_eq!(header(line.as_bytes()), Header { source: None, destination: None, consumed: line.len() });
    }
}

#[test]
fn a_malformed_line_is_refused_for_its_reason() {
    let cases: &[(&[u8], Invalid)] = &[
        (b"GET / HTTP/1.1\r\n", Invalid::Signature),
        (b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Invalid::Signature),
        (b" PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Invalid::Signature),
        (b"PROXY\r\n", Invalid::Signature),
        (b"PROXYTCP4 1.1.1.1 2.2.2.2 1 2\r\n", Invalid::Signature),
        (b"\x16\x03\x01\x02\x00", Invalid::Signature),
        (b"PROXY \r\n", Invalid::Family),
        (b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Invalid::Family),
        (b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", Invalid::Family),
        (b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", Invalid::Family),
        (b"PROXY UNKNOWNX\r\n", Invalid::Family),
        (b"PROXY TCP4\r\n", Invalid::Fields),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", Invalid::Fields),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", Invalid::Fields),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", Invalid::Fields),
        (b"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n", Invalid::Fields),
        (b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n", Invalid::Address),
        (b"PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n", Invalid::Address),
        (b"PROXY TCP4 ::1 2.2.2.2 1 2\r\n", Invalid::Address),
        (b"PROXY TCP6 1.1.1.1 ::2 1 2\r\n", Invalid::Address),
        (b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n", Invalid::Address),
        (b"PROXY TCP6 [::1] ::2 1 2\r\n", Invalid::Address),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n", Invalid::Port),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", Invalid::Port),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n", Invalid::Port),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 080 2\r\n", Invalid::Port),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 0x1 2\r\n", Invalid::Port),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", Invalid::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rX", Invalid::Line),
        (b"PROXY TCP4\t1.1.1.1 2.2.2.2 1 2\r\n", Invalid::Line),
        (b"PROXY TCP4 1.1.1.1\x00 2.2.2.2 1 2\r\n", Invalid::Line),
        ("PROXY UNKNOWN \u{e9}\r\n".as_bytes(), Invalid::Line),
    ];
    for (bytes, why) in cases {
        assert_eq!(parse(bytes), Err(*why), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_line_without_end_is_refused_at_its_bound() {
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 4096]].concat();
    assert_eq!(parse(&endless[..MAX_V1 - 1]), Ok(Parsed::Incomplete));
    for length in [MAX_V1, MAX_V1 + 1, endless.len()] {
        assert_eq!(parse(&endless[..length]), Err(Invalid::TooLong));
    }
    let mut late = endless[..MAX_V1 - 1].to_vec();
    late.extend(b"\r\n");
    assert_eq!(parse(&late), Err(Invalid::TooLong), "one byte too long");
    assert_eq!(parse(&late[..MAX_V1]), Err(Invalid::TooLong));
}

#[test]
fn a_version_2_header_tells_client_and_destination() {
    let mut bytes = binary(0x21, 0x11, V4_BODY);
    bytes.extend(b"\x16\x03\x01");
    assert_eq!(pair(&bytes), ("192.0.2.1:56324".into(), "10.0.0.9:443".into()));
    assert_eq!(header(&bytes).consumed, 28);
    assert_eq!(pair(&binary(0x21, 0x12, V4_BODY)).0, "192.0.2.1:56324");
    let (a, b): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "::9".parse().unwrap());
    let body = [a.octets().as_slice(), &b.octets(), &[0, 1, 0xFF, 0xFF]].concat();
    assert_eq!(pair(&binary(0x21, 0x21, &body)), ("[2001:db8::1]:1".into(), "[::9]:65535".into()));
}

#[test]
fn tlvs_are_skipped_whatever_they_hold() {
    let body = [V4_BODY, &[0x03, 0, 4, 1, 2, 3, 4, 0xEA, 0xFF]].concat();
    let bytes = binary(0x21, 0x11, &body);
    assert_eq!(pair(&bytes).0, "192.0.2.1:56324");
    assert_eq!(header(&bytes).consumed, bytes.len());
}

#[test]
fn local_and_unspecified_and_unix_have_no_address() {
    let cases = [
        binary(0x20, 0x00, &[]),
        binary(0x20, 0x11, V4_BODY),
        binary(0x20, 0xFF, b"whatever"),
        binary(0x21, 0x00, b"tlvs"),
        binary(0x21, 0x31, &[0; 216]),
    ];
    for bytes in cases {
        assert_eq!(header(&bytes), Header { source: None, destination: None, consumed: bytes.len() });
    }
}

#[test]
fn a_malformed_version_2_header_is_refused_for_its_reason() {
    let cases = [
        (binary(0x11, 0x11, V4_BODY), Invalid::Command),
        (binary(0x22, 0x11, V4_BODY), Invalid::Command),
        (binary(0x31, 0x11, V4_BODY), Invalid::Command),
        (binary(0x00, 0x00, &[]), Invalid::Command),
        (binary(0x21, 0x11, &V4_BODY[..11]), Invalid::Short),
        (binary(0x21, 0x11, &[]), Invalid::Short),
        (binary(0x21, 0x21, &[0; 35]), Invalid::Short),
        (binary(0x21, 0x31, &[0; 215]), Invalid::Short),
        (binary(0x21, 0x41, &[0; 216]), Invalid::Family),
        (binary(0x21, 0x10, V4_BODY), Invalid::Family),
        (binary(0x21, 0x13, V4_BODY), Invalid::Family),
        (binary(0x21, 0x01, V4_BODY), Invalid::Family),
        (binary(0x21, 0x11, &[0; 2049]), Invalid::TooLong),
        (binary(0x20, 0x00, &[0; 65_535]), Invalid::TooLong),
    ];
    for (bytes, why) in cases {
        assert_eq!(parse(&bytes), Err(why), "{:?}", &bytes[..bytes.len().min(32)]);
    }
    assert_eq!(header(&binary(0x21, 0x11, &[V4_BODY, &[0; 2036]].concat())).consumed, MAX_V2);
}

#[test]
fn too_long_is_known_from_the_length_alone() {
    let bytes = binary(0x21, 0x11, &[0; 60_000]);
    assert_eq!(parse(&bytes[..16]), Err(Invalid::TooLong));
    assert_eq!(parse(&bytes[..15]), Ok(Parsed::Incomplete));
}

fn line() -> impl Strategy<Value = (Vec<u8>, Option<SocketAddr>)> {
    let v4 = (any::<Ipv4Addr>(), any::<Ipv4Addr>(), any::<u16>(), any::<u16>()).prop_map(|(a, b, p, q)| {
        (format!("PROXY TCP4 {a} {b} {p} {q}\r\n").into_bytes(), Some(SocketAddr::from((a, p))))
    });
    let v6 = (any::<Ipv6Addr>(), any::<Ipv6Addr>(), any::<u16>(), any::<u16>()).prop_map(|(a, b, p, q)| {
        (format!("PROXY TCP6 {a} {b} {p} {q}\r\n").into_bytes(), Some(SocketAddr::from((a, p))))
    });
    let unknown = "[ -~]{0,91}".prop_map(|rest| (format!("PROXY UNKNOWN {rest}\r\n").into_bytes(), None));
    prop_oneof![v4, v6, unknown]
}

fn block() -> impl Strategy<Value = (Vec<u8>, Option<SocketAddr>)> {
    let tlvs = || prop::collection::vec(any::<u8>(), 0..200);
    let v4 = (any::<[u8; 12]>(), tlvs()).prop_map(|(body, tlvs)| {
        let [a, b, c, d, .., p, q, _, _] = body;
        let source = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([p, q])));
        (binary(0x21, 0x11, &[&body, tlvs.as_slice()].concat()), Some(source))
    });
    let v6 = (any::<Ipv6Addr>(), any::<[u8; 16]>(), any::<u16>(), tlvs()).prop_map(|(a, b, p, tlvs)| {
        let body = [a.octets().as_slice(), &b, &p.to_be_bytes(), &[0, 80], &tlvs].concat();
        (binary(0x21, 0x21, &body), Some(SocketAddr::from((a, p))))
    });
    let local = (any::<u8>(), tlvs()).prop_map(|(family, body)| (binary(0x20, family, &body), None));
    prop_oneof![v4, v6, local]
}

proptest! {
    #[test]
    fn a_header_is_read_whatever_follows_and_each_prefix_is_incomplete(
        (bytes, source) in prop_oneof![line(), block()],
        client in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        for end in 0..bytes.len() {
            prop_assert_eq!(parse(&bytes[..end]), Ok(Parsed::Incomplete), "prefix of {} bytes", end);
        }
        let read = header(&[bytes.as_slice(), &client].concat());
        prop_assert_eq!(read.source, source);
        prop_assert_eq!(read.consumed, bytes.len());
    }

    #[test]
    fn no_bytes_panic_and_none_stay_incomplete(
        start in prop::sample::select(vec![&b""[..], V1_SIGNATURE, V2_SIGNATURE, b"PROXY TCP4 ", b"PROXY TCP6 1"]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
        filler in any::<u8>(),
    ) {
        let mut bytes = [start, rest.as_slice()].concat();
        if let Ok(Parsed::Header(header)) = parse(&bytes) {
            prop_assert!(header.consumed <= bytes.len() && header.source.is_some() == header.destination.is_some());
        }
        bytes.resize(MAX_V1.max(MAX_V2), filler);
        prop_assert_ne!(parse(&bytes), Ok(Parsed::Incomplete));
    }

    #[test]
    fn damage_to_a_header_does_not_panic((mut bytes, _) in prop_oneof![line(), block()], at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = parse(&bytes);
    }
}

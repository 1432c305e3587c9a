use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, Broken> {
    let mut list = List::new(usize::MAX);
    decoder.decode(block, &mut list).map(|()| list.fields)
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    decoded(decoder, block).unwrap().iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// RFC 7541 appendix C.3 and C.4: three requests, plain and by Huffman's code.
#[test]
fn the_rfcs_requests_are_read() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let host = pair(":authority", "www.example.com");
    let wanted = [
        vec![pair(":method", "GET"), pair(":scheme", "http"), pair(":path", "/"), host.clone()],
        vec![
            pair(":method", "GET"),
            pair(":scheme", "http"),
            pair(":path", "/"),
            host.clone(),
            pair("cache-control", "no-cache"),
        ],
        vec![
            pair(":method", "GET"),
            pair(":scheme", "https"),
            pair(":path", "/index.html"),
            host,
            pair("custom-key", "custom-value"),
        ],
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::default();
        for (block, wanted) in blocks.iter().zip(&wanted) {
            assert_eq!(&read(&mut decoder, &hex(block)), wanted);
        }
        assert_eq!((decoder.entries.len(), decoder.size), (3, 164));
    }
}

/// RFC 7541 appendix C.5, whose table has 256 bytes: entries leave it.
#[test]
fn entries_leave_a_full_table() {
    let mut decoder = Decoder::default();
    decoded(&mut decoder, &hex("3fe101")).unwrap();
    let first = "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a \
                 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d";
    decoded(&mut decoder, &hex(first)).unwrap();
    assert_eq!((decoder.entries.len(), decoder.size), (4, 222));
    let second = read(&mut decoder, &hex("4803 3330 37c1 c0bf"));
    assert_eq!(second[0], (":status".to_owned(), "307".to_owned()));
    assert_eq!(second[3], ("location".to_owned(), "https://www.example.com".to_owned()));
    assert_eq!((decoder.entries.len(), decoder.size), (4, 222), "302 has left");
}

#[test]
fn what_is_no_block_is_broken() {
    for block in [
        &[0x80][..],
        &[0xBE],
        &[0x82, 0x20],
        &[0x3F, 0xE2, 0x1F],
        &[0x00, 3, b'a'],
        &[0x00, 0x81, 0x00, 0],
        &[0xFF, 0x80, 0x80, 0x80, 0x80, 0x80],
    ] {
        assert_eq!(decoded(&mut Decoder::default(), block), Err(Broken), "{block:x?}");
    }
    assert!(decoded(&mut Decoder::default(), &[0x3F, 0xE1, 0x1F, 0x82]).is_ok(), "4096 is allowed");
}

#[test]
fn what_is_above_the_limit_is_read_and_not_kept() {
    let bomb = [&[0x40, 1, b'a', 0x7F, 0xA1, 0x1E][..], &[b'b'; 4000], &[0xBE; 100]].concat();
    let (mut decoder, mut list) = (Decoder::default(), List::new(10_000));
    decoder.decode(&bomb, &mut list).unwrap();
    assert_eq!((list.fields.len(), list.is_over(), list.room()), (2, true, 0));
    assert_eq!(read(&mut decoder, &[0xBE])[0].1.len(), 4000, "the table is kept");
}

#[test]
fn a_field_that_is_too_long_is_passed_over() {
    let long = [&[0x40, 1, b'a', 0x7F, 0xF1, 0xFD, 0x07][..], &[b'b'; 130_928], &[0x82]].concat();
    let (mut decoder, mut list, mut parts) = (Decoder::default(), List::new(1000), Parts::default());
    decoded(&mut decoder, &[0x40, 1, b'c', 1, b'd']).unwrap();
    for part in long.chunks(10_000) {
        assert!(!parts.is_whole() || list.size == 0);
        decoder.decode_part(part, &mut parts, &mut list).unwrap();
        assert!(parts.rest.len() <= SKIPPED);
    }
    assert!(parts.is_whole() && list.is_over() && list.fields.is_empty());
    assert_eq!(decoded(&mut decoder, &[0xBE]), Err(Broken), "the table is empty");
    let name = [&[0x40, 0x7F, 0xF1, 0xFD, 0x07][..], &[b'a'; 130_928], &[2, b'b', b'c', 0x82]].concat();
    for size in [7, 130_930, 130_933, 130_934, 130_935, name.len()] {
        let (mut decoder, mut list, mut parts) = (Decoder::default(), List::new(1000), Parts::default());
        for part in name.chunks(size) {
            decoder.decode_part(part, &mut parts, &mut list).unwrap();
            assert!(parts.rest.len() <= SKIPPED);
        }
        assert!(parts.is_whole() && list.is_over(), "in parts of {size}");
    }
    let endless = [&[0x40][..], &[0xFF; 100_000]].concat();
    let (mut list, mut parts) = (List::new(1000), Parts::default());
    assert_eq!(Decoder::default().decode_part(&endless, &mut parts, &mut list), Err(Broken));
}

proptest! {
    /// Whatever a sender indexes, a block that names it reads as one that spells it out.
    #[test]
    fn indexed_or_not_it_is_the_same(
        fields in vec((vec(any::<u8>(), 1..40), vec(any::<u8>(), 0..200), any::<bool>(), any::<bool>()), 0..60),
    ) {
        let (mut table, mut size_now) = (VecDeque::<(Vec<u8>, Vec<u8>)>::new(), 0);
        let mut decoder = Decoder::default();
        for (name, value, indexed, again) in fields {
            let mut block = Vec::new();
            write(&name, &value, &mut block);
            if indexed {
                block[0] = 0x40;
                size_now += name.len() + value.len() + OVERHEAD;
                table.push_front((name.clone(), value.clone()));
                while size_now > TABLE {
                    let (name, value) = table.pop_back().unwrap();
                    size_now -= name.len() + value.len() + OVERHEAD;
                }
            }
            let mut wanted = vec![(Bytes::from(name), Bytes::from(value))];
            if again && table.len() < 60 && let Some((name, value)) = table.back() {
                block.push(0x80 | u8::try_from(61 + table.len()).unwrap());
                wanted.push((name.clone().into(), value.clone().into()));
            }
            prop_assert_eq!(decoded(&mut decoder, &block), Ok(wanted));
        }
    }

    #[test]
    fn no_bytes_are_too_odd(block in vec(any::<u8>(), 0..300)) {
        let _ = decoded(&mut Decoder::default(), &block);
    }

    /// However a block is cut, it reads as the whole.
    #[test]
    fn in_parts_it_is_the_same(block in vec(0_u8..0x60, 0..120), cuts in vec(0..120_usize, 0..4)) {
        let (mut whole, mut list) = (Decoder::default(), List::new(500));
        let read = whole.decode(&block, &mut list);
        let (mut decoder, mut parted, mut parts) = (Decoder::default(), List::new(500), Parts::default());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(block.len())).chain([0, block.len()]).collect();
        cuts.sort_unstable();
        let read_parts = cuts
            .windows(2)
            .try_for_each(|cut| decoder.decode_part(&block[cut[0]..cut[1]], &mut parts, &mut parted))
            .and_then(|()| if parts.is_whole() { Ok(()) } else { Err(Broken) });
        prop_assert_eq!(read, read_parts);
        if read.is_ok() {
            prop_assert_eq!((list.fields, list.size), (parted.fields, parted.size));
            prop_assert_eq!((whole.entries, whole.size, whole.max), (decoder.entries, decoder.size, decoder.max));
        }
    }
}

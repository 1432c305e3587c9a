//! Ours and two other codecs understand each other, whatever the fields, the sizes of the table and the cuts.

use fluke_hpack as fluke;
use httlib_hpack as httlib;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::table::TABLE;
use super::super::{Decoder, Encoder, FieldLines};

type Field = (Vec<u8>, Vec<u8>);

/// A block: sizes that the table gets before it, and fields.
type Block = (Vec<usize>, Vec<Field>);

const FROM_THE_STATIC_TABLE: [&str; 8] =
    ["accept-encoding", "cache-control", "content-type", "cookie", "date", "server", "set-cookie", "www-authenticate"];

fn name() -> impl Strategy<Value = Vec<u8>> {
    let known = select(&FROM_THE_STATIC_TABLE[..]).prop_map(|name| name.as_bytes().to_vec());
    prop_oneof![known, "[a-d]{1,2}".prop_map(String::into_bytes), "[a-z0-9_-]{1,40}".prop_map(String::into_bytes)]
}

/// Few short ones, so that some come again; and of any bytes.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => "[a-c]{0,2}".prop_map(String::into_bytes),
        2 => "[ -~]{0,150}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..60),
        1 => vec(any::<u8>(), 3_900..4_200),
    ]
}

fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let sizes = prop_oneof![3 => Just(Vec::new()), 1 => vec(0..=TABLE, 1..4)];
    vec((sizes, vec((name(), value()), 1..12)), 1..8)
}

fn fields(lines: &FieldLines) -> Vec<Field> {
    lines.iter().map(|field| (field.name.as_bytes().to_vec(), field.value.to_vec())).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Vec<Field> {
    let mut lines = FieldLines::new();
    lines.clear(usize::MAX);
    decoder.decode(block, &mut lines).unwrap();
    fields(&lines)
}

/// The same in pieces.
fn decoded_in_parts(decoder: &mut Decoder, block: &[u8], cuts: &[usize]) -> Vec<Field> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (block.len() + 1)).chain([0, block.len()]).collect();
    cuts.sort_unstable();
    let mut lines = FieldLines::new();
    lines.clear(usize::MAX);
    for cut in cuts.windows(2) {
        decoder.decode_part(&block[cut[0]..cut[1]], &mut lines).unwrap();
    }
    decoder.finish().unwrap();
    fields(&lines)
}

/// Our encoder's blocks.
fn encoded(encoder: &mut Encoder, (sizes, fields): &Block) -> Vec<u8> {
    let mut block = Vec::new();
    sizes.iter().for_each(|size| encoder.set_table(*size));
    encoder.begin(&mut block);
    fields.iter().for_each(|(name, value)| encoder.field(name, value, &mut block));
    block
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_httlib_writes_we_read(
        blocks in blocks(),
        flags in vec(0_u8..0x20, 1..20),
        cuts in vec(any::<usize>(), 0..6),
    ) {
        let mut encoder = httlib::Encoder::with_dynamic_size(u32::try_from(TABLE).unwrap());
        let (mut whole, mut parts) = (Decoder::new(), Decoder::new());
        let mut flags = flags.into_iter().cycle();
        for (sizes, fields) in blocks {
            let mut block = Vec::new();
            for size in sizes {
                encoder.update_max_dynamic_size(u32::try_from(size).unwrap(), &mut block).unwrap();
            }
            for (name, value) in &fields {
                encoder.encode((name.clone(), value.clone(), flags.next().unwrap()), &mut block).unwrap();
            }
            prop_assert_eq!(&decoded(&mut whole, &block), &fields);
            prop_assert_eq!(&decoded_in_parts(&mut parts, &block, &cuts), &fields);
        }
    }

    #[test]
    fn what_fluke_writes_we_read(blocks in blocks(), cuts in vec(any::<usize>(), 0..6)) {
        let mut encoder = fluke::Encoder::new();
        let (mut whole, mut parts) = (Decoder::new(), Decoder::new());
        for (sizes, fields) in blocks {
            let mut block = Vec::new();
            for size in sizes {
                encoder.set_max_table_size(size);
                fluke::encoder::encode_integer_into(size, 5, 0x20, &mut block).unwrap();
            }
            encoder.encode_into(fields.iter().map(|(name, value)| (&name[..], &value[..])), &mut block).unwrap();
            prop_assert_eq!(&decoded(&mut whole, &block), &fields);
            prop_assert_eq!(&decoded_in_parts(&mut parts, &block, &cuts), &fields);
        }
    }

    #[test]
    fn what_we_write_all_read(blocks in blocks()) {
        let mut encoder = Encoder::new();
        let mut ours = Decoder::new();
        let mut httlib = httlib::Decoder::with_dynamic_size(u32::try_from(TABLE).unwrap());
        let mut fluke = fluke::Decoder::new();
        for block in &blocks {
            let text = encoded(&mut encoder, block);
            prop_assert_eq!(&decoded(&mut ours, &text), &block.1);
            let mut read = Vec::new();
            httlib.decode(&mut text.clone(), &mut read).unwrap();
            let read: Vec<Field> = read.into_iter().map(|(name, value, _)| (name, value)).collect();
            prop_assert_eq!(&read, &block.1);
            prop_assert_eq!(&fluke.decode(&text).unwrap(), &block.1);
        }
    }

    /// Blocks of any bytes that both take mean the same. The other crate panics at some.
    #[test]
    fn any_bytes_mean_the_same(block in vec(prop_oneof![0_u8..0x60, any::<u8>()], 0..60)) {
        let mut lines = FieldLines::new();
        lines.clear(usize::MAX);
        let ours = Decoder::new().decode(&block, &mut lines);
        if let (Ok(()), Ok(theirs)) = (ours, fluke::Decoder::new().decode(&block)) {
            let is_regular = |(name, _): &Field| !name.starts_with(b":") && name.is_ascii();
            let theirs: Vec<Field> = theirs.into_iter().filter(is_regular).collect();
            let ours: Vec<Field> = fields(&lines).into_iter().filter(is_regular).filter(|(name, _)| !name.is_empty()).collect();
            prop_assert_eq!(ours, theirs.into_iter().filter(|(name, _)| !name.is_empty()).collect::<Vec<_>>());
        }
    }

    /// However a block is cut, it means what it means as a whole, errors and limits too.
    #[test]
    fn in_parts_it_is_the_same(block in vec(prop_oneof![0_u8..0x60, any::<u8>()], 0..120), cuts in vec(0..120_usize, 0..4)) {
        let (mut whole, mut lines) = (Decoder::new(), FieldLines::new());
        lines.clear_for(500, usize::MAX);
        let read = whole.decode(&block, &mut lines);
        let (mut decoder, mut parted) = (Decoder::new(), FieldLines::new());
        parted.clear_for(500, usize::MAX);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(block.len())).chain([0, block.len()]).collect();
        cuts.sort_unstable();
        let read_parts = cuts
            .windows(2)
            .try_for_each(|cut| decoder.decode_part(&block[cut[0]..cut[1]], &mut parted))
            .and_then(|()| decoder.finish());
        prop_assert_eq!(read, read_parts);
        if read.is_ok() {
            prop_assert_eq!((lines.size(), lines.flaw()), (parted.size(), parted.flaw()));
            prop_assert_eq!(&lines.text, &parted.text);
            prop_assert_eq!(fields(&lines), fields(&parted));
            // The tables are the same too.
            for index in 62..80 {
                lines.clear(usize::MAX);
                parted.clear(usize::MAX);
                let named = whole.decode(&[0x80 | index], &mut lines);
                prop_assert_eq!(named, decoder.decode(&[0x80 | index], &mut parted));
                prop_assert_eq!(fields(&lines), fields(&parted));
            }
        }
    }
}

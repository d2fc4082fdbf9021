//! Tests of `snappy.rs`. What holds for every codec is tested in `codec_tests.rs`.

use super::*;
use crate::Codec;
use crate::limits::MIB;
use proptest::prelude::*;

fn framed(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress(input, &mut out).expect("a working encoder");
    out
}

fn bare(input: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(input).expect("a working encoder")
}

/// A framing with these blocks, whatever they are.
fn framing(blocks: &[&[u8]]) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    for block in blocks {
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(block);
    }
    out
}

fn is_damaged(input: &[u8]) -> bool {
    matches!(decompress(input, 1000), Err(CodecError::Damaged { codec: Codec::Snappy, .. }))
}

#[test]
fn the_framing_is_xerials() {
    let short = framed(b"wikiwikiwikiwikiwikiwiki");
    assert_eq!(short[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    assert_eq!(short[16..20], (short.len() as u32 - 20).to_be_bytes());
    assert_eq!(short[20], 24, "the block says what it decompresses to");
    let long = framed(&vec![0; 2 * BLOCK_BYTES + 1]);
    let first = u32::from_be_bytes(long[16..20].try_into().expect("four bytes")) as usize;
    assert_eq!(snap::raw::decompress_len(&long[20..20 + first]), Ok(BLOCK_BYTES));
    assert_eq!(decompress(&long, MIB).expect("own bytes").len(), 2 * BLOCK_BYTES + 1);
    assert_eq!(framed(b""), HEADER, "no blocks");
}

#[test]
fn both_versions_are_passed_over() {
    let mut little_endian = framed(b"records");
    little_endian[8..16].copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(decompress(&little_endian, 100).expect("as other readers"), b"records");
}

#[test]
fn blocks_of_any_size_are_read() {
    let blocks = [bare(b"one"), bare(b""), bare(&vec![b'x'; 100_000])];
    let all = framing(&[&blocks[0], &blocks[1], &blocks[2]]);
    let expected = [&b"one"[..], &vec![b'x'; 100_000]].concat();
    assert_eq!(decompress(&all, MIB).expect("whole blocks"), expected);
    let max = expected.len() - 1;
    assert_eq!(decompress(&all, max), Err(CodecError::TooLarge { codec: Codec::Snappy, max }));
}

#[test]
fn what_is_cut_is_damaged() {
    for whole in [bare(b"some records, some records, some records"), framed(b"some records, some records")] {
        for end in 0..whole.len() {
            // The framing has no end mark: cut behind its header it is whole, without a block.
            assert!(is_damaged(&whole[..end]) || whole[..end] == HEADER, "cut at {end} of {}", whole.len());
        }
        assert!(is_damaged(&[&whole[..], &[0]].concat()), "one byte more");
    }
    assert!(is_damaged(&framing(&[b""])), "a block of no bytes");
    assert!(is_damaged(&framing(&[&framed(b"x")])), "a framing in a framing");
}

/// Ten bytes that say they hold 4 GiB, or as much as is allowed: answered before memory is taken for it.
#[test]
fn a_claim_beyond_what_a_block_can_hold_is_refused() {
    for says in [&[0x80, 0x80, 0x80, 0x01][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
        let lie = [says, &[0, b'x', 0, b'x', 0]].concat();
        for input in [lie.clone(), framing(&[&lie])] {
            let error = decompress(&input, usize::MAX).expect_err("a lie");
            assert!(error.to_string().contains("more than it can"), "{error}");
        }
    }
}

/// The densest block there is: one byte, then copies of 64 bytes.
#[test]
fn the_densest_block_is_read_to_its_bound() {
    let copies = 3000;
    let holds = 1 + 64 * copies;
    let mut block = vec![(holds & 0x7f) as u8 | 0x80, (holds >> 7 & 0x7f) as u8 | 0x80, (holds >> 14) as u8, 0, b'x'];
    for _ in 0..copies {
        block.extend_from_slice(&[63 << 2 | 2, 1, 0]);
    }
    assert!(holds <= block_bytes_max(block.len()) && holds + 200 > block_bytes_max(block.len()));
    assert_eq!(decompress(&block, holds).expect("within the bound"), vec![b'x'; holds]);
    let too_large = |max| Err(CodecError::TooLarge { codec: Codec::Snappy, max });
    assert_eq!(decompress(&block, holds - 1), too_large(holds - 1));
    assert_eq!(decompress(&framing(&[&block, &block]), 2 * holds - 1), too_large(2 * holds - 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_bare_block_is_read_as_well(input in proptest::collection::vec(0u8..4, 0..2000)) {
        prop_assert_eq!(&decompress(&bare(&input), input.len()).expect("a whole block"), &input);
        prop_assert_eq!(&decompress(&framed(&input), input.len()).expect("own bytes"), &input);
        prop_assert!(!bare(&input).starts_with(&MARK));
    }

    /// Blocks whose claim is right in size but whose elements are anything.
    #[test]
    fn any_block_is_answered(
        says in 0usize..400,
        elements in proptest::collection::vec(any::<u8>(), 0..200),
        in_framing in any::<bool>(),
    ) {
        let mut block = vec![(says & 0x7f) as u8 | 0x80, (says >> 7) as u8];
        block.extend_from_slice(&elements);
        let input = if in_framing { framing(&[&block]) } else { block };
        if let Ok(output) = decompress(&input, 400) {
            prop_assert_eq!(output.len(), says);
        }
    }
}

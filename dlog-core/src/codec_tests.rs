//! Tests of `codec.rs`.

use super::*;
use crate::limits::{DECOMPRESSED_BYTES_MAX, DECOMPRESSION_FREE_BYTES, MIB, decompressed_bytes_max};
use proptest::prelude::*;

/// All that compress.
const COMPRESSING: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn compress(codec: Codec, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    codec.compress(input, &mut out).expect("a working codec");
    out
}

#[test]
fn numbers_and_names_are_kafkas() {
    let listed: Vec<_> = Codec::ALL.iter().map(|codec| (codec.number(), codec.name())).collect();
    assert_eq!(listed, [(0, "none"), (1, "gzip"), (2, "snappy"), (3, "lz4"), (4, "zstd")]);
    for codec in Codec::ALL {
        assert_eq!(Codec::from_number(codec.number()), Some(codec));
        assert_eq!(codec.name().parse(), Ok(codec));
    }
    assert_eq!(Codec::from_number(5), None);
    assert!("LZ4".parse::<Codec>().expect_err("names are small").to_string().contains("use none, gzip"));
}

#[test]
fn compression_appends() {
    for codec in Codec::ALL {
        let mut out = b"before".to_vec();
        codec.compress(b"the records", &mut out).expect("a working codec");
        assert_eq!(&out[..6], b"before");
        assert_eq!(codec.decompress(&out[6..], 100).expect("own bytes"), b"the records");
    }
}

/// Kafka's frame: version 1, independent blocks, no checksums, no content size; blocks of 64 KiB; an end mark.
#[test]
fn the_lz4_frame_is_as_kafka_writes_it() {
    let frame = compress(Codec::Lz4, &[7; 100_000]);
    assert_eq!(frame[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    assert_eq!(frame[frame.len() - 4..], [0; 4]);
}

#[test]
fn an_lz4_frame_needs_its_magic_and_its_end() {
    let frame = compress(Codec::Lz4, b"some records");
    let damaged = |bytes: &[u8]| matches!(Codec::Lz4.decompress(bytes, 100), Err(CodecError::Damaged { .. }));
    for end in 0..frame.len() {
        assert!(damaged(&frame[..end]), "cut at {end}");
    }
    assert!(damaged(&[&frame[..], &[0]].concat()), "one byte more");
    assert!(damaged(&[&frame[..], &frame[..]].concat()), "two frames");
    let legacy = [0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0];
    assert!(damaged(&legacy));
}

/// One member, as every client writes it: no name, no time, and nothing behind its checksum and length.
#[test]
fn a_gzip_member_needs_its_checksum_and_its_end() {
    let member = compress(Codec::Gzip, b"some records");
    assert_eq!(member[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    let damaged = |bytes: &[u8]| matches!(Codec::Gzip.decompress(bytes, 100), Err(CodecError::Damaged { .. }));
    for end in 0..member.len() {
        assert!(damaged(&member[..end]), "cut at {end}");
    }
    assert!(damaged(&[&member[..], &[0]].concat()), "one byte more");
    assert!(damaged(&[&member[..], &member[..]].concat()), "two members");
    for checked in member.len() - 8..member.len() {
        let mut changed = member.clone();
        changed[checked] ^= 1;
        assert!(damaged(&changed), "byte {checked}");
    }
}

/// A header may carry a name, a comment and more; none of it is kept.
#[test]
fn a_gzip_header_with_everything_is_read() {
    let mut encoder = flate2::GzBuilder::new()
        .filename("records")
        .comment("of a client")
        .extra(vec![7; 300])
        .mtime(1_700_000_000)
        .write(Vec::new(), flate2::Compression::best());
    encoder.write_all(b"some records").expect("into memory");
    let member = encoder.finish().expect("into memory");
    assert_eq!(Codec::Gzip.decompress(&member, 100), Ok(b"some records".to_vec()));
}

#[test]
fn a_zstd_frame_ends_where_the_input_ends() {
    let frame = compress(Codec::Zstd, b"some records");
    let damaged = |bytes: &[u8]| matches!(Codec::Zstd.decompress(bytes, 100), Err(CodecError::Damaged { .. }));
    for end in 1..frame.len() {
        assert!(damaged(&frame[..end]), "cut at {end}");
    }
    assert!(damaged(&[&frame[..], &[0]].concat()));
    assert!(damaged(&[&frame[..], &frame[..]].concat()));
}

/// A frame that asks for a window of 128 MiB in nine bytes.
#[test]
fn a_huge_zstd_window_is_refused() {
    let header = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x01, 0x00, 0x00];
    let error = Codec::Zstd.decompress(&header, 100).expect_err("too large a window");
    assert!(matches!(error, CodecError::Damaged { .. }), "{error}");
    let allowed = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (ZSTD_WINDOW_LOG_MAX as u8 - 10) << 3, 0x01, 0x00, 0x00];
    assert_eq!(Codec::Zstd.decompress(&allowed, 100), Ok(Vec::new()));
}

#[test]
fn bombs_stop_at_the_bound() {
    let zeros = vec![0; DECOMPRESSION_FREE_BYTES + MIB];
    for codec in COMPRESSING {
        let bomb = compress(codec, &zeros);
        let max = 3 * MIB;
        assert_eq!(codec.decompress(&bomb, max), Err(CodecError::TooLarge { codec, max }));
        assert_eq!(codec.decompress(&bomb, zeros.len()).expect("within the bound").len(), zeros.len());
    }
    let bomb = compress(Codec::Zstd, &zeros);
    assert_eq!(decompressed_bytes_max(bomb.len()), DECOMPRESSION_FREE_BYTES);
    assert_eq!(decompressed_bytes_max(MIB), DECOMPRESSED_BYTES_MAX);
    assert_eq!(decompressed_bytes_max(usize::MAX), DECOMPRESSED_BYTES_MAX);
}

/// Output without end, in pieces of any size: no more is read than the bound and one chunk.
#[test]
fn endless_output_is_read_only_to_the_bound() {
    struct Endless {
        piece: usize,
        given: usize,
    }
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let bytes = buffer.len().min(self.piece);
            self.given += bytes;
            Ok(bytes)
        }
    }
    for (piece, max) in [(1, 1000), (1000, 0), (CHUNK_BYTES, MIB), (usize::MAX, MIB + 1)] {
        let mut endless = Endless { piece, given: 0 };
        let result = Codec::Zstd.read_bounded(&mut endless, 10, max);
        assert_eq!(result, Err(CodecError::TooLarge { codec: Codec::Zstd, max }));
        assert!(endless.given <= max + CHUNK_BYTES, "{} bytes were read for a bound of {max}", endless.given);
    }
}

#[test]
fn memory_follows_the_output() {
    let input = vec![9; 5 * MIB + 17];
    for codec in COMPRESSING {
        let output = codec.decompress(&compress(codec, &input), 64 * MIB).expect("own bytes");
        assert_eq!(output.len(), input.len());
        assert!(output.capacity() <= 2 * input.len() + 2 * CHUNK_BYTES, "{} bytes held", output.capacity());
    }
}

/// Bytes with some repetition, as records have.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    (proptest::collection::vec(any::<u8>(), 0..300), 0usize..2000)
        .prop_map(|(piece, times)| piece.iter().copied().cycle().take(piece.len().min(1) * times * 50).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn round_trip(input in payload(), codec in proptest::sample::select(&Codec::ALL[..])) {
        let compressed = compress(codec, &input);
        prop_assert_eq!(&codec.decompress(&compressed, input.len()).expect("own bytes"), &input);
        if !input.is_empty() {
            let max = input.len() - 1;
            prop_assert_eq!(codec.decompress(&compressed, max), Err(CodecError::TooLarge { codec, max }));
        }
    }

    /// Damage gives an error or other bytes, within the bound; never a panic.
    #[test]
    fn any_damage_is_answered(
        input in payload(),
        codec in proptest::sample::select(&Codec::ALL[..]),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), 0u8..8), 1..4),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut bytes = compress(codec, &input);
        for (at, bit) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        let max = 2 * input.len() + 10;
        if let Ok(output) = codec.decompress(&bytes, max) {
            prop_assert!(output.len() <= max);
        }
    }

    /// So does any input at all, with the right magic number or without.
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let magics: [(Codec, &[u8]); 4] = [
            (Codec::Gzip, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]),
            (Codec::Snappy, b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0"),
            (Codec::Lz4, &LZ4_MAGIC),
            (Codec::Zstd, &[0x28, 0xb5, 0x2f, 0xfd]),
        ];
        for (codec, magic) in magics {
            for input in [bytes.clone(), [magic, &bytes[..]].concat()] {
                if let Ok(output) = codec.decompress(&input, 1000) {
                    prop_assert!(output.len() <= 1000);
                }
            }
        }
    }

    /// Well-formed lz4 headers of every kind (block sizes, linked blocks, checksums) before arbitrary blocks.
    #[test]
    fn any_lz4_frame_is_answered(
        size in 0usize..4,
        [linked, block_checksums, content_checksum] in any::<[bool; 3]>(),
        blocks in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..100)), 0..5),
    ) {
        use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
        let sizes = [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB];
        let info = FrameInfo::new()
            .block_size(sizes[size])
            .block_mode(if linked { BlockMode::Linked } else { BlockMode::Independent })
            .block_checksums(block_checksums)
            .content_checksum(content_checksum);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(b"the first block").expect("into memory");
        encoder.flush().expect("into memory");
        let mut frame = encoder.get_ref().clone();
        for (plain, bytes) in blocks {
            let length = bytes.len() as u32 | if plain { 1 << 31 } else { 0 };
            frame.extend_from_slice(&length.to_le_bytes());
            frame.extend_from_slice(&bytes);
        }
        frame.extend_from_slice(&[0; 4]);
        if let Ok(output) = Codec::Lz4.decompress(&frame, 10_000) {
            prop_assert!(output.starts_with(b"the first block"));
            prop_assert!(output.len() <= 10_000);
        }
    }
}

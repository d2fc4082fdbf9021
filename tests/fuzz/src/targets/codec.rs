//! The codecs of a batch's records, snappy's two framings among them. The first byte chooses the codec.

use crate::target::{Mend, Target};
use dlog_core::limits::{MIB, decompressed_bytes_max};
use dlog_core::{Codec, CodecError};

pub(super) const CODEC: Target = Target {
    name: "codec",
    seeds,
    // Gzip's and zstd's own checksums stand over what they decompress to: they can't be mended from outside.
    mend: Mend::Nothing,
    check,
    // 8 MiB of output while it doubles, lz4's window and the test's own copy.
    memory: 48 * MIB,
    runs: 9600,
};

fn seeds() -> Vec<Vec<u8>> {
    let mixed: Vec<u8> = (0..600u32).map(|i| (i * i / 7) as u8).collect();
    let texts = [b"".to_vec(), b"dlog".to_vec(), vec![b'a'; 3000], mixed];
    let mut seeds = Vec::new();
    for codec in Codec::ALL {
        for text in &texts {
            let mut seed = vec![codec.number()];
            codec.compress(text, &mut seed).expect("compresses");
            seeds.push(seed);
        }
    }
    // As librdkafka writes snappy: one bare block, here a literal of three bytes.
    seeds.push(vec![Codec::Snappy.number(), 3, 8, b'a', b'b', b'c']);
    seeds
}

fn check(input: &[u8]) -> bool {
    let Some((number, compressed)) = input.split_first() else { return false };
    let codec = Codec::ALL[usize::from(*number) % Codec::ALL.len()];
    let max = decompressed_bytes_max(compressed.len());
    let Ok(output) = codec.decompress(compressed, max) else { return false };
    assert!(output.len() <= max, "{codec}: {} bytes, {max} are allowed", output.len());
    assert_eq!(codec.decompress(compressed, output.len()).as_ref(), Ok(&output), "exactly enough room is enough");
    if !output.is_empty() {
        let bound = output.len() - 1;
        assert_eq!(codec.decompress(compressed, bound), Err(CodecError::TooLarge { codec, max: bound }));
    }
    let mut again = Vec::new();
    codec.compress(&output, &mut again).expect("compresses");
    assert!(codec.decompress(&again, output.len()).as_ref() == Ok(&output), "{codec}: not what was compressed");
    true
}

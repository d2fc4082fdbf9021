//! Snappy as Kafka's clients have it: blocks inside xerial's framing, or one bare block.
//!
//! ```text
//! 82 53 4e 41 50 50 59 00   the mark: 82 "SNAPPY" 00
//! i32  version, i32 oldest version that can read it (big-endian; both 1)
//! i32  bytes of a block (big-endian); the block; and so on to the end
//! ```
//!
//! The Java client and those after it write the framing, librdkafka writes one bare block; readers take both. A block
//! says first what it decompresses to, and no block of `n` bytes holds more than [`block_bytes_max`]: so a claim is
//! checked before memory is taken for it, against the bound and against what the block can be at all.

use crate::codec::CodecError;
use std::fmt;

/// What xerial's framing begins with. No bare block does: after its length (`82 53`) it would copy what isn't there yet.
const MARK: [u8; 8] = *b"\x82SNAPPY\0";
/// The mark with both versions, as all clients write it.
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Bytes of records in one block: the Java client's number.
const BLOCK_BYTES: usize = 32 * 1024;

/// Appends `input` in blocks, with xerial's framing.
pub(crate) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), snap::Error> {
    out.extend_from_slice(&HEADER);
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(BLOCK_BYTES.min(input.len()))];
    for piece in input.chunks(BLOCK_BYTES) {
        let bytes = encoder.compress(piece, &mut block)?;
        out.extend_from_slice(&(bytes as u32).to_be_bytes());
        out.extend_from_slice(&block[..bytes]);
    }
    Ok(())
}

/// The decompressed `input`, framed or bare, at most `max` bytes.
pub(crate) fn decompress(input: &[u8], max: usize) -> Result<Vec<u8>, CodecError> {
    let mut output = Vec::new();
    if !input.starts_with(&MARK) {
        append_block(input, &mut output, max)?;
        return Ok(output);
    }
    // The versions are passed over, as other readers do: some writers have them in the other byte order.
    let mut rest = input.get(HEADER.len()..).ok_or_else(|| damaged(&"it ends inside the header of its framing"))?;
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk().ok_or_else(|| damaged(&"it ends inside a block's length"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let Some((block, behind)) = behind.split_at_checked(length) else {
            return Err(damaged(&format_args!("a block says {length} bytes, {} are there", behind.len())));
        };
        append_block(block, &mut output, max)?;
        rest = behind;
    }
    Ok(output)
}

/// Appends what one block decompresses to.
fn append_block(block: &[u8], output: &mut Vec<u8>, max: usize) -> Result<(), CodecError> {
    let says = snap::raw::decompress_len(block).map_err(|error| damaged(&error))?;
    if says > block_bytes_max(block.len()) {
        return Err(damaged(&format_args!("a block of {} bytes says it holds {says}, more than it can", block.len())));
    }
    let start = output.len();
    if says > max - start {
        return Err(CodecError::TooLarge { codec: crate::Codec::Snappy, max });
    }
    if says > output.capacity() - start {
        // Doubles, so that growing costs each byte a constant number of copies, but not beyond `max`.
        output.reserve_exact(says.max(start.min(max - start)));
    }
    output.resize(start + says, 0);
    let bytes = snap::raw::Decoder::new().decompress(block, &mut output[start..]).map_err(|error| damaged(&error))?;
    debug_assert_eq!(bytes, says, "a decoder that succeeds has filled what the block says");
    Ok(())
}

/// What a block of so many bytes can decompress to: its densest element makes 64 bytes of three.
const fn block_bytes_max(block: usize) -> usize {
    block.saturating_mul(64).div_ceil(3)
}

fn damaged(reason: &dyn fmt::Display) -> CodecError {
    CodecError::Damaged { codec: crate::Codec::Snappy, reason: reason.to_string() }
}

#[cfg(test)]
#[path = "snappy_tests.rs"]
mod tests;

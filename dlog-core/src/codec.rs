//! [`Codec`]: how the records of a batch are compressed, with the numbers and framings of Kafka.
//!
//! Gzip is one member. Snappy is read in xerial's framing or bare, and written framed. Lz4 is its frame format, written as
//! Kafka does: independent blocks of 64 KiB, no checksums. Zstd is one frame.
//!
//! What is decompressed is untrusted: output is counted while it appears and never grows beyond the bound given.

use crate::limits::ZSTD_WINDOW_LOG_MAX;
use crate::snappy;
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// The level gzip compresses at: its own default, and Kafka's.
const GZIP_LEVEL: u32 = 6;
/// The level zstd compresses at: its own default, and Kafka's.
const ZSTD_LEVEL: i32 = 3;
/// How much output is asked for at a time while decompressing: one lz4 block. What an over-long output may cost too much.
const CHUNK_BYTES: usize = 64 * 1024;
/// What every lz4 frame begins with. Other magic numbers (the legacy format) are not taken.
const LZ4_MAGIC: [u8; 4] = 0x184D_2204u32.to_le_bytes();

/// How the records of a batch are compressed. The numbers are Kafka's (bits 0 to 2 of a batch's attributes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    #[default]
    None = 0,
    /// Gzip.
    Gzip = 1,
    /// Snappy.
    Snappy = 2,
    /// LZ4, frame format.
    Lz4 = 3,
    /// Zstandard.
    Zstd = 4,
}

/// Why bytes could not be compressed or decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not a whole frame of this codec.
    #[error("the {codec} data is damaged: {reason}")]
    Damaged {
        /// The codec.
        codec: Codec,
        /// What its decoder says.
        reason: String,
    },
    /// The output would pass the bound on its size or on its ratio to the input.
    #[error(
        "the {codec} data decompresses to more than the {max} bytes that are allowed for its size; send smaller batches"
    )]
    TooLarge {
        /// The codec.
        codec: Codec,
        /// The bound in bytes.
        max: usize,
    },
}

impl Codec {
    /// All codecs, by number.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The number in a batch's attributes.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The codec with this number, if there is one.
    pub const fn from_number(number: u8) -> Option<Codec> {
        Some(match number {
            0 => Codec::None,
            1 => Codec::Gzip,
            2 => Codec::Snappy,
            3 => Codec::Lz4,
            4 => Codec::Zstd,
            _ => return None,
        })
    }

    /// The name on the command line and in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// Appends the compressed `input` to `out`.
    ///
    /// # Errors
    /// [`CodecError::Damaged`] if the encoder itself fails, which takes a lack of memory.
    pub fn compress(self, input: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
        match self {
            Codec::None => {
                out.extend_from_slice(input);
                Ok(())
            }
            Codec::Gzip => gzip_compress(input, out).map_err(|error| self.damaged(&error)),
            Codec::Snappy => snappy::compress(input, out).map_err(|error| self.damaged(&error)),
            Codec::Lz4 => lz4_compress(input, out).map_err(|error| self.damaged(&error)),
            Codec::Zstd => zstd_compress(input, out).map_err(|error| self.damaged(&error)),
        }
    }

    /// The decompressed `input`, at most `max` bytes. Memory follows the output as it appears, so a small input that claims
    /// much costs no more than `max` and the decoder's own window (gzip: 32 KiB, lz4: at most 13 MiB, zstd:
    /// `2^ZSTD_WINDOW_LOG_MAX`).
    ///
    /// # Errors
    /// [`CodecError`]; bytes behind the end of the compressed frame are [`CodecError::Damaged`].
    pub fn decompress(self, input: &[u8], max: usize) -> Result<Vec<u8>, CodecError> {
        match self {
            Codec::None if input.len() > max => Err(CodecError::TooLarge { codec: self, max }),
            Codec::None => Ok(input.to_vec()),
            Codec::Gzip => self.gzip_decompress(input, max),
            Codec::Snappy => snappy::decompress(input, max),
            Codec::Lz4 => self.lz4_decompress(input, max),
            Codec::Zstd => self.zstd_decompress(input, max),
        }
    }

    fn gzip_decompress(self, input: &[u8], max: usize) -> Result<Vec<u8>, CodecError> {
        let mut decoder = flate2::bufread::GzDecoder::new(input);
        let output = self.read_bounded(&mut decoder, input.len(), max)?;
        self.expect_all_read(decoder.into_inner())?;
        Ok(output)
    }

    fn lz4_decompress(self, input: &[u8], max: usize) -> Result<Vec<u8>, CodecError> {
        if !input.starts_with(&LZ4_MAGIC) {
            return Err(self.damaged(&"it doesn't begin with an lz4 frame"));
        }
        let mut decoder = lz4_flex::frame::FrameDecoder::new(Input { rest: input, read_past_end: false });
        let output = self.read_bounded(&mut decoder, input.len(), max)?;
        let input = decoder.into_inner();
        // The decoder takes the end of input for the end of the frame; only one of them is.
        if input.read_past_end {
            return Err(self.damaged(&"the frame has no end mark"));
        }
        self.expect_all_read(input.rest)?;
        Ok(output)
    }

    fn zstd_decompress(self, input: &[u8], max: usize) -> Result<Vec<u8>, CodecError> {
        let decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(|error| self.damaged(&error))?;
        let mut decoder = decoder.single_frame();
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| self.damaged(&error))?;
        let output = self.read_bounded(&mut decoder, input.len(), max)?;
        self.expect_all_read(decoder.finish())?;
        Ok(output)
    }

    /// Reads to the end, but never more than `max` bytes, nor into much more memory than was read.
    fn read_bounded(self, decoder: &mut impl Read, input_bytes: usize, max: usize) -> Result<Vec<u8>, CodecError> {
        let mut output = Vec::with_capacity(input_bytes.saturating_mul(4).min(max) + CHUNK_BYTES);
        loop {
            let have = output.len();
            if output.capacity() - have < CHUNK_BYTES {
                // Doubles, so that growing costs each byte a constant number of copies, but not far beyond `max`.
                output.reserve_exact(have.min(max - have) + CHUNK_BYTES);
            }
            output.resize(have + CHUNK_BYTES, 0);
            let read = decoder.read(&mut output[have..]).map_err(|error| self.damaged(&error))?;
            output.truncate(have + read);
            if read == 0 {
                return Ok(output);
            }
            if output.len() > max {
                return Err(CodecError::TooLarge { codec: self, max });
            }
        }
    }

    fn expect_all_read(self, rest: &[u8]) -> Result<(), CodecError> {
        if rest.is_empty() { Ok(()) } else { Err(self.damaged(&"bytes follow the end of the frame")) }
    }

    fn damaged(self, reason: &dyn fmt::Display) -> CodecError {
        CodecError::Damaged { codec: self, reason: reason.to_string() }
    }
}

fn gzip_compress(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
    encoder.write_all(input)?;
    encoder.finish()?;
    Ok(())
}

fn lz4_compress(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    // Kafka's own readers take independent blocks only.
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(input)?;
    encoder.finish()?;
    Ok(())
}

fn zstd_compress(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.resize(start + zstd::zstd_safe::compress_bound(input.len()), 0);
    let written = zstd::bulk::compress_to_buffer(input, &mut out[start..], ZSTD_LEVEL);
    out.truncate(start + written.as_ref().copied().unwrap_or(0));
    written.map(|_| ())
}

/// The compressed bytes, and whether a decoder asked for more than there are.
struct Input<'a> {
    rest: &'a [u8],
    read_past_end: bool,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_past_end |= self.rest.is_empty() && !buffer.is_empty();
        self.rest.read(buffer)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is none of a codec's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compression {0:?} is unknown; use none, gzip, snappy, lz4 or zstd")]
pub struct UnknownCodec(pub String);

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(name: &str) -> Result<Codec, UnknownCodec> {
        Codec::ALL.into_iter().find(|codec| codec.name() == name).ok_or_else(|| UnknownCodec(name.to_owned()))
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;

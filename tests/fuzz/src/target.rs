//! [`Target`]: one decoder, and what must hold for any bytes that it is given.

/// What a target may have allocated at once for each byte of its input, beside [`Target::memory`]: decoded values are larger than
/// their bytes (an empty repeated message of protobuf takes two bytes, its struct some hundred).
pub const MEMORY_PER_BYTE: usize = 512;

/// One decoder.
pub struct Target {
    /// Also the folder of its corpus.
    pub name: &'static str,
    /// Valid inputs, made by the encoders of the crates.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How lengths and checksums are made to fit the rest of the bytes.
    pub mend: Mend,
    /// Panics if something doesn't hold; says whether the bytes were taken for valid.
    pub check: fn(&[u8]) -> bool,
    /// Bytes that may be allocated at once however small the input is: what the decoder itself costs.
    pub memory: usize,
    /// How many random inputs the short run gives it: fewer where one costs more.
    pub runs: u32,
}

/// How an input is mended. Bytes that are no longer like the format stay as they are.
#[derive(Clone, Copy)]
pub enum Mend {
    /// The format has no checksum, or none that can be mended from outside.
    Nothing,
    /// Where it stands.
    InPlace(fn(&mut [u8])),
    /// The input is a short form of the bytes that are mended.
    Anew(fn(&[u8]) -> Vec<u8>),
}

impl Mend {
    /// The input, mended.
    pub fn mended(self, mut input: Vec<u8>) -> Vec<u8> {
        match self {
            Mend::Nothing => input,
            Mend::InPlace(mend) => {
                mend(&mut input);
                input
            }
            Mend::Anew(mend) => mend(&input),
        }
    }
}

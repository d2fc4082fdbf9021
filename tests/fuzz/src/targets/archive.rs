//! Inputs that stand for more than one run of bytes: lists of parts, and files with long runs of zeros.

/// The parts of a list, each behind its length (u16, little-endian). Bytes that are too few for the last one are the last one.
pub(super) fn parts(mut list: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = list.split_first_chunk::<2>() {
        let (part, behind) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
        parts.push(part);
        list = behind;
    }
    parts
}

/// The list of these parts.
pub(super) fn list<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    let mut list = Vec::new();
    for part in parts {
        let part = part.as_ref();
        list.extend_from_slice(&u16::try_from(part.len()).expect("parts are short").to_le_bytes());
        list.extend_from_slice(part);
    }
    list
}

/// A file out of its short form, in which a zero is followed by how many of them there are (u16, little-endian).
/// Never longer than `max`.
pub(super) fn unpacked(mut short: &[u8], max: usize) -> Vec<u8> {
    let mut file = Vec::new();
    while let Some((byte, rest)) = short.split_first() {
        short = rest;
        let count = match (byte, rest.split_first_chunk::<2>()) {
            (0, Some((count, rest))) => {
                short = rest;
                usize::from(u16::from_le_bytes(*count))
            }
            _ => 1,
        };
        let room = max - file.len();
        file.resize(file.len() + count.min(room), *byte);
    }
    file
}

/// The short form of a file.
pub(super) fn packed(file: &[u8]) -> Vec<u8> {
    let mut short = Vec::new();
    let mut rest = file;
    while let Some((byte, behind)) = rest.split_first() {
        short.push(*byte);
        rest = behind;
        if *byte == 0 {
            let more = behind.iter().take(usize::from(u16::MAX) - 1).take_while(|byte| **byte == 0).count();
            short.extend_from_slice(&(more as u16 + 1).to_le_bytes());
            rest = &behind[more..];
        }
    }
    short
}

//! As much of protobuf's encoding as it takes to change one field of a message that another crate made.

/// The message without its fields of this number.
///
/// # Panics
/// If it isn't protobuf, or uses groups: what is changed here was just encoded.
pub fn without(message: &[u8], number: u64) -> Vec<u8> {
    let mut kept = Vec::with_capacity(message.len());
    let mut rest = message;
    while !rest.is_empty() {
        let (key, mut bytes) = varint(rest);
        bytes += match key & 7 {
            0 => varint(&rest[bytes..]).1,
            1 => 8,
            2 => {
                let (length, prefix) = varint(&rest[bytes..]);
                prefix + length as usize
            }
            5 => 4,
            kind => panic!("wire type {kind}"),
        };
        if key >> 3 != number {
            kept.extend_from_slice(&rest[..bytes]);
        }
        rest = &rest[bytes..];
    }
    kept
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A varint and how many bytes it takes.
fn varint(bytes: &[u8]) -> (u64, usize) {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (value, at + 1);
        }
    }
    panic!("a varint without end");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_goes_and_the_others_stay() {
        // 1: varint 300, 2: bytes "ab", 5: fixed32, 2: bytes "".
        let message = [0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x2d, 1, 2, 3, 4, 0x12, 0];
        assert_eq!(without(&message, 2), [0x08, 0xac, 0x02, 0x2d, 1, 2, 3, 4]);
        assert_eq!(without(&message, 5), [0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x12, 0]);
        assert_eq!(without(&message, 9), message);
        let mut out = Vec::new();
        put_varint(&mut out, 300);
        assert_eq!(out, [0xac, 0x02]);
    }
}

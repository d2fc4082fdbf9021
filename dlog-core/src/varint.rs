//! Kafka's varints: zigzag, seven bits a byte, least significant first, as in protobuf's `sint32` and `sint64`.

/// Most bytes of a 32-bit varint.
pub const VARINT_BYTES_MAX: usize = 5;
/// Most bytes of a 64-bit varint (Kafka's varlong).
pub const VARLONG_BYTES_MAX: usize = 10;

/// Why bytes are not a varint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    /// The bytes end inside of it.
    #[error("the bytes end inside a varint")]
    Short,
    /// It has more bits than its type.
    #[error("a varint is too long for its type")]
    Overflow,
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Bytes that [`write()`] takes for `value`, 1 to 10; for a value in the range of `i32` 1 to 5.
pub const fn encoded_bytes(value: i64) -> usize {
    // Seven bits a byte; a zero takes one byte too.
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value`. A value in the range of `i32` is written the same as a varint and as a varlong.
pub fn write(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads a 32-bit varint at byte `at`, and moves `at` behind it; an error moves nothing.
///
/// # Errors
/// [`VarintError::Short`], or [`VarintError::Overflow`] if it doesn't fit into an `i32`.
pub fn read_i32(bytes: &[u8], at: &mut usize) -> Result<i32, VarintError> {
    let mut end = *at;
    let raw = read_unsigned(bytes, &mut end, VARINT_BYTES_MAX)?;
    let raw = u32::try_from(raw).map_err(|_| VarintError::Overflow)?;
    *at = end;
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Reads a 64-bit varint (varlong) at byte `at`, and moves `at` behind it; an error moves nothing.
///
/// # Errors
/// [`VarintError::Short`], or [`VarintError::Overflow`] if it doesn't fit into an `i64`.
pub fn read_i64(bytes: &[u8], at: &mut usize) -> Result<i64, VarintError> {
    Ok(unzigzag(read_unsigned(bytes, at, VARLONG_BYTES_MAX)?))
}

fn read_unsigned(bytes: &[u8], at: &mut usize, max_bytes: usize) -> Result<u64, VarintError> {
    let rest = bytes.get(*at..).ok_or(VarintError::Short)?;
    let mut value = 0u64;
    for (i, &byte) in rest.iter().take(max_bytes).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == VARLONG_BYTES_MAX - 1 && bits > 1 {
            return Err(VarintError::Overflow);
        }
        value |= bits << (7 * i);
        if byte < 0x80 {
            *at += i + 1;
            return Ok(value);
        }
    }
    if rest.len() < max_bytes { Err(VarintError::Short) } else { Err(VarintError::Overflow) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, value);
        out
    }

    #[test]
    fn golden_bytes() {
        let known: [(i64, &[u8]); 9] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ];
        for (value, bytes) in known {
            assert_eq!(encoded(value), bytes, "{value}");
        }
    }

    #[test]
    fn refuses_what_is_too_long() {
        assert_eq!(read_i32(&[0x80; 5], &mut 0), Err(VarintError::Overflow));
        assert_eq!(read_i32(&[0xff, 0xff, 0xff, 0xff, 0x10], &mut 0), Err(VarintError::Overflow));
        assert_eq!(read_i32(&[0x80; 4], &mut 0), Err(VarintError::Short));
        assert_eq!(read_i64(&[0xff; 11], &mut 0), Err(VarintError::Overflow));
        let mut one_bit_more = [0xff; 10];
        one_bit_more[9] = 2;
        assert_eq!(read_i64(&one_bit_more, &mut 0), Err(VarintError::Overflow));
        assert_eq!(read_i64(&[], &mut 0), Err(VarintError::Short));
        assert_eq!(read_i64(&[0], &mut 5), Err(VarintError::Short));
    }

    proptest! {
        #[test]
        fn round_trip_64(value in any::<i64>(), before in 0usize..3) {
            let mut bytes = vec![0xff; before];
            write(&mut bytes, value);
            let mut at = before;
            prop_assert_eq!(read_i64(&bytes, &mut at), Ok(value));
            prop_assert_eq!(at, bytes.len());
            prop_assert_eq!(at - before, encoded_bytes(value));
        }

        #[test]
        fn round_trip_32(value in any::<i32>()) {
            let bytes = encoded(i64::from(value));
            let mut at = 0;
            prop_assert_eq!(read_i32(&bytes, &mut at), Ok(value));
            prop_assert_eq!(at, bytes.len());
            prop_assert!(bytes.len() <= VARINT_BYTES_MAX);
        }

        /// What is outside of an `i32` is never taken for one, and an error moves nothing.
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let (mut at_32, mut at_64) = (0, 0);
            let (short, long) = (read_i32(&bytes, &mut at_32), read_i64(&bytes, &mut at_64));
            match short {
                Ok(value) => prop_assert_eq!(long, Ok(i64::from(value))),
                Err(_) => prop_assert_eq!(at_32, 0),
            }
            prop_assert!(at_64 <= bytes.len());
        }
    }
}

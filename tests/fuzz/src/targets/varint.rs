//! Varints.

use crate::target::{Mend, Target};
use dlog_core::varint::{VARINT_BYTES_MAX, VARLONG_BYTES_MAX, encoded_bytes, read_i32, read_i64, write};

pub(super) const VARINT: Target =
    Target { name: "varint", seeds, mend: Mend::Nothing, check, memory: 1 << 10, runs: 16_000 };

fn seeds() -> Vec<Vec<u8>> {
    let numbers = [0, -1, 63, 64, 300, i64::from(i32::MAX), i64::from(i32::MIN), i64::MAX, i64::MIN];
    let one = |number: &i64| {
        let mut bytes = Vec::new();
        write(&mut bytes, *number);
        bytes
    };
    numbers.iter().map(one).collect()
}

fn check(input: &[u8]) -> bool {
    let (mut long_at, mut short_at) = (0, 0);
    let (long, short) = (read_i64(input, &mut long_at), read_i32(input, &mut short_at));
    for (read, at, most) in
        [(long.ok(), long_at, VARLONG_BYTES_MAX), (short.ok().map(i64::from), short_at, VARINT_BYTES_MAX)]
    {
        let Some(value) = read else {
            assert_eq!(at, 0, "an error moves nothing");
            continue;
        };
        assert!((1..=most.min(input.len())).contains(&at), "{at} bytes read");
        let mut again = Vec::new();
        write(&mut again, value);
        assert_eq!(again.len(), encoded_bytes(value));
        assert!(again.len() <= at, "written in more bytes than it was read from");
        assert_eq!(read_i64(&again, &mut 0), Ok(value));
    }
    if let Ok(short) = short {
        assert_eq!(long.map_err(drop), Ok(i64::from(short)), "both read the same number");
    }
    long_at == input.len() && long.is_ok()
}

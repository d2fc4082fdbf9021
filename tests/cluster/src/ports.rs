//! Free ports on loopback.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Ports below those that the kernel gives to outgoing connections (from 32768 on Linux): while a node is down, none of
/// those may take its port away.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;
/// Enough that none means a machine without free ports.
const TRIES: u16 = 2_000;

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nobody listens on, and that this process was not given before.
pub fn free() -> u16 {
    free_run(1, |_| [0].to_vec())
}

/// The base of ports of which all `base + offset` are free.
pub fn free_run(step: u16, offsets: impl Fn(u16) -> Vec<u16>) -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    let start = (now ^ std::process::id().wrapping_mul(2_654_435_761)) % u32::from(COUNT);
    for i in 0..TRIES {
        let base =
            FIRST + u16::try_from((start + u32::from(i) * u32::from(step)) % u32::from(COUNT)).expect("below COUNT");
        let ports: Vec<u16> = offsets(base).iter().map(|offset| base + offset).collect();
        if ports.iter().all(|port| !given.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            given.extend(ports);
            return base;
        }
    }
    panic!("no free port on loopback between {FIRST} and {} after {TRIES} tries", FIRST + COUNT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_and_can_be_bound() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free()).collect();
        assert_eq!(ports.len(), 50);
        let taken = TcpListener::bind(("127.0.0.1", free())).expect("a free port");
        let port = taken.local_addr().expect("bound").port();
        assert_ne!(free(), port);
    }
}

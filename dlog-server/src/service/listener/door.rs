//! The door of a listener: who is inside, and who has to leave when somebody new comes.
//!
//! A connection that has not made a request yet is a *newcomer*. There is room for few of them, and the one that has waited
//! longest makes room for the next: whoever opens connections and says nothing (or only a preface) pushes out his own kind,
//! and a client that speaks at once gets in whatever else is going on. Who has made a request is never pushed out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How many connections one listener holds, and how long one may take to say what it is.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// In all.
    pub connections: usize,
    /// From one address.
    pub per_address: usize,
    /// That have not made a request yet.
    pub newcomers: usize,
    /// Bytes that a connection must have sent before a server spends buffers on it.
    pub first_bytes: usize,
    /// How long it may take to send them.
    pub handshake_timeout: Duration,
}

/// Why a connection was closed, or never taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// All places are taken by connections that have made requests.
    Full,
    /// All places for this address are taken.
    AddressFull,
    /// It had made no request when a newer one needed the place.
    MadeRoom,
    /// It did not say in time what it is.
    Silent,
}

impl Turned {
    /// Every reason.
    pub const ALL: [Turned; 4] = [Turned::Full, Turned::AddressFull, Turned::MadeRoom, Turned::Silent];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Turned::Full => "full",
            Turned::AddressFull => "address_full",
            Turned::MadeRoom => "made_room",
            Turned::Silent => "silent",
        }
    }
}

/// What one listener has seen since the start.
#[derive(Debug, Default)]
pub struct DoorStats {
    open: AtomicUsize,
    accepted: AtomicU64,
    turned: [AtomicU64; Turned::ALL.len()],
}

impl DoorStats {
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that were let in.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that were turned away or out for this reason.
    pub fn turned(&self, why: Turned) -> u64 {
        self.turned[why as usize].load(Ordering::Relaxed)
    }

    /// Counts one.
    pub fn turn(&self, why: Turned) {
        self.turned[why as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    open: usize,
    by_address: BTreeMap<IpAddr, usize>,
    /// By age; each with its address and what tells it to leave.
    newcomers: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

impl Inside {
    /// Gives a place back.
    fn release(&mut self, address: IpAddr) {
        self.open -= 1;
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

/// The door of one listener.
#[derive(Debug)]
pub struct Door {
    bounds: Bounds,
    stats: Arc<DoorStats>,
    inside: Mutex<Inside>,
}

impl Door {
    /// A door with nobody inside.
    pub fn new(bounds: Bounds, stats: Arc<DoorStats>) -> Arc<Door> {
        Arc::new(Door { bounds, stats, inside: Mutex::default() })
    }

    /// Its bounds.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Its counters.
    pub fn stats(&self) -> &DoorStats {
        &self.stats
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("no holder panics")
    }

    /// Lets a connection in, if need be in the place of the newcomer that has waited longest.
    ///
    /// # Errors
    /// Why there is no place.
    pub fn enter(self: &Arc<Door>, remote: SocketAddr) -> Result<Guest, Turned> {
        let address = remote.ip().to_canonical();
        let mut inside = self.inside();
        let here = inside.by_address.get(&address).copied().unwrap_or(0);
        let full = inside.open >= self.bounds.connections;
        let refused = match () {
            () if here >= self.bounds.per_address => Some(Turned::AddressFull),
            () if full && inside.newcomers.is_empty() => Some(Turned::Full),
            () => None,
        };
        if let Some(why) = refused {
            self.stats.turn(why);
            return Err(why);
        }
        if (full || inside.newcomers.len() >= self.bounds.newcomers)
            && let Some((_, (address, leave))) = inside.newcomers.pop_first()
        {
            // Its place is free now, whenever it comes to hear of it.
            inside.release(address);
            self.stats.turn(Turned::MadeRoom);
            leave.cancel();
        }
        let (number, leave) = (inside.next, CancellationToken::new());
        inside.next += 1;
        inside.open += 1;
        inside.newcomers.insert(number, (address, leave.clone()));
        *inside.by_address.entry(address).or_default() += 1;
        self.stats.open.store(inside.open, Ordering::Relaxed);
        self.stats.accepted.fetch_add(1, Ordering::Relaxed);
        let newcomer = Arc::new(Newcomer { door: Arc::clone(self), number, settled: AtomicBool::new(false) });
        Ok(Guest { newcomer, address, leave })
    }
}

/// Whether a connection has made a request: shared between the connection and its requests.
#[derive(Debug)]
pub struct Newcomer {
    door: Arc<Door>,
    number: u64,
    settled: AtomicBool,
}

impl Newcomer {
    /// It has made a request: from now on it is not pushed out, unless it was already.
    pub fn settle(&self) {
        if !self.is_settled() && self.door.inside().newcomers.remove(&self.number).is_some() {
            self.settled.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it has.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }
}

/// A connection that is inside until this is dropped.
#[derive(Debug)]
pub struct Guest {
    newcomer: Arc<Newcomer>,
    address: IpAddr,
    leave: CancellationToken,
}

impl Guest {
    /// What its requests mark.
    pub fn newcomer(&self) -> &Arc<Newcomer> {
        &self.newcomer
    }

    /// Cancelled when it must make room.
    pub fn leave(&self) -> &CancellationToken {
        &self.leave
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let door = &self.newcomer.door;
        let mut inside = door.inside();
        let was_newcomer = inside.newcomers.remove(&self.newcomer.number).is_some();
        // Who was pushed out has given his place back.
        if was_newcomer || self.newcomer.is_settled() {
            inside.release(self.address);
        }
        door.stats.open.store(inside.open, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(connections: usize, per_address: usize, newcomers: usize) -> Arc<Door> {
        let handshake_timeout = Duration::from_secs(5);
        Door::new(Bounds { connections, per_address, newcomers, first_bytes: 24, handshake_timeout }, Arc::default())
    }

    fn from(host: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, host], 1))
    }

    #[test]
    fn the_longest_waiting_newcomer_makes_room() {
        let door = door(100, 100, 2);
        let [first, second] = [1, 1].map(|host| door.enter(from(host)).expect("room"));
        first.newcomer().settle();
        let third = door.enter(from(1)).expect("room for a second newcomer");
        let fourth = door.enter(from(1)).expect("in another one's place");
        assert!(!first.leave().is_cancelled(), "it has made a request");
        assert!(second.leave().is_cancelled() && !third.leave().is_cancelled() && !fourth.leave().is_cancelled());
        assert_eq!(door.stats().turned(Turned::MadeRoom), 1);
        second.newcomer().settle();
        assert!(!second.newcomer().is_settled(), "too late");
        drop(second);
        assert_eq!(door.stats().open(), 3);
        drop((first, third, fourth));
        assert_eq!(door.stats().open(), 0);
    }

    #[test]
    fn a_full_house_takes_newcomers_places_only() {
        let door = door(2, 100, 2);
        let [first, second] = [1, 1].map(|host| door.enter(from(host)).expect("room"));
        first.newcomer().settle();
        let third = door.enter(from(1)).expect("in the second one's place");
        assert!(second.leave().is_cancelled());
        drop(second);
        third.newcomer().settle();
        assert_eq!(door.enter(from(1)).err(), Some(Turned::Full));
        drop(first);
        assert!(door.enter(from(1)).is_ok());
    }

    #[test]
    fn one_address_has_its_share() {
        let door = door(100, 1, 100);
        let first = door.enter(from(1)).expect("room");
        assert_eq!(door.enter(from(1)).err(), Some(Turned::AddressFull));
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:9".parse().expect("an address");
        assert_eq!(door.enter(mapped).err(), Some(Turned::AddressFull), "the same address in another form");
        assert!(door.enter(from(2)).is_ok());
        drop(first);
        assert!(door.enter(from(1)).is_ok());
        assert_eq!(door.stats().turned(Turned::AddressFull), 2);
    }
}

//! When a replica asks for votes: timeouts drawn from the replica's own generator.
//!
//! The raft crate draws from the thread's generator whenever it resets, so the drawn value is put in after every call that may
//! have done so. The timer itself stands still while a write of this replica waits for the disk (see `replica.rs`): a candidate
//! with frames that aren't durable panics the crate if it wins at once.

use crate::raft_storage::RaftStorage;
use raft::{Raft, StateRole};

/// One replica's election timeouts, in ticks.
pub(crate) struct ElectionTimer {
    random: fastrand::Rng,
    ticks: usize,
    drawn: usize,
    drawn_for: Option<(u64, StateRole)>,
    /// What is drawn counts so many times.
    times: usize,
}

impl ElectionTimer {
    /// Timeouts in `ticks..2 * ticks`.
    pub(crate) fn new(seed: u64, ticks: u32) -> ElectionTimer {
        let ticks = ticks as usize;
        ElectionTimer { random: fastrand::Rng::with_seed(seed), ticks, drawn: ticks, drawn_for: None, times: 1 }
    }

    /// Draws anew if term or role changed, and puts the value in.
    pub(crate) fn settle(&mut self, raft: &mut Raft<RaftStorage>) {
        let now = Some((raft.term, raft.state));
        if self.drawn_for != now {
            self.drawn_for = now;
            self.drawn = self.random.usize(self.ticks..2 * self.ticks);
        }
        raft.set_randomized_election_timeout(self.drawn * self.times);
    }

    /// From the next call on timeouts are so many times as long. Whether a leader counts as heard lately stays as it is: the crate
    /// has the shortest timeout for that.
    pub(crate) fn put_off(&mut self, times: u32) {
        self.times = times as usize;
    }
}

//! Linearizable reads in real time: a read sees every record that was acked before it began, and no less than any read that
//! had ended before it began.
//!
//! Times are of the asker: an ack is noted after it came, a read's beginning before it was sent. So what counts as "before"
//! here was so at the nodes too.

/// A record was acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckAt {
    /// When the answer was here, in nanoseconds since the test began.
    pub at: u64,
    /// Its offset.
    pub offset: u64,
}

/// A read that ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAt {
    /// When it was sent, in nanoseconds since the test began.
    pub began: u64,
    /// When it was over.
    pub ended: u64,
    /// Where the log ended for it (exclusive).
    pub end: u64,
    /// Which node gave it, for messages.
    pub node: usize,
}

/// A read that saw too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The read.
    pub read: ReadAt,
    /// What it had to see (exclusive).
    pub required: u64,
    /// Since when that was known.
    pub known_at: u64,
}

/// The reads that saw less than what was known when they began, in the order in which they began.
pub fn stale_reads(acks: &[AckAt], reads: &[ReadAt]) -> Vec<Stale> {
    let acked = acks.iter().map(|ack| (ack.at, ack.offset + 1));
    let mut known: Vec<(u64, u64)> = acked.chain(reads.iter().map(|read| (read.ended, read.end))).collect();
    known.sort_unstable();
    let mut by_begin = reads.to_vec();
    by_begin.sort_unstable_by_key(|read| read.began);
    let (mut at, mut required, mut known_at) = (0, 0, 0);
    let mut stale = Vec::new();
    for read in by_begin {
        while let Some((time, end)) = known.get(at).filter(|(time, _)| *time < read.began) {
            if *end > required {
                (required, known_at) = (*end, *time);
            }
            at += 1;
        }
        if read.end < required {
            stale.push(Stale { read, required, known_at });
        }
    }
    stale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(at: u64, offset: u64) -> AckAt {
        AckAt { at, offset }
    }

    fn read(began: u64, ended: u64, end: u64) -> ReadAt {
        ReadAt { began, ended, end, node: 0 }
    }

    #[test]
    fn what_is_under_way_may_or_may_not_be_seen() {
        let acks = [ack(10, 0), ack(20, 1)];
        assert_eq!(stale_reads(&acks, &[read(5, 30, 0), read(10, 30, 0), read(15, 30, 1), read(15, 30, 2)]), []);
    }

    #[test]
    fn an_acked_record_must_be_seen() {
        let old = read(21, 30, 1);
        let found = stale_reads(&[ack(10, 0), ack(20, 1)], &[old, read(21, 30, 2)]);
        assert_eq!(found, [Stale { read: old, required: 2, known_at: 20 }]);
    }

    #[test]
    fn a_read_must_not_go_behind_an_earlier_one() {
        // The record at 1 is not acked, but was seen.
        let back = read(41, 50, 1);
        let found = stale_reads(&[ack(10, 0)], &[read(21, 30, 2), back, read(25, 60, 1)]);
        assert_eq!(
            found,
            [Stale { read: back, required: 2, known_at: 30 }],
            "the third was under way together with the first"
        );
    }

    #[test]
    fn acks_out_of_order_in_time_count() {
        let found = stale_reads(&[ack(30, 0), ack(10, 5)], &[read(31, 32, 1)]);
        assert_eq!(found[0].required, 6);
    }
}

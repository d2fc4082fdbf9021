//! Who was told where a log ends reads there, on the same replica, what was acked before the question.

use super::{Event, World};
use crate::node::Lost;
use crate::report::Failure;
use crate::schedule::MILLISECOND;
use dlog_core::{LogId, Offset};

/// Of so many who were told an end one reads up to it.
const READ_ONE_OF: u8 = 4;
/// How often it is looked whether the replica has written out what it knows to be committed.
const LOOK: u64 = 10 * MILLISECOND;
/// The bytes that are asked for at most.
const READ_BYTES_MAX: usize = 20_000;

impl World {
    /// A node told an end, asked for when all below `known` was acked: sometimes that is read there.
    pub(crate) fn want_end(&mut self, node: usize, log: LogId, known: Offset) {
        if self.client_random.u8(0..READ_ONE_OF) == 0 {
            let life = self.nodes[node].life;
            self.schedule.after(0, Event::ReadEnd { node, life, log, known });
        }
    }

    pub(crate) fn on_read_end(&mut self, node: usize, life: u64, log: LogId, known: Offset) -> Result<(), Failure> {
        if !self.is_alive(node, life) {
            return Ok(());
        }
        let Some(process) = &self.nodes[node].process else { return Ok(()) };
        let Some(&replica) = process.by_log.get(&log) else { return Ok(()) };
        let (Some(segments), Some(progress)) = (process.readers.get(&replica), process.progress.get(&replica)) else {
            return Ok(());
        };
        let (bound, log_start) = (progress.read_bound, progress.log_start.max(segments.log_start()));
        if log_start >= known || self.directory.is_deleted(log) {
            return Ok(());
        }
        if bound < known {
            // Committed, and not in the segments yet.
            self.schedule.after(LOOK, Event::ReadEnd { node, life, log, known });
            return Ok(());
        }
        let from = Offset(self.client_random.u64(log_start.0..known.0));
        let mut at = from;
        let text = |what: String| Failure::correctness(format!("a reader of replica {replica}: {what}")).about(log);
        let mut reads = Vec::new();
        while at < known {
            match segments.read_batches(at, bound, self.client_random.usize(1..READ_BYTES_MAX)) {
                Ok(read) if read.next <= at => {
                    return Err(text(format!("nothing at {at}, and {known} was acked before the end was told")));
                }
                Ok(read) => {
                    let from = std::mem::replace(&mut at, read.next);
                    reads.push((from, read));
                }
                Err(_) if self.is_disk_bad(node) => return Ok(()),
                Err(error) if self.is_damage(node, &error) => {
                    if !self.repair(node, replica, &error) {
                        self.lose(node, Lost::Damaged);
                    }
                    return Ok(());
                }
                Err(error) => return Err(text(format!("at {at}, where {known} was acked before: {error}"))),
            }
        }
        self.observe(node, replica)?;
        for (from, read) in reads {
            if read.next <= self.checkers.of(log).log.end() {
                self.checkers.of(log).log.read(from, &read.batches, read.next).map_err(text)?;
            }
        }
        self.counts.ends_read += known.0 - from.0;
        Ok(())
    }
}

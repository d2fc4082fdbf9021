//! Readers that decide as the client library does: which replica is next, and what of its answer is taken.

use super::World;
use crate::node::{id_of, number_of};
use crate::report::Failure;
use bytes::Bytes;
use dlog_core::{LogId, Offset};

impl World {
    /// A reader polls the replica whose turn it is: the leader, then the others, then the leader.
    pub(crate) fn poll_in_turn(&mut self, reader: usize, log: LogId) -> Result<(), Failure> {
        let nodes: Vec<_> = self.directory.nodes_of(log).iter().map(|node| id_of(*node)).collect();
        let leader = self.leader_said(log).map(id_of);
        let now = self.schedule.now();
        let Some(node) = self.readers[reader].choose(log, now, &nodes, leader) else { return Ok(()) };
        let before = self.readers[reader].position(log);
        self.poll(reader, number_of(node), log)?;
        let after = self.readers[reader].position(log);
        self.readers[reader].polled(log, after > before);
        Ok(())
    }

    /// What a replica gave goes through the client library's hands: all of it must come out.
    pub(crate) fn take_answer(
        &mut self,
        reader: usize,
        log: LogId,
        from: Offset,
        batches: &[Bytes],
        end: Offset,
    ) -> Result<(), String> {
        let taken = self.readers[reader].take(log, from, batches)?;
        if taken == end {
            Ok(())
        } else {
            Err(format!("it read from {from} to {end}, and took what is before {taken}"))
        }
    }
}

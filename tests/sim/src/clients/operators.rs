//! Operators, and nodes that make themselves known: their commands, each sent again under the same id until it is answered.

use bytes::Bytes;
use dlog_core::{LogId, LogIndex, TopicId};
use dlog_replication::{Command, CommandBody, CommandId};
use std::collections::BTreeMap;

/// What a command is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Purpose {
    /// A node enters the bootstrap set, in one of its lives, and registers then.
    Found {
        /// The node, from 0.
        node: usize,
        /// Its life.
        life: u64,
    },
    /// A node registers.
    Register {
        /// The node, from 0.
        node: usize,
        /// Its life.
        life: u64,
    },
    /// Somebody makes a topic.
    Create,
    /// Somebody deletes a topic.
    Delete(TopicId),
    /// The producers of a topic get their ids.
    Producers(TopicId),
    /// A leader says that its log has the members of an intent.
    Confirm(LogId, LogIndex),
    /// What lost nodes hold of a log goes to others.
    Evacuate(LogId),
    /// Anything whose outcome doesn't matter.
    Other,
}

/// A command that isn't answered.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The same for each attempt.
    pub id: CommandId,
    /// What it is for.
    pub purpose: Purpose,
    /// Encoded.
    pub bytes: Bytes,
    /// The node that is asked next.
    pub node: usize,
    /// When it was made, in nanoseconds.
    pub since: u64,
    attempt: u64,
    under_way: bool,
}

/// All commands that wait for their outcome.
#[derive(Debug, Default)]
pub struct Operators {
    made: u64,
    attempts: u64,
    pending: BTreeMap<u64, Pending>,
}

impl Operators {
    /// A new command, first for this node. Gives its number.
    pub fn make(&mut self, body: CommandBody, purpose: Purpose, node: usize, since: u64) -> u64 {
        self.made += 1;
        let id = CommandId(u128::from(self.made));
        let bytes = Command::new(id, body).encode();
        let pending = Pending { id, purpose, bytes, node, since, attempt: 0, under_way: false };
        self.pending.insert(self.made, pending);
        self.made
    }

    /// Begins an attempt, unless the command is answered or on its way.
    pub fn attempt(&mut self, number: u64) -> Option<(u64, &Pending)> {
        let pending = self.pending.get_mut(&number).filter(|pending| !pending.under_way)?;
        self.attempts += 1;
        (pending.attempt, pending.under_way) = (self.attempts, true);
        Some((pending.attempt, pending))
    }

    /// The attempt failed; the next one goes to `node`. False if it isn't the one under way.
    pub fn failed(&mut self, number: u64, attempt: u64, node: usize) -> bool {
        match self.pending.get_mut(&number).filter(|pending| pending.under_way && pending.attempt == attempt) {
            Some(pending) => {
                (pending.under_way, pending.node) = (false, node);
                true
            }
            None => false,
        }
    }

    /// A command that waits.
    pub fn find(&self, number: u64) -> Option<&Pending> {
        self.pending.get(&number)
    }

    /// It is answered, or nobody wants to know any more.
    pub fn done(&mut self, number: u64) -> Option<Pending> {
        self.pending.remove(&number)
    }

    /// All that wait.
    pub fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.pending.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_replication::AllocateProducerIds;

    #[test]
    fn a_retry_has_the_same_id_and_there_is_one_attempt_at_a_time() {
        let mut operators = Operators::default();
        let body = CommandBody::AllocateProducerIds(AllocateProducerIds { count: 1 });
        let number = operators.make(body, Purpose::Other, 0, 0);
        let (first, bytes) = operators.attempt(number).map(|(at, one)| (at, one.bytes.clone())).expect("first");
        assert!(operators.attempt(number).is_none(), "under way");
        assert!(operators.failed(number, first, 2) && !operators.failed(number, first, 1));
        let (second, again) = operators.attempt(number).expect("second");
        assert!(second > first && again.bytes == bytes && again.node == 2);
        assert!(operators.done(number).is_some() && operators.pending().next().is_none());
    }
}

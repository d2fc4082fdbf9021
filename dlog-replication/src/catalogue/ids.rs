//! The next id of each kind that the catalogue gives. Ids only rise: none is given twice, not even after a deletion.

use super::state::{Changes, IdsValue, Key};
use crate::command::AllocateProducerIds;
use crate::outcome::{CommandOutcome, Rejection, RejectionCode};
use dlog_core::limits::PRODUCER_ID_BLOCK;
use dlog_core::{LogId, ProducerId, TopicId};

/// Producer ids in one block, at most: a wrong count can't use the ids up.
pub const PRODUCER_IDS_MAX: u32 = 100_000;
const _: () = assert!(PRODUCER_ID_BLOCK <= PRODUCER_IDS_MAX);

/// What the next topic, log and producer get. 0 is no topic, and log 0 is group 0's.
///
/// Invariant: none goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    next_topic: TopicId,
    next_log: LogId,
    next_producer: ProducerId,
}

impl Default for Ids {
    fn default() -> Ids {
        Ids { next_topic: TopicId(1), next_log: LogId(1), next_producer: ProducerId(0) }
    }
}

impl Ids {
    pub(crate) fn load(&mut self, value: IdsValue) -> Result<(), String> {
        if value.next_topic == 0 || value.next_log == 0 || value.next_producer < 0 {
            return Err("a next id is out of its range".to_owned());
        }
        self.next_topic = TopicId(value.next_topic);
        self.next_log = LogId(value.next_log);
        self.next_producer = ProducerId(value.next_producer);
        Ok(())
    }

    /// Nothing is stored before the first id is given, so that a new catalogue has no entries.
    pub(crate) fn save(&self, changes: &mut Changes) {
        if *self == Ids::default() {
            return;
        }
        let value =
            IdsValue { next_topic: self.next_topic.0, next_log: self.next_log.0, next_producer: self.next_producer.0 };
        changes.put(Key::Ids, &value);
    }

    pub(crate) fn next_topic(&self) -> TopicId {
        self.next_topic
    }

    pub(crate) fn next_log(&self) -> LogId {
        self.next_log
    }

    /// Are there ids for one more topic with so many partitions?
    pub(crate) fn check_topic(&self, partitions: u32) -> Result<(), Rejection> {
        let topic = self.next_topic.0.checked_add(1);
        let log = self.next_log.0.checked_add(u64::from(partitions));
        match (topic, log) {
            (Some(_), Some(_)) => Ok(()),
            _ => Err(Rejection::new(RejectionCode::LimitReached, "the topic or log ids of this cluster are used up")),
        }
    }

    /// Gives a topic's id, and the first of its `partitions` log ids. [`check_topic`](Self::check_topic) went before.
    pub(crate) fn take_topic(&mut self, partitions: u32, changes: &mut Changes) -> (TopicId, LogId) {
        let taken = (self.next_topic, self.next_log);
        self.next_topic.0 += 1;
        self.next_log.0 += u64::from(partitions);
        self.save(changes);
        taken
    }

    pub(crate) fn allocate_producers(
        &mut self,
        allocate: &AllocateProducerIds,
        changes: &mut Changes,
    ) -> Result<CommandOutcome, Rejection> {
        let count = allocate.count;
        if !(1..=PRODUCER_IDS_MAX).contains(&count) {
            let message = format!("{count} producer ids were asked for; allowed are 1 to {PRODUCER_IDS_MAX}");
            return Err(Rejection::new(RejectionCode::InvalidArgument, message));
        }
        let first = self.next_producer;
        let Some(next) = first.0.checked_add(i64::from(count)) else {
            return Err(Rejection::new(RejectionCode::LimitReached, "the producer ids of this cluster are used up"));
        };
        self.next_producer = ProducerId(next);
        self.save(changes);
        Ok(CommandOutcome::ProducerIds { first, count })
    }
}

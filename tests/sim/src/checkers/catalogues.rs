//! One catalogue: as of an index of group 0 it is the same on every node, and a command that was answered is answered the same for
//! ever.

use dlog_core::{LogId, LogIndex, NodeId, ProducerId, TopicId};
use dlog_replication::{Catalogue, CommandId, CommandOutcome};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What nodes and operators were told.
#[derive(Debug, Default)]
pub struct Catalogues {
    published: BTreeMap<LogIndex, Rc<Catalogue>>,
    outcomes: BTreeMap<CommandId, CommandOutcome>,
    /// Topics that exist as far as their makers were told.
    created: BTreeSet<TopicId>,
    /// Topics of which somebody asked to have them deleted.
    unwanted: BTreeSet<TopicId>,
    /// Topics that are gone, as those were told.
    deleted: BTreeSet<TopicId>,
    /// Blocks of producer ids by their first, with how many.
    blocks: BTreeMap<ProducerId, u32>,
    /// Logs of topics that existed.
    topics: BTreeMap<LogId, TopicId>,
}

impl Catalogues {
    /// A node has this catalogue: just applied, or loaded.
    ///
    /// # Errors
    /// If another node, or an earlier life, had another one as of the same index.
    pub fn seen(&mut self, node: NodeId, catalogue: &Rc<Catalogue>) -> Result<(), String> {
        let index = catalogue.applied();
        if let Some(first) = self.published.get(&index) {
            let same = **first == **catalogue;
            return if same { Ok(()) } else { Err(format!("node {node}'s catalogue as of {index} isn't the others'")) };
        }
        for partition in catalogue.partitions() {
            self.topics.insert(partition.log, partition.topic);
        }
        self.published.insert(index, Rc::clone(catalogue));
        Ok(())
    }

    /// Somebody asks for a topic's deletion.
    pub fn unwanted(&mut self, topic: TopicId) {
        self.unwanted.insert(topic);
    }

    /// A node deletes its replica of a log.
    ///
    /// # Errors
    /// If nobody ever asked for that.
    pub fn may_delete(&self, log: LogId) -> Result<(), String> {
        match self.topics.get(&log) {
            Some(topic) if self.unwanted.contains(topic) => Ok(()),
            topic => Err(format!("a replica of log {log} is deleted, but nobody deleted its topic {topic:?}")),
        }
    }

    /// The maker of a command is told its outcome.
    ///
    /// # Errors
    /// If it was another one before, or contradicts what others were told.
    pub fn told(&mut self, command: CommandId, outcome: &CommandOutcome) -> Result<(), String> {
        let known = self.outcomes.entry(command).or_insert_with(|| outcome.clone());
        if known != outcome {
            return Err(format!("the outcome of {command:?} was {known:?} and is {outcome:?}"));
        }
        match outcome {
            CommandOutcome::TopicCreated { topic, created: true, .. } => {
                self.created.insert(*topic);
            }
            CommandOutcome::TopicDeleted { topic } => {
                self.deleted.insert(*topic);
            }
            CommandOutcome::ProducerIds { first, count } => {
                let end = first.0 + i64::from(*count);
                let before = self.blocks.range(..*first).next_back();
                let overlaps = before.is_some_and(|(start, many)| start.0 + i64::from(*many) > first.0)
                    || self.blocks.range(*first..ProducerId(end)).any(|block| block != (first, count));
                if overlaps {
                    return Err(format!("producer ids {first} to {end} were given before: {:?}", self.blocks));
                }
                self.blocks.insert(*first, *count);
            }
            _ => {}
        }
        Ok(())
    }

    /// The catalogue of all nodes in the end.
    ///
    /// # Errors
    /// If it contradicts what somebody was told.
    pub fn finish(&self, catalogue: &Catalogue) -> Result<(), String> {
        catalogue.assert_invariants();
        if let Some(lost) = self.created.difference(&self.unwanted).find(|topic| catalogue.topic(**topic).is_none()) {
            return Err(format!("topic {lost} was made, and is lost"));
        }
        match self.deleted.iter().find(|topic| catalogue.topic(**topic).is_some()) {
            Some(back) => Err(format!("topic {back} was deleted, and is back")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_replication::{AllocateProducerIds, Command, CommandBody};

    fn ids(first: i64, count: u32) -> CommandOutcome {
        CommandOutcome::ProducerIds { first: ProducerId(first), count }
    }

    #[test]
    fn an_outcome_stays_and_blocks_do_not_overlap() {
        let mut catalogues = Catalogues::default();
        catalogues.told(CommandId(1), &ids(0, 10)).expect("first");
        catalogues.told(CommandId(1), &ids(0, 10)).expect("the same again");
        catalogues.told(CommandId(1), &ids(10, 10)).expect_err("another outcome");
        catalogues.told(CommandId(2), &ids(10, 10)).expect("the next block");
        catalogues.told(CommandId(3), &ids(19, 1)).expect_err("given before");
        catalogues.told(CommandId(4), &ids(0, 30)).expect_err("around others");
    }

    #[test]
    fn one_index_has_one_catalogue() {
        let apply = |count| {
            let mut catalogue = Catalogue::new();
            let body = CommandBody::AllocateProducerIds(AllocateProducerIds { count });
            catalogue.apply(LogIndex(1), &Command::new(CommandId(1), body).encode());
            Rc::new(catalogue)
        };
        let mut catalogues = Catalogues::default();
        catalogues.seen(NodeId(1), &apply(1)).expect("first");
        catalogues.seen(NodeId(2), &apply(1)).expect("the same");
        catalogues.seen(NodeId(2), &apply(2)).expect_err("another one");
    }

    #[test]
    fn topics_come_and_go_only_as_asked() {
        let mut catalogues = Catalogues::default();
        let created = CommandOutcome::TopicCreated { topic: TopicId(1), partitions: 1, created: true };
        catalogues.told(CommandId(1), &created).expect("made");
        catalogues.finish(&Catalogue::new()).expect_err("lost");
        catalogues.unwanted(TopicId(1));
        catalogues.finish(&Catalogue::new()).expect("somebody deleted it");
        catalogues.may_delete(LogId(7)).expect_err("nobody asked");
    }
}

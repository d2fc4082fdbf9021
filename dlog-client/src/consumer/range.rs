//! Where each partition's reading begins and ends, decided once at the start.

use super::position::Position;
use super::{ConsumerOptions, End, OnGap, ReadLevel, Start, jumped, out_of_range};
use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::metadata::{NodeInfo, Topic};
use crate::offsets::{Marks, OffsetsQuery};
use dlog_core::{Offset, PartitionIndex};
use dlog_protocol::v1::PartitionOffsets;

/// The range of each partition, in the order given.
pub(crate) async fn find(
    client: &Client,
    topic: &Topic,
    partitions: &[PartitionIndex],
    node: Option<&NodeInfo>,
    options: &ConsumerOptions,
    deadline: Deadline,
    warnings: &mut Vec<String>,
) -> Result<Vec<Position>, Error> {
    let mut ask = Asking { client, topic, partitions, node, options, deadline, local: false, warnings };
    let query = match options.from {
        Start::Time(at) => OffsetsQuery { at: Some(at), last_records: None },
        Start::Last(count) => OffsetsQuery { at: None, last_records: Some(count) },
        Start::Earliest | Start::Latest | Start::Offset(_) => OffsetsQuery::default(),
    };
    let marks = ask.offsets(query).await?;
    let ends = match options.to {
        Some(End::Time(at)) => Some(ask.offsets(OffsetsQuery { at: Some(at), last_records: None }).await?),
        Some(End::Offset(_)) | None => None,
    };
    let pairs = marks.iter().enumerate().map(|(at, marks)| (marks, ends.as_ref().map(|ends| &ends[at])));
    pairs.map(|(marks, end)| range(topic, marks, end, options, warnings)).collect()
}

fn range(
    topic: &Topic,
    marks: &PartitionOffsets,
    end: Option<&PartitionOffsets>,
    options: &ConsumerOptions,
    warnings: &mut Vec<String>,
) -> Result<Position, Error> {
    let (log_start, high_watermark) = (Offset(marks.log_start), Offset(marks.high_watermark));
    let next = match options.from {
        Start::Earliest => log_start,
        Start::Latest => high_watermark,
        Start::Last(_) => marks.last_records_offset.map_or(log_start, Offset),
        Start::Time(_) => marks.at_offset.map_or(high_watermark, Offset),
        Start::Offset(offset) if (log_start..=high_watermark).contains(&offset) => offset,
        Start::Offset(offset) => {
            let partition = PartitionIndex(marks.partition);
            let next = match options.on_gap {
                OnGap::Earliest => log_start,
                OnGap::Latest => high_watermark,
                OnGap::Fail => {
                    return Err(out_of_range(topic.name.as_str(), partition, offset, log_start, high_watermark));
                }
            };
            warnings.push(jumped(topic.name.as_str(), partition, offset, next));
            next
        }
    };
    let asked = match options.to {
        Some(End::Offset(offset)) => Some(offset),
        Some(End::Time(_)) => end.and_then(|end| end.at_offset).map(Offset),
        None => None,
    };
    let until = if options.follow { asked } else { Some(asked.unwrap_or(high_watermark).min(high_watermark)) };
    let until_time = match options.to {
        Some(End::Time(at)) if until.is_none() => Some(at),
        _ => None,
    };
    Ok(Position { next, until, until_time })
}

/// Asks for the marks: the leaders, or, with a chosen node and no leader, that node. A linearizable read of a chosen node
/// asks that node alone, which asks its leader.
struct Asking<'a> {
    client: &'a Client,
    topic: &'a Topic,
    partitions: &'a [PartitionIndex],
    node: Option<&'a NodeInfo>,
    options: &'a ConsumerOptions,
    deadline: Deadline,
    /// No leader was found: the chosen node's own marks count from here on.
    local: bool,
    warnings: &'a mut Vec<String>,
}

impl Asking<'_> {
    async fn offsets(&mut self, query: OffsetsQuery) -> Result<Vec<PartitionOffsets>, Error> {
        let Some(node) = self.node else {
            return self.client.leader_offsets(self.topic, self.partitions, query, self.deadline).await;
        };
        if self.options.read == ReadLevel::Linearizable {
            return self.of_node(node, Marks::Confirmed, query).await;
        }
        if !self.local {
            // With a node to fall back on, a third of the time is for finding leaders.
            let within = self.deadline.remaining(self.options.timeout) / 3;
            let asked = self.client.leader_offsets(self.topic, self.partitions, query, Deadline::after(within)).await;
            match asked {
                Err(error) if error.is_retryable() => {
                    self.warnings.push(format!(
                        "no leader of {} answers: what {} itself knows to be committed counts ({error})",
                        self.topic.name, node.name
                    ));
                    self.local = true;
                }
                asked => return asked,
            }
        }
        self.of_node(node, Marks::Local, query).await
    }

    async fn of_node(
        &self,
        node: &NodeInfo,
        marks: Marks,
        query: OffsetsQuery,
    ) -> Result<Vec<PartitionOffsets>, Error> {
        self.client.replica_offsets(node, marks, self.topic, self.partitions, query, self.deadline).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::{ErrorCode, TimestampMs, TopicId, TopicName};
    use tokio::time::Instant;

    fn topic() -> Topic {
        Topic {
            id: TopicId(1),
            name: TopicName::new("t").expect("valid"),
            partitions: Vec::new(),
            max_batch_bytes: 1,
            asked_at: Instant::now(),
        }
    }

    fn found(options: &ConsumerOptions, end_at: Option<u64>) -> Result<(u64, Option<u64>), ErrorCode> {
        let marks = PartitionOffsets {
            log_start: 10,
            high_watermark: 50,
            at_offset: Some(20),
            last_records_offset: Some(45),
            ..PartitionOffsets::default()
        };
        let end = PartitionOffsets { at_offset: end_at, ..marks.clone() };
        let mut warnings = Vec::new();
        match range(&topic(), &marks, Some(&end), options, &mut warnings) {
            Ok(range) => {
                let gap = matches!(options.from, Start::Offset(offset) if offset != range.next);
                assert_eq!(warnings.len(), usize::from(gap), "a jump is told: {warnings:?}");
                Ok((range.next.0, range.until.map(|until| until.0)))
            }
            Err(error) => Err(error.code()),
        }
    }

    #[tokio::test]
    async fn starts_and_ends() {
        let base = || ConsumerOptions::new("t");
        assert_eq!(found(&base(), None), Ok((10, Some(50))));
        assert_eq!(found(&ConsumerOptions { follow: true, ..base() }, None), Ok((10, None)));
        assert_eq!(found(&ConsumerOptions { from: Start::Latest, ..base() }, None), Ok((50, Some(50))));
        assert_eq!(found(&ConsumerOptions { from: Start::Last(5), ..base() }, None), Ok((45, Some(50))));
        let from_time = Start::Time(TimestampMs(7));
        assert_eq!(found(&ConsumerOptions { from: from_time, ..base() }, None), Ok((20, Some(50))));
        let to = |offset| Some(End::Offset(Offset(offset)));
        assert_eq!(found(&ConsumerOptions { to: to(30), ..base() }, None), Ok((10, Some(30))));
        assert_eq!(found(&ConsumerOptions { to: to(99), ..base() }, None), Ok((10, Some(50))), "never waits");
        assert_eq!(found(&ConsumerOptions { to: to(99), follow: true, ..base() }, None), Ok((10, Some(99))));
        let to_time = Some(End::Time(TimestampMs(9)));
        assert_eq!(found(&ConsumerOptions { to: to_time, ..base() }, Some(33)), Ok((10, Some(33))));
        assert_eq!(found(&ConsumerOptions { to: to_time, ..base() }, None), Ok((10, Some(50))));
    }

    #[tokio::test]
    async fn an_offset_out_of_range_is_never_a_silent_jump() {
        for offset in [9, 51] {
            let base = || ConsumerOptions { from: Start::Offset(Offset(offset)), ..ConsumerOptions::new("t") };
            assert_eq!(found(&base(), None), Err(ErrorCode::OffsetOutOfRange));
            assert_eq!(found(&ConsumerOptions { on_gap: OnGap::Earliest, ..base() }, None), Ok((10, Some(50))));
            assert_eq!(found(&ConsumerOptions { on_gap: OnGap::Latest, ..base() }, None), Ok((50, Some(50))));
        }
        let at_the_end = ConsumerOptions { from: Start::Offset(Offset(50)), ..ConsumerOptions::new("t") };
        assert_eq!(found(&at_the_end, None), Ok((50, Some(50))));
    }
}

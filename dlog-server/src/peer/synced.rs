//! `SyncedGroups`: how far the journals of this node's shards are synced, for its peers to remember: one that comes back with
//! less is a copy that was put back.
//!
//! A disk thread notes a group before it says that the group is durable, and a stream reads the numbers after it took the
//! messages that it sends: what rests on a group never leaves before the group's number.

use dlog_core::ShardId;
use dlog_protocol::v1;
use dlog_storage::GroupNumber;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Two numbers for each shard: what this start recovered, and what is synced by now.
pub struct SyncedGroups {
    recovered: Vec<AtomicU64>,
    now: Vec<AtomicU64>,
}

/// What one stream has told: for each shard the last number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told(BTreeMap<usize, u64>);

impl SyncedGroups {
    /// For so many shards, none of which is open yet.
    pub fn new(shards: u16) -> SyncedGroups {
        let zeros = || (0..shards).map(|_| AtomicU64::new(0)).collect();
        SyncedGroups { recovered: zeros(), now: zeros() }
    }

    /// Notes what a shard recovered, before its thread runs and before any hello.
    pub fn begin(&self, shard: ShardId, recovered: GroupNumber) {
        self.recovered[usize::from(shard.0)].store(recovered.0, Ordering::Release);
        self.note(shard, recovered);
    }

    /// Notes that a shard's journal is synced up to a group; the numbers of one shard come in order.
    pub fn note(&self, shard: ShardId, group: GroupNumber) {
        self.now[usize::from(shard.0)].store(group.0, Ordering::Release);
    }

    /// What this start recovered, as a hello says it.
    pub fn recovered(&self) -> Vec<v1::SyncedGroup> {
        let numbered = (0u32..).zip(&self.recovered);
        numbered.map(|(shard, group)| v1::SyncedGroup { shard, group: group.load(Ordering::Acquire) }).collect()
    }

    /// The shards whose numbers rose since the stream told them last, now told.
    pub fn news(&self, told: &mut Told) -> Vec<v1::SyncedGroup> {
        let mut news = Vec::new();
        for (shard, now) in self.now.iter().enumerate() {
            let group = now.load(Ordering::Acquire);
            if told.0.insert(shard, group) != Some(group) {
                news.push(v1::SyncedGroup { shard: shard as u32, group });
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_tells_what_rose_and_nothing_twice() {
        let synced = SyncedGroups::new(2);
        synced.begin(ShardId(0), GroupNumber(4));
        let group = |shard, group| v1::SyncedGroup { shard, group };
        assert_eq!(synced.recovered(), [group(0, 4), group(1, 0)]);
        let mut told = Told::default();
        assert_eq!(synced.news(&mut told), [group(0, 4), group(1, 0)], "a new stream tells all");
        assert_eq!(synced.news(&mut told), []);
        synced.note(ShardId(1), GroupNumber(7));
        assert_eq!(synced.news(&mut told), [group(1, 7)]);
        assert_eq!(synced.news(&mut told), []);
        assert_eq!(synced.recovered(), [group(0, 4), group(1, 0)], "as it was at the start");
    }
}

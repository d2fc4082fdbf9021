//! `BootTable`: what a node knows of the others' starts (file `boots`), so that a copy of a directory that was put back is noticed.
//!
//! Of each node it keeps the highest boot seen and, for each of its shards, the highest journal group that the node told was
//! synced. A node that comes back has at least what it told: a start recovers every group that a sync returned for. Written
//! whole: a new file, synced, renamed over the old one, the folder synced. All integers little-endian:
//!
//! ```text
//! position  size  field
//!        0     8  magic "DLOGBTS\0"
//!        8     4  version, 2
//!       12     4  count of nodes
//!       16        for each node, by rising id: node id u32, boot number u64, random value u64, count of shards u32;
//!                 then for each of its shards, rising: shard u16, group u64; then the last start that was
//!                 refused: boot number u64, random value u64, both 0 if there was none
//!      end     4  CRC32C over all before
//! ```
//!
//! Version 1, without the shards, is still read.

use crate::Disk;
use crate::earlier_boots::EarlierBoots;
use crate::error::StorageError;
use crate::identity::Boot;
use crate::shard_store::GroupNumber;
use crate::whole_file::{self, take};
use dlog_core::{NodeId, ShardId};
use std::collections::BTreeMap;

const FILE: &str = "boots";
const MAGIC: &[u8; 8] = b"DLOGBTS\0";
const VERSION: u32 = 2;
/// The oldest version that is read.
const VERSION_FIRST: u32 = 1;

/// What a node's boot says about its directory, given what was seen of it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootVerdict {
    /// The boot that is known already.
    Same,
    /// A later start, or a node never seen: note it durably before stepping its first message.
    Newer,
    /// An earlier start than one seen: an old copy of its directory was put back. Refuse it.
    Older,
    /// The number of a start seen, with another random value: a second copy of its directory. Refuse it.
    Twin,
}

/// A shard of which a node has less than it had told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The shard.
    pub shard: ShardId,
    /// The last group that the start recovered.
    pub recovered: GroupNumber,
    /// The highest group that the node had told.
    pub told: GroupNumber,
}

/// What is known of one node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Known {
    /// The highest boot seen.
    boot: Boot,
    /// The highest group told for each shard, in any boot.
    told: BTreeMap<ShardId, GroupNumber>,
    /// The last start that came from another line: nothing that follows from it is believed.
    barred: Option<Boot>,
}

/// The highest boot seen of each other node and the highest groups it told, kept across restarts.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BootTable {
    known: BTreeMap<NodeId, Known>,
}

impl BootTable {
    /// The table of the directory `root`; empty if there is none yet.
    ///
    /// # Errors
    /// [`StorageError::NeedsOperator`] if it is damaged; [`StorageError::Io`].
    pub fn load<D: Disk>(disk: &D, root: &str) -> Result<BootTable, StorageError> {
        let path = whole_file::join(root, FILE);
        let Some(bytes) = whole_file::read(disk, &path)? else { return Ok(BootTable::default()) };
        BootTable::decode(&bytes).map_err(|what| StorageError::NeedsOperator {
            path,
            detail: format!(
                "{what}; if no peer was ever restored from a copy, move this file away, else replace the node as a new one"
            ),
        })
    }

    /// Writes it durably.
    ///
    /// # Errors
    /// As [`crate::Identity::save`].
    pub fn save<D: Disk>(&self, disk: &D, root: &str) -> Result<(), StorageError> {
        whole_file::replace(disk, root, FILE, &self.encode())
    }

    /// The highest boot seen of `node`.
    pub fn seen(&self, node: NodeId) -> Option<Boot> {
        self.known.get(&node).map(|known| known.boot)
    }

    /// The highest group that `node` told of this shard, in any boot.
    pub fn highest_told(&self, node: NodeId, shard: ShardId) -> Option<GroupNumber> {
        self.known.get(&node)?.told.get(&shard).copied()
    }

    /// What to think of `node` when it comes with `boot`.
    pub fn judge(&self, node: NodeId, boot: Boot) -> BootVerdict {
        match self.seen(node) {
            None => BootVerdict::Newer,
            Some(seen) if boot.number > seen.number => BootVerdict::Newer,
            Some(seen) if boot.number < seen.number => BootVerdict::Older,
            Some(seen) if boot.random == seen.random => BootVerdict::Same,
            Some(_) => BootVerdict::Twin,
        }
    }

    /// Whether a start of `node` is surely of another line than the boot that was seen, or of one that was barred. Where `earlier`
    /// doesn't reach back so far nothing is sure.
    pub fn is_other_line(&self, node: NodeId, boot: Boot, earlier: &EarlierBoots) -> bool {
        let Some(known) = self.known.get(&node) else { return false };
        let from_barred = known.barred.is_some_and(|barred| earlier.follows(boot, barred) == Some(true));
        from_barred || (boot.number >= known.boot.number && earlier.follows(boot, known.boot) == Some(false))
    }

    /// Nothing that follows from this start of `node` is believed any more; says whether the table changed and must be saved.
    pub fn bar(&mut self, node: NodeId, boot: Boot) -> bool {
        let Some(known) = self.known.get_mut(&node) else { return false };
        known.barred.replace(boot) != Some(boot)
    }

    /// The first shard of which a new start of `node` recovered less than the node had told. A start that says nothing of any
    /// shard (a version of dlog that doesn't) isn't checked; one that says something has nothing of the shards that it leaves out.
    pub fn lost(&self, node: NodeId, recovered: &BTreeMap<ShardId, GroupNumber>) -> Option<Lost> {
        if recovered.is_empty() {
            return None;
        }
        let shards = self.known.get(&node)?.told.iter().map(|(shard, told)| Lost {
            shard: *shard,
            recovered: recovered.get(shard).copied().unwrap_or_default(),
            told: *told,
        });
        shards.into_iter().find(|shard| shard.recovered < shard.told)
    }

    /// Takes a boot into the table if it is newer, and what that start recovered as told: it is durable there. Says whether the
    /// table changed and must be saved.
    pub fn note(&mut self, node: NodeId, boot: Boot, recovered: &BTreeMap<ShardId, GroupNumber>) -> bool {
        let newer = self.judge(node, boot) == BootVerdict::Newer;
        if newer {
            self.known.entry(node).or_default().boot = boot;
            for (shard, group) in recovered {
                self.told(node, boot, *shard, *group);
            }
        }
        newer
    }

    /// Takes note that `node`, in `boot`, told this group of its shard to be synced; says whether the table changed. A number
    /// never goes down, and what another boot than the one seen tells is nothing.
    pub fn told(&mut self, node: NodeId, boot: Boot, shard: ShardId, group: GroupNumber) -> bool {
        let Some(known) = self.known.get_mut(&node).filter(|known| known.boot == boot) else { return false };
        let rises = known.told.get(&shard).is_none_or(|told| *told < group);
        if rises {
            known.told.insert(shard, group);
        }
        rises
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.known.len() as u32).to_le_bytes());
        for (node, Known { boot, told, barred }) in &self.known {
            bytes.extend_from_slice(&node.0.to_le_bytes());
            bytes.extend_from_slice(&boot.number.to_le_bytes());
            bytes.extend_from_slice(&boot.random.to_le_bytes());
            bytes.extend_from_slice(&(told.len() as u32).to_le_bytes());
            for (shard, group) in told {
                bytes.extend_from_slice(&shard.0.to_le_bytes());
                bytes.extend_from_slice(&group.0.to_le_bytes());
            }
            let barred = barred.unwrap_or_default();
            bytes.extend_from_slice(&barred.number.to_le_bytes());
            bytes.extend_from_slice(&barred.random.to_le_bytes());
        }
        whole_file::seal(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<BootTable, String> {
        let body = whole_file::open(bytes, MAGIC, VERSION_FIRST..=VERSION)?;
        let with_shards = whole_file::u32_at(body, 8) > VERSION_FIRST;
        let mut rest = body.get(12..).ok_or("it ends too early")?;
        let count = u32::from_le_bytes(take(&mut rest)?);
        let mut known = BTreeMap::new();
        for _ in 0..count {
            let node = NodeId(u32::from_le_bytes(take(&mut rest)?));
            let boot = take_boot(&mut rest)?;
            let shards = if with_shards { u32::from_le_bytes(take(&mut rest)?) } else { 0 };
            let mut told = BTreeMap::new();
            for _ in 0..shards {
                let shard = ShardId(u16::from_le_bytes(take(&mut rest)?));
                told.insert(shard, GroupNumber(u64::from_le_bytes(take(&mut rest)?)));
            }
            if told.len() != shards as usize {
                return Err("a node's count of shards is wrong".to_string());
            }
            let barred = if with_shards { take_boot(&mut rest)? } else { Boot::default() };
            let barred = (barred.number > 0).then_some(barred);
            known.insert(node, Known { boot, told, barred });
        }
        if !rest.is_empty() || known.len() != count as usize {
            return Err("the count of nodes is wrong".to_string());
        }
        Ok(BootTable { known })
    }
}

fn take_boot(rest: &mut &[u8]) -> Result<Boot, String> {
    let number = u64::from_le_bytes(take(rest)?);
    Ok(Boot { number, random: u64::from_le_bytes(take(rest)?) })
}

#[cfg(test)]
#[path = "boot_table_tests.rs"]
mod tests;

//! `GroupWeight`: what queued writes weigh in the journal, so that a group is chosen which a file can take.

use super::format::group_bytes;
use dlog_core::Frame;
use dlog_core::frame::FRAME_HEADER_BYTES;
use dlog_core::write::{ReplicaWrite, WriteOp};

/// Bytes at most of a write's own part of a group's table, frames apart.
const WRITE_BYTES: u64 = 256;
/// Bytes about of an operation without frames.
const OP_BYTES: usize = 64;

/// What some writes weigh. Their sum is what they weigh as one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupWeight {
    /// Bytes of their frames, headers included, and about of everything else.
    pub bytes: usize,
    /// How many frames.
    pub frames: u64,
    /// How many writes.
    pub writes: u64,
}

impl GroupWeight {
    /// One write's.
    pub fn of(write: &ReplicaWrite) -> GroupWeight {
        let one = GroupWeight { writes: 1, ..GroupWeight::default() };
        write.ops.iter().fold(one, |sum, op| match op {
            WriteOp::Append(frames) => {
                let bytes = frames.iter().map(Frame::encoded_bytes).sum::<usize>();
                GroupWeight { bytes: sum.bytes + bytes, frames: sum.frames + frames.len() as u64, ..sum }
            }
            WriteOp::Configuration { membership, .. } => {
                GroupWeight { bytes: sum.bytes + OP_BYTES + 2 * membership.len(), ..sum }
            }
            _ => GroupWeight { bytes: sum.bytes + OP_BYTES, ..sum },
        })
    }

    /// Both together.
    pub fn plus(self, other: GroupWeight) -> GroupWeight {
        GroupWeight {
            bytes: self.bytes + other.bytes,
            frames: self.frames + other.frames,
            writes: self.writes + other.writes,
        }
    }

    /// Bytes that a group of them takes at most: its table stands twice.
    pub fn journal_bytes(self) -> u64 {
        group_bytes(self.frames * FRAME_HEADER_BYTES as u64 + self.writes * WRITE_BYTES, self.bytes as u64)
    }
}

/// How many of these queued writes, from the first on, make the next group: about `target` bytes but at least one write, and never
/// more than `fits` takes.
pub(crate) fn choose(
    queued: impl Iterator<Item = GroupWeight>,
    target: usize,
    fits: impl Fn(GroupWeight) -> bool,
) -> (usize, GroupWeight) {
    let (mut count, mut sum) = (0, GroupWeight::default());
    for weight in queued {
        let with = sum.plus(weight);
        if count > 0 && (with.bytes > target || !fits(with)) {
            break;
        }
        (count, sum) = (count + 1, with);
    }
    (count, sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ClusterId;
    use crate::journal::format::GroupKind;
    use crate::journal::format::tests::any_writes;
    use crate::journal::group::{GroupBuilder, GroupContext, GroupPlace};
    use dlog_core::{LogIndex, ShardId};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_group_takes_more_than_its_weight(writes in any_writes()) {
            let mut builder = GroupBuilder::default();
            builder.clear();
            writes.iter().for_each(|write| builder.push(write, LogIndex(1)));
            let weight = writes.iter().map(GroupWeight::of).fold(GroupWeight::default(), GroupWeight::plus);
            prop_assert!(builder.bytes() <= weight.journal_bytes(), "{} of {weight:?}", builder.bytes());
            prop_assert_eq!(weight.writes, writes.len() as u64);
            let context = GroupContext { cluster: ClusterId([1; 16]), shard: ShardId(0), generation: 1 };
            let place = GroupPlace { position: 4096, number: 1, previous_crc: 0 };
            builder.finish(context, place, GroupKind::Group);
            let written: usize = builder.parts(&writes).iter().map(|part| part.len()).sum();
            prop_assert!(written as u64 <= weight.journal_bytes());
        }
    }

    #[test]
    fn many_small_writes_are_cut_into_groups_that_fit() {
        let one = GroupWeight { bytes: 100, frames: 5, writes: 1 };
        let fits = |weight: GroupWeight| weight.journal_bytes() <= 64 << 10;
        let (count, weight) = choose(std::iter::repeat_n(one, 1000), 1 << 20, fits);
        assert!(count < 1000 && fits(weight) && !fits(weight.plus(one)));
        assert_eq!(choose(std::iter::repeat_n(one, 1000), 950, fits).0, 9, "the target bounds it too");
        let huge = GroupWeight { bytes: 1 << 20, frames: 1, writes: 1 };
        assert_eq!(choose([huge, one].into_iter(), 950, fits), (1, huge), "at least one is taken");
        assert_eq!(choose(std::iter::empty(), 950, fits).0, 0);
    }
}

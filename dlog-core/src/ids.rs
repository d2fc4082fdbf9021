//! Names of things as types, so that a term can't be passed where an index is meant.
//!
//! Arithmetic exists only where it has a meaning: a [`LogIndex`] has a successor and a predecessor, a [`Term`] has a
//! successor; the others are names.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// A node of the cluster. Given at bootstrap or by the catalogue, from 1 up, never used twice.
    NodeId(u32), "node:"
);
id!(
    /// A topic. Given by the catalogue, from 1 up, never used twice: a topic that is deleted and made again is another one.
    TopicId(u64), "topic:"
);
id!(
    /// The position of a partition in its topic, from 0.
    PartitionIndex(u32), "partition:"
);
id!(
    /// The log of one partition, shared by all its replicas. Given by the catalogue, never used twice; 0 is group 0's.
    LogId(u64), "log:"
);
id!(
    /// One slice of a node's work: its own journal, consensus thread and disk thread. From 0.
    ShardId(u16), "shard:"
);
id!(
    /// Raft's term. 0 before the first election.
    Term(u64), "term:"
);
id!(
    /// Raft's index of an entry in a log, from 1; 0 stands for "before the first". No-ops and configuration changes take
    /// one too, so it is not an [`Offset`](crate::Offset).
    LogIndex(u64), "index:"
);
id!(
    /// A producer with a sequence of its own (Kafka's producer id). Not negative; given in blocks by the catalogue.
    ProducerId(i64), "producer:"
);
id!(
    /// A request that waits for a reply, unique within one process.
    RequestId(u64), "request:"
);
id!(
    /// One placement of a replica on a node: the Raft id, and the name of its directory. The upper 32 bits are the
    /// [`NodeId`] that owns it; the lower come from the catalogue and are never used twice on that node.
    ReplicaId(u64), "replica:"
);

impl ReplicaId {
    /// The replica `number` of `node`.
    pub const fn new(node: NodeId, number: u32) -> ReplicaId {
        ReplicaId(((node.0 as u64) << 32) | number as u64)
    }

    /// The node that owns this replica. No catalogue is asked.
    pub const fn node(self) -> NodeId {
        NodeId((self.0 >> 32) as u32)
    }

    /// The catalogue's number of this replica on its node.
    pub const fn number(self) -> u32 {
        self.0 as u32
    }
}

impl LogId {
    /// The log of group 0, the metadata group.
    pub const GROUP_ZERO: LogId = LogId(0);
}

impl LogIndex {
    /// Stands before the first entry.
    pub const ZERO: LogIndex = LogIndex(0);
    /// Every frame that is read has a lower one, so its index can be counted on.
    pub const MAX: LogIndex = LogIndex(i64::MAX as u64);

    /// The index after this one.
    pub const fn next(self) -> LogIndex {
        LogIndex(self.0 + 1)
    }

    /// The index before this one.
    ///
    /// # Panics
    /// At index 0, which has none.
    pub const fn previous(self) -> LogIndex {
        assert!(self.0 > 0, "index 0 has no predecessor");
        LogIndex(self.0 - 1)
    }
}

impl Term {
    /// Before the first election.
    pub const ZERO: Term = Term(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_id_carries_its_node() {
        let id = ReplicaId::new(NodeId(7), 42);
        assert_eq!(id.node(), NodeId(7));
        assert_eq!(id.number(), 42);
        assert_eq!(id.0, (7 << 32) + 42);
    }

    #[test]
    fn debug_names_the_kind() {
        assert_eq!(format!("{:?} {}", LogIndex(3), LogIndex(3)), "index:3 3");
    }
}

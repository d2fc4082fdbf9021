//! Memory, file handles and disk of the nodes (and of this process, for the client library): flat, or growing?

use super::load::PARTITIONS;
use dlog_cluster_tests::usage::{self, Disk, Memory};
use dlog_cluster_tests::{Cluster, wait};
use dlog_core::limits::{JOURNAL_FILE_BYTES, JOURNAL_FILES_MAX};
use std::fmt;

const MIB: u64 = 1 << 20;
/// Of the topic under load.
pub const SEGMENT_BYTES: u64 = 256 << 10;
/// Kept of each partition: some minutes, far more than a follower of one node misses while it is down, and a small part of
/// what an hour writes.
pub const RETENTION_BYTES: u64 = 4 * MIB;
/// How much a node's memory may grow beyond half as much again.
const RESIDENT_SLACK: u64 = 48 * MIB;
/// How many more file handles a node may have: connections and segments of the moment.
const HANDLES_SLACK: u64 = 64;
/// State store, checkpoints, identity.
const REST_MAX: u64 = 128 * MIB;
/// Group 0's log, topics of the moment, indexes, producer files.
const LOGS_SLACK: u64 = 8 * MIB;

/// What was measured at one moment.
#[derive(Clone, Debug)]
struct Sample {
    resident: Vec<u64>,
    handles: Vec<u64>,
    disk: Vec<u64>,
    /// Of this process, without what the test itself notes.
    own: u64,
}

/// All measurements, in order.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Measures every node, all of which run.
    pub fn take(&mut self, cluster: &mut Cluster, notes_bytes: u64) {
        let pids: Vec<u32> = cluster.nodes.iter_mut().map(|node| node.process().pid()).collect();
        let own = Memory::of(std::process::id()).resident.saturating_sub(notes_bytes);
        self.0.push(Sample {
            resident: pids.iter().map(|pid| Memory::of(*pid).resident).collect(),
            handles: pids.iter().map(|pid| usage::open_files(*pid)).collect(),
            disk: (0..pids.len()).map(|node| Disk::of(cluster.data_dir(node)).total()).collect(),
            own,
        });
    }

    /// The greatest of any node in a part of the time.
    fn greatest(part: &[Sample], of: impl Fn(&Sample) -> &[u64]) -> u64 {
        part.iter().flat_map(|sample| of(sample).iter().copied()).max().unwrap_or_default()
    }

    /// Asks that nothing was greater in the last third than in the first, but for some slack.
    #[track_caller]
    pub fn assert_flat(&self) {
        let third = self.0.len().div_ceil(3);
        let (first, last) = (&self.0[..third], &self.0[self.0.len() - third..]);
        let both = |of: fn(&Sample) -> &[u64]| (Samples::greatest(first, of), Samples::greatest(last, of));
        let (resident, handles) = (both(|s| &s.resident), both(|s| &s.handles));
        let own = |part: &[Sample]| part.iter().map(|sample| sample.own).max().unwrap_or_default();
        eprintln!(
            "soak: greatest in the first and in the last third: {} and {} MiB resident, {} and {} file handles, {} and {} \
             MiB of disk (a node); {} and {} MiB resident (the clients)",
            resident.0 / MIB,
            resident.1 / MIB,
            handles.0,
            handles.1,
            both(|s| &s.disk).0 / MIB,
            both(|s| &s.disk).1 / MIB,
            own(first) / MIB,
            own(last) / MIB,
        );
        let allowed = |before: u64| before + before / 2 + RESIDENT_SLACK;
        assert!(resident.1 <= allowed(resident.0), "the nodes' memory grew: {self:#?}");
        assert!(own(last) <= allowed(own(first)), "the clients' memory grew: {self:#?}");
        assert!(handles.1 <= handles.0 + HANDLES_SLACK, "the nodes' file handles grew: {self:#?}");
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(now) = self.0.last() else { return f.write_str("nothing measured") };
        let mib = |bytes: &[u64]| bytes.iter().map(|bytes| bytes / MIB).collect::<Vec<_>>();
        let (resident, disk) = (mib(&now.resident), mib(&now.disk));
        write!(f, "MiB resident {resident:?}, file handles {:?}, MiB of disk {disk:?}", now.handles)
    }
}

/// Asks that each node's disk holds what the topic's retention lets it keep, a journal of its bounded size, and not much
/// else: bounds that don't grow with the time.
#[track_caller]
pub fn assert_disks(cluster: &Cluster) {
    let logs_max = u64::from(PARTITIONS) * (RETENTION_BYTES + 4 * SEGMENT_BYTES) + LOGS_SLACK;
    let journal_max = JOURNAL_FILES_MAX as u64 * JOURNAL_FILE_BYTES + MIB;
    for (number, node) in cluster.nodes.iter().enumerate() {
        wait::until_ok(&format!("the disk of {} is within its bounds", node.name()), wait::LONG, || {
            let disk = Disk::of(cluster.data_dir(number));
            match disk.logs <= logs_max && disk.journal <= journal_max && disk.rest <= REST_MAX {
                true => Ok(()),
                false => {
                    Err(format!("{disk:?}; at most {logs_max} of logs, {journal_max} of journal, {REST_MAX} of rest"))
                }
            }
        });
    }
}

//! Every metric of a node, in one table: its name, its type and its help. docs/operations.md lists the same; a test compares.
//!
//! Labels are bounded: listeners, reasons, acks and codes are closed lists; peers are at most the cluster's nodes; and of the
//! replicas here at most [`PARTITIONS_MAX`] have series of their own.

use prometheus_client::metrics::MetricType;

/// Replicas of this node that have series of their own, in the order of their logs' ids; `dlog_partitions_unlisted` counts the
/// others. Each costs about 15 lines of the page.
pub const PARTITIONS_MAX: usize = 1000;

/// Upper bounds of a journal group's bytes, from one block to the largest group.
pub const GROUP_BYTES_BOUNDS: &[f64] =
    &[4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 8_388_608.0, 16_777_216.0, 25_165_824.0];
/// Upper bounds of the writes in a journal group.
pub const GROUP_WRITES_BOUNDS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Metrics of one name.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Without the `_total` that a counter's series carry.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricType,
    /// One sentence for people.
    pub help: &'static str,
}

impl Family {
    /// The name as queries use it: counters end with `_total`.
    pub fn series(&self) -> String {
        match self.kind {
            MetricType::Counter => format!("{}_total", self.name),
            _ => self.name.to_string(),
        }
    }
}

/// Makes a constant of each family, and the list of all of them.
macro_rules! families {
    ($($constant:ident = $kind:ident $name:literal, $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Family = Family { name: $name, kind: MetricType::$kind, help: $help };
        )+

        /// All of them, in the order of the page.
        pub const ALL: &[Family] = &[$($constant),+];
    };
}

families! {
    BUILD_INFO = Gauge "dlog_build_info", "Always 1; the label says which version runs.";
    UPTIME = Gauge "dlog_uptime_seconds", "Seconds since the node started.";
    READY = Gauge "dlog_ready", "1 if the node takes writes, as /readyz says.";
    INSECURE = Gauge "dlog_insecure", "1 if the node listens beyond loopback without TLS and authentication.";
    CLOCK_AGREES = Gauge "dlog_wall_clock_agrees", "1 if a majority of the nodes has this node's time; else nothing is dropped by age.";
    RESIDENT = Gauge "dlog_process_resident_memory_bytes", "Memory of the process.";
    OPEN_FDS = Gauge "dlog_process_open_fds", "File descriptors that the process has open.";
    MAX_FDS = Gauge "dlog_process_max_fds", "File descriptors that the process may have open.";
    CPU = Counter "dlog_process_cpu_seconds", "Processor time that the process has used.";

    CONNECTIONS = Gauge "dlog_connections", "Connections open now.";
    ACCEPTED = Counter "dlog_connections_accepted", "Connections that were let in.";
    TURNED = Counter "dlog_connections_turned_away", "Connections that were refused or closed to keep a bound, by reason.";

    PRODUCE_BATCHES = Counter "dlog_produce_batches", "Batches acked to producers.";
    PRODUCE_RECORDS = Counter "dlog_produce_records", "Records acked to producers.";
    PRODUCE_BYTES = Counter "dlog_produce_bytes", "Bytes of batches acked to producers, as sent.";
    PRODUCE_DUPLICATES = Counter "dlog_produce_duplicates", "Acked batches that were there before: retries.";
    ACK = Histogram "dlog_produce_ack_duration_seconds", "From a batch's arrival to its ack.";
    CONSUME_BATCHES = Counter "dlog_consume_batches", "Batches sent to readers.";
    CONSUME_RECORDS = Counter "dlog_consume_records", "Records sent to readers.";
    CONSUME_BYTES = Counter "dlog_consume_bytes", "Bytes of batches sent to readers, as stored.";
    CONSUME_STREAMS = Gauge "dlog_consume_streams", "Consume streams open now.";
    ERRORS = Counter "dlog_errors", "Errors told to clients, by code; not_leader and the like are part of ordinary life.";

    IN_FLIGHT = Gauge "dlog_produce_in_flight_bytes", "Bytes of produce requests that wait for their acks.";
    ADMITTED = Gauge "dlog_shard_admitted_bytes", "Bytes of producers' batches between admission and reply.";
    RECEIVED = Gauge "dlog_shard_received_bytes", "Bytes of peers' entries that are not durable here yet.";
    PEER_QUEUE = Gauge "dlog_peer_queue_bytes", "Bytes that wait to be sent to another node.";

    APPEND = Histogram "dlog_append_duration_seconds", "From when a shard says what is to be written until it is durable on this node, waiting included.";
    SYNC = Histogram "dlog_journal_sync_duration_seconds", "Write and fdatasync of one journal group.";
    GROUP_BYTES = Histogram "dlog_journal_group_bytes", "Bytes that one fdatasync made durable.";
    GROUP_WRITES = Histogram "dlog_journal_group_writes", "Replicas' writes that one fdatasync made durable.";
    JOURNAL_BYTES = Gauge "dlog_journal_bytes", "Bytes of a shard's journal files, spare ones included.";
    JOURNAL_FILES = Gauge "dlog_journal_files", "Files of a shard's journal, spare ones included.";
    DATA_BYTES = Gauge "dlog_data_bytes", "Bytes of all segments of a shard.";
    DISK_FREE = Gauge "dlog_disk_free_bytes", "Bytes that the data directory's file system has left for this node.";
    DISK_SIZE = Gauge "dlog_disk_capacity_bytes", "Size of the data directory's file system.";

    FAULTS_FOUND = Counter "dlog_faults_found", "Runs of frames that were found damaged on this node's disk.";
    FAULTS_MENDED = Counter "dlog_faults_mended", "Runs of damaged frames that were mended with other replicas' frames.";
    SCRUB_BYTES = Counter "dlog_scrub_bytes", "Bytes of segments that the scrub has read.";
    SCRUB_PASSES = Counter "dlog_scrub_passes", "Times that the scrub has read every segment of this node.";
    DISK_FULL = Gauge "dlog_disk_full", "0: records are taken; 1: none from producers, for want of room; 2: none at all.";
    DISK_STUCK = Gauge "dlog_disk_stuck", "1 while the disk doesn't answer: nothing is led here then.";
    DISK_RESERVE = Gauge "dlog_disk_reserve_bytes", "Bytes of the disk that are to stay free.";

    ELECTIONS_STARTED = Counter "dlog_elections_started", "Elections that replicas of this node began.";
    ELECTIONS_WON = Counter "dlog_elections_won", "Elections that replicas of this node won.";
    LEADER_CHANGES = Counter "dlog_leader_changes", "Times that a replica of this node saw another leader than before.";
    REPLICAS = Gauge "dlog_replicas", "Replicas on this node, the metadata group's included.";
    LED = Gauge "dlog_replicas_led", "Replicas on this node that lead.";
    LEADERLESS = Gauge "dlog_replicas_without_leader", "Replicas on this node that know of no leader.";
    UNDER_REPLICATED = Gauge "dlog_partitions_under_replicated", "Partitions led here of which some replica is not in sync.";
    UNLISTED = Gauge "dlog_partitions_unlisted", "Replicas on this node for which the page has no series of their own.";

    LEADER = Gauge "dlog_partition_leader", "1 if the replica here leads.";
    TERM = Gauge "dlog_partition_term", "The partition's term, as known here.";
    HIGH_WATERMARK = Gauge "dlog_partition_high_watermark", "First offset that is not committed, as known here.";
    LOG_START = Gauge "dlog_partition_log_start", "First offset that can be read.";
    LOG_END = Gauge "dlog_partition_log_end", "First offset that is not written here.";
    LAG = Gauge "dlog_partition_lag_records", "Records that are committed but can't be read here yet.";
    SIZE = Gauge "dlog_partition_size_bytes", "Bytes of the replica's segments.";
    READ_RECORDS = Counter "dlog_partition_read_records", "Records sent to readers from here.";
    READ_BYTES = Counter "dlog_partition_read_bytes", "Bytes of batches sent to readers from here.";
    MEMBERS = Gauge "dlog_partition_replicas", "Voting replicas; told by the leader alone.";
    IN_SYNC = Gauge "dlog_partition_in_sync_replicas", "Voting replicas in sync, the leader included; told by the leader alone.";
    FOLLOWER_LAG = Gauge "dlog_partition_follower_lag_entries", "Entries that another node's replica has not confirmed; told by the leader alone.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_the_conventions() {
        let names: BTreeSet<&str> = ALL.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), ALL.len(), "no name twice");
        for family in ALL {
            let name = family.name;
            assert!(name.starts_with("dlog_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(!["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)), "{name}");
            assert!(family.help.ends_with('.') && !family.help.contains(['\n', '\\', '"']), "{name}: {}", family.help);
            let duration = name.contains("duration") || name.contains("uptime");
            assert!(!duration || name.ends_with("_seconds"), "{name} needs its unit");
        }
    }

    #[test]
    fn the_manual_lists_every_metric_and_no_other() {
        let manual = include_str!("../../../docs/operations.md");
        // A row of the table: | `name` | type | …
        let row = |line: &str| -> Option<String> {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let is_type = ["gauge ", "counter ", "histogram "].iter().any(|kind| rest.starts_with(kind));
            is_type.then(|| name.to_string())
        };
        let listed: BTreeSet<String> = manual.lines().filter_map(row).collect();
        let known: BTreeSet<String> = ALL.iter().map(Family::series).collect();
        let missing: Vec<_> = known.difference(&listed).collect();
        let gone: Vec<_> = listed.difference(&known).collect();
        assert!(missing.is_empty() && gone.is_empty(), "docs/operations.md lacks {missing:?} and has {gone:?}");
    }
}

//! The small files of a data directory, read through the calls that the node uses: identity, boots, clean stop, producer file,
//! checkpoint.

use crate::target::{Mend, Target};
use bytes::Bytes;
use dlog_core::write::{LogPoint, TermStart};
use dlog_core::{LogId, LogIndex, NodeId, Offset, ReplicaId, ShardId, Term, TimestampMs};
use dlog_storage::checkpoint::{Checkpoint, ReplicaCheckpoint};
use dlog_storage::journal::JournalPosition;
use dlog_storage::manifest::{self, Manifest};
use dlog_storage::producers;
use dlog_storage::{
    Boot, BootTable, BootstrapMember, ClusterId, DirectoryId, Disk, DiskFile, GroupNumber, Identity, LogState, Mark,
    MarkKind, SegmentState, SimDisk,
};
use std::collections::BTreeMap;

pub(super) const IDENTITY: Target = Target {
    name: "identity",
    seeds: identity_seeds,
    mend: Mend::InPlace(mend_identity),
    check: check_identity,
    memory: 64 << 10,
    runs: 12_000,
};
pub(super) const BOOTS: Target = Target {
    name: "boots",
    seeds: boots_seeds,
    mend: Mend::InPlace(mend_crc_behind),
    check: check_boots,
    memory: 64 << 10,
    runs: 12_000,
};
pub(super) const MANIFEST: Target = Target {
    name: "manifest",
    seeds: manifest_seeds,
    mend: Mend::InPlace(mend_manifest),
    check: check_manifest,
    memory: 64 << 10,
    runs: 12_000,
};
pub(super) const PRODUCERS_FILE: Target = Target {
    name: "producers_file",
    seeds: producers_seeds,
    mend: Mend::InPlace(mend_producers),
    check: check_producers,
    memory: 64 << 10,
    runs: 12_000,
};
pub(super) const CHECKPOINT: Target = Target {
    name: "checkpoint",
    seeds: checkpoint_seeds,
    mend: Mend::InPlace(mend_checkpoint),
    check: check_checkpoint,
    memory: 64 << 10,
    runs: 24_000,
};

pub(super) const CLUSTER: ClusterId = ClusterId([7; 16]);
pub(super) const SHARD: ShardId = ShardId(0);
const REPLICA: ReplicaId = ReplicaId(0x1_0000_0002);

/// A disk with one file.
pub(super) fn disk_with(path: &str, bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::with_seed(1);
    if let Some((folder, _)) = path.rsplit_once('/') {
        disk.create_dir(folder).expect("made");
    }
    let file = disk.create(path).expect("made");
    file.write_at(&[bytes], 0).expect("written");
    disk
}

pub(super) fn bytes_of(disk: &SimDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path).expect("there");
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    file.read_at(&mut bytes, 0).expect("read");
    bytes
}

/// The CRC at the end, over all before.
pub(super) fn mend_crc_behind(bytes: &mut [u8]) {
    if let Some(at) = bytes.len().checked_sub(4) {
        let crc = crc32c::crc32c(&bytes[..at]);
        bytes[at..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The CRC at `at`, over all before it and all behind it.
fn mend_crc_inside(bytes: &mut [u8], at: usize) {
    if bytes.len() >= at + 4 {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..at]), &bytes[at + 4..]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

fn identity_seeds() -> Vec<Vec<u8>> {
    let saved = |identity: &Identity| {
        let disk = SimDisk::with_seed(1);
        identity.save(&disk, "").expect("saved");
        bytes_of(&disk, "identity")
    };
    let mut identity = Identity::new("node-1", 2, DirectoryId([3; 16]));
    let new = saved(&identity);
    identity.cluster = CLUSTER;
    identity.node = NodeId(1);
    let member = |name: &str, byte| BootstrapMember { name: name.to_string(), directory: DirectoryId([byte; 16]) };
    identity.bootstrap = vec![member("node-1", 3), member("node-2", 4)];
    for random in 1..=5 {
        identity.begin_boot(random * 11);
    }
    vec![new, saved(&identity)]
}

pub(super) fn mend_identity(bytes: &mut [u8]) {
    if bytes.len() >= 16 {
        let length = bytes.len() as u32;
        bytes[12..16].copy_from_slice(&length.to_le_bytes());
    }
    mend_crc_behind(bytes);
}

fn check_identity(input: &[u8]) -> bool {
    let disk = disk_with("identity", input);
    let Ok(identity) = Identity::load(&disk, "") else { return false };
    let identity = identity.expect("there is a file");
    identity.save(&disk, "").expect("what was read can be written");
    assert_eq!(Identity::load(&disk, "").ok().flatten(), Some(identity));
    true
}

fn boots_seeds() -> Vec<Vec<u8>> {
    let saved = |table: &BootTable| {
        let disk = SimDisk::with_seed(1);
        table.save(&disk, "").expect("saved");
        bytes_of(&disk, "boots")
    };
    let mut table = BootTable::default();
    let empty = saved(&table);
    for node in 1..=3 {
        let boot = Boot { number: u64::from(node) * 2, random: 99 };
        let recovered = BTreeMap::from([(ShardId(0), GroupNumber(40)), (ShardId(1), GroupNumber(2))]);
        assert!(table.note(NodeId(node), boot, &recovered), "a new node");
    }
    table.bar(NodeId(2), Boot { number: 9, random: 1 });
    // Version 1: no shards, nothing barred.
    let mut first = b"DLOGBTS\0\x01\0\0\0\x01\0\0\0\x05\0\0\0".to_vec();
    first.extend_from_slice(&3u64.to_le_bytes());
    first.extend_from_slice(&8u64.to_le_bytes());
    first.extend_from_slice(&[0; 4]);
    mend_crc_behind(&mut first);
    vec![empty, saved(&table), first]
}

fn check_boots(input: &[u8]) -> bool {
    let disk = disk_with("boots", input);
    let Ok(table) = BootTable::load(&disk, "") else { return false };
    table.save(&disk, "").expect("what was read can be written");
    assert_eq!(BootTable::load(&disk, "").ok(), Some(table));
    true
}

fn manifest_seeds() -> Vec<Vec<u8>> {
    let written = |sequence, group| {
        let disk = disk_with("d/other", b"");
        manifest::write(&disk, "d", &Manifest { sequence, group }).expect("written");
        bytes_of(&disk, "d/clean-stop")
    };
    vec![written(1, 2), written(7, 300), written(u64::MAX, 1 << 40)]
}

/// The body's length and the CRC.
pub(super) fn mend_manifest(bytes: &mut [u8]) {
    if bytes.len() >= 20 {
        let body = (bytes.len() - 20) as u32;
        bytes[12..16].copy_from_slice(&body.to_le_bytes());
    }
    mend_crc_inside(bytes, 16);
}

fn check_manifest(input: &[u8]) -> bool {
    let disk = disk_with("d/clean-stop", input);
    let Some(found) = manifest::take(&disk, "d").expect("a damaged one is none") else { return false };
    assert_eq!(manifest::take(&disk, "d").expect("read"), None, "it is taken once");
    manifest::write(&disk, "d", &found).expect("written");
    assert_eq!(manifest::take(&disk, "d").expect("read"), Some(found));
    true
}

fn producers_path() -> String {
    format!("d/{}", producers::file_name(LogIndex(5)))
}

fn producers_seeds() -> Vec<Vec<u8>> {
    let stored = |table: &[u8]| {
        let disk = disk_with("d/other", b"");
        producers::store(&disk, "d", REPLICA, LogIndex(5), table).expect("stored");
        bytes_of(&disk, &producers_path())
    };
    vec![stored(b""), stored(b"a table"), stored(&[1; 300])]
}

/// The table's length and the CRC.
pub(super) fn mend_producers(bytes: &mut [u8]) {
    if bytes.len() >= 48 {
        let table = (bytes.len() - 48) as u64;
        bytes[32..40].copy_from_slice(&table.to_le_bytes());
    }
    mend_crc_inside(bytes, 44);
}

fn check_producers(input: &[u8]) -> bool {
    let path = producers_path();
    let disk = disk_with(&path, input);
    let found = producers::load(&disk, "d", REPLICA, &[LogIndex(5)]).expect("a damaged one is passed over");
    let Some((index, table)) = found else { return false };
    producers::store(&disk, "d", REPLICA, index, &table).expect("stored");
    assert_eq!(bytes_of(&disk, &path), input, "it is written as it was read");
    true
}

pub(super) fn point(index: u64, offset: u64) -> LogPoint {
    LogPoint { index: LogIndex(index), term: Term(2), next_offset: Offset(offset), crc: index as u32 * 3 }
}

fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let segment = |generation, start, last, ended| SegmentState {
        start,
        generation,
        bytes: 1000 + generation,
        last,
        greatest_time: TimestampMs(5),
        ended,
    };
    let log_state = LogState {
        local_start: point(10, 100),
        log_start: Offset(104),
        last: point(30, 140),
        next_generation: 9,
        segments: vec![
            segment(3, point(10, 100), point(20, 120), true),
            segment(8, point(20, 120), point(30, 140), false),
        ],
        term_starts: vec![
            TermStart { term: Term(1), index: LogIndex(11), offset: Offset(100) },
            TermStart { term: Term(2), index: LogIndex(25), offset: Offset(130) },
        ],
    };
    let full = ReplicaCheckpoint {
        replica: REPLICA,
        log: LogId(5),
        intent: LogIndex(3),
        term: Term(2),
        vote: Some(ReplicaId(0x2_0000_0001)),
        commit: LogIndex(29),
        membership_index: LogIndex(7),
        membership: Bytes::from_static(b"members"),
        producers: Some(LogIndex(20)),
        log_state,
    };
    let empty = ReplicaCheckpoint {
        replica: ReplicaId(0x1_0000_0003),
        log: LogId(6),
        vote: None,
        producers: None,
        log_state: LogState::empty(LogPoint::default()),
        ..full.clone()
    };
    let mark = |kind| Mark { until: LogIndex(12), kind };
    let marks = [(ReplicaId(8), mark(MarkKind::Deleted)), (ReplicaId(9), mark(MarkKind::Retired))];
    let position = JournalPosition { generation: 2, position: 8192, number: 17, crc: 99 };
    let with = |replicas, marks| Checkpoint { sequence: 4, position, replicas, marks }.encode(CLUSTER, SHARD);
    vec![with(Vec::new(), BTreeMap::new()), with(vec![full, empty], BTreeMap::from(marks))]
}

/// The body's length and the CRC.
pub(super) fn mend_checkpoint(bytes: &mut [u8]) {
    if bytes.len() >= 64 {
        let body = (bytes.len() - 64) as u64;
        bytes[40..48].copy_from_slice(&body.to_le_bytes());
    }
    mend_crc_inside(bytes, 60);
}

fn check_checkpoint(input: &[u8]) -> bool {
    let Ok(checkpoint) = Checkpoint::decode(input, CLUSTER, SHARD) else { return false };
    for replica in &checkpoint.replicas {
        let state = &replica.log_state;
        assert_eq!(state.check(), Ok(()));
        state.segments.iter().for_each(|segment| drop(segment.name().file()));
        let mut trimmed = state.clone();
        let middle = LogIndex(state.local_start.index.0 / 2 + state.last.index.0 / 2);
        trimmed.trim(middle);
        assert_eq!(state.term_at(state.local_start.index), Some(state.local_start.term));
        assert!(state.term_at(state.last.index).is_some());
    }
    let replicas = checkpoint.replicas.windows(2).all(|two| two[0].replica < two[1].replica);
    let marked = checkpoint.replicas.iter().any(|replica| checkpoint.marks.contains_key(&replica.replica));
    assert!(replicas && !marked, "the replicas rise, and none is also marked");
    let again = Checkpoint::decode(&checkpoint.encode(CLUSTER, SHARD), CLUSTER, SHARD);
    assert_eq!(again, Ok(checkpoint));
    true
}

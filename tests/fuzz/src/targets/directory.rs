//! A whole data directory of one shard, damaged in a few places: what `dlog inspect` and `dlog verify` say of it, and what a start
//! makes of it.
//!
//! The input is one byte (odd: the checksums of damaged files are mended), then changes of eight bytes: kind, file, position
//! (u32, little-endian, modulo the file's length), two bytes of value.

use crate::target::{Mend, Target};
use crate::targets::batch;
use crate::targets::journal::mend_file;
use crate::targets::log_files::mend_segment;
use crate::targets::small_files::{
    CLUSTER, SHARD, bytes_of, mend_checkpoint, mend_crc_behind, mend_identity, mend_manifest, mend_producers,
};
use bytes::Bytes;
use dlog_core::write::{Create, LogPoint, ReplicaWrite, WriteOp};
use dlog_core::{BatchHeader, Frame, FrameKind, LogId, LogIndex, NodeId, Offset, ReplicaId, Term, TimestampMs};
use dlog_storage::inspect::{self, LogPlace};
use dlog_storage::journal::file::FIRST_GROUP_AT;
use dlog_storage::journal::format::{GROUP_HEADER_BYTES, GroupHeader};
use dlog_storage::{
    Boot, BootTable, DirectoryId, Disk, DiskFile, Identity, JournalOptions, LogOptions, ShardIdentity, ShardStore,
    SimDisk, StoreOptions, verify,
};
use std::collections::BTreeMap;
use std::sync::LazyLock;

pub(super) const DIRECTORY: Target = Target {
    name: "directory",
    seeds,
    mend: Mend::Nothing,
    check,
    // The disk is in memory, with every file that a start makes.
    memory: 8 << 20,
    runs: 960,
};

const ROOT: &str = "data";
const IDENTITY: ShardIdentity = ShardIdentity { cluster: CLUSTER, shard: SHARD };
const SECTOR: usize = 512;
const CHANGE_BYTES: usize = 8;
/// Changes of one input: more leave nothing of so small a directory.
const CHANGES_MAX: usize = 8;

/// Small files, so that few frames meet every case.
fn options() -> StoreOptions {
    let journal =
        JournalOptions { first_file_bytes: 64 << 10, file_bytes: 64 << 10, files_max: 4, reserve_bytes: 8 << 10 };
    let log = LogOptions { segment_bytes: 2048, index_interval_bytes: 512 };
    StoreOptions { journal, log, tail_cache_bytes: 16 << 10, ..StoreOptions::default() }
}

/// A directory, and the frames that were committed in it.
struct Directory {
    disk: SimDisk,
    /// Each file with its length, in order.
    files: Vec<(String, u64)>,
    committed: BTreeMap<ReplicaId, Vec<Frame>>,
}

static WHOLE: LazyLock<Directory> = LazyLock::new(Directory::make);

fn replica(number: u32) -> ReplicaId {
    ReplicaId::new(NodeId(1), number)
}

fn log_of(replica: ReplicaId) -> LogId {
    LogId(u64::from(replica.number()))
}

impl Directory {
    /// Two logs over several segments, of which the last frames stand behind the last checkpoint.
    fn make() -> Directory {
        let disk = SimDisk::with_seed(1);
        disk.create_dir(ROOT).expect("made");
        let mut identity = Identity::new("node-1", 1, DirectoryId([3; 16]));
        (identity.cluster, identity.node) = (CLUSTER, NodeId(1));
        identity.begin_boot(11);
        identity.save(&disk, ROOT).expect("saved");
        let mut boots = BootTable::default();
        boots.note(NodeId(2), Boot { number: 4, random: 8 }, &BTreeMap::new());
        boots.save(&disk, ROOT).expect("saved");

        let (mut store, _) = ShardStore::open(disk.clone(), ROOT, IDENTITY, options()).expect("opens");
        let mut committed: BTreeMap<ReplicaId, Vec<Frame>> = BTreeMap::new();
        for number in [2, 3] {
            let create =
                Create { intent: LogIndex(1), membership: Bytes::from_static(b"m"), start: LogPoint::default() };
            let ops = vec![WriteOp::Create(create), WriteOp::HardState { term: Term(1), vote: Some(replica(number)) }];
            store.commit(vec![write(replica(number), 0, ops)]).expect("committed");
        }
        for (round, batch) in batch::seeds().into_iter().enumerate() {
            for number in [2, 3] {
                let frames = committed.entry(replica(number)).or_default();
                let frame = next_frame(log_of(replica(number)), frames.last(), &batch);
                let commit = frames.len() as u64;
                frames.push(frame.clone());
                store
                    .commit(vec![write(replica(number), commit, vec![WriteOp::Append(vec![frame])])])
                    .expect("committed");
            }
            store.write_out().expect("written");
            if round == 9 {
                let tables = [2, 3].map(|number| (replica(number), LogIndex(8), Bytes::from_static(b"table")));
                store.checkpoint(tables.to_vec()).expect("written");
            }
        }
        for (replica, frames) in &committed {
            store.note_commit(*replica, LogIndex(frames.len() as u64)).expect("known");
        }
        store.seal().expect("sealed");
        drop(store);
        let files = disk.tree().into_iter().filter_map(|(path, bytes)| Some((path, bytes.filter(|b| *b > 0)?)));
        let files = files.collect();
        Directory { disk, files, committed }
    }
}

fn write(replica: ReplicaId, commit: u64, ops: Vec<WriteOp>) -> ReplicaWrite {
    ReplicaWrite { replica, log: log_of(replica), commit: LogIndex(commit), ops }
}

fn next_frame(log: LogId, last: Option<&Frame>, batch: &[u8]) -> Frame {
    let (index, offset, crc) =
        last.map_or((LogIndex(1), Offset(0), 0), |last| (last.index.next(), last.next_offset(), last.crc));
    let count = BatchHeader::decode(batch).expect("a batch").record_count;
    let payload = dlog_core::batch::stamp(batch, offset, Term(1), None);
    Frame::new(log, FrameKind::Records, Term(1), index, offset, count, crc, payload)
}

/// One change of one file.
#[derive(Clone, Copy, Debug)]
struct Change {
    kind: u8,
    file: usize,
    position: u32,
    value: [u8; 2],
}

impl Change {
    fn read(bytes: &[u8; CHANGE_BYTES]) -> Change {
        let position = u32::from_le_bytes(bytes[2..6].try_into().expect("four bytes"));
        Change { kind: bytes[0] % 8, file: usize::from(bytes[1]), position, value: [bytes[6], bytes[7]] }
    }

    /// Whether the change leaves all files, each as long as it was, and damages one sector at most.
    fn is_one_sector(self) -> bool {
        self.kind < 5
    }

    fn apply(self, disk: &SimDisk, path: &str) {
        // An earlier change may have removed it.
        let Ok(file) = disk.open(path) else { return };
        let length = file.len().expect("a length");
        if length == 0 {
            return;
        }
        let at = u64::from(self.position) % length;
        let sector = at / SECTOR as u64 * SECTOR as u64;
        let sector_end = length.min(sector + SECTOR as u64);
        match self.kind {
            0 => disk.flip(path, at, 1 << (self.value[0] % 8)),
            1 => disk.overwrite(path, at, &self.value[..1]),
            // A number that is small, or so great that it overflows; within one sector.
            2 => {
                let number = i64::from(i16::from_le_bytes(self.value)).to_le_bytes();
                disk.overwrite(path, at, &number[..(sector_end - at).min(8) as usize]);
            }
            3 => disk.overwrite(path, sector, &vec![0; (sector_end - sector) as usize]),
            4 => disk.overwrite(path, sector, &vec![self.value[0]; (sector_end - sector) as usize]),
            5 => file.set_len(at).expect("cut"),
            6 => disk.remove(path).expect("there"),
            _ => {
                let from = u64::from(u16::from_le_bytes(self.value)) * SECTOR as u64 % length;
                let mut copied = vec![0; SECTOR];
                let have = file.read_at(&mut copied, from).expect("read");
                let have = have.min((sector_end - sector) as usize);
                disk.overwrite(path, sector, &copied[..have]);
            }
        }
    }
}

/// Makes the checksums of a damaged file fit, by its name.
fn mend(disk: &SimDisk, path: &str) {
    if disk.open(path).is_err() {
        return;
    }
    let mut bytes = bytes_of(disk, path);
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit('.').next().unwrap_or(name) {
        "segment" => mend_segment(&mut bytes),
        "journal" => mend_file(&mut bytes, before_first_group(&WHOLE.disk, path)),
        "producers" => mend_producers(&mut bytes),
        "index" | "boots" => mend_crc_behind(&mut bytes),
        "identity" => mend_identity(&mut bytes),
        "checkpoint-a" | "checkpoint-b" => mend_checkpoint(&mut bytes),
        "clean-stop" => mend_manifest(&mut bytes),
        _ => {}
    }
    disk.overwrite(path, 0, &bytes);
}

/// Number and CRC of the group before a file's first one, as they were written.
fn before_first_group(disk: &SimDisk, path: &str) -> (u64, u32) {
    let mut head = [0; GROUP_HEADER_BYTES];
    let file = disk.open(path).expect("there");
    file.read_at(&mut head, FIRST_GROUP_AT).expect("read");
    GroupHeader::decode(&head).map_or((0, 0), |header| (header.number - 1, header.previous_crc))
}

fn seeds() -> Vec<Vec<u8>> {
    let files = &WHOLE.files;
    let change = |mended: u8, kind: u8, file: usize, position: u32| {
        [&[mended, kind, file as u8][..], &position.to_le_bytes(), &[0x55, 3]].concat()
    };
    let mut seeds = vec![vec![0]];
    for (number, (path, bytes)) in files.iter().enumerate() {
        let kind = (number % 8) as u8;
        let position = if path.ends_with(".journal") { 4096 + 64 + number as u32 * 7 } else { (*bytes / 2) as u32 };
        seeds.push(change(1, 1, number, position));
        seeds.push(change(0, kind, number, position));
    }
    seeds
}

fn check(input: &[u8]) -> bool {
    let Some((mended, rest)) = input.split_first() else { return false };
    let changes: Vec<Change> = rest.as_chunks().0.iter().take(CHANGES_MAX).map(Change::read).collect();
    let mended = mended % 2 == 1;
    let disk = WHOLE.disk.copy(1);
    for change in &changes {
        change.apply(&disk, path_of(*change));
    }
    if mended {
        changes.iter().for_each(|change| mend(&disk, path_of(*change)));
    }

    let report = verify::data_directory(&disk, ROOT);
    for (replica, frames) in &WHOLE.committed {
        let place = LogPlace { root: ROOT.to_string(), shard: SHARD, log: log_of(*replica), replica: *replica };
        let shown = inspect::log(&disk, &place, CLUSTER, &mut |at| {
            assert!(
                mended || frames.get(at.frame.index.0 as usize - 1) == Some(at.frame),
                "inspect shows another frame"
            );
        });
        drop(shown);
    }
    let clean = report.is_ok_and(|report| report.damage.is_empty());
    let opened = ShardStore::open(disk.clone(), ROOT, IDENTITY, options());
    let one_sector = !mended && changes.len() <= 1 && changes.iter().all(|change| change.is_one_sector());
    if one_sector && clean {
        assert!(opened.is_ok(), "verify found nothing, but a start refuses: {:?}", opened.err());
    }
    let understood = rest.len() % CHANGE_BYTES == 0;
    let Ok((store, _)) = opened else { return understood };
    for (replica, frames) in &WHOLE.committed {
        let read = read_all(&store, *replica, (!mended).then_some(frames));
        if one_sector && clean {
            assert_eq!(read, Some(frames.len()), "verify found nothing, but frames of {replica} are gone");
        }
    }
    understood
}

fn path_of(change: Change) -> &'static str {
    let files = &WHOLE.files;
    &files[change.file % files.len()].0
}

/// Reads a replica's log to its end or to damage; says how many frames it gave. Each must be the one that was `written`.
fn read_all(store: &ShardStore<SimDisk>, replica: ReplicaId, written: Option<&Vec<Frame>>) -> Option<usize> {
    let reader = store.reader(replica)?;
    let (mut next, last) = (reader.local_start().index.next(), reader.last().index);
    let mut count = 0;
    while next <= last {
        let Ok(frames) = reader.read_frames(next, last.next(), 4096) else { return Some(count) };
        for frame in &frames {
            assert!(
                written.is_none_or(|written| written.get(frame.index.0 as usize - 1) == Some(frame)),
                "frame {} of {replica} is given, and is not the one that was written",
                frame.index
            );
        }
        count += frames.len();
        next = frames.last()?.index.next();
    }
    if let Ok(read) = reader.read_batches(reader.log_start(), reader.log_end(), 1 << 20) {
        let known = |batch: &Bytes| written.is_none_or(|written| written.iter().any(|frame| frame.payload == *batch));
        assert!(read.batches.iter().all(known), "a batch of {replica} is given that nobody wrote");
    }
    drop(reader.offset_for_time(TimestampMs(1002), reader.log_end()));
    Some(count)
}

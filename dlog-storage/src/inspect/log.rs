//! One replica's log, as checkpoint, journal and segments have it together.

use super::{Damage, FrameAt, Span, read_header};
use crate::checkpoint::ReplicaCheckpoint;
use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::identity::ClusterId;
use crate::log_state::{LogIdentity, LogState, SegmentState};
use crate::recovery::{ShardPicture, inspect_shard};
use crate::segment::SegmentHeader;
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_core::{Frame, LogId, LogIndex, Offset, ReplicaId, ShardId};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;

/// How often a log is looked at while the node that owns it writes checkpoints.
const TRIES: usize = 4;

/// Where a replica's folder stands: `<root>/shard-<n>/logs/<log>/<replica>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// The data directory, as far as the path names it.
    pub root: String,
    /// The shard.
    pub shard: ShardId,
    /// The log.
    pub log: LogId,
    /// The replica.
    pub replica: ReplicaId,
}

impl LogPlace {
    /// The place that a path names; `None` if it is no replica's folder.
    pub fn parse(path: &str) -> Option<LogPlace> {
        let mut parts = path.trim_end_matches('/').rsplitn(5, '/');
        let replica = ReplicaId(parts.next()?.parse().ok()?);
        let log = LogId(parts.next()?.parse().ok()?);
        if parts.next()? != "logs" {
            return None;
        }
        let shard = ShardId(parts.next()?.strip_prefix("shard-")?.parse().ok()?);
        let root = parts.next().unwrap_or("").to_string();
        Some(LogPlace { root, shard, log, replica })
    }
}

/// What stands in one replica's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReport {
    /// The first Raft index kept here.
    pub first_index: LogIndex,
    /// The last one; one below the first in an empty log.
    pub last_index: LogIndex,
    /// The first readable offset.
    pub log_start: Offset,
    /// The offset after the last record.
    pub log_end: Offset,
    /// The greatest commit index that this disk knows of, at most the last index.
    pub high_watermark: LogIndex,
    /// Good frames.
    pub frames: u64,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// SHA-256 over index (u64 LE), term (u64 LE), kind (u8) and payload of each good frame up to the high watermark that ends
    /// above the log start (of each, while that is 0). Replicas with the same log start that know the same high watermark
    /// have the same, however far below it their files go.
    pub digest: [u8; 32],
}

impl LogReport {
    /// The digest as text.
    pub fn digest_hex(&self) -> String {
        self.digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A replica as checkpoint and journal have it: `state` up to and with `base_last`, `journal` behind it.
///
/// Invariants: `journal` is contiguous and follows `base_last`.
pub(crate) struct ReplicaPicture {
    pub(crate) log: LogId,
    state: LogState,
    base_last: LogIndex,
    base_end: Offset,
    commit: LogIndex,
    journal: Vec<Frame>,
    deleted: bool,
}

/// Every replica of a shard that isn't deleted.
pub(crate) fn replica_pictures(shard: &ShardPicture) -> BTreeMap<ReplicaId, ReplicaPicture> {
    let known = shard.checkpoint.iter().flat_map(|checkpoint| &checkpoint.replicas);
    let mut pictures: BTreeMap<ReplicaId, ReplicaPicture> =
        known.map(|replica| (replica.replica, ReplicaPicture::of_checkpoint(replica))).collect();
    for write in &shard.writes {
        let empty = || ReplicaPicture::empty(write.log);
        pictures.entry(write.replica).or_insert_with(empty).take(write);
    }
    pictures.retain(|_, picture| !picture.deleted);
    pictures
}

impl ReplicaPicture {
    fn empty(log: LogId) -> ReplicaPicture {
        let state = LogState::default();
        let (base_last, base_end, commit) = (LogIndex::ZERO, Offset::ZERO, LogIndex::ZERO);
        ReplicaPicture { log, state, base_last, base_end, commit, journal: Vec::new(), deleted: false }
    }

    fn of_checkpoint(replica: &ReplicaCheckpoint) -> ReplicaPicture {
        let last = replica.log_state.last;
        ReplicaPicture {
            state: replica.log_state.clone(),
            base_last: last.index,
            base_end: last.next_offset,
            commit: replica.commit,
            ..ReplicaPicture::empty(replica.log)
        }
    }

    fn take(&mut self, write: &ReplicaWrite) {
        self.commit = self.commit.max(write.commit);
        for op in &write.ops {
            match op {
                WriteOp::Create(create) => self.start_at(LogState::empty(create.start)),
                WriteOp::Reset(point) => {
                    let log_start = self.state.log_start.max(point.next_offset);
                    self.start_at(LogState { log_start, ..LogState::empty(*point) });
                }
                WriteOp::Append(frames) => self.journal.extend(frames.iter().cloned()),
                WriteOp::Cut { from } => {
                    self.journal.retain(|frame| frame.index < *from);
                    self.base_last = self.base_last.min(LogIndex(from.0.saturating_sub(1)));
                }
                WriteOp::LogStart(offset) => self.state.log_start = self.state.log_start.max(*offset),
                WriteOp::Delete { .. } => self.deleted = true,
                WriteOp::HardState { .. } | WriteOp::Configuration { .. } | WriteOp::Producers { .. } => {}
            }
        }
    }

    fn start_at(&mut self, state: LogState) {
        (self.base_last, self.base_end) = (state.last.index, state.last.next_offset);
        self.state = state;
        self.journal.clear();
    }

    fn last_index(&self) -> LogIndex {
        self.journal.last().map_or(self.base_last, |frame| frame.index)
    }
}

/// Reads one replica's log, of a stopped or a running node; `visit` sees each good frame in order.
///
/// # Errors
/// [`StorageError::Invalid`] if the shard doesn't have such a replica; [`StorageError::NeedsOperator`] where a start of the node
/// would refuse; [`StorageError::Corrupt`] if damage hides whether there is such a replica; [`StorageError::Io`]. Other damage is
/// no error.
pub fn log<D: Disk>(
    disk: &D,
    place: &LogPlace,
    cluster: ClusterId,
    visit: &mut dyn FnMut(FrameAt<'_>),
) -> Result<LogReport, StorageError> {
    let shard_dir = crate::whole_file::join(&place.root, &format!("shard-{}", place.shard));
    let mut tries = 0;
    loop {
        tries += 1;
        let shard = inspect_shard(disk, &shard_dir, (cluster, place.shard))?;
        let pictures = replica_pictures(&shard);
        let Some(picture) = pictures.get(&place.replica).filter(|picture| picture.log == place.log) else {
            let (replica, log) = (place.replica, place.log);
            // What can't be read may be what made it.
            if let Some(damage) = shard.damage.into_iter().next() {
                return Err(damage);
            }
            return Err(StorageError::Invalid { detail: format!("{shard_dir} has no replica {replica} of log {log}") });
        };
        let identity = LogIdentity { cluster, log: place.log, replica: place.replica };
        let report = inspect_replica(disk, &shard_dir, &identity, picture, &mut |_| {})?;
        let changed =
            || sequence(disk, &shard_dir, (cluster, place.shard)) != shard.checkpoint.as_ref().map(|c| c.sequence);
        if !report.damage.is_empty() && tries < TRIES && changed() {
            continue; // a running node moved on between the two looks
        }
        let mut report = inspect_replica(disk, &shard_dir, &identity, picture, visit)?;
        for damage in &shard.damage {
            report.damage.push(Damage::from_error(damage.clone())?);
        }
        return Ok(report);
    }
}

fn sequence<D: Disk>(disk: &D, shard_dir: &str, identity: (ClusterId, ShardId)) -> Option<u64> {
    let picture = inspect_shard(disk, shard_dir, identity).ok()?;
    picture.checkpoint.map(|checkpoint| checkpoint.sequence)
}

/// Reads what a picture says of one replica.
pub(crate) fn inspect_replica<D: Disk>(
    disk: &D,
    shard_dir: &str,
    identity: &LogIdentity,
    picture: &ReplicaPicture,
    visit: &mut dyn FnMut(FrameAt<'_>),
) -> Result<LogReport, StorageError> {
    let state = &picture.state;
    let last_index = picture.last_index();
    let mut report = LogReport {
        first_index: state.local_start.index.next(),
        last_index,
        log_start: state.log_start,
        log_end: picture.journal.last().map_or(picture.base_end, Frame::next_offset),
        high_watermark: picture.commit.min(last_index),
        frames: 0,
        damage: Vec::new(),
        digest: [0; 32],
    };
    let mut digest = Sha256::new();
    let mut base_end = state.local_start.next_offset;
    let mut take = |at: FrameAt<'_>| {
        let frame = at.frame;
        report.frames += 1;
        let readable = report.log_start == Offset::ZERO || frame.next_offset() > report.log_start;
        if frame.index <= report.high_watermark && readable {
            digest.update(frame.index.0.to_le_bytes());
            digest.update(frame.term.0.to_le_bytes());
            digest.update([frame.kind as u8]);
            digest.update(&frame.payload);
        }
        base_end = frame.next_offset();
        visit(at);
    };
    let dir = format!("{shard_dir}/logs/{}/{}", identity.log, identity.replica);
    let mut damage = Vec::new();
    for segment in state.segments.iter().filter(|segment| segment.start.index < picture.base_last) {
        let path = format!("{dir}/{}", segment.name().file());
        scan_named(disk, &path, identity, segment, picture.base_last, &mut damage, &mut take)?;
    }
    let journal = format!("{shard_dir}/journal");
    for frame in &picture.journal {
        take(FrameAt { path: &journal, position: 0, frame });
    }
    // A cut in the journal says which index goes, not which offset.
    if picture.journal.is_empty() && picture.base_last < state.last.index {
        report.log_end = base_end;
    }
    report.damage = damage;
    report.digest = digest.finalize().into();
    Ok(report)
}

/// Reads a segment that the checkpoint names, up to where the log ends in it.
fn scan_named<D: Disk>(
    disk: &D,
    path: &str,
    identity: &LogIdentity,
    segment: &SegmentState,
    last: LogIndex,
    damage: &mut Vec<Damage>,
    visit: &mut dyn FnMut(FrameAt<'_>),
) -> Result<(), StorageError> {
    let whole = |position, bytes, detail: String| Damage {
        path: path.to_string(),
        position,
        bytes,
        index: Some(segment.start.index.next()),
        offset: Some(segment.start.next_offset),
        detail,
    };
    let file = match disk.open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            damage.push(whole(0, segment.bytes, "the file is missing".to_string()));
            return Ok(());
        }
        file => file.map_err(|e| StorageError::io("open", path, e))?,
    };
    let expected = SegmentHeader { identity: *identity, generation: segment.generation, start: segment.start };
    match read_header(&file, path)? {
        Err(bad) => damage.push(bad),
        Ok(header) if header != expected => {
            let detail = format!("the header is another segment's: {header:?}");
            damage.push(whole(0, crate::segment::SEGMENT_HEADER_BYTES as u64, detail));
        }
        Ok(_) => {}
    }
    let have = file.len().map_err(|e| StorageError::io("read the length of", path, e))?;
    if have < segment.bytes {
        let detail = format!("the file ends {} bytes early", segment.bytes - have);
        damage.push(Damage { index: None, offset: None, ..whole(have, segment.bytes - have, detail) });
    }
    let span = Span { log: identity.log, start: segment.start, end: segment.bytes.min(have), last };
    span.scan(&file, path, damage, visit)
}

//! What a checkpoint keeps of one replica's log: [`LogState`], from which [`Log::open`](crate::log::Log::open) goes on.
//!
//! Encoding (all integers little-endian; it is part of the checkpoint, whose checksum covers it):
//!
//! ```text
//! size  field
//!    2  version, 1
//!   28  local start: index u64, term u64, next offset u64, crc u32
//!    8  log start
//!   28  last (as local start)
//!    8  next generation
//!    4  count of segments, then for each:
//!         28 start point, 8 generation, 8 bytes, 28 last point, 8 greatest time i64, 1 ended (0 or 1)
//!    4  count of term starts, then for each: 8 term, 8 index, 8 offset
//! ```

use crate::identity::ClusterId;
use dlog_core::write::{LogPoint, TermStart};
use dlog_core::{LogId, LogIndex, Offset, ReplicaId, Term, TimestampMs, limits};

/// Whose log it is. Stands in every segment's header, so that a misplaced file is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The log, shared by all replicas.
    pub log: LogId,
    /// The replica that these files belong to.
    pub replica: ReplicaId,
}

/// How a log lays out its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment that would grow above this is closed and a new one opened; a frame larger than that has a segment of its
    /// own. Smaller: retention is finer, but more files.
    pub segment_bytes: u64,
    /// One index entry (32 bytes of memory for the active segment) for so many bytes of segment; a cold read skips at most
    /// so many.
    pub index_interval_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { segment_bytes: limits::SEGMENT_BYTES_DEFAULT, index_interval_bytes: limits::INDEX_INTERVAL_BYTES }
    }
}

/// What tells two segment files of one log apart, and makes their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Index of the first frame in it.
    pub first_index: LogIndex,
    /// Counts the segments that a log ever opened: two with the same first index differ here.
    pub generation: u64,
}

/// One segment as of a checkpoint.
///
/// Invariants: `last.index > start.index` or the segment is empty and both are equal; `bytes` ends behind a whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentState {
    /// What stands before its first frame.
    pub start: LogPoint,
    /// See [`SegmentName::generation`].
    pub generation: u64,
    /// The logical end: bytes behind it are no part of the log, though a file that was cut still has them.
    pub bytes: u64,
    /// The last frame in it.
    pub last: LogPoint,
    /// No record in it is later; [`TimestampMs::NONE`] if it has none.
    pub greatest_time: TimestampMs,
    /// No frame is ever appended to it again.
    pub ended: bool,
}

impl SegmentState {
    /// The file's name.
    pub fn name(&self) -> SegmentName {
        SegmentName { first_index: self.start.index.next(), generation: self.generation }
    }
}

/// All that must be known to open a log again.
///
/// Invariants (checked by [`LogState::check`]): segments are in order and each begins where the one before ends, the first
/// at `local_start`; only the last may be open; `last` is the last segment's, or `local_start` without one; generations are
/// below `next_generation`; term starts rise strictly and lie in the log.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogState {
    /// What stands before the first frame kept here.
    pub local_start: LogPoint,
    /// The first readable offset.
    pub log_start: Offset,
    /// The last frame; `local_start` in an empty log.
    pub last: LogPoint,
    /// The next new segment takes it.
    pub next_generation: u64,
    /// The segments from old to new.
    pub segments: Vec<SegmentState>,
    /// Where each term begins.
    pub term_starts: Vec<TermStart>,
}

const VERSION: u16 = 1;

impl LogState {
    /// The state of a log that holds nothing and goes on after `start`.
    pub fn empty(start: LogPoint) -> LogState {
        LogState {
            local_start: start,
            log_start: start.next_offset,
            last: start,
            next_generation: 1,
            ..LogState::default()
        }
    }

    /// The term of the entry at `index`: known from `local_start.index` to `last.index`.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.local_start.index {
            return Some(self.local_start.term);
        }
        if index < self.local_start.index || index > self.last.index {
            return None;
        }
        let after = self.term_starts.partition_point(|start| start.index <= index);
        after.checked_sub(1).map(|at| self.term_starts[at].term)
    }

    /// Leaves out what a cut at `from` makes needless to open: whole segments that begin at or above it. What remains of the
    /// cut is left to [`Log::cut`](crate::log::Log::cut).
    pub fn trim(&mut self, from: LogIndex) {
        while self.segments.last().is_some_and(|segment| segment.start.index.next() >= from) {
            self.segments.pop();
        }
        self.last = self.segments.last().map_or(self.local_start, |segment| segment.last);
        self.term_starts.retain(|start| start.index <= self.last.index);
    }

    /// Says which invariant is broken.
    ///
    /// # Errors
    /// A text that names it.
    pub fn check(&self) -> Result<(), String> {
        let mut point = self.local_start;
        for (number, segment) in self.segments.iter().enumerate() {
            if segment.start != point {
                return Err(format!("segment {number} begins after {:?}, not {point:?}", segment.start));
            }
            if segment.last.index < segment.start.index || segment.last.next_offset < segment.start.next_offset {
                return Err(format!("segment {number} ends before it begins"));
            }
            if segment.generation >= self.next_generation {
                return Err(format!("segment {number} is of a generation that was not given yet"));
            }
            if !segment.ended && number + 1 != self.segments.len() {
                return Err(format!("segment {number} is open though it is not the last"));
            }
            point = segment.last;
        }
        if point != self.last {
            return Err(format!("the segments end at {point:?}, the log at {:?}", self.last));
        }
        if !self.term_starts.windows(2).all(|two| two[0].term < two[1].term && two[0].index < two[1].index) {
            return Err("term starts do not rise".to_string());
        }
        let inside = |start: &TermStart| start.index > self.local_start.index && start.index <= self.last.index;
        if !self.term_starts.iter().all(inside) {
            return Err("a term start lies outside the log".to_string());
        }
        if self.last.index > self.local_start.index
            && self.term_starts.first().map(|start| start.index) != Some(self.local_start.index.next())
        {
            return Err("the term of the first frame is not known".to_string());
        }
        Ok(())
    }

    /// Appends the encoding.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&VERSION.to_le_bytes());
        put_point(out, &self.local_start);
        put_u64(out, self.log_start.0);
        put_point(out, &self.last);
        put_u64(out, self.next_generation);
        put_count(out, self.segments.len());
        for segment in &self.segments {
            put_point(out, &segment.start);
            put_u64(out, segment.generation);
            put_u64(out, segment.bytes);
            put_point(out, &segment.last);
            out.extend_from_slice(&segment.greatest_time.0.to_le_bytes());
            out.push(u8::from(segment.ended));
        }
        put_count(out, self.term_starts.len());
        for start in &self.term_starts {
            put_u64(out, start.term.0);
            put_u64(out, start.index.0);
            put_u64(out, start.offset.0);
        }
    }

    /// Reads one state off the front of `bytes`, which then begins behind it.
    ///
    /// # Errors
    /// A text that says what is wrong: too short, another version, a broken invariant.
    pub fn decode(bytes: &mut &[u8]) -> Result<LogState, String> {
        let version = u16::from_le_bytes(take(bytes)?);
        if version != VERSION {
            return Err(format!("log state version {version} is not known; use the dlog that wrote it"));
        }
        let mut state = LogState {
            local_start: take_point(bytes)?,
            log_start: Offset(take_u64(bytes)?),
            last: take_point(bytes)?,
            next_generation: take_u64(bytes)?,
            ..LogState::default()
        };
        for _ in 0..take_count(bytes)? {
            state.segments.push(SegmentState {
                start: take_point(bytes)?,
                generation: take_u64(bytes)?,
                bytes: take_u64(bytes)?,
                last: take_point(bytes)?,
                greatest_time: TimestampMs(i64::from_le_bytes(take(bytes)?)),
                ended: match take::<1>(bytes)? {
                    [0] => false,
                    [1] => true,
                    [other] => return Err(format!("a segment's ended mark is {other}")),
                },
            });
        }
        for _ in 0..take_count(bytes)? {
            let (term, index) = (Term(take_u64(bytes)?), LogIndex(take_u64(bytes)?));
            state.term_starts.push(TermStart { term, index, offset: Offset(take_u64(bytes)?) });
        }
        state.check()?;
        Ok(state)
    }
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("fewer than 2^32 segments or terms");
    out.extend_from_slice(&count.to_le_bytes());
}

fn put_point(out: &mut Vec<u8>, point: &LogPoint) {
    put_u64(out, point.index.0);
    put_u64(out, point.term.0);
    put_u64(out, point.next_offset.0);
    out.extend_from_slice(&point.crc.to_le_bytes());
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or("the log state is too short")?;
    *bytes = rest;
    Ok(*head)
}

fn take_u64(bytes: &mut &[u8]) -> Result<u64, String> {
    Ok(u64::from_le_bytes(take(bytes)?))
}

fn take_count(bytes: &mut &[u8]) -> Result<u32, String> {
    Ok(u32::from_le_bytes(take(bytes)?))
}

fn take_point(bytes: &mut &[u8]) -> Result<LogPoint, String> {
    let point = LogPoint {
        index: LogIndex(take_u64(bytes)?),
        term: Term(take_u64(bytes)?),
        next_offset: Offset(take_u64(bytes)?),
        crc: u32::from_le_bytes(take(bytes)?),
    };
    if point.can_be_followed() { Ok(point) } else { Err(format!("nothing can follow {point:?}")) }
}

#[cfg(test)]
#[path = "log_state_tests.rs"]
mod tests;

//! A segment with its frames, and the index beside it.

use crate::target::{Mend, Target};
use crate::targets::batch;
use crate::targets::frame::mend_front;
use crate::targets::small_files::{CLUSTER, disk_with, mend_crc_behind, point};
use bytes::Bytes;
use dlog_core::write::LogPoint;
use dlog_core::{Frame, FrameKind, LogId, LogIndex, Offset, ReplicaId, Term, TimestampMs};
use dlog_storage::index::{IndexName, SparseIndex};
use dlog_storage::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use dlog_storage::{LogIdentity, inspect};

pub(super) const INDEX: Target = Target {
    name: "index",
    seeds: index_seeds,
    mend: Mend::InPlace(mend_crc_behind),
    check: check_index,
    memory: 64 << 10,
    runs: 16_000,
};
pub(super) const SEGMENT: Target = Target {
    name: "segment",
    seeds: segment_seeds,
    mend: Mend::InPlace(mend_segment),
    check: check_segment,
    // What a walk reads at once.
    memory: 4 << 20,
    runs: 12_000,
};

const LOG: LogId = LogId(5);
const REPLICA: ReplicaId = ReplicaId(0x1_0000_0002);

/// Frames that follow `at`: batches with a no-op between them.
fn frames(mut at: LogPoint, batches: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    for (number, batch) in batch::seeds().into_iter().take(batches).enumerate() {
        let count = dlog_core::BatchHeader::decode(&batch).expect("a batch").record_count;
        let stamped = dlog_core::batch::stamp(&batch, at.next_offset, at.term, None);
        let (kind, count, payload) =
            if number % 3 == 2 { (FrameKind::NoOp, 0, Bytes::new()) } else { (FrameKind::Records, count, stamped) };
        let frame = Frame::new(LOG, kind, at.term, at.index.next(), at.next_offset, count, at.crc, payload);
        at = LogPoint { index: frame.index, term: frame.term, next_offset: frame.next_offset(), crc: frame.crc };
        frames.push(frame);
    }
    frames
}

fn index_seeds() -> Vec<Vec<u8>> {
    let name = IndexName { log: LOG, replica: REPLICA, first_index: LogIndex(11), generation: 3 };
    let mut index = SparseIndex::new(100, TimestampMs::NONE);
    let empty = index.encode(&name);
    let mut position = SEGMENT_HEADER_BYTES as u64;
    for frame in frames(point(10, 100), 6) {
        index.note(&frame, position);
        position += frame.encoded_bytes() as u64;
    }
    vec![empty, index.encode(&name)]
}

fn check_index(input: &[u8]) -> bool {
    let Ok((name, index)) = SparseIndex::decode(input, 100) else { return false };
    assert_eq!(index.encode(&name), input, "it is written as it was read");
    let entries = index.entries();
    assert!(entries.windows(2).all(|two| two[0].index < two[1].index && two[0].position < two[1].position));
    for entry in entries {
        assert_eq!(index.last_where(|other| other.index <= entry.index), Some(*entry));
    }
    let mut half = index.clone();
    half.truncate(entries.get(entries.len() / 2).map_or(0, |entry| u64::from(entry.position)));
    assert_eq!(half.entries(), &entries[..entries.len() / 2]);
    true
}

fn segment_seeds() -> Vec<Vec<u8>> {
    let segment = |start: LogPoint, batches| {
        let identity = LogIdentity { cluster: CLUSTER, log: LOG, replica: REPLICA };
        let mut bytes = SegmentHeader { identity, generation: 3, start }.encode().to_vec();
        frames(start, batches).iter().for_each(|frame| frame.encode_into(&mut bytes));
        bytes
    };
    vec![
        segment(point(10, 100), 0),
        segment(LogPoint { term: Term(1), ..LogPoint::default() }, 2),
        segment(point(10, 100), 5),
    ]
}

/// The header's CRC, then each frame's, as far as whole frames follow each other; and for every second file the chain through them: a
/// frame whose own CRC is good may still follow another one.
pub(super) fn mend_segment(bytes: &mut [u8]) {
    if bytes.len() < SEGMENT_HEADER_BYTES {
        return;
    }
    let crc = crc32c::crc32c(&bytes[..124]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    let Ok(header) = SegmentHeader::decode(bytes) else { return };
    let (mut at, mut previous) = (SEGMENT_HEADER_BYTES, header.start.crc);
    let chains = crc32c::crc32c(bytes) & 1 == 0;
    loop {
        mend_batch_of(&mut bytes[at..]);
        let chained = chains.then_some(previous);
        let Some((length, crc)) = mend_front(header.identity.log, &mut bytes[at..], chained) else { return };
        (at, previous) = (at + length, crc);
    }
}

/// The CRC of the batch in the frame at the front.
pub(super) fn mend_batch_of(bytes: &mut [u8]) {
    use dlog_core::frame::{FRAME_HEADER_BYTES, FrameHeader};
    let Ok(header) = FrameHeader::decode(bytes) else { return };
    let end = FRAME_HEADER_BYTES + header.payload_bytes as usize;
    let Some(payload) = bytes.get_mut(FRAME_HEADER_BYTES..end) else { return };
    if header.kind == FrameKind::Records && payload.len() >= dlog_core::batch::BATCH_HEADER_BYTES {
        let crc = crc32c::crc32c(&payload[dlog_core::batch::BATCH_CRC_START..]);
        payload[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

fn check_segment(input: &[u8]) -> bool {
    if let Ok(header) = SegmentHeader::decode(input) {
        assert_eq!(header.encode(), input[..SEGMENT_HEADER_BYTES], "the header is written as it was read");
    }
    let disk = disk_with("a.segment", input);
    let (mut good, mut last, mut chain) = (SEGMENT_HEADER_BYTES, None::<(LogIndex, Offset)>, Vec::new());
    let report = inspect::segment(&disk, "a.segment", &mut |at| {
        good += at.frame.encoded_bytes();
        let mut bytes = Vec::new();
        at.frame.encode_into(&mut bytes);
        let from = at.position as usize;
        assert_eq!(bytes, input[from..from + bytes.len()], "a frame is shown as it stands in the file");
        assert!(last.is_none_or(|(index, next)| index < at.frame.index && next <= at.frame.base_offset), "frames rise");
        chain.push((at.frame.previous_crc, at.frame.crc));
        last = Some((at.frame.index, at.frame.next_offset()));
    })
    .expect("damage is no error");
    assert_eq!(report.bytes, input.len() as u64);
    let whole = report.damage.is_empty();
    assert!(!whole || good == input.len(), "bytes that are no frame are damage");
    assert!(!whole || chain.windows(2).all(|two| two[0].1 == two[1].0), "a frame that follows another one is damage");
    whole
}

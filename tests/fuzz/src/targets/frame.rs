//! The frame.

use crate::target::{Mend, Target};
use crate::targets::batch;
use bytes::Bytes;
use dlog_core::frame::{FRAME_HEADER_BYTES, FrameHeader};
use dlog_core::{Frame, FrameKind, LogId, LogIndex, Offset, Term};

pub(super) const FRAME: Target =
    Target { name: "frame", seeds, mend: Mend::InPlace(mend), check, memory: 64 << 10, runs: 24_000 };

const LOG: LogId = LogId(5);

/// One frame of each kind.
fn seeds() -> Vec<Vec<u8>> {
    let batch = Bytes::from(batch::seeds().swap_remove(1));
    let kinds = (1..=u8::MAX).map_while(FrameKind::from_number);
    kinds
        .map(|kind| {
            let (count, payload) = match kind {
                FrameKind::Records => (6, batch.clone()),
                FrameKind::NoOp => (0, Bytes::new()),
                _ => (0, Bytes::from_static(b"payload")),
            };
            let frame = Frame::new(LOG, kind, Term(2), LogIndex(9), Offset(6), count, 0xabcd, payload);
            let mut bytes = Vec::new();
            frame.encode_into(&mut bytes);
            bytes
        })
        .collect()
}

fn mend(bytes: &mut [u8]) {
    if bytes.len() >= FRAME_HEADER_BYTES {
        let payload = (bytes.len() - FRAME_HEADER_BYTES) as u32;
        bytes[..4].copy_from_slice(&payload.to_le_bytes());
        mend_front(LOG, bytes, None);
    }
}

/// Gives the frame at the front of `bytes` its CRC (and, if known, that of the frame before); says how long it is, if it is whole.
pub(super) fn mend_front(log: LogId, bytes: &mut [u8], previous_crc: Option<u32>) -> Option<(usize, u32)> {
    let header = FrameHeader::decode(bytes).ok()?;
    let end = FRAME_HEADER_BYTES.checked_add(header.payload_bytes as usize)?;
    let payload = Bytes::copy_from_slice(bytes.get(FRAME_HEADER_BYTES..end)?);
    let FrameHeader { kind, term, index, base_offset, record_count, .. } = header;
    let previous_crc = previous_crc.unwrap_or(header.previous_crc);
    let frame = Frame::new(log, kind, term, index, base_offset, record_count, previous_crc, payload);
    bytes[..FRAME_HEADER_BYTES].copy_from_slice(&frame.encode_header());
    Some((end, frame.crc))
}

fn check(input: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(input);
    let Ok(frame) = Frame::decode(LOG, &bytes) else { return false };
    let mut again = Vec::new();
    frame.encode_into(&mut again);
    assert_eq!(again.len(), frame.encoded_bytes());
    assert_eq!(again, input[..again.len()], "it is written as it was read");
    assert!(Frame::decode(LogId(LOG.0 + 1), &bytes).is_err(), "another log's");
    true
}

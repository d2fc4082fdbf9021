//! What this crate's tests share: frames with real batches that follow each other.

use crate::identity::ClusterId;
use crate::log_state::{LogIdentity, LogOptions};
use bytes::Bytes;
use dlog_core::write::LogPoint;
use dlog_core::{
    BatchBuilder, Codec, Frame, FrameKind, LogId, LogIndex, Offset, Record, ReplicaId, Term, TimestampMs, batch,
};

/// Whose log the tests write.
pub(crate) const IDENTITY: LogIdentity =
    LogIdentity { cluster: ClusterId([9; 16]), log: LogId(5), replica: ReplicaId(0x1_0000_0002) };

/// Small segments and a dense index, so that few frames meet every case.
pub(crate) const OPTIONS: LogOptions = LogOptions { segment_bytes: 1024, index_interval_bytes: 200 };

/// Makes frames that follow `at`.
#[derive(Clone, Debug)]
pub(crate) struct FrameMaker {
    pub(crate) at: LogPoint,
    pub(crate) term: Term,
    log: LogId,
}

impl FrameMaker {
    pub(crate) fn new(at: LogPoint) -> FrameMaker {
        FrameMaker::of(IDENTITY.log, at)
    }

    /// For another log than that of [`IDENTITY`].
    pub(crate) fn of(log: LogId, at: LogPoint) -> FrameMaker {
        FrameMaker { at, term: Term(at.term.0.max(1)), log }
    }

    /// A frame with a batch of one record for each time.
    pub(crate) fn records(&mut self, times: &[i64], value_bytes: usize) -> Frame {
        let mut builder = BatchBuilder::new(Codec::None);
        for (number, time) in times.iter().enumerate() {
            let value = Bytes::from(vec![number as u8; value_bytes]);
            let record = Record { timestamp: TimestampMs(*time), key: None, value: Some(value), headers: Vec::new() };
            builder.push(&record).expect("a small record");
        }
        let bytes = builder.build().expect("a small batch");
        let payload = batch::stamp(&bytes, self.at.next_offset, self.term, None);
        self.frame(FrameKind::Records, times.len() as u32, payload)
    }

    /// A frame with one record, whose bytes differ from frame to frame and from sector to sector.
    pub(crate) fn filled(&mut self, value_bytes: usize) -> Frame {
        let (index, term) = (self.at.index.next().0, self.term.0);
        let value = Bytes::from_iter((0..value_bytes).map(|at| (at as u64 / 7 + 31 * index + 97 * term + 1) as u8));
        let mut builder = BatchBuilder::new(Codec::None);
        let record =
            Record { timestamp: TimestampMs(index as i64), key: None, value: Some(value), headers: Vec::new() };
        builder.push(&record).expect("a small record");
        let bytes = builder.build().expect("a small batch");
        let payload = batch::stamp(&bytes, self.at.next_offset, self.term, None);
        self.frame(FrameKind::Records, 1, payload)
    }

    /// A frame without records.
    pub(crate) fn no_op(&mut self) -> Frame {
        self.frame(FrameKind::NoOp, 0, Bytes::new())
    }

    /// A frame of another kind.
    pub(crate) fn command(&mut self, payload: &[u8]) -> Frame {
        self.frame(FrameKind::Command, 0, Bytes::copy_from_slice(payload))
    }

    fn frame(&mut self, kind: FrameKind, count: u32, payload: Bytes) -> Frame {
        let LogPoint { index, next_offset, crc, .. } = self.at;
        let frame = Frame::new(self.log, kind, self.term, index.next(), next_offset, count, crc, payload);
        self.at = crate::log::point_after(&frame);
        frame
    }
}

/// A place that no log starts at.
pub(crate) fn point(index: u64, term: u64, offset: u64, crc: u32) -> LogPoint {
    LogPoint { index: LogIndex(index), term: Term(term), next_offset: Offset(offset), crc }
}

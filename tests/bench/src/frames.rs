//! `LogFrames`: the frames of one log, real batches of a size that is known to the byte.

use bytes::Bytes;
use dlog_core::write::{Create, LogPoint, ReplicaWrite, WriteOp};
use dlog_core::{
    BatchBuilder, Codec, Frame, FrameKind, LogId, LogIndex, ProducerId, Record, ReplicaId, Term, TimestampMs, batch,
};

/// Term of all frames.
const TERM: Term = Term(1);
/// Bytes of a table that knows one producer, about as dlog-consensus encodes it.
const TABLE_BYTES: usize = 96;

/// Makes the frames of one log, each behind the one before.
#[derive(Clone, Debug)]
pub struct LogFrames {
    log: LogId,
    /// Its replica.
    pub replica: ReplicaId,
    at: LogPoint,
    batch: Bytes,
}

impl LogFrames {
    /// The frames of logs 1 to `logs`, with batches of exactly `batch_bytes` bytes, at least 128.
    pub fn of_logs(logs: usize, batch_bytes: usize) -> Vec<LogFrames> {
        let batch = sized_batch(batch_bytes, 0);
        let of_one = |number| {
            let (log, replica) = (LogId(number), ReplicaId(1 << 32 | number));
            LogFrames { log, replica, at: LogPoint::default(), batch: batch.clone() }
        };
        (1..=logs as u64).map(of_one).collect()
    }

    /// The write that makes the replica.
    pub fn create(&self) -> ReplicaWrite {
        let create = Create { intent: LogIndex(1), membership: Bytes::from_static(&[7; 32]), start: self.at };
        self.write(LogIndex::ZERO, vec![WriteOp::Create(create)])
    }

    /// One write with the next `count` frames.
    pub fn append(&mut self, count: usize) -> ReplicaWrite {
        let committed = self.at.index;
        let frames = (0..count).map(|_| self.frame(None)).collect();
        self.write(committed, vec![WriteOp::Append(frames)])
    }

    /// As [`LogFrames::append`]; the records' times are the offsets that they get.
    pub fn append_timed(&mut self, count: usize) -> ReplicaWrite {
        let committed = self.at.index;
        let bytes = self.batch.len();
        let frames = (0..count).map(|_| self.frame(Some(sized_batch(bytes, self.at.next_offset.0)))).collect();
        self.write(committed, vec![WriteOp::Append(frames)])
    }

    /// Bytes of one batch.
    pub fn batch_bytes(&self) -> usize {
        self.batch.len()
    }

    /// What the consensus thread hands to a checkpoint: one idempotent producer, as of the last frame.
    pub fn producers(&self) -> (ReplicaId, LogIndex, Bytes) {
        (self.replica, self.at.index, Bytes::from_static(&[5; TABLE_BYTES]))
    }

    fn write(&self, commit: LogIndex, ops: Vec<WriteOp>) -> ReplicaWrite {
        ReplicaWrite { replica: self.replica, log: self.log, commit, ops }
    }

    fn frame(&mut self, batch: Option<Bytes>) -> Frame {
        let LogPoint { index, next_offset, crc, .. } = self.at;
        let payload = batch::stamp(batch.as_ref().unwrap_or(&self.batch), next_offset, TERM, None);
        let frame = Frame::new(self.log, FrameKind::Records, TERM, index.next(), next_offset, 1, crc, payload);
        self.at = LogPoint { index: frame.index, term: TERM, next_offset: frame.next_offset(), crc: frame.crc };
        frame
    }
}

/// A batch of one record of random bytes, so that nothing below profits from what they are.
fn sized_batch(batch_bytes: usize, time: u64) -> Bytes {
    // The value's length stands in a varint, so the overhead depends on it: two or three tries find it.
    let mut value_bytes = batch_bytes - BATCH_OVERHEAD_BYTES;
    loop {
        let bytes = batch_of(value_bytes, time);
        match batch_bytes.cmp(&bytes.len()) {
            std::cmp::Ordering::Equal => return bytes,
            std::cmp::Ordering::Less => value_bytes -= 1,
            std::cmp::Ordering::Greater => value_bytes += 1,
        }
    }
}

/// Bytes of a batch of one record that are not its value, about.
const BATCH_OVERHEAD_BYTES: usize = 72;

fn batch_of(value_bytes: usize, time: u64) -> Bytes {
    let mut value = vec![0u8; value_bytes];
    fastrand::Rng::with_seed(time).fill(&mut value);
    let mut builder = BatchBuilder::new(Codec::None).producer(ProducerId(1), 0, 0);
    let record = Record::new(TimestampMs(time as i64), value);
    builder.push(&record).expect("a record within the limits");
    builder.build().expect("a batch within the limits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_the_size_that_was_asked_for() {
        for bytes in [1 << 10, 4 << 10, 64 << 10, 1 << 20] {
            let mut frames = LogFrames::of_logs(1, bytes).remove(0);
            let WriteOp::Append(made) = &frames.append_timed(2).ops[0] else { panic!("an append") };
            assert!(made.iter().all(|frame| frame.payload.len() == bytes), "{bytes}");
            assert_eq!(made[1].index, frames.at.index);
        }
    }
}

//! Append times: a batch has the time that some node's wall clock showed when it took the request, or its producer's own, and
//! that time decides nothing.
//!
//! No order of stamps is promised, not within a log either: clocks jump, leaders change, and a node stamps a request before it
//! waits for its turn. That offsets, reads and commits don't follow the stamps is what all other checkers see, on the same runs.

use dlog_core::batch::{BatchHeader, TimestampType};
use dlog_core::{Frame, TimestampMs};
use std::collections::BTreeSet;

/// The stamps of one log.
#[derive(Debug, Default)]
pub struct Stamps {
    given: BTreeSet<TimestampMs>,
    last: Option<TimestampMs>,
}

impl Stamps {
    /// A node's clock showed this when it took a request.
    pub fn given(&mut self, at: TimestampMs) {
        self.given.insert(at);
    }

    /// A frame of records was seen committed for the first time; says whether it is stamped earlier than the one before.
    ///
    /// # Errors
    /// What is wrong with its time.
    pub fn committed(&mut self, frame: &Frame) -> Result<bool, String> {
        let header = BatchHeader::decode(&frame.payload).map_err(|error| format!("frame {}: {error}", frame.index))?;
        if header.attributes.timestamp_type != TimestampType::Append {
            return match self.given.is_empty() {
                true => Ok(false),
                false => Err(format!("frame {} has no append time, and its log wants one", frame.index)),
            };
        }
        let time = header.max_timestamp;
        if !self.given.contains(&time) {
            return Err(format!("frame {} has the append time {time:?}, which no clock showed", frame.index));
        }
        let before = self.last.replace(time);
        Ok(before.is_some_and(|before| time < before))
    }
}

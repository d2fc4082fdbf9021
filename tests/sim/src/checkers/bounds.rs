//! What is held in memory stays within the replicas' own bounds, and so does what queues before a consensus thread.

use dlog_consensus::options::PENDING_REQUESTS_MAX;
use dlog_consensus::{ReplicaOptions, Status};
use dlog_core::batch::BATCH_HEADER_BYTES;
use dlog_core::frame::FRAME_HEADER_BYTES;

/// What a process may have in its inbox beside what its peers may have in flight to it: requests, and messages without entries.
const INBOX_BYTES: usize = 4 << 20;
/// How often a peer may send again what it has in flight, while a process takes nothing.
const SENT_AGAIN: usize = 8;

/// One replica at one moment.
///
/// # Errors
/// Names the bound.
pub fn replica(status: &Status, options: &ReplicaOptions) -> Result<(), String> {
    // What isn't committed or not durable comes on top of what isn't written out; both are counted without the frames' headers.
    let on_top = options.uncommitted_bytes_max + options.in_flight_bytes_max;
    let most = options.pinned_bytes_max + on_top + on_top * FRAME_HEADER_BYTES / BATCH_HEADER_BYTES;
    if status.pinned_bytes > most {
        return Err(format!("{} bytes are pinned, allowed are {most}", status.pinned_bytes));
    }
    match status.pending_requests > PENDING_REQUESTS_MAX {
        true => Err(format!("{} requests wait", status.pending_requests)),
        false => Ok(()),
    }
}

/// The inbox of a process with so many replicas.
///
/// # Errors
/// Says how many bytes there are.
pub fn inbox(bytes: usize, replicas: usize, options: &ReplicaOptions) -> Result<(), String> {
    let most = INBOX_BYTES + SENT_AGAIN * replicas * options.in_flight_bytes_max;
    if bytes > most { Err(format!("{bytes} bytes wait in an inbox, allowed are {most}")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_has_a_bound() {
        let options = ReplicaOptions { in_flight_bytes_max: 1 << 20, ..ReplicaOptions::default() };
        inbox(5 << 20, 1, &options).expect("within");
        inbox(13 << 20, 1, &options).expect_err("too much");
    }
}

//! What a replica tells of itself never goes back while it lives, and its parts fit together.

use dlog_consensus::Progress;

/// Compares two reports of one replica in one life.
///
/// # Errors
/// A sentence that says what went back or doesn't fit.
pub fn moved(before: &Progress, now: &Progress) -> Result<(), String> {
    let back = now.high_watermark < before.high_watermark
        || now.commit < before.commit
        || now.read_bound < before.read_bound
        || now.log_start < before.log_start
        || now.read_bound > now.high_watermark
        || now.high_watermark > now.log_end;
    if back { Err(format!("progress went from {before:?} to {now:?}")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::{LogIndex, Offset};

    fn at(high_watermark: u64, commit: u64, read_bound: u64, log_end: u64) -> Progress {
        let offset = Offset;
        Progress {
            high_watermark: offset(high_watermark),
            commit: LogIndex(commit),
            read_bound: offset(read_bound),
            log_end: offset(log_end),
            log_start: Offset::ZERO,
        }
    }

    #[test]
    fn only_the_log_end_may_go_back() {
        assert!(moved(&at(5, 5, 4, 9), &at(5, 5, 4, 6)).is_ok());
        assert!(moved(&at(5, 5, 4, 9), &at(4, 5, 4, 9)).is_err());
        assert!(moved(&at(5, 5, 4, 9), &at(5, 4, 4, 9)).is_err());
        assert!(moved(&at(5, 5, 4, 9), &at(5, 5, 3, 9)).is_err());
        assert!(moved(&at(5, 5, 4, 9), &at(6, 5, 7, 9)).is_err(), "readable but not committed");
        assert!(moved(&at(5, 5, 4, 9), &at(10, 6, 5, 9)).is_err(), "committed but not here");
    }
}

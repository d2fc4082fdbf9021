//! Standard output with a large buffer, flushed whenever nothing more is at hand.

use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, Write};
use tokio::sync::oneshot;

/// Bytes that are collected before they are written: one system call for so many.
const BUFFER_BYTES: usize = 256 << 10;

/// A writer that keeps what it gets until it is full or flushed.
pub struct Sink<W: Write> {
    out: W,
    buffer: Vec<u8>,
}

impl<W: Write> Sink<W> {
    /// A buffer before `out`.
    pub fn new(out: W) -> Sink<W> {
        Sink { out, buffer: Vec::with_capacity(BUFFER_BYTES + (64 << 10)) }
    }

    /// Where a record is printed to. Call [`Sink::settle`] after each.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Whether something waits to be written.
    pub fn is_dirty(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Writes what was collected if it is enough.
    ///
    /// # Errors
    /// The writer's.
    pub fn settle(&mut self) -> io::Result<()> {
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes everything.
    ///
    /// # Errors
    /// The writer's. What was collected is then gone: it can't be known how much of it was written.
    pub fn flush(&mut self) -> io::Result<()> {
        let result = self.out.write_all(&self.buffer).and_then(|()| self.out.flush());
        self.buffer.clear();
        // A huge record must not keep its room for ever.
        self.buffer.shrink_to(4 * BUFFER_BYTES);
        result
    }
}

/// Returns once the reader of standard output has gone: a follower that has nothing to write would not find out. Never for a
/// file.
pub async fn reader_gone() {
    let (gone, told) = oneshot::channel();
    // Blocks for as long as the reader is there; the end of the process takes the thread along.
    let watch = move || {
        let out = io::stdout();
        // Errors and hang-ups are told without being asked for.
        let mut watched = [PollFd::new(&out, PollFlags::empty())];
        if poll(&mut watched, None).is_ok_and(|count| count > 0) {
            gone.send(()).unwrap_or(());
        }
    };
    let watches = std::thread::Builder::new().name("stdout".into()).spawn(watch).is_ok();
    if !watches || told.await.is_err() {
        // What can't be watched is found out when it is written to.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_when_full_or_flushed() {
        let mut written = Vec::new();
        let mut sink = Sink::new(&mut written);
        sink.buffer().extend_from_slice(b"one");
        sink.settle().expect("memory");
        assert!(sink.is_dirty());
        sink.buffer().resize(BUFFER_BYTES, b'x');
        sink.settle().expect("memory");
        assert!(!sink.is_dirty());
        sink.buffer().extend_from_slice(b"end");
        sink.flush().expect("memory");
        assert_eq!(written.len(), BUFFER_BYTES + 3);
        assert!(written.starts_with(b"one") && written.ends_with(b"end"));
    }
}

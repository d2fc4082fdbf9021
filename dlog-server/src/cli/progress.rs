//! Progress of long work on a terminal: a bar on standard error that comes after a second and goes when the work is done.
//! Where standard error is no terminal there is none.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What takes less is not worth a bar.
const SHOW_AFTER: Duration = Duration::from_secs(1);
/// Redraws a second.
const REDRAWS: u8 = 8;

/// How much of some work is done.
pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    /// It may be shown, and isn't yet.
    waits: bool,
}

impl Progress {
    /// Of `total` bytes none is done.
    pub fn new(total: u64) -> Progress {
        Progress::on(total, std::io::stderr().is_terminal())
    }

    /// Shows nothing.
    pub fn none() -> Progress {
        Progress::on(0, false)
    }

    fn on(total: u64, terminal: bool) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        // The template is a constant: if it were wrong, the default would do.
        if let Ok(style) =
            ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
        {
            bar.set_style(style);
        }
        Progress { bar, began: Instant::now(), waits: terminal }
    }

    /// So many bytes are done.
    pub fn at(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
        if self.is_due(self.began.elapsed()) {
            self.waits = false;
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS));
        }
    }

    fn is_due(&self, after: Duration) -> bool {
        self.waits && after >= SHOW_AFTER
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        self.waits = false;
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A reader that tells how far it is.
pub struct Counted<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    /// A reader of `input`, and its counter.
    pub fn new(input: R) -> (Counted<R>, Arc<AtomicU64>) {
        let read = Arc::new(AtomicU64::new(0));
        (Counted { input, read: Arc::clone(&read) }, read)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_comes_late_and_only_on_a_terminal() {
        let terminal = Progress::on(10, true);
        assert!(!terminal.is_due(Duration::from_millis(900)) && terminal.is_due(SHOW_AFTER));
        assert!(!Progress::on(10, false).is_due(SHOW_AFTER) && !Progress::none().is_due(SHOW_AFTER));
        let mut ended = Progress::on(10, true);
        ended.finish();
        assert!(!ended.is_due(SHOW_AFTER), "nothing comes after the end");
    }

    #[test]
    fn bytes_are_counted_as_they_are_read() {
        let (mut input, read) = Counted::new(&b"hello"[..]);
        let mut two = [0; 2];
        input.read_exact(&mut two).expect("there are five");
        assert_eq!(read.load(Ordering::Relaxed), 2);
    }
}

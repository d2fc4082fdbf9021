//! Standard output and standard error. A closed pipe is no failure: it ends the verb silently with 0.

use anyhow::Context;
use std::io::{self, Write};

/// The reader of standard output has gone.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub struct Closed;

/// Turns what writing to standard output said into what a verb ends with.
///
/// # Errors
/// [`Closed`] for a closed pipe, else that it can't be written.
pub fn check<T>(result: io::Result<T>) -> anyhow::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        result => result.context("can't write to standard output"),
    }
}

/// Prints `text` as it is on standard output.
///
/// # Errors
/// See [`check`].
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    check(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints a line on standard output.
///
/// # Errors
/// See [`check`].
pub fn line(text: &str) -> anyhow::Result<()> {
    print(&format!("{text}\n"))
}

/// Prints one JSON document on a line of its own.
///
/// # Errors
/// See [`check`].
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value).context("can't write the result as JSON")?)
}

/// Prints a line on standard error. If nobody reads it, it is lost.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_told_apart() {
        let closed = check::<()>(Err(io::ErrorKind::BrokenPipe.into())).expect_err("an error");
        assert!(closed.is::<Closed>());
        let full = check::<()>(Err(io::ErrorKind::StorageFull.into())).expect_err("an error");
        assert!(!full.is::<Closed>());
    }
}

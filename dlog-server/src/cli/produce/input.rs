//! Lines of a file or of standard input, in chunks: what one read gave, up to its last newline. Memory is bounded by the
//! longest line allowed and by how many chunks the caller keeps.

use bytes::{Bytes, BytesMut};
use dlog_core::limits::RECORD_VALUE_BYTES_MAX;
use std::io::{self, Read};

/// Bytes asked for in one read. Large enough that a fast producer is not slowed by system calls, small enough that a few
/// chunks in flight cost little.
const READ_BYTES: usize = 128 << 10;
/// Bytes of a line: what a record of its own batch may hold. Whatever the topic allows is checked when it is sent.
pub const LINE_BYTES_MAX: usize = RECORD_VALUE_BYTES_MAX;

/// Some lines in order, without their newlines.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The number of the first line, from 1.
    pub first_line: u64,
    /// The lines. They share one buffer.
    pub lines: Vec<Bytes>,
}

/// Why no further line can be had.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The line doesn't fit into any batch.
    #[error(
        "line {line} is longer than {LINE_BYTES_MAX} bytes, the most that a batch can hold; the lines before it were sent"
    )]
    TooLong {
        /// Its number, from 1.
        line: u64,
    },
    /// The input can't be read.
    #[error("line {line} can't be read: {source}")]
    Io {
        /// The line that was being read, from 1.
        line: u64,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// Cuts what a reader gives into lines. A newline ends a line and is no part of it; a carriage return before it is. The last
/// line needs none.
///
/// Invariant: `buffer` holds no newline before `searched`.
pub struct Lines<R> {
    input: R,
    buffer: BytesMut,
    searched: usize,
    next_line: u64,
    /// Nothing more can be read.
    ended: bool,
    /// The line `next_line` was too long and is gone: nothing more is given.
    too_long: bool,
}

impl<R: Read> Lines<R> {
    /// The lines of `input`.
    pub fn new(input: R) -> Lines<R> {
        Lines { input, buffer: BytesMut::new(), searched: 0, next_line: 1, ended: false, too_long: false }
    }

    /// The next lines, at least one; `None` at the end. Returns as soon as there is a whole line, so that lines typed by hand
    /// are sent at once.
    ///
    /// # Errors
    /// [`InputError`]; the lines before the one named were all given.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, InputError> {
        loop {
            if !self.too_long
                && let Some(chunk) = self.take_lines()
            {
                return Ok(Some(chunk));
            }
            if self.too_long || self.buffer.len() > LINE_BYTES_MAX {
                return Err(InputError::TooLong { line: self.next_line });
            }
            if self.ended {
                return Ok(self.take_rest());
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<(), InputError> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + READ_BYTES, 0);
        let result = loop {
            match self.input.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let read = *result.as_ref().unwrap_or(&0);
        self.buffer.truncate(filled + read);
        match result {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(source) => return Err(InputError::Io { line: self.next_line, source }),
        }
        Ok(())
    }

    /// All whole lines in the buffer, up to one that is too long.
    fn take_lines(&mut self) -> Option<Chunk> {
        let last = self.buffer[self.searched..].iter().rposition(|byte| *byte == b'\n');
        let Some(last) = last.map(|at| self.searched + at) else {
            self.searched = self.buffer.len();
            return None;
        };
        let block = self.buffer.split_to(last + 1).freeze();
        self.searched = 0;
        let mut lines = Vec::with_capacity(block.len() / 64 + 1);
        let mut start = 0;
        for at in block.iter().enumerate().filter_map(|(at, byte)| (*byte == b'\n').then_some(at)) {
            if at - start > LINE_BYTES_MAX {
                self.too_long = true;
                break;
            }
            lines.push(block.slice(start..at));
            start = at + 1;
        }
        let chunk = Chunk { first_line: self.next_line, lines };
        self.next_line += chunk.lines.len() as u64;
        (!chunk.lines.is_empty()).then_some(chunk)
    }

    fn take_rest(&mut self) -> Option<Chunk> {
        let rest = self.buffer.split().freeze();
        self.searched = 0;
        (!rest.is_empty()).then(|| Chunk { first_line: self.next_line, lines: vec![rest] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives at most so many bytes at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(self.1).min(out.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn all(text: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(Drip(text, step));
        let mut found: Vec<Vec<u8>> = Vec::new();
        while let Some(chunk) = lines.next_chunk().expect("good input") {
            assert_eq!(chunk.first_line, found.len() as u64 + 1);
            assert!(!chunk.lines.is_empty());
            found.extend(chunk.lines.iter().map(|line| line.to_vec()));
        }
        found
    }

    #[test]
    fn what_a_line_is() {
        assert!(all(b"", 9).is_empty());
        assert_eq!(all(b"\n", 9), [b""]);
        assert_eq!(all(b"a\r\n\nb", 9), [&b"a\r"[..], b"", b"b"]);
        assert_eq!(all(b"a\nb\n", 1), [b"a", b"b"]);
    }

    #[test]
    fn a_line_too_long_is_named_after_those_before_it() {
        for end in ["", "\nlast\n"] {
            let mut text = b"one\ntwo\n".to_vec();
            text.resize(text.len() + LINE_BYTES_MAX + 1, b'x');
            text.extend_from_slice(end.as_bytes());
            let mut lines = Lines::new(&text[..]);
            let mut before = 0;
            let error = loop {
                match lines.next_chunk() {
                    Ok(Some(chunk)) => before += chunk.lines.len(),
                    Ok(None) => unreachable!("the input has a bad line"),
                    Err(error) => break error,
                }
            };
            assert_eq!(before, 2);
            assert!(matches!(error, InputError::TooLong { line: 3 }), "{error}");
        }
        let mut longest = vec![b'x'; LINE_BYTES_MAX];
        longest.push(b'\n');
        assert_eq!(all(&longest, 1 << 20)[0].len(), LINE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_reads(text in "[ab\r\n]{0,60}", step in 1usize..20) {
            let mut expected: Vec<&str> = text.split('\n').collect();
            if expected.last() == Some(&"") {
                expected.pop();
            }
            let found = all(text.as_bytes(), step);
            prop_assert_eq!(found, expected.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>());
        }
    }
}

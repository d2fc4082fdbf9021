//! [`Record`]: one key and value, as a record of Kafka's RecordBatch v2.
//!
//! ```text
//! varint   bytes that follow
//! i8       attributes, 0
//! varlong  time stamp, less the batch's base time stamp
//! varint   offset, less the batch's base offset
//! varint   bytes of the key, -1 without one; the key
//! varint   bytes of the value, -1 without one; the value
//! varint   headers; for each:
//! varint     bytes of its name; the name in UTF-8
//! varint     bytes of its value, -1 without one; the value
//! ```

use crate::TimestampMs;
use crate::limits::{RECORD_HEADER_KEY_BYTES_MAX, RECORD_HEADERS_MAX, RECORD_KEY_BYTES_MAX, RECORD_VALUE_BYTES_MAX};
use crate::varint::{self, VarintError};
use bytes::Bytes;
use std::ops::Range;

/// One record, without its offset. Key, value and header values share the buffer that they were decoded from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Record {
    /// When it happened (or was appended, where the topic says so).
    pub timestamp: TimestampMs,
    /// What places it in a partition; at most [`RECORD_KEY_BYTES_MAX`].
    pub key: Option<Bytes>,
    /// What it says; `None` is a tombstone where a topic is compacted. At most [`RECORD_VALUE_BYTES_MAX`].
    pub value: Option<Bytes>,
    /// At most [`RECORD_HEADERS_MAX`], in the producer's order; names may repeat.
    pub headers: Vec<Header>,
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name, at most [`RECORD_HEADER_KEY_BYTES_MAX`].
    pub key: String,
    /// Its value, at most [`RECORD_VALUE_BYTES_MAX`].
    pub value: Option<Bytes>,
}

/// Why bytes are not a record, or a record can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A number in it is not one.
    #[error(transparent)]
    Varint(#[from] VarintError),
    /// The bytes end inside of it.
    #[error("the bytes end inside the record's {0}")]
    Short(&'static str),
    /// A length is negative where that has no meaning.
    #[error("the record's {0} has a length of {1}")]
    Length(&'static str, i32),
    /// Attributes are reserved in this format.
    #[error("the record's attributes are {0:#04x}, only 0 is known")]
    Attributes(u8),
    /// A part of it is larger than dlog takes.
    #[error("the record's {what} has {size}, at most {max} are allowed")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its bytes, or how many there are.
        size: usize,
        /// What is allowed.
        max: usize,
    },
    /// A header's name is missing, or not UTF-8.
    #[error("the name of a header is not UTF-8 text")]
    HeaderKey,
    /// Its own length says more than its parts have.
    #[error("{0} bytes are left over in the record")]
    Trailing(usize),
    /// The time stamp and the batch's base time stamp are too far apart.
    #[error("the record's time stamp is out of range")]
    Timestamp,
}

impl Record {
    /// A record with this value, no key, and no headers.
    pub fn new(timestamp: TimestampMs, value: impl Into<Bytes>) -> Record {
        Record { timestamp, key: None, value: Some(value.into()), headers: Vec::new() }
    }

    /// This record with a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Record {
        self.key = Some(key.into());
        self
    }

    /// This record with one more header.
    #[must_use]
    pub fn with_header(mut self, key: impl Into<String>, value: Option<Bytes>) -> Record {
        self.headers.push(Header { key: key.into(), value });
        self
    }

    /// Checks what the record holds against the bounds.
    ///
    /// # Errors
    /// [`RecordError::TooLarge`].
    pub fn check(&self) -> Result<(), RecordError> {
        let bytes = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
        within("key", bytes(&self.key), RECORD_KEY_BYTES_MAX)?;
        within("value", bytes(&self.value), RECORD_VALUE_BYTES_MAX)?;
        within("list of headers", self.headers.len(), RECORD_HEADERS_MAX)?;
        for header in &self.headers {
            within("header name", header.key.len(), RECORD_HEADER_KEY_BYTES_MAX)?;
            within("header value", bytes(&header.value), RECORD_VALUE_BYTES_MAX)?;
        }
        Ok(())
    }

    /// Bytes behind the length of the encoded record.
    pub(crate) fn body_bytes(&self, timestamp_delta: i64, offset_delta: i64) -> usize {
        let headers: usize =
            self.headers.iter().map(|h| field_bytes(Some(h.key.len())) + optional_bytes(&h.value)).sum();
        1 + varint::encoded_bytes(timestamp_delta)
            + varint::encoded_bytes(offset_delta)
            + optional_bytes(&self.key)
            + optional_bytes(&self.value)
            + varint::encoded_bytes(self.headers.len() as i64)
            + headers
    }

    /// Appends the encoded record, whose [`Record::body_bytes`] are `body_bytes`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, body_bytes: usize, timestamp_delta: i64, offset_delta: i64) {
        varint::write(out, body_bytes as i64);
        let start = out.len();
        out.push(0);
        varint::write(out, timestamp_delta);
        varint::write(out, offset_delta);
        write_field(out, self.key.as_deref());
        write_field(out, self.value.as_deref());
        varint::write(out, self.headers.len() as i64);
        for header in &self.headers {
            write_field(out, Some(header.key.as_bytes()));
            write_field(out, header.value.as_deref());
        }
        debug_assert_eq!(out.len() - start, body_bytes, "the length is written before the body");
    }
}

fn within(what: &'static str, size: usize, max: usize) -> Result<(), RecordError> {
    if size <= max { Ok(()) } else { Err(RecordError::TooLarge { what, size, max }) }
}

fn field_bytes(length: Option<usize>) -> usize {
    length.map_or(1, |length| varint::encoded_bytes(length as i64) + length)
}

fn optional_bytes(field: &Option<Bytes>) -> usize {
    field_bytes(field.as_ref().map(Bytes::len))
}

fn write_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        Some(bytes) => {
            varint::write(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => varint::write(out, -1),
    }
}

/// Where the parts of one encoded record stand. Everything is checked; nothing is allocated.
#[derive(Debug)]
pub(crate) struct RecordSpan {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    header_count: usize,
    headers: Range<usize>,
}

impl RecordSpan {
    /// Reads the record at byte `at` of `bytes`, and moves `at` behind it.
    pub(crate) fn parse(bytes: &[u8], at: &mut usize) -> Result<RecordSpan, RecordError> {
        let length = varint::read_i32(bytes, at)?;
        let length = usize::try_from(length).map_err(|_| RecordError::Length("body", length))?;
        if length > bytes.len() - *at {
            return Err(RecordError::Short("body"));
        }
        let body = &bytes[..*at + length];
        match body.get(*at) {
            None => return Err(RecordError::Short("attributes")),
            Some(0) => *at += 1,
            Some(&other) => return Err(RecordError::Attributes(other)),
        }
        let timestamp_delta = varint::read_i64(body, at)?;
        let offset_delta = varint::read_i32(body, at)?;
        let key = read_field(body, at, "key", RECORD_KEY_BYTES_MAX)?;
        let value = read_field(body, at, "value", RECORD_VALUE_BYTES_MAX)?;
        let header_count = varint::read_i32(body, at)?;
        let header_count =
            usize::try_from(header_count).map_err(|_| RecordError::Length("list of headers", header_count))?;
        within("list of headers", header_count, RECORD_HEADERS_MAX)?;
        let start = *at;
        for _ in 0..header_count {
            read_header(body, at)?;
        }
        let left = body.len() - *at;
        if left > 0 {
            return Err(RecordError::Trailing(left));
        }
        Ok(RecordSpan { timestamp_delta, offset_delta, key, value, header_count, headers: start..*at })
    }

    /// The record that stands there in `bytes`, the same bytes that were parsed; its parts share them.
    pub(crate) fn record(&self, bytes: &Bytes, timestamp: TimestampMs) -> Record {
        let share = |range: &Range<usize>| bytes.slice(range.clone());
        let mut headers = Vec::with_capacity(self.header_count);
        let (body, mut at) = (&bytes[..self.headers.end], self.headers.start);
        for _ in 0..self.header_count {
            let (key, value) = read_header(body, &mut at).expect("parse has read the same bytes");
            headers.push(Header { key: key.to_owned(), value: value.as_ref().map(share) });
        }
        Record { timestamp, key: self.key.as_ref().map(share), value: self.value.as_ref().map(share), headers }
    }
}

fn read_header<'a>(body: &'a [u8], at: &mut usize) -> Result<(&'a str, Option<Range<usize>>), RecordError> {
    let key = read_field(body, at, "header name", RECORD_HEADER_KEY_BYTES_MAX)?.ok_or(RecordError::HeaderKey)?;
    let key = std::str::from_utf8(&body[key]).map_err(|_| RecordError::HeaderKey)?;
    let value = read_field(body, at, "header value", RECORD_VALUE_BYTES_MAX)?;
    Ok((key, value))
}

fn read_field(
    body: &[u8],
    at: &mut usize,
    what: &'static str,
    max: usize,
) -> Result<Option<Range<usize>>, RecordError> {
    let length = varint::read_i32(body, at)?;
    if length == -1 {
        return Ok(None);
    }
    let size = usize::try_from(length).map_err(|_| RecordError::Length(what, length))?;
    within(what, size, max)?;
    if size > body.len() - *at {
        return Err(RecordError::Short(what));
    }
    let range = *at..*at + size;
    *at = range.end;
    Ok(Some(range))
}

#[cfg(test)]
#[path = "record_tests.rs"]
pub(crate) mod tests;

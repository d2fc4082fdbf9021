//! How a record is printed: raw, JSON, or by a format string.

use bytes::Bytes;
use dlog_client::Header;
use serde_json::{Value, json};
use std::io::{self, Write};

/// One record as the consumer got it.
pub struct RecordView<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Milliseconds since the epoch; -1: none.
    pub timestamp_ms: i64,
    /// The key, if there is one.
    pub key: Option<&'a Bytes>,
    /// The value, if there is one.
    pub value: Option<&'a Bytes>,
    /// Headers in order.
    pub headers: &'a [Header],
}

/// A parsed `--format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// The value and a newline.
    Raw,
    /// One object a line.
    Json,
    /// Literal text and fields.
    Text(Vec<Piece>),
}

/// A part of a format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Printed as it is.
    Literal(String),
    /// `%t`
    Topic,
    /// `%p`
    Partition,
    /// `%o`
    Offset,
    /// `%T`: milliseconds since the epoch.
    Timestamp,
    /// `%k`
    Key,
    /// `%v`
    Value,
    /// `%h`: `key=value`, with commas between.
    Headers,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "raw" => return Ok(Format::Raw),
            "json" => return Ok(Format::Json),
            _ => {}
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece = match c {
                '%' => match chars.next() {
                    Some('t') => Piece::Topic,
                    Some('p') => Piece::Partition,
                    Some('o') => Piece::Offset,
                    Some('T') => Piece::Timestamp,
                    Some('k') => Piece::Key,
                    Some('v') => Piece::Value,
                    Some('h') => Piece::Headers,
                    Some('%') => {
                        literal.push('%');
                        continue;
                    }
                    other => {
                        let found = other.map(String::from).unwrap_or_default();
                        return Err(format!("%{found} is no field: allowed are %t %p %o %T %k %v %h and %%"));
                    }
                },
                '\\' => {
                    match chars.next() {
                        Some('n') => literal.push('\n'),
                        Some('t') => literal.push('\t'),
                        Some('\\') => literal.push('\\'),
                        other => {
                            let found = other.map(String::from).unwrap_or_default();
                            return Err(format!("\\{found} is no escape: allowed are \\n \\t and \\\\"));
                        }
                    }
                    continue;
                }
                c => {
                    literal.push(c);
                    continue;
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        if pieces.iter().all(|p| matches!(p, Piece::Literal(_))) {
            return Err(format!("{text:?} names no field: write raw, json, or a string with %k, %v and the like"));
        }
        Ok(Format::Text(pieces))
    }
}

impl Format {
    /// Prints one record.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, out: &mut impl Write, record: &RecordView<'_>) -> io::Result<()> {
        match self {
            Format::Raw => {
                out.write_all(record.value.map_or(&[][..], |v| v))?;
                out.write_all(b"\n")
            }
            Format::Json => {
                serde_json::to_writer(&mut *out, &record.to_json())?;
                out.write_all(b"\n")
            }
            Format::Text(pieces) => pieces.iter().try_for_each(|piece| write_piece(out, piece, record)),
        }
    }
}

fn write_piece(out: &mut impl Write, piece: &Piece, record: &RecordView<'_>) -> io::Result<()> {
    match piece {
        Piece::Literal(text) => out.write_all(text.as_bytes()),
        Piece::Topic => out.write_all(record.topic.as_bytes()),
        Piece::Partition => write!(out, "{}", record.partition),
        Piece::Offset => write!(out, "{}", record.offset),
        Piece::Timestamp => write!(out, "{}", record.timestamp_ms),
        Piece::Key => out.write_all(record.key.map_or(&[][..], |k| k)),
        Piece::Value => out.write_all(record.value.map_or(&[][..], |v| v)),
        Piece::Headers => {
            for (i, Header { key, value }) in record.headers.iter().enumerate() {
                if i > 0 {
                    out.write_all(b",")?;
                }
                write!(out, "{key}=")?;
                out.write_all(value.as_deref().unwrap_or_default())?;
            }
            Ok(())
        }
    }
}

impl RecordView<'_> {
    fn to_json(&self) -> Value {
        let header = |header: &Header| json!({"key": header.key, "value": bytes_json(header.value.as_ref())});
        let headers: Vec<Value> = self.headers.iter().map(header).collect();
        json!({
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": self.timestamp_ms,
            "key": bytes_json(self.key),
            "value": bytes_json(self.value),
            "headers": headers,
        })
    }
}

/// Text where the bytes are UTF-8, else `{"base64": …}`; null where there is nothing.
fn bytes_json(bytes: Option<&Bytes>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::String(text.to_string()),
            Err(_) => json!({"base64": base64(bytes)}),
        },
    }
}

/// RFC 4648 section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().enumerate().fold(0u32, |bits, (i, b)| bits | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            let sextet = (bits >> (18 - 6 * i)) & 63;
            text.push(if i <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(format: &str, value: &'static [u8]) -> String {
        let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(value));
        let header =
            |key: &str, value: Option<&'static [u8]>| Header { key: key.into(), value: value.map(Bytes::from_static) };
        let headers = [header("h", Some(b"1")), header("g", None)];
        let record = RecordView {
            topic: "t",
            partition: 2,
            offset: 3,
            timestamp_ms: 4,
            key: Some(&key),
            value: Some(&value),
            headers: &headers,
        };
        let mut out = Vec::new();
        format.parse::<Format>().expect("a format").write(&mut out, &record).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn formats() {
        assert_eq!(print("raw", b"v"), "v\n");
        assert_eq!(print("%t %p %o %T\\t%k=%v %h %%\\n", b"v"), "t 2 3 4\tk=v h=1,g= %\n");
        assert_eq!(
            print("json", b"v"),
            "{\"topic\":\"t\",\"partition\":2,\"offset\":3,\"timestamp\":4,\"key\":\"k\",\"value\":\"v\",\
             \"headers\":[{\"key\":\"h\",\"value\":\"1\"},{\"key\":\"g\",\"value\":null}]}\n"
        );
        assert!(print("json", b"\xff\x00").contains("{\"base64\":\"/wA=\"}"));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["%x", "%", "\\q", "plain", ""] {
            assert!(bad.parse::<Format>().is_err(), "{bad}");
        }
    }

    #[test]
    fn base64_vectors() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}

//! One line of input becomes one record: its key, its value, its time.

use super::pick::{Pointer, pick};
use crate::cli::units;
use bytes::Bytes;
use serde_json::Value;

/// How keys and times are found in a line.
#[derive(Clone, Debug, Default)]
pub struct LineFormat {
    /// Where the key comes from.
    pub key: KeySource,
    /// Where the time stands; none: the time of sending.
    pub timestamp_json: Option<Pointer>,
}

/// Where a record's key comes from.
#[derive(Clone, Debug, Default)]
pub enum KeySource {
    /// No key.
    #[default]
    None,
    /// The same for every line.
    Fixed(Bytes),
    /// The text before the first separator; the rest is the value.
    Separator(String),
    /// A place in the line.
    Json(Pointer),
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The key, if there is one.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Bytes,
    /// Milliseconds since the epoch, if the line says.
    pub timestamp_ms: Option<i64>,
}

impl LineFormat {
    /// Reads a line without its newline.
    ///
    /// # Errors
    /// What is wrong with the line; the caller adds its number.
    pub fn parse(&self, line: Bytes) -> Result<Line, String> {
        let key_pointer = match &self.key {
            KeySource::Json(pointer) => Some(pointer),
            _ => None,
        };
        let [key_value, time_value] = match (key_pointer, &self.timestamp_json) {
            (None, None) => [None, None],
            (key, time) => pick(&line, [key, time.as_ref()])?,
        };
        let timestamp_ms =
            self.timestamp_json.as_ref().map(|pointer| time(time_value.as_ref(), pointer)).transpose()?;
        let (key, value) = match &self.key {
            KeySource::None => (None, line),
            KeySource::Fixed(key) => (Some(key.clone()), line),
            KeySource::Json(pointer) => (key(key_value.as_ref(), pointer)?, line),
            KeySource::Separator(separator) => {
                let Some(at) = find(&line, separator.as_bytes()) else {
                    return Err(format!("no key separator {separator:?} in the line"));
                };
                (Some(line.slice(..at)), line.slice(at + separator.len()..))
            }
        };
        Ok(Line { key, value, timestamp_ms })
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn key(found: Option<&Value>, pointer: &Pointer) -> Result<Option<Bytes>, String> {
    Ok(match found {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(Bytes::copy_from_slice(text.as_bytes())),
        Some(scalar @ (Value::Number(_) | Value::Bool(_))) => Some(Bytes::from(scalar.to_string())),
        Some(Value::Object(_)) => return Err(format!("{pointer} is an object; a key is text, a number or a boolean")),
        Some(Value::Array(_)) => return Err(format!("{pointer} is an array; a key is text, a number or a boolean")),
    })
}

fn time(found: Option<&Value>, pointer: &Pointer) -> Result<i64, String> {
    match found {
        Some(Value::String(text)) => units::timestamp_ms(text).map_err(|error| format!("{pointer}: {error}")),
        Some(Value::Number(number)) => match number.as_i64() {
            Some(ms) if ms >= 0 => Ok(ms),
            _ => Err(format!("{pointer} is {number}; a time in numbers is whole milliseconds since 1970")),
        },
        None => Err(format!("{pointer} is absent; each line needs a time there")),
        Some(other) => Err(format!("{pointer} is {other}; a time is RFC 3339 text or milliseconds since 1970")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::new(text).expect("a pointer")
    }

    fn key(at: &str, line: &'static str) -> Result<Option<Bytes>, String> {
        let format = LineFormat { key: KeySource::Json(pointer(at)), timestamp_json: None };
        format.parse(Bytes::from_static(line.as_bytes())).map(|l| l.key)
    }

    #[test]
    fn keys_from_json() {
        let line = r#"{"a":"x","n":1.50,"b":true,"z":null,"o":{"i":"deep"},"l":[1]}"#;
        assert_eq!(key("/a", line), Ok(Some(Bytes::from_static(b"x"))));
        assert_eq!(key("/b", line), Ok(Some(Bytes::from_static(b"true"))));
        assert_eq!(key("/o/i", line), Ok(Some(Bytes::from_static(b"deep"))));
        assert_eq!(key("/z", line), Ok(None));
        assert_eq!(key("/absent", line), Ok(None));
        assert!(key("/o", line).expect_err("refused").contains("object"));
        assert!(key("/l", line).expect_err("refused").contains("array"));
        assert!(key("/a", "{\"a\":").expect_err("refused").contains("malformed JSON"));
    }

    #[test]
    fn a_number_keeps_its_text() {
        assert_eq!(key("/n", r#"{"n":12345678901234567890}"#), Ok(Some(Bytes::from_static(b"12345678901234567890"))));
        assert_eq!(key("/n", r#"{"n":1.50}"#), Ok(Some(Bytes::from_static(b"1.50"))));
    }

    #[test]
    fn times_from_json() {
        let format = LineFormat { key: KeySource::None, timestamp_json: Some(pointer("/t")) };
        let parse = |line: &'static str| format.parse(Bytes::from_static(line.as_bytes())).map(|l| l.timestamp_ms);
        assert_eq!(parse(r#"{"t":"1970-01-01T00:00:01Z"}"#), Ok(Some(1000)));
        assert_eq!(parse(r#"{"t":77}"#), Ok(Some(77)));
        for bad in [r#"{"t":"noon"}"#, r#"{"t":-1}"#, r#"{"t":1.5}"#, r#"{"t":null}"#, "{}", "nonsense"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn key_and_time_from_one_line() {
        let format = LineFormat { key: KeySource::Json(pointer("/k")), timestamp_json: Some(pointer("/t")) };
        let line = format.parse(Bytes::from_static(br#"{"t":5,"k":"a","rest":{"t":1}}"#)).expect("good");
        assert_eq!((line.key.as_deref(), line.timestamp_ms), (Some(&b"a"[..]), Some(5)));
    }

    #[test]
    fn keys_before_a_separator() {
        let format = LineFormat { key: KeySource::Separator("::".into()), timestamp_json: None };
        let line = format.parse(Bytes::from_static(b"k::v::w")).expect("good");
        assert_eq!((line.key.as_deref(), &line.value[..]), (Some(&b"k"[..]), &b"v::w"[..]));
        assert!(format.parse(Bytes::from_static(b"nothing")).is_err());
    }
}

//! Where to begin and where to end, as written on the command line.

use crate::cli::units;

/// `--from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The first record that is kept.
    Earliest,
    /// What comes next.
    Latest,
    /// This offset.
    Offset(u64),
    /// So many records before the end of each partition.
    Last(u64),
    /// The first record at or after this time, in milliseconds since the epoch.
    At(i64),
}

/// `--to`: the first record that is no longer printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// This offset.
    Offset(u64),
    /// The first record at or after this time, in milliseconds since the epoch.
    At(i64),
}

impl From {
    /// Reads `--from`; `now_ms` is what `@-1h` counts from.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str, now_ms: i64) -> Result<From, String> {
        match text {
            "earliest" => return Ok(From::Earliest),
            "latest" => return Ok(From::Latest),
            _ => {}
        }
        if let Some(moment) = text.strip_prefix('@') {
            return units::moment_ms(moment, now_ms).map(From::At);
        }
        let parsed = match text.strip_prefix('-') {
            Some(last) => number(last).map(From::Last),
            None => number(text).map(From::Offset),
        };
        parsed.ok_or_else(|| {
            format!(
                "{text:?} is no start: write earliest, latest, an offset, -N for the last N, or @ and a time, like @-1h"
            )
        })
    }
}

impl To {
    /// Reads `--to`; `now_ms` is what `@-1h` counts from.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str, now_ms: i64) -> Result<To, String> {
        if let Some(moment) = text.strip_prefix('@') {
            return units::moment_ms(moment, now_ms).map(To::At);
        }
        number(text).map(To::Offset).ok_or_else(|| format!("{text:?} is no end: write an offset, or @ and a time"))
    }
}

/// Digits alone, within what an offset may be.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && *n <= dlog_core::Offset::MAX.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts() {
        let parse = |text| From::parse(text, 10_000_000);
        assert_eq!(parse("earliest"), Ok(From::Earliest));
        assert_eq!(parse("latest"), Ok(From::Latest));
        assert_eq!(parse("0"), Ok(From::Offset(0)));
        assert_eq!(parse("-5"), Ok(From::Last(5)));
        assert_eq!(parse("@-1h"), Ok(From::At(6_400_000)));
        assert_eq!(parse("@1970-01-01T00:00:01Z"), Ok(From::At(1000)));
        for bad in ["", "-", "--5", "+5", "1.5", "@", "@1", "first", "99999999999999999999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ends() {
        assert_eq!(To::parse("7", 0), Ok(To::Offset(7)));
        assert_eq!(To::parse("@1970-01-01T00:00:01Z", 0), Ok(To::At(1000)));
        assert!(To::parse("latest", 0).is_err() && To::parse("-1", 0).is_err());
    }
}

//! Durations, sizes, rates and times as people write them.

use jiff::Timestamp;
use std::time::Duration;

/// Splits a number from its unit.
fn split(text: &str) -> (&str, &str) {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..at], text[at..].trim())
}

/// `250ms`, `10s`, `5m`, `1h`, `1d`, `1.5s`. A bare `0` needs no unit.
///
/// # Errors
/// What is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let allowed = || format!("{text:?} is no duration: write a number and us, ms, s, m, h or d, like 250ms");
    let (number, unit) = split(text);
    let value: f64 = number.parse().map_err(|_| allowed())?;
    let seconds = match unit {
        "us" | "µs" => value / 1e6,
        "ms" => value / 1e3,
        "s" => value,
        "m" => value * 60.0,
        "h" => value * 3600.0,
        "d" => value * 86400.0,
        "" if value == 0.0 => 0.0,
        _ => return Err(allowed()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| allowed())
}

/// `64MiB`, `256KiB`, `1000`, `1kB`: bytes.
///
/// # Errors
/// What is allowed.
pub fn size(text: &str) -> Result<u64, String> {
    let allowed = || format!("{text:?} is no size: write a number and B, KiB, MiB, GiB (or kB, MB, GB), like 64MiB");
    let (number, unit) = split(text);
    let factor: f64 = match unit {
        "" | "B" => 1.0,
        "KiB" | "K" | "k" => 1024.0,
        "MiB" | "M" => 1024.0 * 1024.0,
        "GiB" | "G" => 1024.0 * 1024.0 * 1024.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return Err(allowed()),
    };
    let bytes = number.parse::<f64>().map_err(|_| allowed())? * factor;
    if bytes.is_finite() && (0.0..=9e18).contains(&bytes) { Ok(bytes.round() as u64) } else { Err(allowed()) }
}

/// `200` or `200/s`: per second.
///
/// # Errors
/// What is allowed.
pub fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    match number.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err(format!("{text:?} is no rate: write a number above 0, with or without /s, like 200/s")),
    }
}

/// RFC 3339 (`2013-07-01T00:00:00-05:00`) to milliseconds since the epoch.
///
/// # Errors
/// What is allowed.
pub fn timestamp_ms(text: &str) -> Result<i64, String> {
    let time: Timestamp =
        text.parse().map_err(|_| format!("{text:?} is no RFC 3339 time, like 2013-07-01T00:00:00-05:00"))?;
    Ok(time.as_millisecond())
}

/// A point in time: RFC 3339, or `-1h` for so long before `now_ms`.
///
/// # Errors
/// What is allowed.
pub fn moment_ms(text: &str, now_ms: i64) -> Result<i64, String> {
    match text.strip_prefix('-') {
        Some(back) => {
            let back = i64::try_from(duration(back)?.as_millis()).unwrap_or(i64::MAX);
            Ok(now_ms.saturating_sub(back))
        }
        None => timestamp_ms(text),
    }
}

/// Bytes for people: `1.5 MiB`.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A length of time for people: its two largest units, like `3d 4h` or `5m 2s`.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [(seconds / 86400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    let shown: Vec<String> = parts[first..].iter().take(2).map(|(count, unit)| format!("{count}{unit}")).collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "10", "ms", "-1s", "1y", "1e400s", "nans"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_rates() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1kB"), Ok(1000));
        assert_eq!(size("7"), Ok(7));
        assert!(size("1XB").is_err() && size("").is_err() && size("-1").is_err());
        assert_eq!(rate("200/s"), Ok(200.0));
        assert!(rate("0").is_err() && rate("inf").is_err() && rate("x").is_err());
        assert_eq!(show_bytes(1536), "1.5 KiB");
        let shown = [0, 59, 62, 3600, 100_000].map(|seconds| show_duration(Duration::from_secs(seconds)));
        assert_eq!(shown, ["0s", "59s", "1m 2s", "1h 0m", "1d 3h"]);
    }

    #[test]
    fn moments() {
        assert_eq!(timestamp_ms("1970-01-01T00:00:01Z"), Ok(1000));
        assert_eq!(timestamp_ms("2013-07-01T00:00:00-05:00"), Ok(1_372_654_800_000));
        assert_eq!(moment_ms("-1s", 5000), Ok(4000));
        assert!(moment_ms("yesterday", 0).is_err() && timestamp_ms("2013-07-01").is_err());
    }
}

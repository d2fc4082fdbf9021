//! `Figure`: one measured row, its bar, and whether it is met.

use std::fmt;

/// What a row must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// The median is at most this.
    AtMost(f64),
    /// The median is at least this.
    AtLeast(f64),
    /// Told beside the others, not judged.
    Told,
}

/// What the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A ratio, as `1.15 ×`.
    Times,
    /// A ratio, as `75 %`.
    Percent,
    /// A count.
    Count,
    /// KiB.
    Kib,
    /// MiB.
    Mib,
}

/// One row of the page.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// What it must reach.
    pub bar: Bar,
    /// What the values are.
    pub unit: Unit,
    /// One for each round, in the order of the rounds. Never empty.
    pub values: Vec<f64>,
    /// The machine's limits as they were in the same rounds, and dlog's own absolute figures.
    pub beside: String,
}

impl Figure {
    /// The middle of its values.
    pub fn median(&self) -> f64 {
        median(&self.values)
    }

    /// Whether it is met, in words.
    pub fn verdict(&self) -> &'static str {
        let median = self.median();
        match self.bar {
            Bar::AtMost(most) if median <= most => "met",
            Bar::AtLeast(least) if median >= least => "met",
            Bar::Told => "told",
            Bar::AtMost(_) | Bar::AtLeast(_) => "missed",
        }
    }

    /// The bar in words.
    pub fn bar_text(&self) -> String {
        match self.bar {
            Bar::AtMost(most) => format!("≤ {}", self.unit.text(most)),
            Bar::AtLeast(least) => format!("≥ {}", self.unit.text(least)),
            Bar::Told => "none".to_string(),
        }
    }

    /// The median, and the range if there is one.
    pub fn value_text(&self) -> String {
        let low = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let median = self.unit.text(self.median());
        match (self.unit.text(low), self.unit.text(high)) {
            (low, high) if low == high => median,
            (low, high) => format!("{median} ({low} to {high})"),
        }
    }
}

impl Unit {
    /// A value as people read it.
    pub fn text(self, value: f64) -> String {
        match self {
            Unit::Times => format!("{value:.2} ×"),
            Unit::Percent => format!("{:.0} %", value * 100.0),
            Unit::Count => format!("{value:.0}"),
            Unit::Kib => format!("{value:.0} KiB"),
            Unit::Mib => format!("{value:.1} MiB"),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, bar) = (self.value_text(), self.bar_text());
        write!(f, "{}: {value}, bar {bar}: {} [{}]", self.what, self.verdict(), self.beside)
    }
}

/// The middle of some values; of an even number the mean of the two in the middle.
///
/// # Panics
/// Without values.
pub fn median(values: &[f64]) -> f64 {
    quantile_of(values, |sorted| {
        let half = sorted.len() / 2;
        if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[half - 1], sorted[half]) } else { sorted[half] }
    })
}

/// The value that a share of the values (0 to 1) doesn't exceed.
///
/// # Panics
/// Without values.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    quantile_of(values, |sorted| {
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted[rank.clamp(1, sorted.len()) - 1]
    })
}

fn quantile_of(values: &[f64], pick: impl Fn(&[f64]) -> f64) -> f64 {
    assert!(!values.is_empty(), "a figure needs a value");
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    pick(&sorted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(bar: Bar, values: &[f64]) -> Figure {
        Figure { what: "x".into(), bar, unit: Unit::Times, values: values.to_vec(), beside: String::new() }
    }

    #[test]
    fn medians_and_quantiles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((quantile(&hundred, 0.5), quantile(&hundred, 0.99), quantile(&hundred, 1.0)), (50.0, 99.0, 100.0));
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
    }

    #[test]
    fn the_median_is_judged() {
        assert_eq!(figure(Bar::AtMost(2.0), &[1.0, 2.0, 9.0]).verdict(), "met");
        assert_eq!(figure(Bar::AtMost(2.0), &[1.0, 2.1, 9.0]).verdict(), "missed");
        assert_eq!(figure(Bar::AtLeast(2.0), &[1.0, 2.0, 9.0]).verdict(), "met");
        assert_eq!(figure(Bar::AtLeast(2.0), &[1.0, 1.9, 9.0]).verdict(), "missed");
        assert_eq!(figure(Bar::Told, &[1.0]).verdict(), "told");
    }

    #[test]
    fn ranges_are_told_where_there_are_any() {
        assert_eq!(figure(Bar::Told, &[1.0, 2.0, 4.0]).value_text(), "2.00 × (1.00 × to 4.00 ×)");
        assert_eq!(figure(Bar::Told, &[1.0, 1.0]).value_text(), "1.00 ×");
    }
}

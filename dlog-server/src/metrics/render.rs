//! Samples as the text that Prometheus scrapes: OpenMetrics for those who ask for it (Prometheus does), else the older format,
//! which names counters differently and knows no end mark.

use super::families::{ALL, Family};
use super::histogram::Reading;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4.
    Text,
}

impl Format {
    /// What the `Accept` header of a request wishes.
    pub fn wanted(accept: &str) -> Format {
        if accept.contains("application/openmetrics-text") { Format::OpenMetrics } else { Format::Text }
    }

    /// The `Content-Type` of the answer.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Names and values of labels.
pub type Labels = Vec<(&'static str, String)>;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Any number.
    Real(f64),
    /// A histogram.
    Histogram(Reading),
}

/// One metric of a family.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The family.
    pub family: Family,
    /// What tells it from the others of its family.
    pub labels: Labels,
    /// Its value.
    pub value: Value,
}

/// The page. Families without samples keep their description, so that a query finds the name.
pub fn render(samples: Vec<Sample>, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(samples)));
    let mut page = String::new();
    // Writing into a string can't fail, and every sample has its family's type.
    text::encode(&mut page, &registry).expect("a string takes everything");
    match format {
        Format::OpenMetrics => page,
        Format::Text => older(&page),
    }
}

#[derive(Debug)]
struct Page(Vec<Sample>);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in ALL {
            let mut described = encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            for sample in self.0.iter().filter(|sample| sample.family.name == family.name) {
                if sample.labels.is_empty() {
                    value(&mut described, family.kind, &sample.value)?;
                } else {
                    value(&mut described.encode_family(&sample.labels)?, family.kind, &sample.value)?;
                }
            }
        }
        Ok(())
    }
}

fn value(encoder: &mut MetricEncoder<'_>, kind: MetricType, value: &Value) -> fmt::Result {
    match (kind, value) {
        (MetricType::Counter, Value::Whole(n)) => encoder.encode_counter::<NoLabelSet, u64, f64>(n, None),
        (MetricType::Counter, Value::Real(n)) => encoder.encode_counter::<NoLabelSet, f64, f64>(n, None),
        (MetricType::Histogram, Value::Histogram(reading)) => {
            encoder.encode_histogram::<NoLabelSet>(reading.sum, reading.count, &reading.buckets, None)
        }
        (_, Value::Whole(n)) => encoder.encode_gauge(n),
        (_, Value::Real(n)) => encoder.encode_gauge(n),
        (_, Value::Histogram(_)) => Err(fmt::Error),
    }
}

/// The same page in the older format: a counter's description has the name of its series, and there is no end mark.
fn older(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    for line in page.lines().filter(|line| *line != "# EOF") {
        let description = ["# HELP ", "# TYPE "].iter().find_map(|start| Some((start, line.strip_prefix(start)?)));
        let counter = description.and_then(|(start, rest)| {
            let (name, rest) = rest.split_once(' ')?;
            let family = ALL.iter().find(|family| family.name == name)?;
            matches!(family.kind, MetricType::Counter).then(|| format!("{start}{} {rest}\n", family.series()))
        });
        match counter {
            Some(line) => out.push_str(&line),
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::families;
    use crate::metrics::histogram::Histogram;

    fn samples() -> Vec<Sample> {
        let histogram = Histogram::new(families::GROUP_WRITES_BOUNDS);
        histogram.observe(3);
        histogram.observe(5000);
        let error = |code: &str| vec![("code", code.to_string())];
        vec![
            Sample { family: families::UPTIME, labels: Vec::new(), value: Value::Real(1.5) },
            Sample { family: families::ERRORS, labels: error("not_leader"), value: Value::Whole(7) },
            Sample { family: families::ERRORS, labels: error("timeout"), value: Value::Whole(0) },
            Sample { family: families::GROUP_WRITES, labels: Vec::new(), value: Value::Histogram(histogram.read()) },
        ]
    }

    #[test]
    fn openmetrics() {
        let page = render(samples(), Format::OpenMetrics);
        for line in [
            "# TYPE dlog_uptime_seconds gauge",
            "dlog_uptime_seconds 1.5",
            "# TYPE dlog_errors counter",
            "dlog_errors_total{code=\"not_leader\"} 7",
            "dlog_journal_group_writes_bucket{le=\"2.0\"} 0",
            "dlog_journal_group_writes_bucket{le=\"4.0\"} 1",
            "dlog_journal_group_writes_bucket{le=\"+Inf\"} 2",
            "dlog_journal_group_writes_count 2",
            "dlog_journal_group_writes_sum 5003.0",
        ] {
            assert!(page.lines().any(|l| l == line), "no {line:?} in:\n{page}");
        }
        assert!(page.ends_with("# EOF\n"), "{page}");
    }

    #[test]
    fn the_older_format() {
        let page = render(samples(), Format::Text);
        for line in ["# TYPE dlog_errors_total counter", "dlog_errors_total{code=\"timeout\"} 0"] {
            assert!(page.lines().any(|l| l == line), "no {line:?} in:\n{page}");
        }
        assert!(page.lines().any(|l| l.starts_with("# HELP dlog_errors_total Errors told")), "{page}");
        assert!(!page.contains("EOF") && !page.contains("# TYPE dlog_errors counter"), "{page}");
    }

    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(Format::wanted(prometheus), Format::OpenMetrics);
        assert_eq!(Format::wanted("*/*"), Format::Text);
        assert_eq!(Format::wanted(""), Format::Text);
    }
}

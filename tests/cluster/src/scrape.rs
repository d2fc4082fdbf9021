//! [`Scrape`]: a node's `/metrics` at one moment, and the plain HTTP that fetches it.

use crate::Node;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A page that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An answer over HTTP/1.1.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 200 and the like.
    pub status: u16,
    /// The headers as sent, names in small letters.
    pub headers: BTreeMap<String, String>,
    /// What follows them.
    pub body: String,
}

/// Asks a port on loopback for a page.
pub fn get(port: u16, path: &str, accept: &str) -> Result<Answer, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| format!("can't connect to {port}: {e}"))?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(|e| e.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| format!("can't ask {port} for {path}: {e}"))?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|e| format!("no answer from {port} for {path}: {e}"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{port} answered {path} with {text:?}"))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_string())).collect();
    Ok(Answer { status: status.ok_or_else(|| format!("no status in {head:?}"))?, headers, body: body.to_string() })
}

/// Every series of a page with its value.
#[derive(Clone, Debug)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Of a running node.
    #[track_caller]
    pub fn of(node: &Node) -> Scrape {
        let answer = get(node.options().ops, "/metrics", "*/*").unwrap_or_else(|e| panic!("{}: {e}", node.name()));
        assert_eq!(answer.status, 200, "{answer:?}");
        Scrape::parse(&answer.body)
    }

    /// Of a page's text.
    #[track_caller]
    pub fn parse(page: &str) -> Scrape {
        let mut series = BTreeMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in {line:?}"));
            let value = value.parse().unwrap_or_else(|e| panic!("the value of {line:?}: {e}"));
            assert!(series.insert(name.to_string(), value).is_none(), "{name} stands on the page twice");
        }
        Scrape(series)
    }

    /// One series, as it stands on the page: `dlog_connections{listener="client"}`.
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} on the page; it has {:#?}", self.0.keys()))
    }

    /// The sum of all series of a name whose labels hold this text (empty: any).
    pub fn sum(&self, name: &str, labels: &str) -> f64 {
        let of_name = |series: &str| series.split('{').next() == Some(name) && series.contains(labels);
        self.0.iter().filter(|(series, _)| of_name(series)).map(|(_, value)| value).sum()
    }

    /// The names of all series.
    pub fn series(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

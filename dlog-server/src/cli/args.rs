//! Flags that many verbs share.

use super::{out, units, wrong_port};
use anyhow::Context;
use dlog_client::{Client, ClientOptions};
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use std::io::IsTerminal;
use std::time::Duration;

/// `--timeout` where none is given.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// `--wait` without `--timeout` gives up after this.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(600);
/// Who waits at a terminal learns after this for whom.
const TELL_AFTER: Duration = Duration::from_secs(1);
/// The longest `--timeout`: what a server keeps a request for.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// How to reach the cluster, and for how long to try.
#[derive(clap::Args, Debug, Clone)]
pub struct ClientArgs {
    /// Nodes to ask first, separated by commas; any one will do, the others are found
    #[arg(short, long, env = "DLOG_SERVER", value_name = "HOST:PORT", default_value = "127.0.0.1:7411")]
    #[arg(value_delimiter = ',', value_parser = server)]
    pub server: Vec<String>,
    /// Bound of one request, retries included [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    pub timeout: Option<Duration>,
}

impl ClientArgs {
    /// The bound of one request.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }

    /// Finds the cluster.
    ///
    /// # Errors
    /// That no node answered within the timeout: then nothing was done.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        self.connect_within(self.timeout()).await
    }

    /// As [`ClientArgs::connect`], with another bound for this and every later request.
    ///
    /// # Errors
    /// That no node answered in time.
    pub async fn connect_within(&self, timeout: Duration) -> anyhow::Result<Client> {
        let options = ClientOptions::new(self.server.iter().cloned()).with_timeout(timeout);
        let servers = self.server.join(", ");
        let mut connecting = std::pin::pin!(Client::connect(options));
        let connected = match tokio::time::timeout(TELL_AFTER, &mut connecting).await {
            Ok(connected) => connected,
            Err(_) => {
                if std::io::stderr().is_terminal() {
                    out::note(format!("no answer from {servers} yet; trying for {timeout:?} in all"));
                }
                connecting.await
            }
        };
        let Err(error) = connected else { return Ok(connected?) };
        match wrong_port::explain(&self.server, &error).await {
            Some(told) => Err(ErrorDetail::rejected(ErrorCode::Unavailable, Stage::Connection, told).into()),
            None => Err(error).with_context(|| format!("no cluster at {servers}")),
        }
    }
}

/// How to print what was read.
#[derive(clap::Args, Debug, Clone, Copy, Default)]
pub struct Output {
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t, value_name = "table|json", hide_possible_values = true)]
    output: OutputKind,
}

#[derive(clap::ValueEnum, Debug, Clone, Copy, Default, PartialEq, Eq)]
enum OutputKind {
    /// For people.
    #[default]
    Table,
    /// One document for programs.
    Json,
}

impl Output {
    /// Whether programs read it.
    pub fn is_json(self) -> bool {
        self.output == OutputKind::Json
    }
}

/// The answer to "are you sure?" given in advance.
#[derive(clap::Args, Debug, Clone, Copy)]
pub struct Confirm {
    /// Don't ask, do it
    #[arg(short, long)]
    pub yes: bool,
}

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = units::duration(text)?;
    if timeout < Duration::from_millis(1) || timeout > TIMEOUT_MAX {
        return Err(format!("{text} is out of range: 1ms to 10m are allowed"));
    }
    Ok(timeout)
}

/// `host:port`, `1.2.3.4:port` or `[::1]:port`.
fn server(text: &str) -> Result<String, String> {
    let bad = || format!("{text:?} is no address: write HOST:PORT, like 127.0.0.1:7411");
    let (host, port) = text.trim().rsplit_once(':').ok_or_else(bad)?;
    let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || bare_v6 || host.contains(|c: char| c.is_whitespace() || c == '/' || c == '@') {
        return Err(bad());
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(text.trim().to_string()),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        for good in ["127.0.0.1:7411", "localhost:1", "[::1]:7411", " a.b:65535 "] {
            assert_eq!(server(good).as_deref(), Ok(good.trim()));
        }
        for bad in ["", "host", ":1", "h:", "h:0", "h:70000", "::1", "h:x", "http://h:1", "a b:1"] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn timeouts() {
        assert_eq!(timeout("1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(timeout("10m"), Ok(TIMEOUT_MAX));
        assert!(timeout("0").is_err() && timeout("11m").is_err() && timeout("5").is_err());
    }
}

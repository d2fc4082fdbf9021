//! [`ClientOptions`].

use dlog_protocol::ClusterId;
use std::time::Duration;

/// How a client finds and treats its cluster.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Addresses of nodes, `host:port`; any one that answers will do. The others are learned.
    pub servers: Vec<String>,
    /// Bounds each admin, metadata and offsets request, retries included. Default 10 s.
    pub timeout: Duration,
    /// Bounds one try to make a connection. Default 1 s.
    pub connect_timeout: Duration,
    /// How long a connection may stay silent before it is asked for a sign of life; it has as long again to give it. Default
    /// 2 s.
    pub keep_alive: Duration,
    /// The cluster that is meant; others are refused. Default: the first that answers.
    pub cluster_id: Option<ClusterId>,
}

impl ClientOptions {
    /// The defaults, with these servers.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> ClientOptions {
        ClientOptions {
            servers: servers.into_iter().map(Into::into).collect(),
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(1),
            keep_alive: Duration::from_secs(2),
            cluster_id: None,
        }
    }

    /// With another timeout for each request.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> ClientOptions {
        self.timeout = timeout;
        self
    }
}

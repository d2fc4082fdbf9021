//! Connections to nodes: one for each address, made when needed and made anew after it broke.

use crate::deadline::Deadline;
use crate::error::Error;
use crate::options::ClientOptions;
use dlog_core::limits::{GRPC_CONNECTION_WINDOW_BYTES, GRPC_FRAME_BYTES, GRPC_STREAM_WINDOW_BYTES};
use dlog_core::{ErrorCode, ErrorDetail, Stage};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

/// How long a failed try stands for all who ask: hundreds of partitions shall not each wait for the same dead node.
const FAILURE_STANDS: Duration = Duration::from_millis(200);
/// How long an address that failed is asked last.
const AVOIDED_FOR: Duration = Duration::from_secs(2);

/// A connection, and which one of its address it is.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    address: String,
    number: u64,
}

/// All connections of a client.
///
/// Invariant: a slot's channel is one that has once been connected.
#[derive(Debug)]
pub(crate) struct Connections {
    connect_timeout: Duration,
    keep_alive: Duration,
    numbers: AtomicU64,
    slots: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<Slot>>>>,
    failures: Mutex<BTreeMap<String, Instant>>,
}

#[derive(Debug, Default)]
struct Slot {
    open: Option<Connection>,
    failed: Option<(Instant, Error)>,
}

impl Connections {
    pub(crate) fn new(options: &ClientOptions) -> Connections {
        Connections {
            connect_timeout: options.connect_timeout,
            keep_alive: options.keep_alive,
            numbers: AtomicU64::new(1),
            slots: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// The connection to an address, made now if there is none. An error means that nothing was sent.
    pub(crate) async fn get(&self, address: &str, deadline: Deadline) -> Result<Connection, Error> {
        let slot =
            self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(address.to_owned()).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(open) = &slot.open {
            return Ok(open.clone());
        }
        if let Some((at, error)) = &slot.failed
            && at.elapsed() < FAILURE_STANDS
        {
            return Err(error.clone());
        }
        match self.open(address, deadline.remaining(self.connect_timeout)).await {
            Ok(channel) => {
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                let connection = Connection { channel, address: address.to_owned(), number };
                *slot = Slot { open: Some(connection.clone()), failed: None };
                self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
                Ok(connection)
            }
            Err(error) => {
                slot.failed = Some((Instant::now(), error.clone()));
                self.note_failure(address);
                Err(error)
            }
        }
    }

    /// This connection failed: the next who asks gets another one.
    pub(crate) async fn forget(&self, connection: &Connection) {
        self.note_failure(&connection.address);
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(&connection.address).cloned();
        if let Some(slot) = slot {
            let mut slot = slot.lock().await;
            if slot.open.as_ref().is_some_and(|open| open.number == connection.number) {
                slot.open = None;
            }
        }
    }

    /// This address gave no answer: ask it last for a while.
    pub(crate) fn note_failure(&self, address: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).insert(address.to_owned(), Instant::now());
    }

    /// Whether an address failed a short while ago.
    pub(crate) fn failed_lately(&self, address: &str) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(address).is_some_and(|at| at.elapsed() < AVOIDED_FOR)
    }

    async fn open(&self, address: &str, within: Duration) -> Result<Channel, Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| {
            Error::rejected(ErrorCode::InvalidArgument, format!("{address:?} is no address; give host:port"))
        })?;
        let endpoint = endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.keep_alive)
            .keep_alive_timeout(self.keep_alive)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(GRPC_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(GRPC_CONNECTION_WINDOW_BYTES)
            .max_frame_size(GRPC_FRAME_BYTES);
        let failed = |reason: String| {
            let message = format!("no connection to {address}: {reason}");
            Error::new(ErrorDetail::rejected(ErrorCode::Unavailable, Stage::Connection, message))
        };
        match tokio::time::timeout(within, endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(failed(innermost(&error))),
            Err(_) => Err(failed(format!("no answer within {within:?}"))),
        }
    }
}

/// The text of the last cause: the others only say that a transport failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

//! The accept loop: how many connections there may be, and how long one may take to say what it is.
//!
//! tonic's own loop has no such bounds, and it spins when the process has no file descriptors left.

use crate::service::produce::connection_room;
use dlog_core::limits;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// What a client sends first: HTTP/2's preface. Until it is there the connection counts as a handshake.
const PREFACE_BYTES: usize = 24;
/// A connection must say what it is within this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an accept that failed for want of something (file descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections one listener holds.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// In all.
    pub connections: usize,
    /// That haven't said what they are.
    pub handshakes: usize,
    /// How long they may take to.
    pub handshake_timeout: Duration,
}

impl Bounds {
    /// Those of the listener for clients.
    pub fn of_clients() -> Bounds {
        Bounds {
            connections: limits::CONNECTIONS_MAX,
            handshakes: limits::HANDSHAKES_MAX,
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }
}

/// What services know of a connection, in the extensions of its requests.
#[derive(Clone)]
pub struct ConnectionInfo {
    /// The other side.
    pub remote: Option<SocketAddr>,
    /// Bytes of produce requests that it may still have in flight.
    pub in_flight: Arc<Semaphore>,
}

impl Default for ConnectionInfo {
    fn default() -> ConnectionInfo {
        ConnectionInfo { remote: None, in_flight: connection_room() }
    }
}

/// A connection that counts as long as it lives.
///
/// Invariant: `handshake` is there until [`PREFACE_BYTES`] were read, and no longer.
pub struct Connection {
    stream: TcpStream,
    info: ConnectionInfo,
    handshake: Option<Handshake>,
    _counted: OwnedSemaphorePermit,
}

struct Handshake {
    read: usize,
    deadline: Pin<Box<Sleep>>,
    _counted: OwnedSemaphorePermit,
}

/// Accepts connections until the stream is dropped; then the listener is closed at once.
pub fn accept(listener: TcpListener, bounds: Bounds) -> ReceiverStream<io::Result<Connection>> {
    // One: a connection waits here only while the server is busy taking the one before.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = run(listener, bounds, &sender) => {}
        }
    });
    ReceiverStream::new(receiver)
}

async fn run(listener: TcpListener, bounds: Bounds, accepted: &mpsc::Sender<io::Result<Connection>>) {
    let connections = Arc::new(Semaphore::new(bounds.connections));
    let handshakes = Arc::new(Semaphore::new(bounds.handshakes));
    let mut full = false;
    loop {
        // Beyond this bound newcomers wait in the kernel's queue: no longer than a handshake may take.
        let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(counted) = Arc::clone(&connections).try_acquire_owned() else {
            if !std::mem::replace(&mut full, true) {
                tracing::warn!(connections = bounds.connections, "no more connections are taken until one ends");
            }
            continue;
        };
        full = false;
        if let Err(error) = stream.set_nodelay(true) {
            // It is gone already.
            tracing::debug!(%error, "a connection was given up");
            continue;
        }
        let handshake = Handshake {
            read: 0,
            deadline: Box::pin(tokio::time::sleep(bounds.handshake_timeout)),
            _counted: handshake,
        };
        let info = ConnectionInfo { remote: Some(remote), ..ConnectionInfo::default() };
        let connection = Connection { stream, info, handshake: Some(handshake), _counted: counted };
        if accepted.send(Ok(connection)).await.is_err() {
            return;
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let Some(handshake) = &mut this.handshake else { return polled };
        if polled.is_ready() {
            handshake.read += buffer.filled().len() - before;
            if handshake.read >= PREFACE_BYTES {
                this.handshake = None;
            }
            return polled;
        }
        match handshake.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_stream::StreamExt;

    async fn listen(bounds: Bounds) -> (SocketAddr, ReceiverStream<io::Result<Connection>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        (address, accept(listener, bounds))
    }

    fn bounds(connections: usize, handshakes: usize, handshake_timeout: Duration) -> Bounds {
        Bounds { connections, handshakes, handshake_timeout }
    }

    #[tokio::test]
    async fn beyond_the_bound_connections_are_closed_until_one_ends() {
        let (address, mut incoming) = listen(bounds(1, 8, HANDSHAKE_TIMEOUT)).await;
        let _first = TcpStream::connect(address).await.expect("there is room");
        let held = incoming.next().await.expect("open").expect("accepted");
        let mut second = TcpStream::connect(address).await.expect("the kernel takes it");
        assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed without an answer");
        drop(held);
        let _third = TcpStream::connect(address).await.expect("there is room again");
        assert!(incoming.next().await.expect("open").is_ok());
    }

    #[tokio::test]
    async fn whoever_says_nothing_is_cut_off() {
        let (address, mut incoming) = listen(bounds(8, 1, Duration::from_millis(20))).await;
        let _silent = TcpStream::connect(address).await.expect("there is room");
        let mut held = incoming.next().await.expect("open").expect("accepted");
        let error = held.read(&mut [0; 64]).await.expect_err("too late");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(held);
        let mut speaks = TcpStream::connect(address).await.expect("there is room again");
        let mut held = incoming.next().await.expect("open").expect("accepted");
        speaks.write_all(&[b'x'; PREFACE_BYTES]).await.expect("open");
        held.read_exact(&mut [0; PREFACE_BYTES]).await.expect("sent");
        assert!(held.handshake.is_none(), "the deadline is over");
    }

    #[tokio::test]
    async fn dropping_the_stream_closes_the_listener() {
        let (address, incoming) = listen(Bounds::of_clients()).await;
        drop(incoming);
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

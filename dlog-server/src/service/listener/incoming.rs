//! The accept loop: how many connections there may be, and how long one may take to say what it is.
//!
//! tonic's own loop has no such bounds, and it spins when the process has no file descriptors left.

use super::door::{Bounds, Door, Guest, Newcomer, Turned};
use crate::service::produce::connection_room;
use dlog_core::limits;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

/// What a client sends first: HTTP/2's preface. Until it is there no server spends buffers on the connection.
const PREFACE_BYTES: usize = 24;
/// A connection must say what it is within this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an accept that failed for want of something (file descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Bounds {
    /// Those of the listener for clients.
    pub fn of_clients() -> Bounds {
        Bounds {
            connections: limits::CONNECTIONS_MAX,
            per_address: limits::CONNECTIONS_PER_ADDRESS_MAX,
            newcomers: limits::HANDSHAKES_MAX,
            first_bytes: PREFACE_BYTES,
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
    newcomer: Option<Arc<Newcomer>>,
}

impl ConnectionInfo {
    /// Notes that the connection has made a request.
    pub fn settle(&self) {
        if let Some(newcomer) = &self.newcomer {
            newcomer.settle();
        }
    }
}

impl Default for ConnectionInfo {
    fn default() -> ConnectionInfo {
        ConnectionInfo { remote: None, in_flight: connection_room(), newcomer: None }
    }
}

/// A connection that counts as long as it lives, and that has said what it is.
///
/// Invariant: `leave` is there until the first request was made, and no longer than a read after it.
pub struct Connection {
    stream: TcpStream,
    info: ConnectionInfo,
    /// What was read of it already.
    first: Vec<u8>,
    leave: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    guest: Guest,
}

/// Accepts connections until the stream is dropped; then the listener is closed at once.
pub fn accept(listener: TcpListener, door: Arc<Door>) -> ReceiverStream<io::Result<Connection>> {
    // One: a connection waits here only while the server is busy taking the one before.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = run(listener, &door, &sender) => {}
        }
    });
    ReceiverStream::new(receiver)
}

async fn run(listener: TcpListener, door: &Arc<Door>, accepted: &mpsc::Sender<io::Result<Connection>>) {
    let mut full = false;
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let guest = match door.enter(remote) {
            Ok(guest) => guest,
            Err(why) => {
                if !std::mem::replace(&mut full, true) {
                    tracing::warn!(%remote, reason = why.name(), "connections are refused until some end");
                }
                continue;
            }
        };
        full = false;
        if let Err(error) = stream.set_nodelay(true) {
            // It is gone already.
            tracing::debug!(%error, "a connection was given up");
            continue;
        }
        let (door, accepted) = (Arc::clone(door), accepted.clone());
        tokio::spawn(async move {
            let leave = guest.leave().clone();
            tokio::select! {
                () = accepted.closed() => {}
                () = leave.cancelled() => {}
                () = greet(stream, remote, guest, &door, &accepted) => {}
            }
        });
    }
}

/// Waits for a connection's first bytes, then hands it to the server. All that it costs until then is this task.
async fn greet(
    mut stream: TcpStream,
    remote: SocketAddr,
    guest: Guest,
    door: &Door,
    accepted: &mpsc::Sender<io::Result<Connection>>,
) {
    let bounds = door.bounds();
    let mut first = Vec::with_capacity(bounds.first_bytes);
    let reading = async {
        let mut part = (&mut stream).take(bounds.first_bytes as u64);
        part.read_to_end(&mut first).await
    };
    match tokio::time::timeout(bounds.handshake_timeout, reading).await {
        Ok(Ok(read)) if read == bounds.first_bytes => {}
        Ok(_) => return,
        Err(_) => return door.stats().turn(Turned::Silent),
    }
    let newcomer = Some(Arc::clone(guest.newcomer()));
    let info = ConnectionInfo { remote: Some(remote), newcomer, ..ConnectionInfo::default() };
    let leave = Some(Box::pin(guest.leave().clone().cancelled_owned()));
    // A server that has gone takes nobody.
    let _ = accepted.send(Ok(Connection { stream, info, first, leave, guest })).await;
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
        if !this.first.is_empty() {
            let count = buffer.remaining().min(this.first.len());
            buffer.put_slice(&this.first[..count]);
            this.first.drain(..count);
            return Poll::Ready(Ok(()));
        }
        if let Some(leave) = &mut this.leave {
            if this.guest.newcomer().is_settled() {
                this.leave = None;
            } else if leave.as_mut().poll(cx).is_ready() {
                let text = "the connection made no request, and another one needed its place";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, text)));
            }
        }
        Pin::new(&mut this.stream).poll_read(cx, buffer)
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
    use tokio::io::AsyncWriteExt;
    use tokio_stream::StreamExt;

    async fn listen(bounds: Bounds) -> (SocketAddr, ReceiverStream<io::Result<Connection>>, Arc<Door>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let door = Door::new(bounds, Arc::default());
        (address, accept(listener, Arc::clone(&door)), door)
    }

    async fn speaking(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("the kernel takes it");
        // The other side may have closed it.
        let _ = stream.write_all(&[b'x'; PREFACE_BYTES + 3]).await;
        stream
    }

    async fn is_closed(stream: &mut TcpStream) -> bool {
        stream.read(&mut [0; 1]).await.unwrap_or(0) == 0
    }

    #[tokio::test]
    async fn beyond_the_bound_connections_are_closed_until_one_ends() {
        let (address, mut incoming, _) = listen(Bounds { connections: 1, ..Bounds::of_clients() }).await;
        let _first = speaking(address).await;
        let held = incoming.next().await.expect("open").expect("accepted");
        held.info.settle();
        assert!(is_closed(&mut speaking(address).await).await, "closed without an answer");
        drop(held);
        let _third = speaking(address).await;
        assert!(incoming.next().await.expect("open").is_ok());
    }

    #[tokio::test]
    async fn whoever_says_nothing_is_cut_off() {
        let bounds = Bounds { handshake_timeout: Duration::from_millis(20), ..Bounds::of_clients() };
        let (address, mut incoming, door) = listen(bounds).await;
        let mut silent = TcpStream::connect(address).await.expect("there is room");
        assert!(is_closed(&mut silent).await);
        assert_eq!((door.stats().turned(Turned::Silent), door.stats().open()), (1, 0));
        let _speaks = speaking(address).await;
        let mut held = incoming.next().await.expect("open").expect("accepted");
        let mut bytes = [0; PREFACE_BYTES + 3];
        held.read_exact(&mut bytes).await.expect("nothing is lost of what was read first");
        assert_eq!(bytes, [b'x'; PREFACE_BYTES + 3]);
    }

    #[tokio::test]
    async fn the_silent_never_stand_in_the_way() {
        let (address, mut incoming, door) = listen(Bounds { newcomers: 4, ..Bounds::of_clients() }).await;
        let mut silent = Vec::new();
        for _ in 0..64 {
            silent.push(TcpStream::connect(address).await.expect("the kernel takes it"));
        }
        let _speaks = speaking(address).await;
        let mut held = incoming.next().await.expect("open").expect("accepted at once");
        held.info.settle();
        for _ in 0..8 {
            silent.push(TcpStream::connect(address).await.expect("the kernel takes it"));
        }
        assert!(is_closed(&mut silent[0]).await, "the oldest made room");
        while door.stats().open() > 5 {
            tokio::task::yield_now().await;
        }
        held.read_exact(&mut [0; PREFACE_BYTES]).await.expect("who has made a request stays");
    }

    #[tokio::test]
    async fn a_preface_without_a_request_makes_room() {
        let (address, mut incoming, _) = listen(Bounds { newcomers: 1, ..Bounds::of_clients() }).await;
        let _first = speaking(address).await;
        let mut held = incoming.next().await.expect("open").expect("accepted");
        held.read_exact(&mut [0; PREFACE_BYTES + 3]).await.expect("sent");
        let _second = speaking(address).await;
        let error = held.read(&mut [0; 1]).await.expect_err("it made room");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn dropping_the_stream_closes_the_listener() {
        let (address, incoming, _) = listen(Bounds::of_clients()).await;
        drop(incoming);
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

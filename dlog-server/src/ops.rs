//! HTTP for operators and supervisors: `/livez` (the process answers) and `/readyz` (it takes writes).

use crate::context::NodeContext;
use crate::service::listener::incoming::{self, Bounds};
use dlog_core::LogId;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Method, Request, Response, StatusCode, header};
use tonic::transport::Server;

/// Connections of probes and people.
const CONNECTIONS_MAX: usize = 64;
/// Longest time that a request may take, idle ones included.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);
/// Connections left open at the end are cut off after this.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until `shutdown`. `registered` turns true once this node is part of its cluster.
///
/// # Errors
/// If the server fails.
pub async fn serve(
    listener: TcpListener,
    context: Arc<NodeContext>,
    registered: watch::Receiver<bool>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let pages = Pages { ready: Arc::new(move || readiness(&context, *registered.borrow())) };
    let bounds = Bounds { connections: CONNECTIONS_MAX, handshakes: CONNECTIONS_MAX, ..Bounds::of_clients() };
    let (closing, closed) = watch::channel(false);
    let signal = async move {
        shutdown.await;
        closing.send_replace(true);
    };
    let too_long = async move {
        let mut closed = closed;
        let _ = closed.wait_for(|closed| *closed).await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    let serving = Server::builder()
        .accept_http1(true)
        .max_connection_age(CONNECTION_AGE_MAX)
        .max_connection_age_grace(DRAIN_TIMEOUT)
        .serve_with_incoming_shutdown(pages, incoming::accept(listener, bounds), signal);
    tokio::select! {
        served = serving => Ok(served?),
        () = too_long => Ok(()),
    }
}

/// Whether this node takes writes; if not, why.
fn readiness(context: &NodeContext, registered: bool) -> Result<(), String> {
    if context.is_stopping() {
        return Err("the node is going down".into());
    }
    if !registered {
        return Err("the node isn't registered yet: is a majority of the metadata group's nodes up?".into());
    }
    let leader = context.replicas.get(LogId::GROUP_ZERO).and_then(|replica| replica.progress().leader);
    if leader.is_none() {
        return Err("the metadata group has no leader that this node knows of: is a majority of its nodes up?".into());
    }
    Ok(())
}

/// The pages.
#[derive(Clone)]
struct Pages {
    ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Pages {
    fn answer(&self, method: &Method, path: &str) -> (StatusCode, String) {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n".into());
        }
        match path {
            "/livez" => (StatusCode::OK, "ok\n".into()),
            "/readyz" => match (self.ready)() {
                Ok(()) => (StatusCode::OK, "ready\n".into()),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
            },
            _ => (StatusCode::NOT_FOUND, "there are /livez and /readyz\n".into()),
        }
    }
}

impl Service<Request<Body>> for Pages {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (status, text) = self.answer(request.method(), request.uri().path());
        let mut response = Response::new(Body::new(text));
        *response.status_mut() = status;
        let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    fn pages(ready: Result<(), String>) -> Pages {
        Pages { ready: Arc::new(move || ready.clone()) }
    }

    #[test]
    fn each_page_has_its_status() {
        let up = pages(Ok(()));
        assert_eq!(up.answer(&Method::GET, "/livez").0, StatusCode::OK);
        assert_eq!(up.answer(&Method::GET, "/readyz").0, StatusCode::OK);
        assert_eq!(up.answer(&Method::GET, "/metrics").0, StatusCode::NOT_FOUND, "not built");
        assert_eq!(up.answer(&Method::POST, "/livez").0, StatusCode::METHOD_NOT_ALLOWED);
        let (status, text) = pages(Err("no leader".into())).answer(&Method::HEAD, "/readyz");
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("no leader"), "{text}");
    }

    #[tokio::test]
    async fn it_speaks_http_1() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let incoming = incoming::accept(listener, Bounds::of_clients());
        let server = tokio::spawn(
            Server::builder().accept_http1(true).serve_with_incoming(pages(Err("no leader".into())), incoming),
        );
        let mut client = TcpStream::connect(address).await.expect("it listens");
        client.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("open");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("not ready: no leader\n"), "{answer}");
        server.abort();
    }
}

//! HTTP for operators and supervisors: `/livez` (the process answers), `/readyz` (it takes writes) and `/metrics`.

use crate::context::NodeContext;
use crate::metrics::page::Page;
use crate::metrics::render::Format;
use crate::service::listener::door::{Bounds, Door};
use crate::service::listener::incoming;
use crate::service::listener::settling::Settling;
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
/// The same, from one address: on a machine with several scrapers and people.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 48;
/// Connections that have made no request yet.
const NEWCOMERS_MAX: usize = 16;
/// Longest time that a request may take, idle ones included.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);
/// The type of everything but metrics.
const PLAIN: &str = "text/plain; charset=utf-8";
/// Connections left open at the end are cut off after this.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until `shutdown`. `registered` turns true once this node is part of its cluster.
///
/// # Errors
/// If the server fails.
pub async fn serve(
    listener: TcpListener,
    page: Page,
    registered: watch::Receiver<bool>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let context = Arc::clone(&page.context);
    let door = Door::new(bounds(), Arc::clone(&context.metrics.doors.ops));
    let pages = Pages {
        ready: Arc::new(move || readiness(&context, *registered.borrow())),
        metrics: Arc::new(move |ready, format| page.text(ready, format)),
    };
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
        .serve_with_incoming_shutdown(Settling(pages), incoming::accept(listener, door), signal);
    tokio::select! {
        served = serving => Ok(served?),
        () = too_long => Ok(()),
    }
}

/// A request may be shorter than the first bytes of HTTP/2.
fn bounds() -> Bounds {
    Bounds {
        connections: CONNECTIONS_MAX,
        per_address: CONNECTIONS_PER_ADDRESS_MAX,
        newcomers: NEWCOMERS_MAX,
        first_bytes: 1,
        ..Bounds::of_clients()
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
    if let Some(trouble) = context.shards.iter().find_map(|shard| shard.disk_health.trouble()) {
        return Err(trouble.detail);
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
    metrics: Arc<dyn Fn(bool, Format) -> String + Send + Sync>,
}

/// An answer: status, type and text.
type Answer = (StatusCode, &'static str, String);

impl Pages {
    fn answer(&self, method: &Method, path: &str, accept: &str) -> Answer {
        let plain = |status, text: &str| (status, PLAIN, format!("{text}\n"));
        if !matches!(*method, Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here");
        }
        match path {
            "/livez" => plain(StatusCode::OK, "ok"),
            "/readyz" => match (self.ready)() {
                Ok(()) => plain(StatusCode::OK, "ready"),
                Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {reason}")),
            },
            "/metrics" => {
                let format = Format::wanted(accept);
                (StatusCode::OK, format.content_type(), (self.metrics)((self.ready)().is_ok(), format))
            }
            _ => plain(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics"),
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
        let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (status, kind, text) = self.answer(request.method(), request.uri().path(), accept);
        let mut response = Response::new(Body::new(text));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
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
        let metrics = |ready, format| format!("ready is {ready}, {format:?}");
        Pages { ready: Arc::new(move || ready.clone()), metrics: Arc::new(metrics) }
    }

    #[test]
    fn each_page_has_its_status() {
        let up = pages(Ok(()));
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(up.answer(&Method::GET, path, "").0, StatusCode::OK, "{path}");
        }
        assert_eq!(up.answer(&Method::GET, "/", "").0, StatusCode::NOT_FOUND);
        assert_eq!(up.answer(&Method::POST, "/livez", "").0, StatusCode::METHOD_NOT_ALLOWED);
        let down = pages(Err("no leader".into()));
        let (status, _, text) = down.answer(&Method::HEAD, "/readyz", "");
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("no leader"), "{text}");
        let (status, kind, text) = down.answer(&Method::GET, "/metrics", "application/openmetrics-text");
        assert_eq!((status, kind), (StatusCode::OK, Format::OpenMetrics.content_type()));
        assert_eq!(text, "ready is false, OpenMetrics");
    }

    async fn ask(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let incoming = incoming::accept(listener, Door::new(bounds(), Arc::default()));
        let server = tokio::spawn(
            Server::builder().accept_http1(true).serve_with_incoming(pages(Err("no leader".into())), incoming),
        );
        let mut client = TcpStream::connect(address).await.expect("it listens");
        client.write_all(request).await.expect("open");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        server.abort();
        answer
    }

    #[tokio::test]
    async fn it_speaks_http_1() {
        let answer = ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("not ready: no leader\n"), "{answer}");
        let short = ask(b"GET / HTTP/1.0\r\n\r\n").await;
        assert!(short.contains("404"), "a request that is shorter than HTTP/2's first bytes: {short}");
        let page = ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(page.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{page}");
    }
}

//! A server that answers, but not as clients are answered: one of a node's other ports. Told as that, since the protocols'
//! own errors tell a user nothing.

use dlog_client::{Error, ErrorCode, Stage};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The look must not keep the error waiting.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

/// What is wrong with one of `servers`, if it can be told.
pub async fn explain(servers: &[String], error: &Error) -> Option<String> {
    let where_clients_go = "clients connect to --listen, by default port 7411";
    if error.code() == ErrorCode::Unsupported && error.stage() == Stage::Connection {
        let server = servers.iter().find(|server| error.to_string().contains(server.as_str())).or(servers.first())?;
        return Some(format!("{server} is where nodes talk to each other (--peer-listen); {where_clients_go}"));
    }
    for server in servers {
        if matches!(tokio::time::timeout(LOOK_TIMEOUT, speaks_http(server)).await, Ok(Ok(true))) {
            return Some(format!(
                "{server} answers plain HTTP: it is a node's --ops-listen, or no node at all; {where_clients_go}"
            ));
        }
    }
    None
}

/// Whether it answers the old HTTP, which the ports for clients and nodes don't.
async fn speaks_http(server: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").await?;
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).await?;
    Ok(&answer == b"HTTP/1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::error::ErrorDetail;
    use tokio::net::TcpListener;

    fn error(code: ErrorCode, text: &str) -> Error {
        ErrorDetail::rejected(code, Stage::Connection, text).into()
    }

    #[tokio::test]
    async fn each_wrong_port_is_told_as_what_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let http = listener.local_addr().expect("bound").to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            }
        });
        let told = explain(&["127.0.0.1:1".into(), http.clone()], &error(ErrorCode::Timeout, "late")).await;
        assert!(told.expect("HTTP").contains(&format!("{http} answers plain HTTP")));
        let told = explain(&[http.clone(), "b:2".into()], &error(ErrorCode::Unsupported, "b:2: no such service")).await;
        assert!(told.expect("peers").starts_with("b:2 is where nodes talk"));
        assert_eq!(explain(&["127.0.0.1:1".into()], &error(ErrorCode::Timeout, "late")).await, None, "nobody there");
    }
}

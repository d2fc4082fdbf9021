//! From a request's path to the fake's service.

use super::Node;
use dlog_protocol::{services, v1};
use std::convert::Infallible;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};

/// From a request's path to its service.
#[derive(Clone)]
pub struct Routes {
    log: v1::log_server::LogServer<Node>,
    admin: v1::admin_server::AdminServer<Node>,
    cluster: v1::cluster_server::ClusterServer<Node>,
}

impl Service<http::Request<Body>> for Routes {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path().split('/').nth(1) {
            Some("dlog.v1.Log") => self.log.call(request),
            Some("dlog.v1.Admin") => self.admin.call(request),
            _ => self.cluster.call(request),
        }
    }
}

impl Routes {
    pub fn of(node: &Node) -> Routes {
        Routes {
            log: services::log_server(node.clone()),
            admin: services::admin_server(node.clone()),
            cluster: services::cluster_server(node.clone()),
        }
    }
}

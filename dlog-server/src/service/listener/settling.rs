//! [`Settling`]: a service whose requests note that their connection has made one.

use super::ConnectionInfo;
use std::task::{Context, Poll};
use tonic::codegen::Service;
use tonic::codegen::http::Request;

/// Wraps the whole of a listener's services.
#[derive(Clone)]
pub struct Settling<S>(pub S);

impl<S: Service<Request<B>>, B> Service<Request<B>> for Settling<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        if let Some(connection) = request.extensions().get::<ConnectionInfo>() {
            connection.settle();
        }
        self.0.call(request)
    }
}

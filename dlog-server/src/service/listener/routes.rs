//! From a request's path to its service, and the one check that all calls of clients share: which cluster is meant.

use crate::service::admin::AdminService;
use crate::service::cluster::ClusterService;
use crate::service::log::LogService;
use dlog_protocol::ClusterId;
use dlog_protocol::cluster_id::CLUSTER_ID_HEADER;
use dlog_protocol::status;
use dlog_protocol::v1::admin_server::AdminServer;
use dlog_protocol::v1::cluster_server::ClusterServer;
use dlog_protocol::v1::log_server::LogServer;
use std::convert::Infallible;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

/// The services of the listener for clients. `R` is the reflection service, `A` the same under its earlier name.
#[derive(Clone)]
pub(super) struct Routes<R, A> {
    pub(super) own: ClusterId,
    pub(super) log: LogServer<LogService>,
    pub(super) admin: AdminServer<AdminService>,
    pub(super) cluster: ClusterServer<ClusterService>,
    pub(super) health: HealthServer<HealthService>,
    pub(super) reflection: R,
    pub(super) reflection_v1alpha: A,
}

/// The names under which the services report their health.
pub(super) const SERVICES: [&str; 3] = [
    <LogServer<LogService> as NamedService>::NAME,
    <AdminServer<AdminService> as NamedService>::NAME,
    <ClusterServer<ClusterService> as NamedService>::NAME,
];

/// The name of the health service.
pub(super) const HEALTH: &str = <HealthServer<HealthService> as NamedService>::NAME;

/// The service in a path `/package.Service/Method`.
fn service_of(path: &str) -> &str {
    path.strip_prefix('/').and_then(|rest| rest.split_once('/')).map_or("", |(service, _)| service)
}

impl<R, A> Routes<R, A> {
    /// A call that means another cluster is refused before any service sees it.
    fn check_cluster(&self, request: &Request<Body>) -> Result<(), Status> {
        if !request.headers().contains_key(CLUSTER_ID_HEADER) {
            return Ok(());
        }
        let headers = MetadataMap::from_headers(request.headers().clone());
        self.own.check(&headers).map_err(|error| status::to_status(&error))
    }
}

impl<R, A> Service<Request<Body>> for Routes<R, A>
where
    R: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
    R::Future: Send + 'static,
    A: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
    A::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Every generated service is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if let Err(status) = self.check_cluster(&request) {
            return Box::pin(std::future::ready(Ok(status.into_http())));
        }
        let service = service_of(request.uri().path());
        if service == <LogServer<LogService> as NamedService>::NAME {
            self.log.call(request)
        } else if service == <ClusterServer<ClusterService> as NamedService>::NAME {
            self.cluster.call(request)
        } else if service == <AdminServer<AdminService> as NamedService>::NAME {
            self.admin.call(request)
        } else if service == HEALTH {
            self.health.call(request)
        } else if service == R::NAME {
            Box::pin(self.reflection.call(request))
        } else if service == A::NAME {
            Box::pin(self.reflection_v1alpha.call(request))
        } else {
            let status = Status::unimplemented("no such service here; clients use dlog.v1.Log, Admin and Cluster");
            Box::pin(std::future::ready(Ok(status.into_http())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_service() {
        assert_eq!(service_of("/dlog.v1.Log/Produce"), "dlog.v1.Log");
        assert_eq!(SERVICES, ["dlog.v1.Log", "dlog.v1.Admin", "dlog.v1.Cluster"]);
        for odd in ["", "/", "dlog.v1.Log/Produce", "/dlog.v1.Log", "//"] {
            assert!(!SERVICES.contains(&service_of(odd)), "{odd:?}");
        }
    }
}

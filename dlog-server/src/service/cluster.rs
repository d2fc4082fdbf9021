//! The service `dlog.v1.Cluster`: what the cluster knows of itself, from this node's catalogue and what all nodes report.

mod metadata;
mod stats;
mod status;

use super::errors::to_status;
use super::report;
use super::view::ClusterView;
use crate::context::NodeContext;
use dlog_protocol::v1::cluster_server::Cluster;
use dlog_protocol::v1::{self, NodeReportRequest};
use metadata::Metadata;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service. Clones share the node and what was last reported.
#[derive(Clone)]
pub struct ClusterService {
    context: Arc<NodeContext>,
    metadata: Arc<Metadata>,
}

impl ClusterService {
    /// A service of this node.
    pub fn new(context: Arc<NodeContext>) -> ClusterService {
        let metadata = Arc::new(Metadata::new(Arc::clone(&context)));
        ClusterService { context, metadata }
    }

    /// What all nodes say now.
    async fn view(&self) -> ClusterView {
        let reports = report::gather(&self.context, &NodeReportRequest::default()).await;
        ClusterView::new(reports, &self.context.catalogue())
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn metadata(&self, request: Request<v1::MetadataRequest>) -> Result<Response<v1::MetadataResponse>, Status> {
        let answer = self.metadata.answer(request.into_inner()).await;
        answer.map(Response::new).map_err(|error| to_status(&self.context, error))
    }

    async fn health(&self, _: Request<v1::HealthRequest>) -> Result<Response<v1::HealthResponse>, Status> {
        let view = self.view().await;
        Ok(Response::new(status::health(&view.health(&self.context.catalogue()))))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(Response::new(status::status(&self.context, &self.view().await)))
    }

    async fn list_nodes(&self, _: Request<v1::ListNodesRequest>) -> Result<Response<v1::ListNodesResponse>, Status> {
        let view = self.view().await;
        let catalogue = self.context.catalogue();
        let nodes = status::nodes(&catalogue, &view.health(&catalogue), &view);
        Ok(Response::new(v1::ListNodesResponse { nodes }))
    }

    async fn node_stats(&self, _: Request<v1::NodeStatsRequest>) -> Result<Response<v1::NodeStatsResponse>, Status> {
        Ok(Response::new(stats::node_stats(&self.context)))
    }
}

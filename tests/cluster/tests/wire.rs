//! What the tests say to nodes without a client library: batches and calls, made by hand.

use bytes::Bytes;
use dlog_core::{BatchBuilder, Codec, Record, TimestampMs};
use dlog_protocol::v1::admin_client::AdminClient;
use dlog_protocol::v1::log_client::LogClient;
use dlog_protocol::v1::peer_client::PeerClient;
use dlog_protocol::{services, v1};
use std::future::Future;
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// A call that hangs longer than this has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// In milliseconds: what a produce request may take.
const PRODUCE_TIMEOUT_MS: u32 = 10_000;

/// Runs a future to its end, on this thread.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(2 * CALL_TIMEOUT, future).await.expect("the calls end in time") })
}

async fn try_channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.timeout(CALL_TIMEOUT).connect().await
}

async fn channel(address: &str) -> Channel {
    try_channel(address).await.unwrap_or_else(|e| panic!("can't connect to {address}: {e}"))
}

/// The service for records.
pub async fn log(address: &str) -> LogClient<Channel> {
    services::log_client(channel(address).await)
}

/// The service for records, of a node that may be down.
pub async fn try_log(address: &str) -> Result<LogClient<Channel>, tonic::transport::Error> {
    Ok(services::log_client(try_channel(address).await?))
}

/// The service for topics.
pub async fn admin(address: &str) -> AdminClient<Channel> {
    services::admin_client(channel(address).await)
}

/// The service for nodes.
pub async fn peer(address: &str) -> PeerClient<Channel> {
    services::peer_client(channel(address).await)
}

/// The service that tells of the cluster.
pub async fn cluster(address: &str) -> v1::cluster_client::ClusterClient<Channel> {
    services::cluster_client(channel(address).await)
}

/// A batch of these values, without keys.
pub fn batch<S: AsRef<str>>(values: &[S]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for value in values {
        let value = Bytes::copy_from_slice(value.as_ref().as_bytes());
        builder.push(&Record::new(TimestampMs(1_357_035_300_000), value)).expect("a small record");
    }
    builder.build().expect("a small batch")
}

/// A topic by its name.
pub fn topic(name: &str) -> Option<v1::TopicSelector> {
    Some(v1::TopicSelector { by: Some(v1::topic_selector::By::Name(name.to_string())) })
}

/// One batch for a stream.
pub fn request(request_id: u64, name: &str, partition: u32, batch: Bytes) -> v1::ProduceRequest {
    v1::ProduceRequest {
        request_id,
        topic: topic(name),
        partition,
        batch,
        acks: v1::Acks::Quorum.into(),
        timeout_ms: PRODUCE_TIMEOUT_MS,
    }
}

/// One batch in a call of its own.
pub fn once(name: &str, partition: u32, batch: Bytes) -> v1::ProduceOnceRequest {
    v1::ProduceOnceRequest {
        topic: topic(name),
        partition: Some(partition),
        batch: Some(batch),
        acks: v1::Acks::Quorum.into(),
        ..v1::ProduceOnceRequest::default()
    }
}

/// These messages, one after the other with a pause between.
pub fn paced<T: Send + 'static>(messages: Vec<T>, pause: Duration) -> ReceiverStream<T> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        for message in messages {
            if sender.send(message).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    });
    ReceiverStream::new(receiver)
}

//! [`Client`]: the connections, what is known of the cluster, and the loops that try until a deadline.

use crate::admin::Admin;
use crate::backoff::random_seed;
use crate::connection::{Connection, Connections};
use crate::consumer::{Consumer, ConsumerOptions};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::metadata::{NodeInfo, Topic, View};
use crate::options::ClientOptions;
use crate::producer::{Producer, ProducerOptions};
pub(crate) use crate::retry::Retry;
use crate::retry::Tries;
use dlog_core::{ErrorCode, ErrorDetail, NodeId, Outcome, PartitionIndex, Stage, TopicId, TopicName};
use dlog_protocol::{ClusterId, TopicRef, services, status, v1};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// The longest wait for one node's answer to a question that any other could answer as well.
const ATTEMPT: Duration = Duration::from_secs(2);
/// The longest wait for any answer; gRPC's header for it has eight digits.
pub(crate) const LONGEST_CALL: Duration = Duration::from_secs(3600);

/// A connection to a cluster. Cheap to clone; all clones share connections and what they learned.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: ClientOptions,
    connections: Connections,
    view: Mutex<View>,
    /// One refresh of a topic at a time: hundreds of partitions fail over together.
    refreshing: tokio::sync::Mutex<()>,
    turn: AtomicUsize,
}

impl Client {
    /// Finds the cluster: returns once a node has answered. Must be called on a tokio runtime, which the client's connections
    /// then need as long as they are used.
    ///
    /// # Errors
    /// Always with outcome rejected: `invalid_argument` without a server or for an address that is none, `wrong_cluster` if
    /// [`ClientOptions::cluster_id`] is another one, or `timeout` with the last failure as its cause.
    pub async fn connect(options: ClientOptions) -> Result<Client, Error> {
        if options.servers.is_empty() {
            return Err(Error::rejected(ErrorCode::InvalidArgument, "no server is given; give host:port of any node"));
        }
        let view = View { cluster_id: options.cluster_id, ..View::default() };
        let inner = Inner {
            connections: Connections::new(&options),
            options,
            view: Mutex::new(view),
            refreshing: tokio::sync::Mutex::default(),
            turn: AtomicUsize::new(0),
        };
        let client = Client { inner: Arc::new(inner) };
        client.metadata(v1::MetadataRequest::default(), client.deadline()).await?;
        Ok(client)
    }

    /// The cluster that this client works with.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.view().cluster_id
    }

    /// Topics, offsets, health and nodes.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// A producer. Nothing is sent until the first record.
    ///
    /// # Errors
    /// `invalid_argument` if an option is out of its range, with the range.
    pub fn producer(&self, options: ProducerOptions) -> Result<Producer, Error> {
        Producer::new(self.clone(), options)
    }

    /// A consumer of a topic: finds out where to begin and to end, then reads ahead. Safe to cancel: nothing is left of it.
    ///
    /// # Errors
    /// Always with outcome rejected: `unknown_topic`, `unknown_partition`, `unknown_node`, `invalid_topic_name`;
    /// `invalid_argument` if options contradict each other or the node has no replica of a partition;
    /// `offset_out_of_range` where [`OnGap::Fail`](crate::OnGap::Fail) meets a gap; or `timeout` if nobody could tell where
    /// the partitions begin and end, its cause saying why.
    pub async fn consumer(&self, options: ConsumerOptions) -> Result<Consumer, Error> {
        Consumer::open(self.clone(), options).await
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.inner.options.timeout)
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.inner.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.inner.connections
    }

    /// A request with the cluster's id in its headers.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(cluster_id) = self.cluster_id() {
            cluster_id.attach(request.metadata_mut());
        }
        request
    }

    /// A unary request that also tells the server how long the answer is waited for.
    pub(crate) fn timed_request<T>(&self, message: T, within: Duration) -> Request<T> {
        let mut request = self.request(message);
        request.set_timeout(within);
        request
    }

    /// One call to one node, and what its failure says of the connection.
    pub(crate) async fn call<T, F>(
        &self,
        address: &str,
        within: Duration,
        call: impl FnOnce(Connection) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let connection = self.connections().get(address, Deadline::after(within)).await?;
        match tokio::time::timeout(within, call(connection.clone())).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                let mut error = status::from_status(&status);
                if error.stage == Stage::Connection {
                    error.message = format!("{address}: {}", error.message);
                    self.connections().forget(&connection).await;
                }
                Err(Error::new(error))
            }
            Err(_) => {
                self.connections().note_failure(address);
                let message = format!("{address} gave no answer within {within:?}");
                Err(Error::new(ErrorDetail::unknown(ErrorCode::Timeout, Stage::Connection, message)))
            }
        }
    }

    /// Asks one node after the other until one answers or the deadline passes.
    pub(crate) async fn any_node<T, F>(
        &self,
        what: &str,
        deadline: Deadline,
        retry: Retry,
        call: impl Fn(Connection, Duration) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut tries = Tries::new(retry, random_seed());
        loop {
            let addresses = self.addresses();
            tries.set_elsewhere(addresses.len() > 1);
            let mut last = None;
            for address in &addresses {
                // A call that may be made once only gets all the time there is.
                let bound = if retry == Retry::Always { ATTEMPT } else { LONGEST_CALL };
                let within = deadline.remaining(bound);
                match self.call(address, within, |connection| call(connection, within)).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => last = Some(tries.judge(error)?),
                }
                if deadline.has_passed() {
                    break;
                }
            }
            let none = || Error::rejected(ErrorCode::Unavailable, "no node's address is known");
            tries.pause(last.unwrap_or_else(none), false, what, deadline).await?;
        }
    }

    /// Metadata from any node; learned on the way.
    pub(crate) async fn metadata(
        &self,
        request: v1::MetadataRequest,
        deadline: Deadline,
    ) -> Result<v1::MetadataResponse, Error> {
        let asked_at = Instant::now();
        let answer = self
            .any_node("finding the cluster", deadline, Retry::Always, |connection, within| {
                let request = self.timed_request(request.clone(), within);
                async move { services::cluster_client(connection.channel).metadata(request).await }
            })
            .await
            .map_err(Error::of_read)?;
        self.view().learn(&answer, asked_at)?;
        Ok(answer)
    }

    /// The topic of this name, from memory or from a node.
    ///
    /// # Errors
    /// `unknown_topic` only if the metadata group says so; else as [`Client::metadata`].
    pub(crate) async fn topic(&self, name: &TopicName, create: bool, deadline: Deadline) -> Result<Arc<Topic>, Error> {
        let known = self.view().topics.get(name).cloned();
        match known {
            Some(topic) => Ok(topic),
            None => self.refresh(name, create, Instant::now(), deadline).await,
        }
    }

    /// The topic as it was at `since` or later.
    pub(crate) async fn refresh(
        &self,
        name: &TopicName,
        create: bool,
        since: Instant,
        deadline: Deadline,
    ) -> Result<Arc<Topic>, Error> {
        // Whoever asks now may wait longer than this caller does.
        let Some(_alone) = deadline.bound(self.inner.refreshing.lock()).await else {
            return Err(Error::timeout(Outcome::Rejected, "finding the topic", None));
        };
        let known = |view: &View| view.topics.get(name).filter(|topic| topic.asked_at >= since).cloned();
        if let Some(topic) = known(&self.view()) {
            return Ok(topic);
        }
        let topics = vec![v1::TopicSelector::from(&TopicRef::Name(name.clone()))];
        let request = v1::MetadataRequest { topics, create_missing: create, ..v1::MetadataRequest::default() };
        let answer = self.metadata(request.clone(), deadline).await?;
        if answer.topics.is_empty() {
            // The node may lag behind whoever made the topic: ask for the truth.
            self.metadata(v1::MetadataRequest { fresh: true, ..request }, deadline).await?;
        }
        let mut view = self.view();
        if let Some(topic) = known(&view) {
            return Ok(topic);
        }
        view.forget_topic(name);
        Err(Error::rejected(ErrorCode::UnknownTopic, format!("there is no topic {name}")))
    }

    /// The node that leads a partition. With `stale_since`, what was known before that moment doesn't count.
    pub(crate) async fn leader(
        &self,
        name: &TopicName,
        id: TopicId,
        partition: PartitionIndex,
        stale_since: Option<Instant>,
        deadline: Deadline,
    ) -> Result<NodeInfo, Error> {
        let topic = match stale_since {
            Some(since) => self.refresh(name, false, since, deadline).await?,
            None => self.topic(name, false, deadline).await?,
        };
        if topic.id != id {
            let message = format!("topic {name} was deleted and made again; open it anew");
            return Err(Error::rejected(ErrorCode::UnknownTopic, message));
        }
        let leader = topic.route(partition)?.leader;
        let node = leader.and_then(|leader| self.view().nodes.get(&leader).cloned());
        node.ok_or_else(|| {
            let message = format!("nobody leads {name}/{partition} just now");
            Error::new(ErrorDetail::rejected(ErrorCode::NoLeader, Stage::Replication, message))
        })
    }

    /// Follows an error's hint, if it has one: `true` if the cache now names another leader.
    pub(crate) fn take_hint(&self, name: &TopicName, partition: PartitionIndex, error: &Error) -> bool {
        let Some(leader) = error.leader() else { return false };
        let mut view = self.view();
        if let (None, Some(address)) = (view.nodes.get(&leader), &error.detail().leader_address) {
            let (name, rack) = (format!("node {leader}"), String::new());
            let info = NodeInfo { id: leader, name, address: address.clone(), rack };
            view.nodes.insert(leader, info);
        }
        if !view.nodes.contains_key(&leader) {
            return false;
        }
        view.hint(name, partition, leader);
        true
    }

    /// The node of this name; asks the cluster if it isn't known.
    pub(crate) async fn node(&self, name: &str, deadline: Deadline) -> Result<NodeInfo, Error> {
        if let Some(node) = self.view().node_by_name(name) {
            return Ok(node);
        }
        self.metadata(v1::MetadataRequest::default(), deadline).await?;
        let node = self.view().node_by_name(name);
        node.ok_or_else(|| Error::rejected(ErrorCode::UnknownNode, format!("there is no node {name:?}")))
    }

    pub(crate) fn node_by_id(&self, id: NodeId) -> Option<NodeInfo> {
        self.view().nodes.get(&id).cloned()
    }

    /// Every known address once: another one first each time, those that failed lately last.
    fn addresses(&self) -> Vec<String> {
        let mut seen = BTreeMap::new();
        let mut addresses = Vec::new();
        {
            let view = self.view();
            let nodes = view.nodes.values().map(|node| &node.address);
            for address in nodes.chain(&self.inner.options.servers) {
                if !address.is_empty() && seen.insert(address.clone(), ()).is_none() {
                    addresses.push(address.clone());
                }
            }
        }
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed) % addresses.len().max(1);
        addresses.rotate_left(turn);
        addresses.sort_by_key(|address| self.connections().failed_lately(address));
        addresses
    }
}

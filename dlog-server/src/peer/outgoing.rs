//! One outgoing stream of Raft messages: connects, says hello, bundles what is queued, and starts over when it breaks.

use super::address_book::AddressBook;
use super::convert;
use super::hello::HelloCheck;
use super::outbox::{OutboxEnd, Priority};
use super::pool::endpoint;
use super::synced::{SyncedGroups, Told};
use crate::shard::inbox::{Inbox, ShardMessage};
use dlog_core::{NodeId, limits};
use dlog_protocol::v1::peer_client::PeerClient;
use dlog_protocol::v1::{self, PeerBundle, StreamPriority};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Pause after the first failure; doubles up to the longest.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Longest pause: a node that comes back is found within half an election timeout.
const BACKOFF_LONGEST: Duration = Duration::from_millis(400);
/// The peer must answer the hello within this.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// Bundles between this task and the transport: enough to keep it busy, few enough that heartbeats don't queue.
const BUNDLES_IN_FLIGHT: usize = 4;
/// A stream that has nothing to send tells within this what was synced here since: every peer must know it, not only those that
/// are sent messages. It bounds how far a copy of the directory may be behind and still be let in by a peer.
const TELL_SYNCED_EVERY: Duration = Duration::from_millis(500);

/// One stream to one peer.
pub struct Outgoing {
    /// The peer.
    pub node: NodeId,
    /// What it carries.
    pub priority: Priority,
    /// Where peers are.
    pub book: Arc<AddressBook>,
    /// Who we are.
    pub hello: Arc<HelloCheck>,
    /// All shards, to be told when the stream breaks.
    pub inboxes: Vec<Inbox>,
}

impl Outgoing {
    /// Runs until the queue is closed.
    pub async fn run(self, mut queue: OutboxEnd) {
        let mut backoff = BACKOFF_FIRST;
        let mut last_error = String::new();
        loop {
            match self.connect_and_send(&mut queue, &mut backoff).await {
                Ok(()) => return,
                Err(error) => {
                    if error != last_error {
                        tracing::warn!(peer = %self.node, priority = ?self.priority, %error, "peer stream is down");
                        last_error = error;
                    }
                }
            }
            for inbox in &self.inboxes {
                inbox.send(ShardMessage::Unreachable { node: self.node });
            }
            // What queues while nobody listens is stale by the time someone does: Raft sends again.
            let pause = tokio::time::sleep(backoff);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    message = queue.next() => if message.is_none() { return },
                }
            }
            backoff = (backoff * 2).min(BACKOFF_LONGEST);
        }
    }

    /// `Ok` when the queue is closed, else why the stream ended.
    async fn connect_and_send(&self, queue: &mut OutboxEnd, backoff: &mut Duration) -> Result<(), String> {
        let address = self.book.get(self.node).ok_or("no address is known")?;
        let channel = endpoint(&address)?.connect().await.map_err(|e| chain(&e))?;
        let mut client = PeerClient::new(channel)
            .max_decoding_message_size(limits::GRPC_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::GRPC_MESSAGE_BYTES_MAX);
        let priority = match self.priority {
            Priority::Consensus => StreamPriority::Consensus,
            Priority::Bulk => StreamPriority::Bulk,
        };
        let (bundles, stream) = mpsc::channel::<PeerBundle>(BUNDLES_IN_FLIGHT);
        let first = PeerBundle { hello: Some(self.hello.own(priority)), ..PeerBundle::default() };
        bundles.send(first).await.map_err(|_| "the stream ended at once".to_string())?;
        let answer = async {
            let mut notices = client.consensus(ReceiverStream::new(stream)).await?.into_inner();
            let first = notices.message().await?;
            Ok::<_, tonic::Status>((notices, first))
        };
        let (mut notices, first) = tokio::time::timeout(HELLO_TIMEOUT, answer)
            .await
            .map_err(|_| format!("{address} did not answer the hello"))?
            .map_err(|status| status.message().to_string())?;
        let first = first.unwrap_or_default();
        if let (Some(start), Some(error)) = (&first.refused, &first.error) {
            self.hello.note_refused(self.node, start, &error.message);
            return Err(error.message.clone());
        }
        let peer = self.hello.check(first.hello.as_ref()).map_err(|refused| refused.error.message)?;
        if peer.node != self.node {
            return Err(format!("{address} is node {}, not node {}", peer.node, self.node));
        }
        tracing::info!(peer = %self.node, %address, priority = ?self.priority, "peer stream is up");
        *backoff = BACKOFF_FIRST;
        let mut told = Told::default();
        let mut tell = tokio::time::interval(TELL_SYNCED_EVERY);
        tell.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = queue.next() => {
                    let Some(message) = message else { return Ok(()) };
                    let bundle = bundle(message, queue, self.hello.synced(), &mut told);
                    bundles.send(bundle).await.map_err(|_| "the peer ended the stream")?;
                }
                // One of the two streams is enough.
                _ = tell.tick(), if self.priority == Priority::Consensus => {
                    let synced = self.hello.synced().news(&mut told);
                    if !synced.is_empty() {
                        let bundle = PeerBundle { synced, ..PeerBundle::default() };
                        bundles.send(bundle).await.map_err(|_| "the peer ended the stream")?;
                    }
                }
                notice = notices.message() => match notice {
                    Ok(Some(v1::PeerNotice { error: Some(error), .. })) => {
                        tracing::warn!(peer = %self.node, error = error.message, "the peer refused a message");
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return Err("the peer ended the stream".to_string()),
                    Err(status) => return Err(status.message().to_string()),
                },
            }
        }
    }
}

/// A bundle of `first` and what else is queued, up to the bound, with what was synced before any of it was said.
fn bundle(
    first: dlog_consensus::PeerMessage,
    queue: &mut OutboxEnd,
    synced: &SyncedGroups,
    told: &mut Told,
) -> PeerBundle {
    let mut bytes = convert::weight(&first);
    let mut messages = vec![convert::to_wire(first)];
    while bytes < limits::PEER_BUNDLE_BYTES_MAX {
        let Some(next) = queue.try_next() else { break };
        bytes += convert::weight(&next);
        messages.push(convert::to_wire(next));
    }
    // Read after the last message was taken: see `synced`.
    PeerBundle { messages, synced: synced.news(told), ..PeerBundle::default() }
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

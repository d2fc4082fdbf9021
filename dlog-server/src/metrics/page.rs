//! The page `/metrics`: what the node has counted, and what it looks like at this moment.

use super::families::{self, Family, PARTITIONS_MAX};
use super::render::{Format, Labels, Sample, Value, render};
use super::{ACKS, Metrics, process};
use crate::clock::agreement::Verdict;
use crate::context::NodeContext;
use crate::peer::outbox::{Outboxes, Priority};
use crate::replicas::ReplicaHandle;
use crate::service::listener::door::{DoorStats, Turned};
use dlog_consensus::{Role, Standing, Status};
use dlog_core::{LogId, Offset, ReplicaId, limits};
use dlog_replication::Catalogue;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The topic in the labels of the metadata group.
const GROUP_ZERO_TOPIC: &str = "__catalogue";

/// The page of one node, ready to be made.
pub struct Page {
    /// The node.
    pub context: Arc<NodeContext>,
    /// What waits for its peers.
    pub outboxes: Arc<Outboxes>,
}

/// The samples so far.
#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn add(&mut self, family: Family, labels: Labels, value: Value) {
        self.0.push(Sample { family, labels, value });
    }

    fn whole(&mut self, family: Family, value: u64) {
        self.add(family, Vec::new(), Value::Whole(value));
    }

    fn labelled(&mut self, family: Family, label: &'static str, text: impl Into<String>, value: u64) {
        self.add(family, vec![(label, text.into())], Value::Whole(value));
    }
}

impl Page {
    /// The text. `ready`: what `/readyz` says.
    pub fn text(&self, ready: bool, format: Format) -> String {
        let mut samples = Samples::default();
        self.node(&mut samples, ready);
        connections(&mut samples, &self.context.metrics);
        traffic(&mut samples, &self.context.metrics);
        self.queues(&mut samples);
        self.disks(&mut samples);
        self.replicas(&mut samples);
        render(samples.0, format)
    }

    fn node(&self, samples: &mut Samples, ready: bool) {
        let version = env!("CARGO_PKG_VERSION");
        samples.labelled(families::BUILD_INFO, "version", version, 1);
        let uptime = self.context.clock.now().0 as f64 / 1e9;
        samples.add(families::UPTIME, Vec::new(), Value::Real(uptime));
        samples.whole(families::READY, ready.into());
        samples.whole(families::INSECURE, self.context.config.beyond_loopback().into());
        let agrees = self.context.clock_agreement.verdict() == Verdict::Agrees;
        samples.whole(families::CLOCK_AGREES, agrees.into());
        for (family, value) in [
            (families::RESIDENT, process::resident_bytes()),
            (families::OPEN_FDS, process::open_fds()),
            (families::MAX_FDS, process::max_fds()),
        ] {
            if let Some(value) = value {
                samples.whole(family, value);
            }
        }
        if let Some(seconds) = process::cpu_seconds() {
            samples.add(families::CPU, Vec::new(), Value::Real(seconds));
        }
    }

    fn queues(&self, samples: &mut Samples) {
        if let Some(rooms) = self.context.metrics.rooms.get() {
            let taken = |all: usize, left: usize| all.saturating_sub(left) as u64;
            let in_flight = taken(limits::NODE_IN_FLIGHT_BYTES_MAX, rooms.in_flight.available_permits());
            samples.whole(families::IN_FLIGHT, in_flight);
            let streams = taken(limits::CONSUME_STREAMS_MAX, rooms.consumers.available_permits());
            samples.whole(families::CONSUME_STREAMS, streams);
        }
        for (number, shard) in self.context.shards.iter().enumerate() {
            let number = number.to_string();
            samples.labelled(families::ADMITTED, "shard", number.clone(), shard.inbox.admitted_bytes() as u64);
            samples.labelled(families::RECEIVED, "shard", number, shard.inbox.received().bytes() as u64);
        }
        let catalogue = self.context.catalogue();
        for (node, priority, bytes) in self.outboxes.queued() {
            let name = catalogue.node_name(node);
            let stream = match priority {
                Priority::Consensus => "consensus",
                Priority::Bulk => "bulk",
            };
            let labels = vec![("peer", name), ("stream", stream.to_string())];
            samples.add(families::PEER_QUEUE, labels, Value::Whole(bytes as u64));
        }
    }

    fn disks(&self, samples: &mut Samples) {
        for (number, shard) in self.context.shards.iter().enumerate() {
            let (number, sizes) = (number.to_string(), shard.sync_times.sizes());
            samples.labelled(families::JOURNAL_BYTES, "shard", number.clone(), sizes.journal_bytes);
            samples.labelled(families::JOURNAL_FILES, "shard", number.clone(), sizes.journal_files as u64);
            samples.labelled(families::DATA_BYTES, "shard", number.clone(), sizes.data_bytes);
            let state = shard.disk_health.state();
            samples.labelled(families::DISK_FULL, "shard", number.clone(), state.space.level as u64);
            samples.labelled(families::DISK_STUCK, "shard", number.clone(), state.stuck.into());
            samples.labelled(families::DISK_RESERVE, "shard", number, state.space.reserve_bytes);
        }
        if let Some((free, size)) = process::disk(&self.context.config.data_dir) {
            samples.whole(families::DISK_FREE, free);
            samples.whole(families::DISK_SIZE, size);
        }
    }

    fn replicas(&self, samples: &mut Samples) {
        let mut statuses: BTreeMap<ReplicaId, Status> = BTreeMap::new();
        for shard in &self.context.shards {
            statuses.extend(shard.status.lock().expect("no holder panics").clone());
        }
        let catalogue = self.context.catalogue();
        let all = self.context.replicas.all();
        let (mut led, mut leaderless, mut under_replicated) = (0, 0, 0);
        for (place, handle) in all.iter().enumerate() {
            let progress = handle.progress();
            led += u64::from(progress.role == Role::Leader);
            leaderless += u64::from(progress.leader.is_none());
            // Another term's view of its followers is of the past.
            let status = statuses.get(&handle.replica).filter(|s| s.role == Role::Leader && s.term == progress.term);
            let members = status.map(members);
            under_replicated += u64::from(members.is_some_and(|(voters, in_sync)| in_sync < voters));
            if place < PARTITIONS_MAX {
                partition(samples, &catalogue, handle, status);
            }
        }
        samples.whole(families::REPLICAS, all.len() as u64);
        samples.whole(families::LED, led);
        samples.whole(families::LEADERLESS, leaderless);
        samples.whole(families::UNDER_REPLICATED, under_replicated);
        samples.whole(families::UNLISTED, all.len().saturating_sub(PARTITIONS_MAX) as u64);
    }
}

/// Voters (those on their way out apart), and how many of them are in sync, as their leader sees it.
fn members(status: &Status) -> (u64, u64) {
    let voters = status.peers.iter().filter(|peer| peer.standing == Standing::Voter);
    (voters.clone().count() as u64, voters.filter(|peer| peer.in_sync).count() as u64)
}

/// The series of one replica; with its status if it leads.
fn partition(samples: &mut Samples, catalogue: &Catalogue, handle: &ReplicaHandle, leads: Option<&Status>) {
    let labels = labels_of(catalogue, handle.log);
    let (progress, reader) = (handle.progress(), handle.reader());
    let log_start = reader.map_or(Offset::ZERO, |reader| reader.log_start());
    let whole = [
        (families::LEADER, u64::from(progress.role == Role::Leader)),
        (families::TERM, progress.term.0),
        (families::HIGH_WATERMARK, progress.high_watermark.0),
        (families::LOG_START, log_start.0),
        (families::LOG_END, progress.log_end.0),
        (families::LAG, progress.high_watermark.0.saturating_sub(progress.read_bound.0)),
        (families::SIZE, reader.map_or(0, |reader| reader.bytes())),
        (families::READ_RECORDS, handle.reads.records.get()),
        (families::READ_BYTES, handle.reads.bytes.get()),
    ];
    for (family, value) in whole {
        samples.add(family, labels.clone(), Value::Whole(value));
    }
    let Some(status) = leads else { return };
    let (voters, in_sync) = members(status);
    samples.add(families::MEMBERS, labels.clone(), Value::Whole(voters));
    samples.add(families::IN_SYNC, labels.clone(), Value::Whole(in_sync));
    for peer in status.peers.iter().filter(|peer| peer.replica != handle.replica) {
        let node = peer.replica.node();
        let name = catalogue.node_name(node);
        let mut labels = labels.clone();
        labels.push(("node", name));
        let behind = status.last.0.saturating_sub(peer.matched.0);
        samples.add(families::FOLLOWER_LAG, labels, Value::Whole(behind));
    }
}

/// Topic and partition of a log; the log's own number where the catalogue here doesn't know it (any more).
fn labels_of(catalogue: &Catalogue, log: LogId) -> Labels {
    if log == LogId::GROUP_ZERO {
        return vec![("topic", GROUP_ZERO_TOPIC.to_string()), ("partition", "0".to_string())];
    }
    let known = catalogue.partition_of_log(log);
    let named = known.and_then(|p| Some((catalogue.topic(p.topic)?.name.to_string(), p.index.0.to_string())));
    let (topic, partition) = named.unwrap_or_else(|| (format!("__log_{log}"), "0".to_string()));
    vec![("topic", topic), ("partition", partition)]
}

fn connections(samples: &mut Samples, metrics: &Metrics) {
    let doors: [(&str, &DoorStats); 3] =
        [("client", &metrics.doors.client), ("peer", &metrics.doors.peer), ("ops", &metrics.doors.ops)];
    for (listener, door) in doors {
        samples.labelled(families::CONNECTIONS, "listener", listener, door.open() as u64);
        samples.labelled(families::ACCEPTED, "listener", listener, door.accepted());
        for why in Turned::ALL {
            let labels = vec![("listener", listener.to_string()), ("reason", why.name().to_string())];
            samples.add(families::TURNED, labels, Value::Whole(door.turned(why)));
        }
    }
}

fn traffic(samples: &mut Samples, metrics: &Metrics) {
    let (produced, consumed) = (&metrics.produced, &metrics.consumed);
    for (family, count) in [
        (families::PRODUCE_BATCHES, &produced.batches),
        (families::PRODUCE_RECORDS, &produced.records),
        (families::PRODUCE_BYTES, &produced.bytes),
        (families::PRODUCE_DUPLICATES, &metrics.duplicates),
        (families::CONSUME_BATCHES, &consumed.batches),
        (families::CONSUME_RECORDS, &consumed.records),
        (families::CONSUME_BYTES, &consumed.bytes),
        (families::ELECTIONS_STARTED, &metrics.elections_started),
        (families::FAULTS_FOUND, &metrics.faults_found),
        (families::FAULTS_MENDED, &metrics.faults_mended),
        (families::SCRUB_BYTES, &metrics.scrub_bytes),
        (families::SCRUB_PASSES, &metrics.scrub_passes),
        (families::ELECTIONS_WON, &metrics.elections_won),
        (families::LEADER_CHANGES, &metrics.leader_changes),
    ] {
        samples.whole(family, count.get());
    }
    for (acks, name) in ACKS {
        samples.add(families::ACK, vec![("acks", name.to_string())], Value::Histogram(metrics.ack(acks).read()));
    }
    for (family, histogram) in [
        (families::APPEND, &metrics.append),
        (families::SYNC, &metrics.journal_sync),
        (families::GROUP_BYTES, &metrics.group_bytes),
        (families::GROUP_WRITES, &metrics.group_writes),
    ] {
        samples.add(family, Vec::new(), Value::Histogram(histogram.read()));
    }
    for (code, count) in metrics.errors() {
        samples.labelled(families::ERRORS, "code", code.name(), count);
    }
}

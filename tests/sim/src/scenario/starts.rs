//! A node's start (recovery, replay, a new boot), the replicas it is told to create, and whom it believes.

use super::node::{CLUSTER, Node, Process};
use super::stage::{Sort, Stage};
use super::words;
use dlog_consensus::{Host, Membership, ReplicaLoader, encode_membership};
use dlog_core::write::{Create, LogPoint, RestoredReplica};
use dlog_core::{LogId, LogIndex, NodeId, ReplicaId, ShardId};
use dlog_storage::{Boot, BootTable, Claim, GroupNumber, Identity, ShardIdentity, ShardStore, SimDisk};
use std::collections::BTreeMap;

/// The one log of a scenario.
pub const LOG: LogId = LogId(1);
/// Bytes of frames replayed at once; small, so that several reads are needed.
const REPLAY_BYTES: usize = 4 << 10;
/// A node's one shard.
const SHARD: ShardId = ShardId(0);

impl Stage {
    /// Makes the cluster: these members, each on a node that is up and has created its replica, durably if so wanted.
    pub(super) fn make_cluster(&mut self, membership: Membership, durable: bool) -> Result<(), String> {
        if !self.nodes.is_empty() {
            return Err("there is a cluster already".to_owned());
        }
        membership.validate().map_err(|error| error.to_string())?;
        let ids: Vec<u32> = membership.members().iter().map(|member| member.node().0).collect();
        let members = membership.members();
        self.membership = membership;
        self.quiet = true;
        for id in &ids {
            let mut node = Node::new(*id);
            node.join(&ids)?;
            self.nodes.insert(*id, node);
            self.start(*id)?;
        }
        for member in members {
            self.create(member)?;
            if durable {
                self.sync(member.node().0)?;
            }
        }
        self.quiet = false;
        self.take_lines();
        let state = if durable { "created, durably" } else { "created, not yet durable" };
        self.say(Sort::Event, format!("{} are up, replicas {state}", words::replicas(&self.membership.members())));
        Ok(())
    }

    /// A replica that its node never had, of the membership that the log was created with. One that the node had, or has, is
    /// not created: what it had promised is gone, or is here.
    pub(super) fn create(&mut self, replica: ReplicaId) -> Result<(), String> {
        let (node, who) = (replica.node().0, words::replica(replica));
        self.must_be_awake(node)?;
        let (now, options) = (self.now(), self.options.clone());
        let membership = encode_membership(&self.membership);
        let create = Create { intent: LogIndex(1), membership, start: LogPoint::default() };
        let process = self.node(node)?.process.as_mut().expect("it is awake");
        let here = process.store.replicas().any(|known| known == replica);
        if here || process.store.known_marks().any(|(known, _)| known == replica) {
            self.say(Sort::Event, format!("{node} doesn't create {who}: it was started here before"));
            return Ok(());
        }
        let mut outputs = Vec::new();
        let made = process.host.create(now, options, replica, LOG, create, &mut outputs);
        made.map_err(|error| error.to_string())?;
        self.execute(node, outputs);
        Ok(())
    }

    /// Ends a replica for good.
    pub(super) fn delete(&mut self, replica: ReplicaId) -> Result<(), String> {
        let node = replica.node().0;
        self.must_be_awake(node)?;
        let ended = self.catalogue.intent.as_ref().map_or(LogIndex(1), |intent| intent.version).next();
        let process = self.node(node)?.process.as_mut().expect("it is awake");
        let mut outputs = Vec::new();
        process.host.delete(replica, ended, &mut outputs);
        self.execute(node, outputs);
        Ok(())
    }

    /// Starts a node's process.
    pub(super) fn start(&mut self, node: u32) -> Result<(), String> {
        let (store, options) = (self.store, self.options.clone());
        let one = self.node(node)?;
        if one.process.is_some() {
            return Err(format!("{node} is up"));
        }
        one.lives += 1;
        one.boots = BootTable::load(&one.disk, "").map_err(|error| error.to_string())?;
        let identity = Identity::load(&one.disk, "").map_err(|error| error.to_string())?;
        one.identity = identity.ok_or("its directory has no identity")?;
        // Two lives never draw the same.
        let boot = one.identity.begin_boot(u64::from(node) * 1_000 + one.lives);
        one.identity.save(&one.disk, "").map_err(|error| error.to_string())?;
        let shard = ShardIdentity { cluster: CLUSTER, shard: SHARD };
        let (store, restored) = match ShardStore::open(one.disk.clone(), "", shard, store) {
            Ok(opened) => opened,
            Err(error) => {
                self.say(Sort::Event, format!("{node} doesn't start: {error}"));
                return Ok(());
            }
        };
        one.recovered = store.last_group();
        let told = one.told.clone();
        let mut host = Host::new(boot.random);
        let torn = if store.found_torn_group() { ", a torn group dropped" } else { "" };
        self.say(
            Sort::Event,
            format!("{node} starts, boot {}, last group {}{torn}", boot.number, store.last_group().0),
        );
        for (replica, error) in store.damage() {
            self.say(Sort::Event, format!("{} is damaged: {error}", words::replica(replica)));
        }
        for replica in restored {
            let promised = told.get(&replica.replica).copied().unwrap_or_default();
            if replica.term < promised {
                let (who, term) = (words::replica(replica.replica), replica.term.0);
                self.breaks(format!("{who} comes back in term {term}, and had spoken in {}", promised.0));
            }
            self.say(Sort::Event, words_of(&replica));
            restore(&store, &mut host, replica, &options)?;
        }
        let (writes, fetches) = (Vec::new(), Vec::new());
        let (waiting, met) = (BTreeMap::new(), BTreeMap::new());
        self.node(node)?.process = Some(Process { host, store, writes, fetches, waiting, next_request: 1, met });
        self.greet_all(node);
        Ok(())
    }

    /// Whether messages of one node reach the process of another: a stream stands only between nodes that admit each other.
    pub(super) fn admits(&mut self, node: u32, from: u32) -> bool {
        let admitted = self.judge(node, from);
        let up = self.nodes.get(&from).is_some_and(|from| from.process.is_some());
        admitted && (!up || self.judge(from, node))
    }

    /// Whether a node believes what another says of itself. A boot is judged once in a life.
    fn judge(&mut self, node: u32, from: u32) -> bool {
        let Some(from_node) = self.nodes.get(&from) else { return false };
        let claim = Claim::of(&from_node.identity, BTreeMap::from([(SHARD, from_node.recovered)]));
        let Some(Node { identity, boots, disk, process: Some(process), .. }) = self.nodes.get_mut(&node) else {
            return false;
        };
        if let Some((boot, admitted)) = process.met.get(&from)
            && *boot == claim.boot
        {
            return *admitted;
        }
        let judged = boots.admit(disk, "", identity, &claim);
        process.met.insert(from, (claim.boot, judged.is_ok()));
        match judged {
            Ok(_) => true,
            Err(refused) => {
                self.say(Sort::Event, format!("{node} refuses {from}: {refused}"));
                false
            }
        }
    }

    /// What a node says to be synced when it sends something.
    pub(super) fn synced(&self, node: u32) -> (Boot, GroupNumber) {
        let node = &self.nodes[&node];
        let group = node.process.as_ref().map_or(GroupNumber(0), |process| process.store.last_group());
        (node.identity.boot, group)
    }

    /// A node hears what another says to be synced there. It saves that with the next boot that it admits: until then a death
    /// of its process forgets it.
    pub(super) fn hear_synced(&mut self, node: u32, from: u32, (boot, group): (Boot, GroupNumber)) {
        if let Some(node) = self.nodes.get_mut(&node).filter(|node| node.process.is_some()) {
            node.boots.told(NodeId(from), boot, SHARD, group);
        }
    }

    /// A node tells all to whom it has a stream, also those to whom it has nothing to send.
    pub(super) fn tell_synced(&mut self, node: u32) {
        let (boot, group) = self.synced(node);
        let others: Vec<u32> = self.awake().into_iter().filter(|other| *other != node).collect();
        for other in others.into_iter().filter(|other| !self.wire.is_cut(node, *other)).collect::<Vec<_>>() {
            let met = |at: u32, whom: u32| self.nodes[&at].process.as_ref()?.met.get(&whom).copied();
            if met(other, node) == Some((boot, true)) && met(node, other).is_some_and(|(_, admitted)| admitted) {
                self.hear_synced(other, node, (boot, group));
            }
        }
    }

    /// A process that starts connects to all that it can reach: both say who they are.
    fn greet_all(&mut self, node: u32) {
        let others: Vec<u32> = self.awake().into_iter().filter(|other| *other != node).collect();
        for other in others {
            if !self.wire.is_cut(node, other) && !self.wire.is_cut(other, node) {
                self.admits(other, node);
            }
        }
    }
}

/// Loads a replica that storage knows.
fn restore(
    store: &ShardStore<SimDisk>,
    host: &mut Host,
    restored: RestoredReplica,
    options: &dlog_consensus::ReplicaOptions,
) -> Result<(), String> {
    let id = restored.replica;
    let mut loader = ReplicaLoader::new(restored, LogIndex::ZERO, options).map_err(|error| error.to_string())?;
    let wanted = loader.wanted();
    let mut next = wanted.start;
    while next < wanted.end {
        let reader = store.reader(id).ok_or("its segments are gone")?;
        let frames = reader.read_frames(next, wanted.end, REPLAY_BYTES).map_err(|error| error.to_string())?;
        for frame in frames {
            next = frame.index.next();
            loader.replay(frame).map_err(|error| error.to_string())?;
        }
    }
    let machine = loader.finish(options.clone(), host.draw_seed()).map_err(|error| error.to_string())?;
    host.add(machine);
    Ok(())
}

fn words_of(restored: &RestoredReplica) -> String {
    let RestoredReplica { replica, term, vote, commit, last, local_start, .. } = restored;
    let vote = vote.map_or("nobody".to_owned(), words::replica);
    let start = match local_start.index.0 {
        0 => String::new(),
        _ => format!(", kept after {}", words::place(local_start.term, local_start.index)),
    };
    let last = words::place(last.term, last.index);
    format!("{} had term {} vote {vote} commit {} last {last}{start}", words::replica(*replica), term.0, commit.0)
}

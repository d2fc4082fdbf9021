//! The cluster from its operators' side: nodes make themselves known, topics are made, changed and deleted under load.

use super::{Event, Phase, World};
use crate::clients::operators::Purpose;
use crate::clients::producers::Producer;
use crate::clients::{Answer, Asker};
use crate::node::{Inbound, directory_of, id_of, name_of, number_of};
use crate::options::TopicOptions;
use crate::report::Failure;
use crate::schedule::MILLISECOND;
use dlog_consensus::Membership;
use dlog_core::{LogId, LogIndex, ProducerId, ReplicaId, TopicId};
use dlog_replication::bootstrap::{BootstrapSet, voter_count};
use dlog_replication::catalogue::PartitionInfo;
use dlog_replication::{
    AllocateProducerIds, AlterTopic, CommandBody, CommandOutcome, ConfirmReplicas, CreateTopic, DeleteTopic,
    PreferLeader, RegisterNode, SetMetadataVoters, SetReplicas, TopicSettings,
};

/// How long the maker of a command waits for an attempt.
const PATIENCE: u64 = 1_500 * MILLISECOND;
/// How often somebody looks whether there is a cluster that can have topics.
const LOOK: u64 = 20 * MILLISECOND;
/// Partitions of a cluster in which more topics are made.
const PARTITIONS_MAX: usize = 20;
/// Replicas that a partition is given at most.
const REPLICAS_MAX: usize = 5;

impl World {
    /// The nodes as they bootstrap.
    pub(crate) fn bootstrap_set(&self) -> BootstrapSet {
        let members = (0..self.nodes.len()).map(|node| (name_of(node), directory_of(node)));
        BootstrapSet::new(members).expect("names and directories of the simulated nodes are distinct")
    }

    /// A command for the catalogue, sent until it is answered.
    pub(crate) fn command(&mut self, body: CommandBody, purpose: Purpose) {
        let own = match purpose {
            Purpose::Found { node, .. } | Purpose::Register { node, .. } => Some(node),
            _ => None,
        };
        let node = own.unwrap_or_else(|| self.client_random.usize(0..self.nodes.len()));
        self.note(format_args!("command for node {node}: {body:?}"));
        let number = self.operators.make(body, purpose, node, self.schedule.now());
        self.send_command(number);
    }

    pub(crate) fn send_command(&mut self, number: u64) {
        let owner = self.operators.find(number).map(|pending| pending.purpose.clone());
        if let Some(Purpose::Found { node, life } | Purpose::Register { node, life }) = owner
            && !self.is_alive(node, life)
        {
            // The process that wanted it is gone.
            self.operators.done(number);
            return;
        }
        let Some((attempt, pending)) = self.operators.attempt(number) else { return };
        let (node, command) = (pending.node, pending.bytes.clone());
        self.ask(node, Inbound::Command { asker: Asker::Command { number, attempt }, command });
        self.schedule.after(PATIENCE, Event::CommandTimeout { number, attempt });
    }

    pub(crate) fn command_failed(&mut self, number: u64, attempt: u64, answer: &Answer) {
        let leader = match answer {
            Answer::Refused(error) => error.leader.map(number_of),
            _ => None,
        };
        let node = leader.unwrap_or_else(|| self.client_random.usize(0..self.nodes.len()));
        if self.operators.failed(number, attempt, node) {
            let backoff = self.client_random.u64(5..100) * MILLISECOND;
            self.schedule.after(backoff, Event::ResendCommand { number });
        }
    }

    pub(crate) fn command_done(&mut self, number: u64, outcome: &CommandOutcome) -> Result<(), Failure> {
        // An answer to an attempt that was given up is as true as any.
        let Some(pending) = self.operators.done(number) else { return Ok(()) };
        self.checkers.catalogues.told(pending.id, outcome).map_err(Failure::correctness)?;
        self.counts.commands += 1;
        if pending.since >= self.phase_since {
            self.fresh.insert(LogId::GROUP_ZERO);
        }
        match (pending.purpose, outcome) {
            (Purpose::Found { node, .. } | Purpose::Register { node, .. }, CommandOutcome::Rejected(rejection)) => {
                return Err(Failure::crash(format!("the cluster refuses node {node}: {rejection}")));
            }
            (Purpose::Found { node, life }, _) => self.register(node, life),
            (Purpose::Confirm(..), CommandOutcome::ReplicasConfirmed { .. }) => self.counts.confirmed += 1,
            (Purpose::Create, CommandOutcome::TopicCreated { topic, .. }) => self.allocate(*topic),
            (Purpose::Producers(topic), CommandOutcome::ProducerIds { first, .. }) => {
                self.make_producers(topic, *first)
            }
            (Purpose::Producers(topic), CommandOutcome::Rejected(rejection)) => {
                return Err(Failure::correctness(format!("no producer ids for topic {topic}: {rejection}")));
            }
            _ => {}
        }
        Ok(())
    }

    /// A command that shows whether the catalogue takes any.
    pub(crate) fn probe_catalogue(&mut self) {
        self.command(CommandBody::AllocateProducerIds(AllocateProducerIds { count: 1 }), Purpose::Other);
    }

    /// A process has started: it makes itself known.
    pub(crate) fn introduce(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let founded = self.nodes[node].process.as_ref().is_some_and(|process| process.catalogue.cluster().is_some());
        if founded {
            self.register(node, life);
        } else {
            let body = CommandBody::FoundCluster(self.bootstrap_set().found_command());
            self.command(body, Purpose::Found { node, life });
        }
    }

    fn register(&mut self, node: usize, life: u64) {
        if !self.is_alive(node, life) {
            return;
        }
        let body = CommandBody::RegisterNode(RegisterNode {
            node: id_of(node).0,
            name: name_of(node),
            client_address: format!("{}:1", name_of(node)),
            peer_address: format!("{}:2", name_of(node)),
            version: "0".to_owned(),
            shards: 1,
            boot: self.nodes[node].process.as_ref().map_or(0, |process| process.door.claim.boot.number),
            directory: directory_of(node).to_vec(),
            ..RegisterNode::default()
        });
        self.command(body, Purpose::Register { node, life });
    }

    /// The first topics, as soon as there is a cluster.
    pub(crate) fn on_found_topics(&mut self) {
        if self.directory.catalogue().cluster().is_none() {
            return self.schedule.after(LOOK, Event::FoundTopics);
        }
        self.founded = true;
        for topic in self.options.topics.clone() {
            self.create_topic(topic);
        }
        if self.options.operate_ms > 0 {
            self.schedule.after(self.options.operate_ms * MILLISECOND, Event::Operate);
        }
    }

    fn create_topic(&mut self, topic: TopicOptions) {
        self.topics_made += 1;
        let (partitions, replicas) = (topic.partitions, topic.replicas.max(self.replicas_min()));
        // Names come again, also while their first topic still exists.
        let name = format!("topic-{}", self.topics_made % 8);
        let if_not_exists = self.client_random.bool();
        let body = CommandBody::CreateTopic(CreateTopic {
            name,
            partitions,
            replicas,
            if_not_exists,
            ..CreateTopic::default()
        });
        self.command(body, Purpose::Create);
    }

    /// The producers of a new topic ask for their ids.
    fn allocate(&mut self, topic: TopicId) {
        if !self.served.insert(topic) {
            return;
        }
        let partitions = self.directory.catalogue().partitions_of(topic).count() as u32;
        let count = (partitions * self.options.producers).max(1);
        let body = CommandBody::AllocateProducerIds(AllocateProducerIds { count });
        self.command(body, Purpose::Producers(topic));
    }

    fn make_producers(&mut self, topic: TopicId, first: ProducerId) {
        let logs: Vec<_> = self.directory.catalogue().partitions_of(topic).map(|partition| partition.log).collect();
        let mut next = first.0;
        for log in logs {
            for number in 0..self.options.producers {
                // Every third one isn't idempotent.
                let id = (number % 3 != 1).then_some(ProducerId(next));
                next += 1;
                if let Some(id) = id
                    && self.client_random.u32(0..100) < self.options.lanes_percent
                {
                    self.make_lane(log, id);
                    continue;
                }
                let producer = self.producers.len();
                self.producers.push(Producer::new(producer, log, id));
                let wait = self.client_random.u64(0..20) * MILLISECOND;
                self.schedule.after(wait, Event::Produce { producer });
            }
        }
    }

    /// Another set of nodes for a partition: one for another, one more, one fewer, or the confirmed ones again.
    fn draw_move(&mut self, partition: &PartitionInfo) -> SetReplicas {
        let sound = self.sound_nodes();
        let random = &mut self.client_random;
        let mut nodes: Vec<u32> = partition.intended.iter().map(|replica| replica.node().0).collect();
        let away: Vec<u32> = sound.into_iter().filter(|node| !nodes.contains(node)).collect();
        let comes = random.choice(&away).copied();
        match (random.u8(0..8), comes) {
            (0..=3, Some(node)) => {
                let at = random.usize(0..nodes.len());
                nodes[at] = node;
            }
            (4, Some(node)) if nodes.len() < REPLICAS_MAX => nodes.push(node),
            (5, _) if nodes.len() > 1 => {
                nodes.remove(random.usize(0..nodes.len()));
            }
            (6, _) => nodes = partition.confirmed.iter().map(|replica| replica.node().0).collect(),
            _ => random.shuffle(&mut nodes),
        }
        if !self.is_safe_on(&nodes) {
            nodes = partition.intended.iter().map(|replica| replica.node().0).collect();
        }
        let random = &mut self.client_random;
        let (topic, index) = (partition.topic.0, partition.index.0);
        let intent = if random.bool() { partition.intent.0 } else { 0 };
        SetReplicas { topic, partition: index, nodes, intent }
    }

    /// A leader here says that its log has the members that were asked for: the catalogue is told, until it answers.
    pub(crate) fn confirm(
        &mut self,
        node: usize,
        replica: ReplicaId,
        intent: LogIndex,
        membership_index: LogIndex,
        membership: &Membership,
    ) {
        let Some(log) = self.directory.log_of(replica) else { return };
        let purpose = Purpose::Confirm(log, intent);
        if self.operators.pending().any(|pending| pending.purpose == purpose) {
            return;
        }
        let voters = membership.voters.iter().map(|voter| voter.0).collect();
        let confirm = ConfirmReplicas { log: log.0, intent: intent.0, membership: membership_index.0, voters };
        let number = self.operators.make(CommandBody::ConfirmReplicas(confirm), purpose, node, self.schedule.now());
        self.send_command(number);
    }

    /// An operator changes something.
    pub(crate) fn on_operate(&mut self) {
        if self.phase != Phase::Safety {
            return;
        }
        let mean = self.options.operate_ms;
        let pause = self.client_random.u64(mean / 2..=mean * 3 / 2) * MILLISECOND;
        self.schedule.after(pause, Event::Operate);
        let catalogue = self.directory.catalogue().clone();
        let topic = self.client_random.choice(catalogue.topics());
        let kind = match self.options.moving && self.client_random.u8(0..3) > 0 {
            true => 6,
            false => self.client_random.u8(0..14),
        };
        match (kind, topic) {
            (0..=2, Some(topic)) if catalogue.topics().len() > 1 => {
                self.checkers.catalogues.unwanted(topic.topic);
                let (name, topic) = (topic.name.as_str().to_owned(), topic.topic);
                let body = CommandBody::DeleteTopic(DeleteTopic { name, topic: topic.0, ..DeleteTopic::default() });
                self.command(body, Purpose::Delete(topic));
            }
            (3, Some(topic)) => {
                let mut settings = TopicSettings::default();
                let value = self.client_random.u64(1 << 16..1 << 24).to_string();
                settings.set("segment.bytes", &value).expect("a size in its range");
                let name = topic.name.as_str().to_owned();
                let settings = Some(settings);
                self.command(
                    CommandBody::AlterTopic(AlterTopic { name, settings, ..AlterTopic::default() }),
                    Purpose::Other,
                );
            }
            (4..=5, Some(topic)) => {
                let partitions: Vec<_> = catalogue.partitions_of(topic.topic).collect();
                let Some(partition) = self.client_random.choice(partitions) else { return };
                let Some(replica) = self.client_random.choice(&partition.intended) else { return };
                let (topic, partition, node) = (topic.topic.0, partition.index.0, replica.node().0);
                self.command(CommandBody::PreferLeader(PreferLeader { topic, partition, node }), Purpose::Other);
            }
            (6..=10, Some(topic)) => {
                let partitions: Vec<_> = catalogue.partitions_of(topic.topic).collect();
                let Some(partition) = self.client_random.choice(partitions) else { return };
                let set = self.draw_move(partition);
                self.command(CommandBody::SetReplicas(set), Purpose::Other);
            }
            (11, _) => {
                let sound = self.sound_nodes();
                let count = voter_count(self.client_random.usize(1..=sound.len()));
                let nodes = self.client_random.choose_multiple(sound, count);
                self.command(CommandBody::SetMetadataVoters(SetMetadataVoters { nodes, intent: 0 }), Purpose::Other);
            }
            _ if catalogue.partitions().len() < PARTITIONS_MAX => {
                let replicas = [1, 3, 3, 5][self.client_random.usize(0..4)].min(self.nodes.len() as u32);
                let partitions = self.client_random.u32(1..=3);
                self.create_topic(TopicOptions { partitions, replicas });
            }
            _ => {}
        }
    }
}

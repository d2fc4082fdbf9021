//! Changes of membership: what the catalogue intends, who is told, what is confirmed, and nodes that join later.

use super::node::Node;
use super::stage::{Sort, Stage};
use super::words;
use dlog_consensus::{Input, Intent, Membership};
use dlog_core::{LogIndex, ReplicaId};

/// What the catalogue has.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// The newest intent.
    pub intent: Option<Intent>,
    /// The intent that was confirmed last, and as of which entry.
    pub confirmed: Option<(LogIndex, LogIndex)>,
}

impl Stage {
    /// A node that joins the cluster after it was formed.
    pub(super) fn join_later(&mut self, node: u32) -> Result<(), String> {
        if self.nodes.contains_key(&node) {
            return Err(format!("there is a node {node}"));
        }
        let mut joined = Node::new(node);
        joined.join(&[])?;
        let first = self.nodes.values().next().ok_or("there is no cluster")?;
        joined.identity.bootstrap = first.identity.bootstrap.clone();
        joined.identity.save(&joined.disk, "").map_err(|error| error.to_string())?;
        self.nodes.insert(node, joined);
        self.start(node)
    }

    /// The catalogue wants these members. Nobody is told yet.
    pub(super) fn intend(&mut self, version: LogIndex, wanted: Membership) -> Result<(), String> {
        if self.catalogue.intent.as_ref().is_some_and(|known| known.version >= version) {
            return Err("the catalogue has a newer intent".to_owned());
        }
        let Membership { voters, learners, .. } = wanted;
        let intent = Intent { version, voters, learners, confirmed: false };
        intent.validate()?;
        self.catalogue.intent = Some(intent);
        Ok(())
    }

    /// A node tells its replicas what the catalogue wants.
    pub(super) fn tell(&mut self, node: u32) -> Result<(), String> {
        self.must_be_awake(node)?;
        let intent = self.catalogue.intent.clone().ok_or("the catalogue intends nothing")?;
        let process = self.node(node)?.process.as_ref().expect("it is awake");
        let replicas: Vec<ReplicaId> = process.host.replicas().map(dlog_consensus::Replica::id).collect();
        replicas.into_iter().try_for_each(|replica| self.step(replica, Input::Intend(intent.clone())))
    }

    /// A leader says that the log is where the catalogue wants it. The catalogue takes it if it is of the newest intent and not
    /// older than what it has.
    pub(super) fn take_confirmation(&mut self, who: ReplicaId, intent: LogIndex, at: LogIndex, members: &Membership) {
        let text = format!(
            "{} confirms intent {}: {}, as of {}",
            words::replica(who),
            intent.0,
            words::members(members),
            at.0
        );
        self.say(Sort::Event, text);
        let Some(wanted) = &mut self.catalogue.intent else {
            self.breaks("nothing was intended");
            return;
        };
        let newest = wanted.version == intent;
        if newest && (wanted.voters != members.voters || wanted.learners != members.learners || members.is_joint()) {
            self.breaks("that is not what was intended");
            return;
        }
        let older = self.catalogue.confirmed.is_some_and(|(_, before)| at < before);
        if newest && !older {
            wanted.confirmed = true;
            self.catalogue.confirmed = Some((intent, at));
        }
    }

    /// The catalogue has a confirmation of just this intent.
    pub(super) fn check_confirmed(&mut self, version: u64, wanted: bool) -> Result<(), String> {
        let confirmed = self.catalogue.confirmed.is_some_and(|(intent, _)| intent.0 == version);
        if confirmed == wanted { Ok(()) } else { Err(format!("confirmed is {:?}", self.catalogue.confirmed)) }
    }

    /// These are the members, as every one of them that is up has applied it.
    pub(super) fn check_members(&mut self, wanted: &Membership) -> Result<(), String> {
        let mut looked = 0;
        for process in self.nodes.values().filter_map(|node| node.process.as_ref()) {
            for machine in process.host.replicas().filter(|machine| wanted.members().contains(&machine.id())) {
                looked += 1;
                let has = machine.membership();
                if has.is_joint() || (&has.voters, &has.learners) != (&wanted.voters, &wanted.learners) {
                    let (who, has) = (words::replica(machine.id()), words::members(machine.membership()));
                    return Err(format!("{who} has {has}"));
                }
            }
        }
        if looked > 0 { Ok(()) } else { Err("none of them is up".to_owned()) }
    }

    /// The members as each replica of a node has applied them.
    pub(super) fn members_of(&self, node: u32) -> Vec<String> {
        let Some(process) = self.nodes.get(&node).and_then(|node| node.process.as_ref()) else {
            return vec![format!("{node} is down")];
        };
        let line = |machine: &dlog_consensus::Replica| {
            format!("{} has {}", words::replica(machine.id()), words::members(machine.membership()))
        };
        process.host.replicas().map(line).collect()
    }
}

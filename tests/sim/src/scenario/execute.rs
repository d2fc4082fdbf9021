//! Carrying out what replicas say, and the rules that hold in every scenario: one leader a term, one offset a value, no
//! stale end.

use super::node::Fetch;
use super::requests::Asked;
use super::stage::{Sort, Stage};
use super::words;
use dlog_consensus::{HostOutputs, MessageKind, Output, PeerMessage, Progress, Reply, WriteId};
use dlog_core::RequestId;
use dlog_core::error::ErrorDetail;
use dlog_core::write::ReplicaWrite;

impl Stage {
    /// Carries out what a node's replicas said, in order.
    pub(super) fn execute(&mut self, node: u32, outputs: HostOutputs) {
        for (replica, output) in outputs {
            let who = words::replica(replica);
            match output {
                Output::Write { id, write } => self.queue_write(node, id, write),
                Output::Send { message } => self.send(node, message),
                Output::ReadEntries { fetch, from, to, max_bytes, peer } => {
                    if let Some(process) = self.nodes.get_mut(&node).and_then(|node| node.process.as_mut()) {
                        process.fetches.push(Fetch { replica, fetch, from, to, max_bytes, peer });
                    }
                    let peer = words::replica(peer);
                    self.say(Sort::Disk, format!("{who} wants {}..{} read for {peer}", from.0, to.0));
                }
                Output::Progress(progress) => {
                    self.say(Sort::Progress, format!("{who} is at {}", words_of(&progress)));
                }
                Output::Reply { request, result } => self.reply(node, request, result),
                Output::Role(change) => self.say(Sort::Event, format!("{who} {}", words::role(&change))),
                Output::Refused { from, refusal } => {
                    let from = words::replica(from);
                    self.say(Sort::Event, format!("{who} refuses a message of {from}: {refusal}"));
                }
                Output::Fatal { reason } => {
                    self.say(Sort::Event, format!("{who} stops: {reason}"));
                    self.breaks(format!("{who} stops: {reason}"));
                }
                Output::Confirmed { intent, membership_index, membership } => {
                    self.take_confirmation(replica, intent, membership_index, &membership);
                }
                Output::Stopped => self.say(Sort::Event, format!("{who} has stopped")),
                other => self.say(Sort::Event, format!("{who} says {other:?}")),
            }
        }
    }

    fn queue_write(&mut self, node: u32, id: WriteId, write: ReplicaWrite) {
        if !write.ops.is_empty() {
            let ops: Vec<String> = write.ops.iter().map(|op| words::write_op(&self.requests, op)).collect();
            let who = words::replica(write.replica);
            self.say(Sort::Disk, format!("{who} writes {}, commit {}", ops.join(", "), write.commit.0));
        }
        if let Some(process) = self.nodes.get_mut(&node).and_then(|node| node.process.as_mut()) {
            process.writes.push((id, write));
        }
    }

    fn send(&mut self, node: u32, message: PeerMessage) {
        // Questions about a term to come promise nothing.
        let asks = [MessageKind::RequestPreVote, MessageKind::RequestPreVoteResponse];
        if !asks.contains(&message.kind)
            && let Some(node) = self.nodes.get_mut(&node)
        {
            let told = node.told.entry(message.from).or_default();
            *told = (*told).max(message.term);
        }
        self.note_leader(&message);
        let text = words::message(&self.requests, &message);
        let synced = self.synced(node);
        let lost = if self.wire.send(message, synced) { "" } else { " (lost)" };
        self.say(Sort::Message, format!("{text}{lost}"));
    }

    /// A term is led by whoever speaks as its leader: a leadership that ended before its term was durable was nobody's.
    fn note_leader(&mut self, message: &PeerMessage) {
        let leads = [MessageKind::Append, MessageKind::Heartbeat, MessageKind::Snapshot, MessageKind::TimeoutNow];
        if leads.contains(&message.kind) {
            let life = self.nodes.get(&message.from.node().0).map_or(0, |node| node.lives);
            let leader = *self.leaders.entry(message.term).or_insert((message.from, life));
            if leader != (message.from, life) {
                let (who, other) = (words::replica(message.from), words::replica(leader.0));
                self.breaks(format!("{who} leads term {}, which {other} led before", message.term.0));
            }
        }
    }

    fn reply(&mut self, node: u32, request: RequestId, result: Result<Reply, ErrorDetail>) {
        let waiting = self.nodes.get_mut(&node).and_then(|node| node.process.as_mut());
        let Some(asked) = waiting.and_then(|process| process.waiting.remove(&request)) else {
            self.breaks(format!("{node} answers request {} twice, or unasked", request.0));
            return;
        };
        match (asked, result) {
            (Asked::Append(value), Ok(Reply::Appended(batches))) => {
                for appended in batches {
                    let again = if appended.duplicate { ", which was there already" } else { "" };
                    self.say(Sort::Event, format!("{node} acks {value} at {}{again}", appended.base_offset.0));
                    if let Err(what) = self.requests.acked(&value, appended, node) {
                        self.breaks(what);
                    }
                }
            }
            (Asked::End(read), Ok(Reply::ReadIndex { high_watermark, index })) => {
                let end = high_watermark.0;
                self.say(Sort::Event, format!("{node} answers {read}: the log ends at {end} (index {})", index.0));
                if let Err(what) = self.requests.ended(&read, high_watermark) {
                    self.breaks(what);
                }
            }
            (Asked::LogStart, Ok(Reply::LogStart { log_start })) => {
                self.say(Sort::Event, format!("{node} says that the log starts at {}", log_start.0));
            }
            (asked, Ok(reply)) => self.breaks(format!("{node} answers {asked} with {reply:?}")),
            (asked, Err(error)) => {
                let leader = error.leader.map_or(String::new(), |leader| format!(", {} leads", leader.0));
                let text = format!("{node} refuses {asked}: {} ({}{leader})", error.code, error.outcome);
                self.say(Sort::Event, text);
                self.requests.refused(&asked, &error);
            }
        }
    }
}

fn words_of(progress: &Progress) -> String {
    let Progress { high_watermark, commit, read_bound, log_end, log_start } = progress;
    let start = if log_start.0 > 0 { format!(", starts at {}", log_start.0) } else { String::new() };
    format!(
        "commit {}, high watermark {}, readable to {}, ends at {}{start}",
        commit.0, high_watermark.0, read_bound.0, log_end.0
    )
}

//! The commands of a script: their words, and what each does.

use super::requests::Asked;
use super::stage::{Sort, Stage};
use super::wire::Selection;
use super::words;
use dlog_consensus::{Acks, Input, Membership, MessageKind, Proposal};
use dlog_core::{LogIndex, NodeId, Offset, ProducerId, ReplicaId, RequestId};
use dlog_storage::LoseUnsynced;
use std::time::Duration;

/// Ticks in which any replica with a working disk asks for votes: two of the longest timeouts.
const TIMEOUT_TICKS: u32 = 40;

/// Runs one command.
///
/// # Errors
/// Why it could not be carried out, or which check doesn't hold.
pub fn run(stage: &mut Stage, command: &str) -> Result<(), String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["quiet", rest @ ..] => {
            stage.quiet = true;
            let done = run_words(stage, rest);
            stage.quiet = false;
            done
        }
        words => run_words(stage, words),
    }
}

fn run_words(stage: &mut Stage, words: &[&str]) -> Result<(), String> {
    let Some((verb, rest)) = words.split_first() else { return Err("which command?".to_owned()) };
    match *verb {
        "option" => set_option(stage, rest),
        "cluster" => make_cluster(stage, rest),
        "create" => stage.create(replica_of(one(rest)?)?),
        "node" => each(rest, |node| stage.join_later(node)),
        "intend" => intend(stage, rest),
        "tell" => each(rest, |node| stage.tell(node)),
        "until" => stage.run_until(&rest.join(" ")),
        "delete" => stage.delete(replica_of(one(rest)?)?),
        "start" => each(rest, |node| stage.start(node)),
        "kill" => each(rest, |node| stage.die(node, LoseUnsynced::Nothing)),
        "crash" => each(rest, |node| stage.die(node, LoseUnsynced::All)),
        "pause" | "resume" => each(rest, |node| pause(stage, node, *verb == "pause")),
        "tick" | "timeout" | "run" => pass_time(stage, verb, rest),
        "deliver" => stage.deliver(&Selection::parse(rest)?),
        "drop" | "duplicate" | "hold" | "release" | "cut" | "heal" | "isolate" => on_wire(stage, verb, rest),
        "stabilize" => stage.stabilize(),
        "sync" | "commit" | "checkpoint" | "seal" | "fetch" | "slow" | "fast" | "decay" | "copy" | "restore"
        | "wipe" | "power-cut" => on_disk(stage, verb, rest),
        "propose" => propose(stage, rest),
        "read" => read(stage, rest),
        "log-start" => move_log_start(stage, rest),
        "campaign" => stage.step(replica_of(one(rest)?)?, Input::Campaign),
        "transfer" => transfer(stage, rest),
        "unreachable" => unreachable_peer(stage, rest),
        "show" => show(stage, rest),
        "check" => stage.check(rest),
        verb => Err(format!("there is no command `{verb}`")),
    }
}

/// A node.
pub(super) fn node_of(word: &str) -> Result<u32, String> {
    word.parse().map_err(|_| format!("`{word}` is no node"))
}

/// A replica: its node, and its number there if that isn't the first.
pub(super) fn replica_of(word: &str) -> Result<ReplicaId, String> {
    let (node, number) = word.split_once('.').unwrap_or((word, "1"));
    let number = number.parse().map_err(|_| format!("`{word}` is no replica"))?;
    Ok(ReplicaId::new(NodeId(node_of(node)?), number))
}

fn one<'a>(words: &[&'a str]) -> Result<&'a str, String> {
    match words {
        [word] => Ok(word),
        _ => Err("it takes one word".to_owned()),
    }
}

fn each(words: &[&str], mut act: impl FnMut(u32) -> Result<(), String>) -> Result<(), String> {
    if words.is_empty() {
        return Err("which node?".to_owned());
    }
    words.iter().try_for_each(|word| act(node_of(word)?))
}

pub(super) fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

fn set_option(stage: &mut Stage, words: &[&str]) -> Result<(), String> {
    match words {
        ["segment-bytes", bytes] => stage.store.log.segment_bytes = number(bytes)?,
        ["stuck-disk", millis] => stage.options.stuck_disk = Duration::from_millis(number(millis)?),
        ["append-bytes", bytes] => stage.options.append_bytes_max = number(bytes)? as usize,
        _ => return Err("options are segment-bytes, append-bytes and stuck-disk (milliseconds)".to_owned()),
    }
    Ok(())
}

/// `cluster voters 1 2 3 [learners 4] [not durable]`.
fn make_cluster(stage: &mut Stage, words: &[&str]) -> Result<(), String> {
    let durable = !words.ends_with(&["not", "durable"]);
    let words = if durable { words } else { &words[..words.len() - 2] };
    stage.make_cluster(members_of(words)?, durable)
}

/// `voters 1 2 3 [learners 4]`.
pub(super) fn members_of(words: &[&str]) -> Result<Membership, String> {
    let mut membership = Membership::default();
    let mut list = None;
    for word in words {
        match (*word, list) {
            ("voters" | "learners", _) => list = Some(*word),
            (replica, Some("voters")) => drop(membership.voters.insert(replica_of(replica)?)),
            (replica, Some(_)) => drop(membership.learners.insert(replica_of(replica)?)),
            (word, None) => return Err(format!("`{word}` is neither voters nor learners")),
        }
    }
    Ok(membership)
}

/// `intend 5 voters 1 2 4`.
fn intend(stage: &mut Stage, words: &[&str]) -> Result<(), String> {
    let (version, members) = words.split_first().ok_or("which version?")?;
    stage.intend(LogIndex(number(version)?), members_of(members)?)
}

fn pause(stage: &mut Stage, node: u32, paused: bool) -> Result<(), String> {
    let one = stage.node(node)?;
    if one.process.is_none() || one.paused == paused {
        return Err(format!("{node} is down, or so already"));
    }
    one.paused = paused;
    Ok(())
}

/// `tick 1 2 [x10]`, `timeout 2 [past 1 3]`, `run 5`.
fn pass_time(stage: &mut Stage, verb: &str, words: &[&str]) -> Result<(), String> {
    if verb == "run" {
        for _ in 0..number(one(words)?)? {
            let awake = stage.awake();
            stage.tick(&awake)?;
            stage.stabilize()?;
        }
        return Ok(());
    }
    if verb == "timeout" {
        let (node, past) = words.split_first().ok_or("whose timeout?")?;
        let past = past.strip_prefix(&["past"]).unwrap_or(past);
        return time_out(stage, node_of(node)?, past);
    }
    let (times, nodes) = match words.split_last() {
        Some((last, nodes)) if last.starts_with('x') => (number(&last[1..])?, nodes),
        _ => (1, words),
    };
    let nodes = nodes.iter().map(|node| node_of(node)).collect::<Result<Vec<u32>, _>>()?;
    (0..times).try_for_each(|_| stage.tick(&nodes))
}

/// Ticks until the node asks for votes. Those that it is to get them from have heard of no leader for as long.
fn time_out(stage: &mut Stage, node: u32, past: &[&str]) -> Result<(), String> {
    let past = past.iter().map(|word| node_of(word)).collect::<Result<Vec<u32>, _>>()?;
    let lease = stage.options.election_ticks;
    let asks = |stage: &Stage| {
        let asks = [MessageKind::RequestVote, MessageKind::RequestPreVote];
        let sent = stage.wire.sent().iter();
        sent.filter(|sent| sent.message.from.node().0 == node && asks.contains(&sent.message.kind)).count()
    };
    let before = asks(stage);
    for _ in 0..lease {
        stage.tick(&past)?;
    }
    for ticks in 1..=TIMEOUT_TICKS {
        stage.tick(&[node])?;
        if asks(stage) > before {
            stage.say(Sort::Progress, format!("{node} waited {ticks} ticks"));
            return Ok(());
        }
    }
    let writes = stage.node(node)?.process.as_ref().is_some_and(|process| !process.writes.is_empty());
    let hint = if writes { ": its timer stands still until its writes are synced" } else { "" };
    Err(format!("{node} asks nobody in {TIMEOUT_TICKS} ticks{hint}"))
}

/// `drop …`, `duplicate …`, `hold NAME …`, `release NAME`, `cut 1 2`, `cut 1->2`, `isolate 1`, `heal [1]`.
fn on_wire(stage: &mut Stage, verb: &str, words: &[&str]) -> Result<(), String> {
    let mut said = Vec::new();
    match (verb, words) {
        ("drop", words) => {
            for sent in stage.wire.take(&Selection::parse(words)?) {
                said.push(format!("lost: {}", words::message(&stage.requests, &sent.message)));
            }
            if said.is_empty() {
                return Err("no such message is on its way".to_owned());
            }
        }
        ("duplicate", words) => {
            let count = stage.wire.duplicate(&Selection::parse(words)?);
            said.push(format!("{count} messages are on their way twice"));
        }
        ("hold", [name, words @ ..]) => {
            for message in stage.wire.hold(name, &Selection::parse(words)?) {
                said.push(format!("held: {}", words::message(&stage.requests, &message)));
            }
            if said.is_empty() {
                return Err("no such message is on its way".to_owned());
            }
        }
        ("release", [name]) => {
            let count = stage.wire.release(name);
            said.push(format!("{count} messages are on their way again"));
        }
        ("cut", [link]) => {
            let (from, to) = link.split_once("->").ok_or("`cut 1->2`, or `cut 1 2` for both ways")?;
            stage.wire.set_cut(node_of(from)?, node_of(to)?, true);
        }
        ("cut", [a, b]) => {
            stage.wire.set_cut(node_of(a)?, node_of(b)?, true);
            stage.wire.set_cut(node_of(b)?, node_of(a)?, true);
        }
        ("isolate", nodes) => {
            let others: Vec<u32> = stage.nodes.keys().copied().collect();
            for node in nodes.iter().map(|node| node_of(node)).collect::<Result<Vec<u32>, _>>()? {
                for other in others.iter().filter(|other| **other != node) {
                    stage.wire.set_cut(node, *other, true);
                    stage.wire.set_cut(*other, node, true);
                }
            }
        }
        ("heal", []) => stage.wire.heal(),
        ("heal", [a, b]) => {
            stage.wire.set_cut(node_of(a)?, node_of(b)?, false);
            stage.wire.set_cut(node_of(b)?, node_of(a)?, false);
        }
        (verb, _) => return Err(format!("`{verb}` takes other words")),
    }
    said.into_iter().for_each(|line| stage.say(Sort::Message, line));
    Ok(())
}

/// `sync 1`, `commit 1`, `checkpoint 1`, `slow 1`, `power-cut 1 after 2`…
fn on_disk(stage: &mut Stage, verb: &str, words: &[&str]) -> Result<(), String> {
    if let ("power-cut", [node, "after", calls]) = (verb, words) {
        let calls = number(calls)?;
        stage.node(node_of(node)?)?.disk.cut_power_after(calls);
        return Ok(());
    }
    each(words, |node| match verb {
        "sync" => stage.sync(node),
        "commit" => stage.commit(node).map(drop),
        "checkpoint" => stage.checkpoint(node),
        "seal" => stage.seal(node),
        "fetch" => stage.fetch(node).map(drop),
        "slow" | "fast" => {
            stage.node(node)?.slow = verb == "slow";
            Ok(())
        }
        "decay" => stage.decay(node),
        "copy" => stage.copy(node),
        "restore" => stage.restore(node),
        "wipe" => stage.wipe(node),
        verb => Err(format!("`{verb}` takes other words")),
    })
}

/// `propose 1 a b [acks=leader] [producer=7 sequence=0]`: one request for each value, all at once.
fn propose(stage: &mut Stage, words: &[&str]) -> Result<(), String> {
    let (replica, words) = words.split_first().ok_or("to whom?")?;
    let (mut acks, mut producer, mut sequence, mut values) = (Acks::Quorum, None, 0, Vec::new());
    for word in words {
        match word.split_once('=') {
            Some(("acks", "quorum")) => acks = Acks::Quorum,
            Some(("acks", "leader")) => acks = Acks::Leader,
            Some(("acks", "all")) => acks = Acks::All,
            Some(("producer", id)) => producer = Some(ProducerId(number(id)? as i64)),
            Some(("sequence", number)) => {
                sequence = number.parse().map_err(|_| format!("`{number}` is no sequence number"))?;
            }
            Some((key, _)) => return Err(format!("`{key}` is no property of a request")),
            None => values.push((*word).to_owned()),
        }
    }
    let mut proposals = Vec::new();
    for (value, sequence) in values.into_iter().zip(sequence..) {
        let batch = stage.requests.batch(&value, producer.map(|id| (id, sequence)));
        proposals.push((value, Proposal { request: RequestId(0), batches: vec![batch], append_time: None, acks }));
    }
    if proposals.is_empty() {
        return Err("which value?".to_owned());
    }
    stage.ask_all(replica_of(replica)?, proposals)
}

/// `read 2 as r1`.
fn read(stage: &mut Stage, words: &[&str]) -> Result<(), String> {
    let [replica, "as", name] = words else { return Err("`read NODE as NAME`".to_owned()) };
    stage.requests.begin_read(name);
    stage.ask(replica_of(replica)?, Asked::End((*name).to_owned()), |request| Input::ReadIndex { request })
}

/// `log-start 1 5`.
fn move_log_start(stage: &mut Stage, words: &[&str]) -> Result<(), String> {
    let [replica, to] = words else { return Err("`log-start NODE OFFSET`".to_owned()) };
    let to = Offset(number(to)?);
    stage.ask(replica_of(replica)?, Asked::LogStart, |request| Input::MoveLogStart { request, to })
}

/// `transfer 1 [to 2]`.
fn transfer(stage: &mut Stage, words: &[&str]) -> Result<(), String> {
    let (from, to) = match words {
        [from] => (from, None),
        [from, "to", to] => (from, Some(replica_of(to)?)),
        _ => return Err("`transfer NODE [to NODE]`".to_owned()),
    };
    stage.step(replica_of(from)?, Input::TransferLeadership { to })
}

/// `unreachable 1 to 2`: 1 learns that its connection to 2 broke.
fn unreachable_peer(stage: &mut Stage, words: &[&str]) -> Result<(), String> {
    let [replica, "to", peer] = words else { return Err("`unreachable NODE to NODE`".to_owned()) };
    stage.step(replica_of(replica)?, Input::Unreachable { peer: replica_of(peer)? })
}

/// `show status [1]`, `show log 1`, `show wire`.
fn show(stage: &mut Stage, words: &[&str]) -> Result<(), String> {
    let nodes = |words: &[&str]| match words {
        [] => Ok(stage.nodes.keys().copied().collect()),
        words => words.iter().map(|word| node_of(word)).collect::<Result<Vec<u32>, _>>(),
    };
    let lines = match words {
        ["status", rest @ ..] => nodes(rest)?.into_iter().flat_map(|node| stage.status_of(node)).collect(),
        ["log", rest @ ..] => nodes(rest)?.into_iter().flat_map(|node| stage.log_of(node)).collect(),
        ["members", rest @ ..] => nodes(rest)?.into_iter().flat_map(|node| stage.members_of(node)).collect(),
        ["wire"] => stage.wire_lines(),
        _ => return Err("`show status`, `show log`, `show members` or `show wire`".to_owned()),
    };
    let lines: Vec<String> = lines;
    lines.into_iter().for_each(|line| stage.say(Sort::Event, line));
    Ok(())
}

//! [`Driver`]: a lane's task, which tells the [`Lane`] what happens and carries out what it says, over the links to the nodes.

use super::lane::{Find, Found, Given, Lane, LaneOptions, NewId, Output, Placed, Refused, Send};
use super::link::{Answer, Link};
use super::{Delivered, Shared};
use crate::backoff::random_seed;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::metadata::Topic;
use dlog_core::{MonotonicTime, Offset, PartitionIndex, Record, TopicId, TopicName};
use dlog_protocol::convert::PRODUCE_TIMEOUT_MS_MAX;
use dlog_protocol::v1::{ProduceRequest, ProduceResponse};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

/// Whom a record's fate is told.
type Reply = oneshot::Sender<Result<Delivered, Error>>;

/// What a lane's task is told.
#[derive(Debug)]
pub(crate) enum Command {
    Record(Pending),
    /// Answer when everything before is settled.
    Flush(oneshot::Sender<()>),
}

/// A record on its way to the lane.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) record: Record,
    pub(crate) deadline: Instant,
    pub(crate) reply: Reply,
    pub(crate) room: OwnedSemaphorePermit,
}

type Finding = Pin<Box<dyn Future<Output = Result<(Arc<Link>, Found), Error>> + std::marker::Send>>;

/// One partition's task.
///
/// Invariants: `room` has as many permits as records that the lane holds cost; `out` has the attempts that may still be
/// answered.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    topic: TopicName,
    topic_id: TopicId,
    partition: PartitionIndex,
    lane: Lane<Reply>,
    commands: mpsc::UnboundedReceiver<Command>,
    answers: mpsc::UnboundedReceiver<Answer>,
    answers_to: mpsc::UnboundedSender<Answer>,
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    room: Option<OwnedSemaphorePermit>,
    /// The link found last.
    link: Option<Arc<Link>>,
    /// The request and its link, by the lane's attempt.
    out: BTreeMap<u64, (Arc<Link>, u64)>,
    finding: Option<Finding>,
}

impl Driver {
    /// Starts a lane's task; it ends once the sender is dropped and everything is settled. `own_id`: an earlier lane of this
    /// partition used the shared producer id; its sequence can't be begun again.
    pub(crate) fn start(
        shared: Arc<Shared>,
        topic: &Topic,
        partition: PartitionIndex,
        own_id: bool,
    ) -> mpsc::UnboundedSender<Command> {
        let (sender, commands) = mpsc::unbounded_channel();
        let (answers_to, answers) = mpsc::unbounded_channel();
        let topic_bytes = if topic.max_batch_bytes == 0 { usize::MAX } else { topic.max_batch_bytes };
        let options = &shared.options;
        let lane = Lane::new(LaneOptions {
            place: format!("{}/{partition}", topic.name),
            codec: options.codec,
            linger: options.linger,
            batch_bytes: options.batch_bytes.min(topic_bytes),
            idempotent: options.idempotent,
            own_id,
            seed: random_seed(),
        });
        let driver = Driver {
            shared,
            topic: topic.name.clone(),
            topic_id: topic.id,
            partition,
            lane,
            commands,
            answers,
            answers_to,
            flushes: Vec::new(),
            room: None,
            link: None,
            out: BTreeMap::new(),
            finding: None,
        };
        tokio::spawn(driver.run());
        sender
    }

    async fn run(mut self) {
        let mut closing = false;
        loop {
            let now = self.turn();
            self.answer_flushes();
            if self.lane.is_done() {
                return;
            }
            let wake = self.lane.wake_at(now).map(|at| self.shared.clock.instant(at));
            tokio::select! {
                biased;
                // Never ends: this task holds a sender itself.
                Some(answer) = self.answers.recv() => self.on_answer(answer),
                found = found(&mut self.finding) => self.on_found(found),
                command = self.commands.recv(), if !closing => match command {
                    Some(command) => self.take(command),
                    None => {
                        closing = true;
                        self.lane.close();
                    }
                },
                () = sleep_until(wake) => {}
            }
            while let Ok(answer) = self.answers.try_recv() {
                self.on_answer(answer);
            }
            while let Ok(command) = self.commands.try_recv() {
                self.take(command);
            }
        }
    }

    /// One turn of the lane, and another after each that met a link's end.
    fn turn(&mut self) -> MonotonicTime {
        loop {
            if self.link.as_ref().is_some_and(|link| link.is_closed()) {
                self.lane.link_closed();
            }
            let now = self.shared.clock.now();
            self.lane.turn(now);
            if self.carry_out(now) {
                return now;
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Record(Pending { record, deadline, reply, room }) => {
                let (clock, cost) = (self.shared.clock, room.num_permits());
                match &mut self.room {
                    Some(held) => held.merge(room),
                    None => self.room = Some(room),
                }
                let given = Given { record, cost, deadline: clock.time(deadline), waiter: reply };
                self.lane.give(clock.now(), given);
            }
            Command::Flush(reply) => self.flushes.push((self.lane.flush(), reply)),
        }
    }

    fn answer_flushes(&mut self) {
        let settled = self.lane.settled_below();
        for (_, reply) in self.flushes.extract_if(.., |(number, _)| *number <= settled) {
            reply.send(()).unwrap_or(());
        }
    }

    fn on_found(&mut self, result: Result<(Arc<Link>, Found), Error>) {
        self.finding = None;
        let result = match result {
            Ok((link, found)) => {
                self.link = Some(link);
                Ok(found)
            }
            Err(error) => Err(self.refused(error)),
        };
        let now = self.shared.clock.now();
        self.lane.found(now, result);
        self.carry_out(now);
    }

    fn on_answer(&mut self, answer: Answer) {
        self.out.remove(&answer.attempt);
        if !self.lane.awaits(answer.attempt) {
            return;
        }
        let placed = |response: ProduceResponse| Placed {
            first: Offset(response.base_offset),
            last: Offset(response.last_offset),
        };
        let result = answer.result.map(placed).map_err(|error| self.refused(error));
        let now = self.shared.clock.now();
        self.lane.answered(now, answer.attempt, result);
        self.carry_out(now);
    }

    /// An error, after its hint was followed.
    fn refused(&self, error: Error) -> Refused {
        let hinted = self.shared.client.take_hint(&self.topic, self.partition, &error);
        Refused { error, hinted }
    }

    /// Does what the lane says. `false` if a link had ended meanwhile, and the lane has to decide anew.
    fn carry_out(&mut self, now: MonotonicTime) -> bool {
        let (mut unsent, mut ended) = (Vec::new(), None);
        for output in self.lane.outputs() {
            match output {
                Output::Tell(reply, result) => {
                    let delivered = |offset| Delivered { partition: self.partition.0, offset };
                    // The caller may have gone.
                    reply.send(result.map(delivered)).unwrap_or(());
                }
                Output::Release(bytes) => drop(self.room.as_mut().and_then(|room| room.split(bytes))),
                Output::Find(find) => self.finding = Some(self.find(&find)),
                Output::Send(send) => {
                    let attempt = send.attempt;
                    if let Err(error) = self.send(send) {
                        unsent.push(attempt);
                        ended = Some(error);
                    }
                }
                Output::Abandon(attempt) => {
                    if let Some((link, request_id)) = self.out.remove(&attempt) {
                        link.abandon(request_id);
                    }
                }
            }
        }
        let Some(error) = ended else { return true };
        let refused = self.refused(error);
        self.lane.unsent(now, &unsent, refused);
        false
    }

    fn send(&mut self, send: Send) -> Result<(), Error> {
        let link = self.link.clone().expect("a lane sends only on a link that was found");
        let request = ProduceRequest {
            request_id: self.shared.links.next_request_id(),
            topic: Some(Shared::selector(self.topic_id)),
            partition: self.partition.0,
            batch: send.batch,
            acks: self.shared.options.acks.to_message(),
            timeout_ms: (send.within.as_millis() as u32).clamp(1, PRODUCE_TIMEOUT_MS_MAX),
        };
        let request_id = request.request_id;
        link.submit(request, send.attempt, &self.answers_to)?;
        self.out.insert(send.attempt, (link, request_id));
        Ok(())
    }

    fn find(&self, find: &Find) -> Finding {
        let (shared, topic, topic_id) = (self.shared.clone(), self.topic.clone(), self.topic_id);
        let (partition, id) = (self.partition, find.id);
        let stale = find.stale_since.map(|at| shared.clock.instant(at));
        let deadline = Deadline::at(shared.clock.instant(find.deadline));
        Box::pin(async move {
            let node = shared.client.leader(&topic, topic_id, partition, stale, deadline).await?;
            let link = shared.links.get(&node, deadline).await?;
            let id = match id {
                None => None,
                Some(NewId::Shared) => Some(shared.shared_id(deadline).await?),
                Some(NewId::Own) => Some(shared.new_id(deadline).await?),
            };
            let found = Found { link: link.number, node: link.node, id };
            Ok((link, found))
        })
    }
}

/// What is found, if anything is looked for; else never.
async fn found(finding: &mut Option<Finding>) -> Result<(Arc<Link>, Found), Error> {
    match finding {
        Some(finding) => finding.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

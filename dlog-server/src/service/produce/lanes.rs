//! The order of answers: within one partition as the requests came, across partitions as they are ready.
//!
//! Each partition with something in flight has a lane: a task that awaits its answers one after the other. A client with
//! nothing in flight in a partition gets its answers past the lane.

use dlog_core::LogId;
use dlog_protocol::v1::ProduceResponse;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Status;

/// An answer that will be known.
pub type PendingAnswer = Pin<Box<dyn Future<Output = ProduceResponse> + Send>>;

/// Lanes kept without looking for idle ones; each costs about a kilobyte.
const LANES_KEPT: usize = 256;

struct Lane {
    queue: mpsc::UnboundedSender<PendingAnswer>,
    /// Answers that were queued and not yet handed on.
    waiting: Arc<AtomicUsize>,
}

/// The lanes of one stream. What queues in them is bounded by the bytes that its connection may have in flight.
///
/// Invariant: a lane is dropped only while nothing waits in it, so a partition never has two with answers.
pub struct Lanes {
    by_log: BTreeMap<LogId, Lane>,
    answers: mpsc::Sender<Result<ProduceResponse, Status>>,
    tasks: JoinSet<()>,
    sweep_at: usize,
}

impl Lanes {
    /// No lanes, into `answers`.
    pub fn new(answers: mpsc::Sender<Result<ProduceResponse, Status>>) -> Lanes {
        Lanes { by_log: BTreeMap::new(), answers, tasks: JoinSet::new(), sweep_at: LANES_KEPT }
    }

    /// Whether an answer for `log` still waits.
    pub fn is_busy(&self, log: LogId) -> bool {
        self.by_log.get(&log).is_some_and(|lane| lane.waiting.load(Ordering::Acquire) > 0)
    }

    /// Queues an answer behind those of the same log.
    pub fn push(&mut self, log: LogId, answer: PendingAnswer) {
        if !self.by_log.contains_key(&log) && self.by_log.len() >= self.sweep_at {
            self.sweep();
        }
        let lane = self.by_log.entry(log).or_insert_with(|| {
            let (queue, receiver) = mpsc::unbounded_channel();
            let waiting = Arc::new(AtomicUsize::new(0));
            self.tasks.spawn(run(receiver, self.answers.clone(), Arc::clone(&waiting)));
            Lane { queue, waiting }
        });
        lane.waiting.fetch_add(1, Ordering::AcqRel);
        // The task ends early only if the client is gone: then nobody waits for the answer.
        let _ = lane.queue.send(answer);
    }

    /// Waits until every answer is handed on.
    pub async fn finish(&mut self) {
        self.by_log.clear();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Drops idle lanes; if most are busy, looks again only once there are twice as many.
    fn sweep(&mut self) {
        self.by_log.retain(|_, lane| lane.waiting.load(Ordering::Acquire) > 0);
        while self.tasks.try_join_next().is_some() {}
        self.sweep_at = LANES_KEPT.max(self.by_log.len() * 2);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_log.len()
    }
}

async fn run(
    mut queue: mpsc::UnboundedReceiver<PendingAnswer>,
    answers: mpsc::Sender<Result<ProduceResponse, Status>>,
    waiting: Arc<AtomicUsize>,
) {
    while let Some(answer) = queue.recv().await {
        let response = answer.await;
        if answers.send(Ok(response)).await.is_err() {
            return;
        }
        waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    fn answer(id: u64) -> ProduceResponse {
        ProduceResponse { request_id: id, ..ProduceResponse::default() }
    }

    fn pending(id: u64) -> (oneshot::Sender<()>, PendingAnswer) {
        let (release, released) = oneshot::channel();
        let future = async move {
            let _ = released.await;
            answer(id)
        };
        (release, Box::pin(future))
    }

    async fn next(receiver: &mut mpsc::Receiver<Result<ProduceResponse, Status>>) -> u64 {
        receiver.recv().await.expect("an answer comes").expect("no status").request_id
    }

    #[tokio::test]
    async fn a_partition_keeps_its_order_and_waits_for_no_other() {
        let (sender, mut receiver) = mpsc::channel(16);
        let mut lanes = Lanes::new(sender);
        let (first, one) = pending(1);
        let (second, two) = pending(2);
        let (other, three) = pending(3);
        lanes.push(LogId(1), one);
        lanes.push(LogId(1), two);
        lanes.push(LogId(2), three);
        assert!(lanes.is_busy(LogId(1)) && lanes.is_busy(LogId(2)) && !lanes.is_busy(LogId(3)));
        second.send(()).expect("waits");
        other.send(()).expect("waits");
        assert_eq!(next(&mut receiver).await, 3, "the second of log 1 waits for its first, log 2 doesn't");
        first.send(()).expect("waits");
        assert_eq!(next(&mut receiver).await, 1);
        assert_eq!(next(&mut receiver).await, 2);
        lanes.finish().await;
        assert!(receiver.try_recv().is_err(), "each answer once");
    }

    #[tokio::test]
    async fn finish_waits_for_what_is_in_flight() {
        let (sender, mut receiver) = mpsc::channel(16);
        let mut lanes = Lanes::new(sender);
        let (release, one) = pending(1);
        lanes.push(LogId(1), one);
        let mut finish = Box::pin(lanes.finish());
        tokio::select! {
            biased;
            () = &mut finish => panic!("an answer is still in flight"),
            () = tokio::task::yield_now() => {}
        }
        release.send(()).expect("waits");
        finish.await;
        assert_eq!(next(&mut receiver).await, 1);
    }

    #[tokio::test]
    async fn idle_lanes_go_and_come_back() {
        let (sender, mut receiver) = mpsc::channel(4);
        let mut lanes = Lanes::new(sender);
        for log in 0..(3 * LANES_KEPT as u64) {
            lanes.push(LogId(log), Box::pin(std::future::ready(answer(log))));
            assert_eq!(next(&mut receiver).await, log);
            while lanes.is_busy(LogId(log)) {
                tokio::task::yield_now().await;
            }
        }
        assert!(lanes.len() <= LANES_KEPT, "{} lanes", lanes.len());
        lanes.push(LogId(0), Box::pin(std::future::ready(answer(7))));
        assert_eq!(next(&mut receiver).await, 7);
    }

    #[tokio::test]
    async fn a_client_that_is_gone_ends_the_lanes() {
        let (sender, receiver) = mpsc::channel(1);
        let mut lanes = Lanes::new(sender);
        drop(receiver);
        for id in 0..10 {
            lanes.push(LogId(1), Box::pin(std::future::ready(answer(id))));
        }
        lanes.finish().await;
    }
}

//! Producer ids: taken from the catalogue a block at a time, handed out from memory.
//!
//! What is left of a block when the process ends, or when a larger run is asked for, is never given to anyone: the catalogue
//! gives each id once, and a start begins with a new block.

use dlog_core::ProducerId;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::limits::PRODUCER_ID_BLOCK;
use std::future::Future;
use tokio::sync::Mutex;

/// The ids that this node may still give.
///
/// Invariant: no other node, and no other start of this one, has any of them.
#[derive(Debug, Default)]
pub struct ProducerIds {
    left: Mutex<Block>,
}

#[derive(Debug, Default)]
struct Block {
    next: i64,
    count: u32,
}

impl ProducerIds {
    /// Gives `count` ids in a row that nobody was or will be given. `take_block` asks the catalogue; it is called only if
    /// there aren't enough left, by one caller at a time.
    ///
    /// # Errors
    /// `invalid_argument` for a count of 0 or more than [`PRODUCER_ID_BLOCK`]; those of `take_block`.
    pub async fn take<F>(&self, count: u32, take_block: impl FnOnce() -> F) -> Result<(ProducerId, u32), ErrorDetail>
    where
        F: Future<Output = Result<(ProducerId, u32), ErrorDetail>>,
    {
        if !(1..=PRODUCER_ID_BLOCK).contains(&count) {
            let text = format!("{count} producer ids were asked for; allowed are 1 to {PRODUCER_ID_BLOCK}");
            return Err(ErrorDetail::rejected(ErrorCode::InvalidArgument, Stage::Service, text));
        }
        let mut left = self.left.lock().await;
        if left.count < count {
            let (first, count) = take_block().await?;
            *left = Block { next: first.0, count };
        }
        if left.count < count {
            let text = format!("the catalogue gave {} producer ids instead of {PRODUCER_ID_BLOCK}", left.count);
            return Err(ErrorDetail::rejected(ErrorCode::Internal, Stage::Apply, text));
        }
        let first = ProducerId(left.next);
        left.next += i64::from(count);
        left.count -= count;
        Ok((first, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicI64, Ordering};

    /// Gives blocks as the catalogue does.
    #[derive(Default)]
    struct Catalogue {
        blocks: AtomicI64,
    }

    impl Catalogue {
        async fn block(&self) -> Result<(ProducerId, u32), ErrorDetail> {
            tokio::task::yield_now().await;
            let block = self.blocks.fetch_add(1, Ordering::Relaxed);
            Ok((ProducerId(block * i64::from(PRODUCER_ID_BLOCK)), PRODUCER_ID_BLOCK))
        }
    }

    #[tokio::test]
    async fn ids_come_from_memory_and_never_twice() {
        let catalogue = Catalogue::default();
        let mut given = BTreeSet::new();
        // Two nodes, and the second start of one.
        for _ in 0..3 {
            let node = ProducerIds::default();
            for count in [1, 1, 998, 1, 1000, 500, 501, 499] {
                let (first, got) = node.take(count, || catalogue.block()).await.expect("given");
                assert_eq!(got, count);
                assert!((first.0..first.0 + i64::from(count)).all(|id| given.insert(id)), "{first:?} was given before");
            }
        }
        assert_eq!(catalogue.blocks.load(Ordering::Relaxed), 15, "five for each start");
    }

    #[tokio::test]
    async fn many_at_once_share_a_block() {
        let (catalogue, node) = (Catalogue::default(), ProducerIds::default());
        let taken = (0..100).map(|_| node.take(10, || catalogue.block()));
        let mut given = BTreeSet::new();
        for taken in futures_in_turn(taken.collect()).await {
            assert!(given.insert(taken.expect("given").0.0));
        }
        assert_eq!((given.len(), catalogue.blocks.load(Ordering::Relaxed)), (100, 1));
    }

    /// Polls all in turn until each is done.
    async fn futures_in_turn<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
        let mut waiting: Vec<_> = futures.into_iter().map(Box::pin).collect();
        let mut done = Vec::new();
        std::future::poll_fn(|context| {
            waiting.retain_mut(|future| match future.as_mut().poll(context) {
                std::task::Poll::Ready(value) => {
                    done.push(value);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        done
    }

    #[tokio::test]
    async fn a_refusal_loses_nothing() {
        let (catalogue, node) = (Catalogue::default(), ProducerIds::default());
        let refuse = || async { Err(ErrorDetail::rejected(ErrorCode::Timeout, Stage::Service, "no")) };
        assert_eq!(node.take(1, refuse).await.expect_err("refused").code, ErrorCode::Timeout);
        assert_eq!(node.take(1, || catalogue.block()).await.expect("given").0, ProducerId(0));
        assert_eq!(node.take(1, refuse).await.expect("from memory").0, ProducerId(1));
        for wrong in [0, PRODUCER_ID_BLOCK + 1] {
            assert_eq!(node.take(wrong, refuse).await.expect_err("refused").code, ErrorCode::InvalidArgument);
        }
    }
}

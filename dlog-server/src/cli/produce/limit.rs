//! The topic's bound on a batch, checked before a record is sent: so a line that no batch can hold is named, and those before
//! it are not caught up in its refusal.

use crate::cli::{similar, units};
use dlog_client::{Admin, Client, Codec, Error, ErrorCode, Record, Stage};
use dlog_core::BatchBuilder;
use dlog_core::error::ErrorDetail;

/// The bound, as far as it is known.
pub struct Limit {
    admin: Admin,
    topic: String,
    /// Only without compression can it be told before the batch is made.
    compressed: bool,
    bytes: Option<usize>,
}

impl Limit {
    /// Asks the cluster. What can't be found out is left to the node that takes the records.
    pub async fn find(client: &Client, topic: &str, codec: Codec) -> Limit {
        let mut limit =
            Limit { admin: client.admin(), topic: topic.to_owned(), compressed: codec != Codec::None, bytes: None };
        limit.ask().await;
        limit
    }

    async fn ask(&mut self) {
        if self.compressed {
            return;
        }
        let answer = self.admin.metadata(&[self.topic.as_str()], false).await.ok();
        let topic = answer.and_then(|answer| answer.topics.into_iter().next());
        self.bytes = topic.map(|topic| topic.max_batch_bytes as usize).filter(|bytes| *bytes > 0);
    }

    /// Adds the name of the topic that may have been meant to an `unknown_topic`.
    pub async fn explain(&self, error: Error) -> Error {
        similar::explain::<()>(&self.admin, &self.topic, Err(error.clone())).await.err().unwrap_or(error)
    }

    /// Whether a batch can hold the record.
    ///
    /// # Errors
    /// `batch_too_large` with its size, the bound and what can be done.
    pub async fn check(&mut self, record: &Record) -> Result<(), Error> {
        if self.refuse(record).is_none() {
            return Ok(());
        }
        // It may have been raised since.
        self.ask().await;
        self.refuse(record).map_or(Ok(()), Err)
    }

    fn refuse(&self, record: &Record) -> Option<Error> {
        let limit = self.bytes?;
        // Nearly every record: nothing needs to be counted exactly.
        if rough_bytes(record) <= limit / 2 {
            return None;
        }
        let bytes = BatchBuilder::new(Codec::None).estimated_bytes_with(record);
        (bytes > limit).then(|| too_large(&self.topic, bytes, limit))
    }
}

/// About what a record takes; the rest of a batch takes less than half of the least bound.
fn rough_bytes(record: &Record) -> usize {
    let bytes = |field: &Option<bytes::Bytes>| field.as_ref().map_or(0, bytes::Bytes::len);
    let headers: usize = record.headers.iter().map(|header| header.key.len() + bytes(&header.value) + 16).sum();
    bytes(&record.key) + bytes(&record.value) + headers
}

fn too_large(topic: &str, bytes: usize, limit: usize) -> Error {
    let [size, limit] = [bytes, limit].map(|bytes| units::show_bytes(bytes as u64));
    let text = format!(
        "its record takes {size}, and topic {topic} takes batches of at most {limit} (max.batch.bytes); raise that with \
         `dlog topic alter`, or send it with --compression"
    );
    ErrorDetail::rejected(ErrorCode::BatchTooLarge, Stage::Client, text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_has_both_sizes_and_the_way_out() {
        let error = too_large("t", 1_500_070, 1 << 20).to_string();
        for part in ["1.4 MiB", "1.0 MiB", "max.batch.bytes", "topic t", "--compression", "not applied"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}

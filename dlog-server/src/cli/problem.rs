//! How an error is told: the chain of causes with node, stage and outcome, then the command to try next.

use super::exit::{Exit, ExitError};
use super::out;
use dlog_core::error::{ErrorCode, ErrorDetail};

/// Tells an error on standard error and gives the exit code. A closed standard output is no error.
pub fn tell(error: &anyhow::Error) -> Exit {
    if error.chain().any(|cause| cause.is::<out::Closed>()) {
        return Exit::Done;
    }
    out::note(text(error));
    Exit::of_error(error)
}

/// The error and the next command, without a newline at the end.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error:#}");
    // The deepest cause tells best what helps: a timeout stands before what it met.
    let codes = error.chain().filter_map(code);
    if let Some(next) = codes.filter_map(next_command).last() {
        text.push_str(&format!("\nnext: {next}"));
    } else if error.chain().any(|cause| cause.downcast_ref::<ExitError>().is_some_and(|e| e.exit == Exit::Usage)) {
        text.push_str("\nnext: dlog --help, or --help behind the verb");
    }
    text
}

fn code(cause: &(dyn std::error::Error + 'static)) -> Option<ErrorCode> {
    let detail = cause.downcast_ref::<ErrorDetail>().map(|detail| detail.code);
    detail.or_else(|| cause.downcast_ref::<dlog_client::Error>().map(dlog_client::Error::code))
}

/// What helps against an error that a server or the client told.
pub fn next_command(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::UnknownTopic => "`dlog topic list` shows what there is, `dlog topic create NAME` makes one",
        ErrorCode::UnknownPartition => "`dlog topic describe NAME` shows its partitions",
        ErrorCode::TopicExists => {
            "`dlog topic describe NAME` shows it; `topic create --if-not-exists` takes it as it is"
        }
        ErrorCode::OffsetOutOfRange => "`dlog offsets TOPIC` shows where each partition begins and ends",
        ErrorCode::NoLeader
        | ErrorCode::NotLeader
        | ErrorCode::NotInSync
        | ErrorCode::NotYetAvailable
        | ErrorCode::Timeout
        | ErrorCode::DiskFull => "`dlog cluster health` says what is wrong and what helps",
        ErrorCode::Unavailable | ErrorCode::ShuttingDown => {
            "`dlog cluster health -s HOST:PORT` with a node that runs; `dlog dev` starts a cluster to try things out"
        }
        ErrorCode::Overloaded => "try again a little later, or send more slowly",
        ErrorCode::BatchTooLarge => {
            "`dlog topic describe NAME` shows max.batch.bytes; `dlog topic alter NAME --config max.batch.bytes=8MiB` raises it"
        }
        ErrorCode::CorruptData => "stop the node that is named and run `dlog verify --data-dir DIR` on its data",
        ErrorCode::WrongCluster => "give -s the address of a node of the cluster that you mean",
        ErrorCode::SingleNotAllowed => "`dlog serve --single` lets a cluster of one take records",
        ErrorCode::UnknownNode => "`dlog node list` shows the nodes",
        ErrorCode::Internal
        | ErrorCode::InvalidTopicName
        | ErrorCode::InvalidArgument
        | ErrorCode::InvalidBatch
        | ErrorCode::OutOfOrderSequence
        | ErrorCode::InvalidProducerEpoch
        | ErrorCode::UnknownProducerId
        | ErrorCode::Unsupported => return None,
        ErrorCode::UnsafeRefused => "`dlog cluster health` says what is wrong and what helps",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use dlog_core::error::Stage;

    #[test]
    fn an_error_says_what_where_whether_and_what_next() {
        let detail = ErrorDetail::unknown(ErrorCode::Timeout, Stage::Replication, "no answer").with_node("n2");
        let error = Err::<(), _>(detail).context("can't create topic t").expect_err("an error");
        assert_eq!(
            text(&error),
            "error: can't create topic t: no answer (timeout at replication of node n2, may have been applied)\n\
             next: `dlog cluster health` says what is wrong and what helps"
        );
        assert_eq!(tell(&error), Exit::OutcomeUnknown);
    }

    #[test]
    fn a_closed_pipe_ends_silently_and_well() {
        assert_eq!(tell(&anyhow::Error::from(out::Closed).context("printing")), Exit::Done);
    }
}

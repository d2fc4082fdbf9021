//! Errors on the wire: [`ErrorDetail`] as a message, and as a gRPC status and back. One table says which gRPC code stands
//! for which error; whoever knows dlog reads the details, whoever doesn't still gets a code that means the right thing.

use crate::v1;
use dlog_core::{ErrorCode, ErrorDetail, NodeId, Outcome, Stage};
use prost::Message;
use tonic::{Code, Status};

/// The gRPC code of each error. `FAILED_PRECONDITION` is for what fails again at the same node until something changes,
/// `UNAVAILABLE` for what a plain retry may cure.
pub const fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::Internal => Code::Internal,
        ErrorCode::UnknownTopic | ErrorCode::UnknownPartition | ErrorCode::UnknownNode => Code::NotFound,
        ErrorCode::TopicExists => Code::AlreadyExists,
        ErrorCode::InvalidTopicName
        | ErrorCode::InvalidArgument
        | ErrorCode::InvalidBatch
        | ErrorCode::BatchTooLarge => Code::InvalidArgument,
        ErrorCode::OffsetOutOfRange => Code::OutOfRange,
        ErrorCode::Overloaded | ErrorCode::DiskFull => Code::ResourceExhausted,
        ErrorCode::NotLeader
        | ErrorCode::OutOfOrderSequence
        | ErrorCode::InvalidProducerEpoch
        | ErrorCode::UnknownProducerId
        | ErrorCode::UnsafeRefused
        | ErrorCode::WrongCluster
        | ErrorCode::SingleNotAllowed => Code::FailedPrecondition,
        ErrorCode::Timeout => Code::DeadlineExceeded,
        ErrorCode::NoLeader
        | ErrorCode::NotYetAvailable
        | ErrorCode::Unavailable
        | ErrorCode::ShuttingDown
        | ErrorCode::NotInSync => Code::Unavailable,
        ErrorCode::CorruptData => Code::DataLoss,
        ErrorCode::Unsupported => Code::Unimplemented,
    }
}

/// What an error is when only its gRPC code is known: it comes from the transport, a proxy, or a newer version.
const fn error_code(code: Code) -> ErrorCode {
    match code {
        Code::NotFound | Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition | Code::OutOfRange => {
            ErrorCode::InvalidArgument
        }
        Code::ResourceExhausted => ErrorCode::Overloaded,
        Code::DeadlineExceeded => ErrorCode::Timeout,
        // A connection that breaks shows as any of these.
        Code::Unavailable | Code::Aborted | Code::Cancelled | Code::Unknown | Code::Internal => ErrorCode::Unavailable,
        Code::DataLoss => ErrorCode::CorruptData,
        Code::Unimplemented => ErrorCode::Unsupported,
        Code::PermissionDenied | Code::Unauthenticated => ErrorCode::Unsupported,
        Code::Ok => ErrorCode::Internal,
    }
}

/// The error as a field of a message.
pub fn to_message(error: &ErrorDetail) -> v1::ErrorDetail {
    v1::ErrorDetail {
        code: u32::from(error.code.number()),
        code_name: error.code.name().to_owned(),
        stage: error.stage.name().to_owned(),
        outcome: match error.outcome {
            Outcome::Rejected => v1::Outcome::Rejected,
            Outcome::Unknown => v1::Outcome::Unknown,
        }
        .into(),
        message: error.message.clone(),
        leader: error.leader.map(|node| node.0),
        leader_address: error.leader_address.clone(),
        retry_after_ms: error.retry_after_ms,
        node: error.node.clone(),
    }
}

/// The error in a message's field. Total: a code that this version doesn't know becomes `internal` (its name then leads the
/// message), and an outcome that isn't said is taken for unknown.
pub fn from_message(message: v1::ErrorDetail) -> ErrorDetail {
    let known = u16::try_from(message.code).ok().and_then(ErrorCode::from_number);
    let code = known.or_else(|| ErrorCode::from_name(&message.code_name));
    let outcome = match v1::Outcome::try_from(message.outcome) {
        Ok(v1::Outcome::Rejected) => Outcome::Rejected,
        Ok(v1::Outcome::Unknown | v1::Outcome::Unspecified) | Err(_) => Outcome::Unknown,
    };
    let text = match code {
        Some(_) => message.message,
        None => format!("{}: {}", message.code_name, message.message),
    };
    let stage = Stage::from_name(&message.stage).unwrap_or(Stage::Service);
    let mut error = ErrorDetail::new(code.unwrap_or(ErrorCode::Internal), stage, outcome, text);
    error.leader = message.leader.map(NodeId);
    error.leader_address = message.leader_address;
    error.retry_after_ms = message.retry_after_ms;
    error.node = message.node;
    error
}

/// The error as the status of a failed call. The text stands once, as the status's message: trailers are small.
pub fn to_status(error: &ErrorDetail) -> Status {
    let details = v1::ErrorDetail { message: String::new(), ..to_message(error) };
    Status::with_details(grpc_code(error.code), error.message.clone(), details.encode_to_vec().into())
}

/// The error of a failed call. Without dlog's details it comes from the transport or from a proxy: the stage is then the
/// connection, and the outcome is unknown unless the request can't have left or was refused as such.
pub fn from_status(status: &Status) -> ErrorDetail {
    if !status.details().is_empty()
        && let Ok(mut message) = v1::ErrorDetail::decode(status.details())
        && message.code != 0
    {
        if message.message.is_empty() {
            message.message = status.message().to_owned();
        }
        return from_message(message);
    }
    let never_left = never_connected(status);
    let outcome = match status.code() {
        _ if never_left => Outcome::Rejected,
        Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated => Outcome::Rejected,
        _ => Outcome::Unknown,
    };
    let cause = causes(status);
    let message = if cause.is_empty() { status.message().to_owned() } else { cause };
    ErrorDetail::new(error_code(status.code()), Stage::Connection, outcome, message)
}

/// Whether the call failed because no connection could be made: then nothing was sent.
fn never_connected(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The chain of causes behind a status as one text.
fn causes(status: &Status) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let text = error.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        source = error.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::limits::{ADDRESS_BYTES_MAX, ERROR_MESSAGE_BYTES_MAX, NODE_NAME_BYTES_MAX};
    use proptest::prelude::*;

    fn any_error() -> impl Strategy<Value = ErrorDetail> {
        let codes = proptest::sample::select(ErrorCode::ALL);
        let stages = proptest::sample::select(Stage::ALL);
        let outcomes = proptest::sample::select(Outcome::ALL);
        let hints = (
            any::<Option<u32>>(),
            proptest::option::of(".{0,40}"),
            any::<Option<u32>>(),
            proptest::option::of("[a-z]{1,9}"),
        );
        (codes, stages, outcomes, ".{0,200}", hints).prop_map(
            |(code, stage, outcome, message, (leader, leader_address, retry_after_ms, node))| ErrorDetail {
                leader: leader.map(NodeId),
                leader_address,
                retry_after_ms,
                node,
                ..ErrorDetail::new(code, stage, outcome, message)
            },
        )
    }

    proptest! {
        #[test]
        fn errors_round_trip_as_message_and_as_status(error in any_error()) {
            prop_assert_eq!(&from_message(to_message(&error)), &error);
            let status = to_status(&error);
            prop_assert_eq!(status.code(), grpc_code(error.code));
            prop_assert_eq!(&from_status(&status), &error);
        }

        #[test]
        fn a_status_survives_its_headers(error in any_error()) {
            let mut headers = tonic::codegen::http::HeaderMap::new();
            to_status(&error).add_header(&mut headers).expect("a valid header");
            let back = Status::from_header_map(&headers).expect("a status");
            prop_assert_eq!(from_status(&back), error);
        }

        #[test]
        fn any_details_are_answered(details in proptest::collection::vec(any::<u8>(), 0..64), code in 1i32..17) {
            let status = Status::with_details(Code::from_i32(code), "m", details.into());
            let error = from_status(&status);
            prop_assert!(ErrorCode::ALL.contains(&error.code));
        }
    }

    #[test]
    fn a_status_without_details_is_of_unknown_outcome() {
        let error = from_status(&Status::unavailable("the connection was cut"));
        assert_eq!(
            (error.code, error.stage, error.outcome),
            (ErrorCode::Unavailable, Stage::Connection, Outcome::Unknown)
        );
        let error = from_status(&Status::unimplemented("no such service"));
        assert_eq!((error.code, error.outcome), (ErrorCode::Unsupported, Outcome::Rejected));
    }

    #[test]
    fn a_failed_connect_is_a_rejection() {
        let cause = tonic::ConnectError(Box::new(std::io::Error::other("refused")));
        let status = Status::from_error(Box::new(cause));
        let error = from_status(&status);
        assert_eq!((error.code, error.outcome), (ErrorCode::Unavailable, Outcome::Rejected));
        assert!(error.message.contains("refused"), "{}", error.message);
    }

    #[test]
    fn an_error_of_a_newer_version_keeps_its_name_and_outcome() {
        let message = v1::ErrorDetail {
            code: 9999,
            code_name: "quota_exceeded".into(),
            stage: "quota".into(),
            outcome: v1::Outcome::Rejected.into(),
            message: "too much".into(),
            ..v1::ErrorDetail::default()
        };
        let error = from_message(message);
        assert_eq!((error.code, error.outcome), (ErrorCode::Internal, Outcome::Rejected));
        assert_eq!(error.message, "quota_exceeded: too much");
    }

    /// Peers take 8 KiB of trailers in all by default.
    #[test]
    fn the_longest_error_fits_into_trailers() {
        let mut error =
            ErrorDetail::rejected(ErrorCode::Internal, Stage::Service, "\n".repeat(ERROR_MESSAGE_BYTES_MAX));
        error.leader = Some(NodeId(u32::MAX));
        error.leader_address = Some("a".repeat(ADDRESS_BYTES_MAX));
        error.node = Some("n".repeat(NODE_NAME_BYTES_MAX));
        let mut headers = tonic::codegen::http::HeaderMap::new();
        to_status(&error).add_header(&mut headers).expect("a valid header");
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(bytes < 8 * 1024, "{bytes}");
    }
}

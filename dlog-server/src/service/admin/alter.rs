//! Altering topics: some settings get values, others their defaults again; the replicas follow.

use super::{dry_run, execute, invalid_argument, rejection, request_id, unexpected};
use crate::context::NodeContext;
use crate::service::lookup;
use dlog_core::TopicId;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_protocol::TopicRef;
use dlog_protocol::v1::{AlterTopicRequest, AlterTopicResponse};
use dlog_replication::command::AlterTopic;
use dlog_replication::{Catalogue, CommandBody, CommandOutcome, SettingChanges};
use std::sync::Arc;

/// Alters a topic, or says what would hold then.
///
/// # Errors
/// The catalogue's refusal; `timeout` and the like of group 0.
pub async fn alter(context: &Arc<NodeContext>, request: AlterTopicRequest) -> Result<AlterTopicResponse, ErrorDetail> {
    let id = request_id(request.request_id.as_deref())?;
    let catalogue = context.catalogue();
    let body = CommandBody::AlterTopic(to_command(&catalogue, &request)?);
    if request.dry_run {
        let (outcome, plan) = dry_run(&catalogue, body);
        return response(&plan, altered(outcome)?);
    }
    let topic = altered(execute(context, id, body).await?)?;
    response(&context.catalogue(), topic)
}

fn to_command(catalogue: &Catalogue, request: &AlterTopicRequest) -> Result<AlterTopic, ErrorDetail> {
    let mut changes = SettingChanges::default();
    // In one order for all: of several mistakes the same one is told.
    let mut config: Vec<_> = request.config.iter().collect();
    config.sort_unstable();
    for (key, value) in config {
        changes.set(key, value).map_err(|error| invalid_argument(error.to_string()))?;
    }
    let SettingChanges { settings, mut defaults } = changes;
    defaults.sort_unstable();
    let alter = AlterTopic { settings: Some(settings), defaults, ..AlterTopic::default() };
    match TopicRef::try_from(request.topic.clone())? {
        // By name this node needn't know the topic: whoever leads group 0 does.
        TopicRef::Name(name) => Ok(AlterTopic { name: name.to_string(), ..alter }),
        wanted @ TopicRef::Id(id) => {
            let info = lookup::topic(catalogue, &wanted)?;
            Ok(AlterTopic { name: info.name.to_string(), topic: id.0, ..alter })
        }
    }
}

fn altered(outcome: CommandOutcome) -> Result<TopicId, ErrorDetail> {
    match outcome {
        CommandOutcome::TopicAltered { topic } => Ok(topic),
        CommandOutcome::Rejected(why) => Err(rejection(&why)),
        other => Err(unexpected(&other)),
    }
}

fn response(catalogue: &Catalogue, topic: TopicId) -> Result<AlterTopicResponse, ErrorDetail> {
    let gone = || {
        let text = "the settings were changed, and then the topic was deleted";
        ErrorDetail::rejected(ErrorCode::UnknownTopic, Stage::Service, text)
    };
    let settings = &catalogue.topic(topic).ok_or_else(gone)?.settings;
    Ok(AlterTopicResponse {
        config: settings.effective().into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::lookup::tests::catalogue;
    use dlog_protocol::v1::TopicSelector;
    use dlog_protocol::v1::topic_selector::By;

    fn plan(by: By, config: &[(&str, &str)]) -> Result<AlterTopicResponse, ErrorDetail> {
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let topic = Some(TopicSelector { by: Some(by) });
        let request = AlterTopicRequest { topic, config, ..AlterTopicRequest::default() };
        let command = to_command(&catalogue(), &request)?;
        let (outcome, plan) = dry_run(&catalogue(), CommandBody::AlterTopic(command));
        response(&plan, altered(outcome)?)
    }

    fn a() -> By {
        By::Name("a".into())
    }

    #[test]
    fn the_answer_has_every_setting() {
        let config = plan(a(), &[("retention.ms", "7d"), ("segment.bytes", "")]).expect("possible").config;
        assert_eq!(config["retention.ms"], "604800000");
        assert_eq!((config["segment.bytes"].as_str(), config.len()), ("67108864", 5));
        assert_eq!(
            plan(By::Id(2), &[("retention.bytes", "-1")]).expect("possible").config["retention.bytes"],
            "unlimited"
        );
    }

    #[test]
    fn what_can_not_be_is_refused_with_the_name() {
        let refused = |by: By, config: &[(&str, &str)]| plan(by, config).expect_err("refused");
        let error = refused(a(), &[("retention.ms", "soon")]);
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!(error.message.contains("retention.ms") && error.message.contains("36500d"), "{error}");
        assert_eq!(refused(a(), &[]).code, ErrorCode::InvalidArgument, "nothing to change");
        assert_eq!(refused(a(), &[("x", "")]).code, ErrorCode::InvalidArgument);
        assert_eq!(refused(By::Name("b".into()), &[("retention.ms", "7d")]).code, ErrorCode::UnknownTopic);
        assert_eq!(refused(By::Id(1), &[("retention.ms", "7d")]).code, ErrorCode::UnknownTopic, "deleted");
    }
}

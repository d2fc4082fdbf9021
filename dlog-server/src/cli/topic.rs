//! `dlog topic`: make, show, alter and delete topics.

mod alter;
pub mod show;

use super::args::Confirm;
use super::exit::{Exit, ExitError};
use super::{ClientArgs, Output, out, runtime, similar, table};
use anyhow::{Context, bail};
use dlog_client::{Client, NewTopic};
use dlog_core::TopicName;
use dlog_core::limits::{PARTITIONS_PER_TOPIC_MAX, REPLICAS_PER_PARTITION_MAX};
use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};

/// Verbs of `dlog topic`.
#[derive(clap::Subcommand, Debug)]
pub enum TopicVerb {
    /// Make a topic
    Create(CreateArgs),
    /// Show all topics
    List(ListArgs),
    /// Show a topic with its settings and partitions
    Describe(DescribeArgs),
    /// Change settings of a topic
    Alter(alter::AlterArgs),
    /// Delete a topic and all its records for good
    Delete(DeleteArgs),
}

/// Flags of `dlog topic create`.
#[derive(clap::Args, Debug)]
pub struct CreateArgs {
    /// 1 to 249 of A-Z a-z 0-9 . _ -
    name: TopicName,
    /// How many partitions
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(PARTITIONS_PER_TOPIC_MAX)))]
    partitions: u32,
    /// How many replicas of each partition [default: 3, or as many as there are nodes]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(REPLICAS_PER_PARTITION_MAX)))]
    replicas: Option<u32>,
    /// A setting, may be repeated: retention.bytes, retention.ms, segment.bytes, max.batch.bytes or timestamp.type
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    config: Vec<(String, String)>,
    /// If the topic exists, leave it as it is and end well
    #[arg(long)]
    if_not_exists: bool,
    /// Print where the replicas would be, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Flags of `dlog topic list`.
#[derive(clap::Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: Output,
}

/// Flags of `dlog topic describe`.
#[derive(clap::Args, Debug)]
pub struct DescribeArgs {
    /// The topic
    name: TopicName,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: Output,
}

/// Flags of `dlog topic delete`.
#[derive(clap::Args, Debug)]
pub struct DeleteArgs {
    /// The topic
    name: TopicName,
    #[command(flatten)]
    confirm: Confirm,
    /// Say what would be deleted, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs the verb.
///
/// # Errors
/// The cluster's.
pub fn run(verb: TopicVerb) -> anyhow::Result<Exit> {
    match verb {
        TopicVerb::Create(args) => runtime::run_change("`dlog topic list`", create(args)),
        TopicVerb::List(args) => runtime::run_until_interrupted(list(args)),
        TopicVerb::Describe(args) => runtime::run_until_interrupted(describe(args)),
        TopicVerb::Alter(args) => runtime::run_change("`dlog topic describe NAME`", alter::alter(args)),
        TopicVerb::Delete(args) => delete(&args),
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err(format!("{text:?} is no setting: write KEY=VALUE, like retention.ms=7d")),
    }
}

/// Settings by name.
fn settings(pairs: &[(String, String)]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut config = BTreeMap::new();
    for (key, value) in pairs {
        if config.insert(key.clone(), value.clone()).is_some() {
            return Err(ExitError::usage(format!("--config {key} is given twice")));
        }
    }
    Ok(config)
}

async fn create(args: CreateArgs) -> anyhow::Result<Exit> {
    let name = args.name.as_str().to_string();
    let topic = NewTopic {
        name: name.clone(),
        partitions: args.partitions,
        replicas: args.replicas.unwrap_or(0),
        config: settings(&args.config)?,
        if_not_exists: args.if_not_exists,
        dry_run: args.dry_run,
    };
    let client = args.client.connect().await?;
    let answer = client.admin().create_topic(topic).await.with_context(|| format!("can't create topic {name}"))?;
    if args.dry_run {
        out::print(&show::placement_text(&answer.placements))?;
        out::note(format!("nothing was changed; without --dry-run topic {name} would be created like this"));
        return Ok(Exit::Done);
    }
    let replicas = answer.placements.first().map_or(0, |placement| placement.nodes.len());
    out::note(match answer.created {
        true => format!(
            "created topic {name} (id {}), {} partitions, {replicas} replicas",
            answer.topic_id,
            answer.placements.len()
        ),
        false => format!("topic {name} exists (id {}); it was left as it is", answer.topic_id),
    });
    Ok(Exit::Done)
}

async fn list(args: ListArgs) -> anyhow::Result<Exit> {
    let client = args.client.connect().await?;
    let topics = client.admin().list_topics().await.context("can't list the topics")?;
    if args.output.is_json() {
        out::json(&show::list_json(&topics))?;
    } else {
        table::print(&show::LIST_HEADINGS, &show::list_rows(&topics))?;
    }
    Ok(Exit::Done)
}

async fn describe(args: DescribeArgs) -> anyhow::Result<Exit> {
    let client = args.client.connect().await?;
    let name = args.name.as_str();
    let topic = client.admin().describe_topic(name).await;
    let topic =
        similar::explain(&client.admin(), name, topic).await.with_context(|| format!("can't describe topic {name}"))?;
    if args.output.is_json() {
        out::json(&show::describe_json(&topic))?;
    } else {
        out::print(&show::describe_text(&topic))?;
    }
    Ok(Exit::Done)
}

fn delete(args: &DeleteArgs) -> anyhow::Result<Exit> {
    let name = args.name.as_str();
    if args.confirm.yes || args.dry_run {
        return runtime::run_change("`dlog topic list`", async {
            delete_now(&args.client.connect().await?, name, args.dry_run).await
        });
    }
    // A program that forgot to say yes must not delete, nor wait for an answer that never comes.
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let message = format!(
            "topic delete asks before it deletes; without a terminal say --yes: dlog topic delete {name} --yes"
        );
        return Err(ExitError::usage(message));
    }
    runtime::run_until_interrupted(async {
        let client = args.client.connect().await?;
        let plan = client.admin().delete_topic(name, true).await;
        let plan = similar::explain(&client.admin(), name, plan)
            .await
            .with_context(|| format!("can't delete topic {name}"))?;
        out::note(format!(
            "Topic {name}, {} partitions and all their records go for good. Type its name to go on:",
            plan.partitions
        ));
        let answer = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map(|_| line)
        });
        if answer.await.context("can't read the answer")??.trim() != name {
            bail!("topic {name} was not deleted: the answer was not its name");
        }
        delete_now(&client, name, false).await
    })
}

async fn delete_now(client: &Client, name: &str, dry_run: bool) -> anyhow::Result<Exit> {
    let answer = client.admin().delete_topic(name, dry_run).await;
    let answer =
        similar::explain(&client.admin(), name, answer).await.with_context(|| format!("can't delete topic {name}"))?;
    let (id, partitions) = (answer.topic_id, answer.partitions);
    if dry_run {
        out::line(&format!("topic {name} (id {id}) with {partitions} partitions would be deleted"))?;
        out::note("nothing was changed");
    } else {
        out::note(format!("deleted topic {name} (id {id}) with {partitions} partitions"));
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_pairs_and_given_once() {
        assert_eq!(setting("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(setting("a="), Ok(("a".into(), String::new())));
        assert!(setting("a").is_err() && setting("=b").is_err());
        let pair = |key: &str| (key.to_string(), "1".to_string());
        assert_eq!(settings(&[pair("a"), pair("b")]).expect("good").len(), 2);
        assert_eq!(Exit::of_error(&settings(&[pair("a"), pair("a")]).expect_err("twice")), Exit::Usage);
    }
}

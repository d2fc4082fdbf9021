//! `dlog cluster`: how the cluster is.

pub mod show;

use super::args::{TIMEOUT_DEFAULT, WAIT_DEFAULT};
use super::exit::Exit;
use super::{ClientArgs, Output, out, runtime};
use anyhow::Context;
use dlog_client::Client;
use dlog_client::v1::HealthResponse;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Pause between two looks of `--wait`.
const WAIT_INTERVAL: Duration = Duration::from_millis(250);
/// Pause between two looks of `-w`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Moves the cursor to the top and clears what is below it.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Verbs of `dlog cluster`.
#[derive(clap::Subcommand, Debug)]
pub enum ClusterVerb {
    /// Show nodes, leaders and versions on one screen
    Status(StatusArgs),
    /// Say whether anything is wrong and what helps; ends with 10 if unhealthy, 1 if no node answers
    Health(HealthArgs),
}

/// Flags of `dlog cluster status`.
#[derive(clap::Args, Debug)]
pub struct StatusArgs {
    /// Show it again every second, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: Output,
}

/// Flags of `dlog cluster health`.
#[derive(clap::Args, Debug)]
pub struct HealthArgs {
    /// Wait until the cluster is healthy, up to 10m or --timeout
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: Output,
}

/// Runs the verb.
///
/// # Errors
/// That no node answers.
pub fn run(verb: ClusterVerb) -> anyhow::Result<Exit> {
    match verb {
        ClusterVerb::Status(args) => runtime::run_until_interrupted(status(args)),
        ClusterVerb::Health(args) => runtime::run_until_interrupted(health(args)),
    }
}

async fn status(args: StatusArgs) -> anyhow::Result<Exit> {
    let client = args.client.connect().await?;
    loop {
        let status = client.admin().status().await.context("can't ask for the cluster's status");
        let text = match status {
            Ok(status) if args.output.is_json() => format!("{}\n", show::status_json(&status)),
            Ok(status) => show::status_text(&status),
            // Who watches wants to see the cluster come back.
            Err(error) if args.watch => {
                out::note(format!("{error:#}"));
                tokio::time::sleep(WATCH_INTERVAL).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let clear = args.watch && !args.output.is_json() && std::io::stdout().is_terminal();
        out::print(&format!("{}{text}", if clear { CLEAR } else { "" }))?;
        if !args.watch {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

async fn health(args: HealthArgs) -> anyhow::Result<Exit> {
    let health = match args.wait {
        true => wait_for_health(&args.client).await?,
        false => ask(&args.client.connect().await?).await?,
    };
    if args.output.is_json() {
        out::json(&show::health_json(&health))?;
    } else {
        out::print(&show::health_text(&health))?;
    }
    Ok(if health.healthy { Exit::Done } else { Exit::Unhealthy })
}

async fn ask(client: &Client) -> anyhow::Result<HealthResponse> {
    client.admin().health().await.context("can't ask for the cluster's health")
}

/// Asks until the answer is good, or time is over: then the last answer, whatever it is.
async fn wait_for_health(args: &ClientArgs) -> anyhow::Result<HealthResponse> {
    let deadline = Instant::now() + args.timeout.unwrap_or(WAIT_DEFAULT);
    let mut told = String::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        // A client of its own each time: which nodes run may have changed altogether.
        let answer = match args.connect_within(left.min(TIMEOUT_DEFAULT)).await {
            Ok(client) => ask(&client).await,
            Err(error) => Err(error),
        };
        if answer.as_ref().is_ok_and(|health| health.healthy) || Instant::now() >= deadline {
            return answer;
        }
        let state = match &answer {
            Ok(health) => format!("waiting: {} reasons, first {}", health.reasons.len(), first_reason(health)),
            Err(_) => "waiting: no node answers".to_string(),
        };
        if state != told && std::io::stderr().is_terminal() {
            out::note(&state);
            told = state;
        }
        tokio::time::sleep(WAIT_INTERVAL.min(left)).await;
    }
}

fn first_reason(health: &HealthResponse) -> String {
    health.reasons.first().map_or_else(|| "none".into(), |reason| format!("{} {}", reason.code, reason.subject))
}

//! `dlog node`: the nodes of the cluster.

mod describe;

use super::cluster::show;
use super::exit::Exit;
use super::{ClientArgs, Output, out, runtime};
use anyhow::Context;

/// Verbs of `dlog node`.
#[derive(clap::Subcommand, Debug)]
pub enum NodeVerb {
    /// Show all nodes
    List(ListArgs),
    /// Show one node with its addresses, its disk and its partitions
    Describe(describe::DescribeArgs),
}

/// Flags of `dlog node list`.
#[derive(clap::Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: Output,
}

/// Runs the verb.
///
/// # Errors
/// The cluster's.
pub fn run(verb: NodeVerb) -> anyhow::Result<Exit> {
    match verb {
        NodeVerb::List(args) => runtime::run_until_interrupted(list(args)),
        NodeVerb::Describe(args) => runtime::run_until_interrupted(describe::describe(args)),
    }
}

async fn list(args: ListArgs) -> anyhow::Result<Exit> {
    let client = args.client.connect().await?;
    let nodes = client.admin().nodes().await.context("can't list the nodes")?;
    if args.output.is_json() {
        out::json(&show::nodes_json(&nodes))?;
    } else {
        out::print(&show::nodes_text(&nodes))?;
    }
    Ok(Exit::Done)
}

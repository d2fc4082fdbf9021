//! The command line: one file a verb. What is common stands here and in [`args`]: the tree of verbs, exit codes ([`exit`]), and
//! how an error is told ([`problem`]).

pub mod args;
pub mod bench;
pub mod cluster;
pub mod consume;
pub mod dev;
pub mod exit;
pub mod inspect;
pub mod node;
pub mod offsets;
pub mod out;
pub mod problem;
pub mod produce;
pub mod runtime;
pub mod serve;
pub mod table;
pub mod topic;
pub mod units;
pub mod verify;

pub use args::{ClientArgs, Output};

use crate::config::ServeArgs;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// dlog: a replicated log. A write that is acked is on stable storage of a majority.
#[derive(Parser, Debug)]
#[command(name = "dlog", version, propagate_version = true, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run a whole cluster in one process, to try things out
    Dev(dev::DevArgs),
    /// Run one node of a cluster
    Serve(ServeArgs),
    /// Make, show and delete topics
    #[command(subcommand)]
    Topic(topic::TopicVerb),
    /// Send records, one a line
    Produce(produce::ProduceArgs),
    /// Print records
    Consume(consume::ConsumeArgs),
    /// Show where each partition of a topic begins and ends
    Offsets(offsets::OffsetsArgs),
    /// Show how the cluster is
    #[command(subcommand)]
    Cluster(cluster::ClusterVerb),
    /// Show the nodes
    #[command(subcommand)]
    Node(node::NodeVerb),
    /// Measure the cluster, or this machine's disk
    #[command(subcommand)]
    Bench(bench::BenchVerb),
    /// Print and check files of a data directory; never writes
    #[command(subcommand)]
    Inspect(inspect::InspectVerb),
    /// Check every checksum of a stopped node's data directory; never writes
    Verify(verify::VerifyArgs),
}

/// Runs the verb and gives its exit code.
pub fn run(cli: Cli) -> ExitCode {
    let result = match cli.verb {
        Verb::Dev(args) => dev::run(args),
        Verb::Serve(args) => serve::run(args),
        Verb::Topic(verb) => topic::run(verb),
        Verb::Produce(args) => produce::run(args),
        Verb::Consume(args) => consume::run(args),
        Verb::Offsets(args) => offsets::run(args),
        Verb::Cluster(verb) => cluster::run(verb),
        Verb::Node(verb) => node::run(verb),
        Verb::Bench(verb) => bench::run(verb),
        Verb::Inspect(verb) => inspect::run(verb),
        Verb::Verify(args) => verify::run(&args),
    };
    result.unwrap_or_else(|error| problem::tell(&error)).into()
}

#[cfg(test)]
mod tests;

//! The command line: one file a verb. What is common stands here and in [`args`]: the tree of verbs, exit codes ([`exit`]), and
//! how an error is told ([`problem`]).

pub mod args;
pub mod bench;
pub mod cluster;
pub mod completions;
pub mod consume;
pub mod dev;
pub mod exit;
pub mod inspect;
pub mod leading;
pub mod node;
pub mod offsets;
pub mod out;
pub mod partition;
pub mod problem;
pub mod produce;
pub mod progress;
pub mod runtime;
pub mod serve;
pub mod similar;
pub mod table;
pub mod topic;
pub mod units;
pub mod verify;
pub mod wrong_port;

pub use args::{ClientArgs, Output};

use crate::config::ServeArgs;
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// dlog: a replicated log. A write that is acked is on stable storage of a majority.
#[derive(Parser, Debug)]
#[command(name = "dlog", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "-s, --server and --timeout may stand before the verb, too.")]
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
    /// Make, show, alter and delete topics
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
    /// Show the partitions, and move leadership of one
    #[command(subcommand)]
    Partition(partition::PartitionVerb),
    /// Measure the cluster, or this machine's disk
    #[command(subcommand)]
    Bench(bench::BenchVerb),
    /// Print and check files of a data directory; never writes
    #[command(subcommand)]
    Inspect(inspect::InspectVerb),
    /// Check every checksum of a stopped node's data directory; never writes
    Verify(verify::VerifyArgs),
    /// Print what a shell needs to complete verbs and flags
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    /// What is wrong with it, or the help or version that was asked for.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(leading::reorder(&Cli::command(), args))
    }
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
        Verb::Partition(verb) => partition::run(verb),
        Verb::Bench(verb) => bench::run(verb),
        Verb::Inspect(verb) => inspect::run(verb),
        Verb::Verify(args) => verify::run(args),
        Verb::Completions(args) => completions::run(&args),
    };
    result.unwrap_or_else(|error| problem::tell(&error)).into()
}

#[cfg(test)]
mod tests;

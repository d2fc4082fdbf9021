//! What the command line takes and refuses, without running it.

use super::{Cli, problem};
use clap::{CommandFactory, Parser};
use dlog_core::error::ErrorCode;

fn parses(line: &str) -> bool {
    Cli::try_parse_from(line.split_whitespace()).is_ok()
}

#[test]
fn the_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_contract_parses() {
    for line in [
        "dlog topic create t --partitions 6 --replicas 3 --config segment.bytes=1MiB --if-not-exists --dry-run",
        "dlog topic list -s a:1,b:2 -o json --timeout 3s",
        "dlog topic describe t -o json",
        "dlog topic delete t --yes",
        "dlog produce t",
        "dlog produce t - -p 1 -k key -H a=b -H c=",
        "dlog produce t file --key-json /tailnum --timestamp-json /time --acks all --compression zstd -v -o json",
        "dlog produce t --key-separator : --linger 5ms --batch-bytes 256KiB --acks leader",
        "dlog consume t -p 0 --from -5 -n 3 -F --node n2 -f json",
        "dlog consume t --from @2013-07-01T00:00:00-05:00 -o json",
        "dlog consume t --from @-1h --to 7 -f %k",
        "dlog consume t --on-gap fail --to @2013-07-01T00:00:00-05:00 --read committed",
        "dlog consume t --read linearizable --prefer-rack r --on-gap latest",
        "dlog offsets t --at 2013-07-01T00:00:00-05:00 -o json",
        "dlog cluster health -o json --wait",
        "dlog cluster status -w",
        "dlog node list -o json",
        "dlog node describe n1 -o json",
        "dlog topic alter t --config retention.ms=7d --config segment.bytes= --dry-run",
        "dlog partition list",
        "dlog partition list t -o json",
        "dlog partition transfer t/0 --to n1 --dry-run --wait --timeout 5s",
        "dlog completions bash",
        "dlog inspect log dir -o json",
        "dlog inspect segment file",
        "dlog inspect journal file",
        "dlog verify --data-dir dir",
        "dlog bench produce --topic t --record-bytes 1KiB --duration 10s --window 256 --partitions 6 --acks quorum -o json",
        "dlog bench latency --rate 200/s",
        "dlog bench consume --topic t --duration 5s --rate 200 --window 9 --acks all -o json",
        "dlog bench disk --dir d",
    ] {
        if let Err(error) = Cli::try_parse_from(line.split_whitespace()) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn nonsense_and_what_is_not_built_is_refused() {
    for line in [
        "dlog",
        "dlog topic",
        "dlog topic create",
        "dlog topic create ..",
        "dlog topic create t --partitions 0",
        "dlog topic create t --config novalue",
        "dlog topic alter t",
        "dlog topic alter --config a=b",
        "dlog partition transfer t/0",
        "dlog partition transfer t --to n1",
        "dlog partition move t/0 --replicas a,b,c",
        "dlog placement",
        "dlog node describe",
        "dlog completions tcsh",
        "dlog serve --join a:1",
        "dlog produce t -k a --key-json /b",
        "dlog produce t --key-json b",
        "dlog produce t --key-separator=",
        "dlog produce t --acks none",
        "dlog produce t --compression lzma",
        "dlog produce t -H novalue",
        "dlog produce t --batch-bytes 0",
        "dlog produce t --timeout 5",
        "dlog consume t --from yesterday",
        "dlog consume t -n x",
        "dlog consume t -f %x",
        "dlog consume t --on-gap skip",
        "dlog consume t --read dirty",
        "dlog consume t --prefer-rack r --node n1",
        "dlog consume t -o xml",
        "dlog node drain n1",
        "dlog offsets t --at noon",
    ] {
        assert!(!parses(line), "{line}");
    }
}

#[test]
fn every_command_that_an_error_names_is_there() {
    let mut named = 0;
    for code in ErrorCode::ALL {
        let next = problem::next_command(*code).unwrap_or_default();
        for command in next.split('`').skip(1).step_by(2).filter(|quoted| quoted.starts_with("dlog ")) {
            let placed = [("NAME", "t"), ("TOPIC", "t"), ("HOST:PORT", "h:1"), ("DIR", "d")];
            let line = placed.iter().fold(command.to_owned(), |line, (word, value)| line.replace(word, value));
            assert!(parses(&line), "{code} sends its reader to `{command}`");
            named += 1;
        }
    }
    assert!(named > 10, "{named}");
}

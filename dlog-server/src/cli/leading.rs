//! Flags before the verb: `dlog -s HOST:PORT topic list`. How to reach the cluster may stand there too; it is moved behind the
//! verb, so that a verb that asks no cluster refuses it as it does anywhere else.

use clap::Command;
use std::ffi::{OsStr, OsString};

/// Moves `-s`, `--server` and `--timeout` that stand before or among the words of the verb to behind it.
pub fn reorder(root: &Command, args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut rest = args.into_iter().peekable();
    let mut verb: Vec<OsString> = rest.next().into_iter().collect();
    let mut moved = Vec::new();
    let mut command = root;
    while let Some(arg) = rest.peek() {
        let values = flag_values(arg);
        let deeper = arg.to_str().and_then(|name| command.find_subcommand(name));
        match (values, deeper) {
            (Some(values), _) => moved.extend(rest.by_ref().take(1 + values)),
            (None, Some(deeper)) => {
                command = deeper;
                verb.extend(rest.next());
            }
            (None, None) => break,
        }
    }
    // Without a verb they say nothing: what is missing or misspelt is told.
    if verb.len() > 1 {
        verb.extend(moved);
    }
    verb.extend(rest);
    verb
}

/// How many arguments behind this one belong to it, if it is one of those flags.
fn flag_values(arg: &OsStr) -> Option<usize> {
    match arg.to_str()? {
        "-s" | "--server" | "--timeout" => Some(1),
        arg if arg.starts_with("--server=") || arg.starts_with("--timeout=") => Some(0),
        arg if arg.starts_with("-s") && !arg.starts_with("--") => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory, Parser};

    fn reordered(line: &str) -> String {
        let args = reorder(&Cli::command(), line.split_whitespace().map(OsString::from));
        args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn flags_before_the_verb_go_behind_it() {
        for (line, expected) in [
            ("dlog -s a:1 topic list -o json", "dlog topic list -s a:1 -o json"),
            ("dlog --server=a:1,b:2 --timeout 3s consume t -n 1", "dlog consume --server=a:1,b:2 --timeout 3s t -n 1"),
            ("dlog -sa:1 topic --timeout=1s describe t", "dlog topic describe -sa:1 --timeout=1s t"),
            ("dlog topic list -s a:1", "dlog topic list -s a:1"),
            ("dlog produce t -s a:1 -k topic", "dlog produce t -s a:1 -k topic"),
            ("dlog -s a:1 --version", "dlog --version"),
            ("dlog -s a:1 tpic list", "dlog tpic list"),
            ("dlog", "dlog"),
        ] {
            assert_eq!(reordered(line), expected, "{line}");
        }
    }

    #[test]
    fn a_verb_without_a_cluster_refuses_them_there_too() {
        for line in ["dlog -s a:1 verify --data-dir d", "dlog --timeout 1s dev", "dlog -s a:1 completions bash"] {
            assert!(Cli::try_parse_from(reordered(line).split_whitespace()).is_err(), "{line}");
        }
        assert!(Cli::try_parse_from(reordered("dlog -s a:1 cluster health").split_whitespace()).is_ok());
    }
}

//! `dlog completions`: what a shell needs to complete verbs and flags.

use super::exit::Exit;
use super::{Cli, out};
use clap::CommandFactory;
use clap_complete::Shell;

/// Flags of `dlog completions`.
#[derive(clap::Args, Debug)]
pub struct CompletionsArgs {
    /// For which shell. For bash: dlog completions bash >~/.local/share/bash-completion/completions/dlog
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// If standard output can't be written.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    out::print(&script(args.shell))?;
    Ok(Exit::Done)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dlog", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_learns_every_verb() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for verb in Cli::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
            for part in ["transfer", "alter", "if-not-exists", "key-json"] {
                assert!(script.contains(part), "{shell}: {part}");
            }
        }
    }
}

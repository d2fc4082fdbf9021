//! The binary `dlog`: parses the command line and ends with the exit code of the verb.

use dlog_server::cli::Cli;
use std::process::ExitCode;

const _: () =
    assert!(!dlog_core::mutants::ARE_HERE, "a node is never built with code that does things wrong on purpose");

fn main() -> ExitCode {
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // A broken invariant: whatever this process believes now must not be acked or sent.
        default_hook(info);
        std::process::abort();
    }));
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and end with 0, mistakes to standard error with 2.
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    dlog_server::cli::run(cli)
}

//! The runtime that a client verb runs on.

use super::exit::Exit;
use super::out;
use anyhow::Context;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs a verb that looks after Ctrl-C itself. What it traces is shown only if `RUST_LOG` asks for it.
///
/// # Errors
/// The verb's.
pub fn run(verb: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    super::serve::init_tracing("off");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("can't start the runtime")?;
    let result = runtime.block_on(verb);
    // A thread that waits for input must not keep the process.
    runtime.shutdown_background();
    result
}

/// Runs a verb that Ctrl-C just ends.
///
/// # Errors
/// The verb's.
pub fn run_until_interrupted(verb: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    run(async {
        tokio::select! {
            result = verb => result,
            () = interrupted() => Ok(Exit::Interrupted),
        }
    })
}

/// As [`run_until_interrupted`], for a verb that changes something: Ctrl-C says that nobody knows, and which command tells.
///
/// # Errors
/// The verb's.
pub fn run_change(look: &str, verb: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    run(async {
        tokio::select! {
            result = verb => result,
            () = interrupted() => {
                out::note(format!("interrupted; the change may have been made all the same: {look} tells"));
                Ok(Exit::Interrupted)
            }
        }
    })
}

/// Runs a verb that asks no cluster. At Ctrl-C `stop` is set; a verb that has to tidy up looks at it and is waited for, if it
/// `tidies`, and any other is left where it is.
///
/// # Errors
/// The verb's.
pub fn run_here(
    tidies: bool,
    verb: impl FnOnce(&AtomicBool) -> anyhow::Result<Exit> + Send + 'static,
) -> anyhow::Result<Exit> {
    run(async move {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let mut work = tokio::task::spawn_blocking(move || verb(&seen));
        tokio::select! {
            done = &mut work => done.context("the work was cut short")?,
            () = interrupted() => {
                stop.store(true, Ordering::Relaxed);
                if tidies {
                    work.await.context("the work was cut short")??;
                }
                Ok(Exit::Interrupted)
            }
        }
    })
}

/// Returns at Ctrl-C, from any thread; never if the signal can't be had.
pub async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

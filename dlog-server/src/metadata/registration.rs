//! Makes this node known: founds the catalogue if nobody has, then registers this node's addresses, once each start.

use crate::context::NodeContext;
use crate::random::random;
use dlog_core::error::ErrorDetail;
use dlog_replication::{Command, CommandBody, CommandId, CommandOutcome, RegisterNode, Rejection};
use std::sync::Arc;
use std::time::Duration;

/// One try; the task goes on trying, so that a node can wait hours for a majority.
const TRY_FOR: Duration = Duration::from_secs(5);

/// A command with a fresh random id.
pub fn command(body: CommandBody) -> Command {
    // 0 is "no id".
    let id = random().u128(1..);
    Command::new(CommandId(id), body)
}

/// Registers this node, trying until it succeeds.
///
/// # Errors
/// The catalogue's refusal: this node can't be part of the cluster as it is.
pub async fn register(context: &Arc<NodeContext>) -> Result<(), Rejection> {
    let identity = &context.identity;
    let found = crate::bootstrap::set_of(identity).map(|set| command(CommandBody::FoundCluster(set.found_command())));
    let register = command(CommandBody::RegisterNode(RegisterNode {
        node: identity.node.0,
        name: identity.name.clone(),
        rack: context.config.rack.clone(),
        client_address: context.config.advertise.clone(),
        peer_address: context.config.peer_advertise.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        shards: u32::from(identity.shards),
        boot: identity.boot.number,
        directory: identity.directory.0.to_vec(),
    }));
    if context.catalogue().cluster().is_none()
        && let Ok(found) = found
    {
        insist(context, &found).await?;
    }
    insist(context, &register).await
}

async fn insist(context: &Arc<NodeContext>, command: &Command) -> Result<(), Rejection> {
    let mut told = false;
    loop {
        match context.group_zero.execute(command, TRY_FOR).await {
            Ok(CommandOutcome::Rejected(rejection)) => return Err(rejection),
            Ok(_) => return Ok(()),
            Err(error) => tell_once(&mut told, &error),
        }
        if context.is_stopping() {
            return Ok(());
        }
    }
}

fn tell_once(told: &mut bool, error: &ErrorDetail) {
    if !std::mem::replace(told, true) {
        tracing::warn!(error = error.message, "this node can't register yet; it goes on trying");
    }
}

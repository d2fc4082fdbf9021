//! `dlog topic alter`: changes settings of a topic and says what became of them.

use super::{setting, settings};
use crate::cli::exit::Exit;
use crate::cli::{ClientArgs, out, similar};
use anyhow::Context;
use dlog_core::TopicName;
use std::collections::BTreeMap;

/// Flags of `dlog topic alter`.
#[derive(clap::Args, Debug)]
pub struct AlterArgs {
    /// The topic
    name: TopicName,
    /// A setting, may be repeated: retention.bytes, retention.ms, segment.bytes, max.batch.bytes or timestamp.type.
    /// An empty value (KEY=) sets the default again; settings that aren't named stay
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting, required = true)]
    config: Vec<(String, String)>,
    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Alters the topic.
///
/// # Errors
/// The cluster's.
pub async fn alter(args: AlterArgs) -> anyhow::Result<Exit> {
    let name = args.name.as_str();
    let config = settings(&args.config)?;
    let client = args.client.connect().await?;
    let cannot = || format!("can't alter topic {name}");
    let before = client.admin().describe_topic(name).await;
    let before = similar::explain(&client.admin(), name, before).await.with_context(cannot)?;
    let after = client.admin().alter_topic(name, config, args.dry_run).await.with_context(cannot)?;
    let changes = changes(&before.config.into_iter().collect(), &after);
    if args.dry_run {
        for change in &changes {
            out::line(change)?;
        }
        out::note(format!("nothing was changed; without --dry-run {} of topic {name} would change", count(&changes)));
    } else {
        for change in &changes {
            out::note(change);
        }
        out::note(format!("altered topic {name}: {} changed", count(&changes)));
    }
    Ok(Exit::Done)
}

/// What differs, a line for each setting.
fn changes(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let value = |settings: &BTreeMap<String, String>, key| settings.get(key).cloned().unwrap_or_default();
    let changed = after.keys().filter(|key| before.get(*key) != after.get(*key));
    changed.map(|key| format!("{key} = {} (it was {})", value(after, key), value(before, key))).collect()
}

fn count(changes: &[String]) -> String {
    match changes.len() {
        1 => "1 setting".to_owned(),
        n => format!("{n} settings"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_told() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let before = map(&[("retention.ms", "unlimited"), ("segment.bytes", "1")]);
        let after = map(&[("retention.ms", "5"), ("segment.bytes", "1")]);
        let told = changes(&before, &after);
        assert_eq!(told, ["retention.ms = 5 (it was unlimited)"]);
        assert_eq!((count(&told), count(&changes(&after, &after))), ("1 setting".to_owned(), "0 settings".to_owned()));
    }
}

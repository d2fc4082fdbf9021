//! `dlog verify`: checks every checksum of a stopped node's data directory. Never writes.

use super::exit::Exit;
use super::inspect::{place_text, require_folder};
use super::progress::Progress;
use super::{Output, out, runtime};
use anyhow::Context;
use dlog_storage::inspect::Damage;
use dlog_storage::verify::{VerifyReport, data_directory_watched};
use dlog_storage::{DirectoryLock, OsDisk};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Flags of `dlog verify`.
#[derive(clap::Args, Debug)]
pub struct VerifyArgs {
    /// The data directory of a node that is stopped
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// Checks and prints; ends with 1 if something is damaged.
///
/// # Errors
/// If the directory can't be read, or a node uses it.
pub fn run(args: VerifyArgs) -> anyhow::Result<Exit> {
    runtime::run_here(false, move |_| verify(&args))
}

fn verify(args: &VerifyArgs) -> anyhow::Result<Exit> {
    let shown = args.data_dir.display();
    let cannot = || format!("can't verify {shown}");
    require_folder(&args.data_dir).with_context(cannot)?;
    // Held meanwhile, so that no node starts under the reader. Without the file no node was ever here, and none is made.
    let lock = match args.data_dir.join("lock").is_file() {
        true => Some(DirectoryLock::acquire(&args.data_dir).with_context(cannot)?),
        false => None,
    };
    let disk = OsDisk::new(&args.data_dir).with_context(cannot)?;
    let mut progress = Progress::new(segment_bytes(&args.data_dir));
    let mut done = 0;
    let report = data_directory_watched(&disk, "", &mut |bytes| {
        done += bytes;
        progress.at(done);
    });
    progress.finish();
    let report = report.map_err(|error| anyhow::anyhow!("{error}")).with_context(cannot)?;
    drop(lock);
    if args.output.is_json() {
        out::json(&to_json(&report))?;
        return Ok(if report.damage.is_empty() { Exit::Done } else { Exit::Failed });
    }
    out::line(&format!(
        "{} shards, {} logs, {} good frames, {} damaged places",
        report.shards,
        report.logs,
        report.frames,
        report.damage.len()
    ))?;
    if report.set_aside > 0 {
        out::line(&format!(
            "{} files were set aside by earlier starts; nobody needs them, they were not checked",
            report.set_aside
        ))?;
    }
    if !report.damage.is_empty() {
        out::line(&report.damage.iter().map(place_text).collect::<Vec<_>>().join("\n"))?;
        out::note("next: keep the other replicas running; this node's bad replicas are to be rebuilt from them");
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

/// About how much there is to check. What can't be looked at counts nothing; the check itself will tell.
fn segment_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => segment_bytes(&entry.path()),
        Ok(metadata) if entry.path().extension().is_some_and(|extension| extension == "segment") => metadata.len(),
        _ => 0,
    });
    bytes.sum()
}

fn to_json(report: &VerifyReport) -> Value {
    let place = |d: &Damage| {
        json!({
            "file": d.path,
            "position": d.position,
            "bytes": d.bytes,
            "index": d.index.map(|index| index.0),
            "offset": d.offset.map(|offset| offset.0),
            "detail": d.detail,
        })
    };
    json!({
        "shards": report.shards,
        "logs": report.logs,
        "frames": report.frames,
        "set_aside": report.set_aside,
        "damaged": report.damage.iter().map(place).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::Offset;

    #[test]
    fn json_names_each_bad_place() {
        let bad = Damage {
            path: "a".into(),
            position: 5,
            bytes: 1,
            index: None,
            offset: Some(Offset(3)),
            detail: "d".into(),
        };
        let json = to_json(&VerifyReport { damage: vec![bad], ..VerifyReport::default() });
        assert_eq!((&json["damaged"][0]["file"], &json["damaged"][0]["offset"]), (&json!("a"), &json!(3)));
    }

    #[test]
    fn nothing_is_made_where_nothing_is() {
        let missing = std::env::temp_dir().join(format!("dlog-verify-missing-{}", std::process::id()));
        let args = VerifyArgs { data_dir: missing.clone(), output: Output::default() };
        assert_eq!(Exit::of_error(&verify(&args).expect_err("no folder")), Exit::Failed);
        assert!(!missing.exists());
    }
}

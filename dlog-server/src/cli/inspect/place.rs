//! What a path on the command line names: a file and the folder it stands in, a replica and its data directory.

use anyhow::{Context, bail};
use dlog_core::ShardId;
use dlog_storage::inspect::LogPlace;
use dlog_storage::{OsDisk, StorageError};
use std::path::{Path, PathBuf};

/// The file's folder as a disk, and its name there.
///
/// # Errors
/// If there is no such file.
pub fn file(path: &Path) -> anyhow::Result<(OsDisk, String)> {
    let path = path.canonicalize()?;
    let (Some(folder), Some(name), true) = (path.parent(), path.file_name().and_then(|n| n.to_str()), path.is_file())
    else {
        bail!("it is no file");
    };
    Ok((OsDisk::new(folder)?, name.to_string()))
}

/// The shard that a journal file is of, by the name of the folder above its own.
///
/// # Errors
/// If the path isn't like `shard-N/journal/X.journal`.
pub fn journal_shard(path: &Path) -> anyhow::Result<ShardId> {
    let path = path.canonicalize()?;
    let folder = path.ancestors().nth(2).and_then(Path::file_name).and_then(|name| name.to_str());
    let shard = folder.and_then(|name| name.strip_prefix("shard-")).and_then(|number| number.parse().ok());
    shard.map(ShardId).context("a journal file stands in DATA/shard-N/journal; its checksums need N")
}

/// The data directory and the replica that a path names: a replica's folder, or that of a log with a single replica.
///
/// # Errors
/// If it is neither.
pub fn replica(path: &Path) -> anyhow::Result<(PathBuf, LogPlace)> {
    let path = path.canonicalize()?;
    super::require_folder(&path)?;
    let parse = |path: &Path| path.to_str().and_then(LogPlace::parse);
    if let Some(place) = parse(&path) {
        return Ok((PathBuf::from(&place.root), place));
    }
    let mut replicas = Vec::new();
    for entry in std::fs::read_dir(&path)? {
        replicas.extend(parse(&entry?.path()));
    }
    match replicas.len() {
        1 => Ok((PathBuf::from(&replicas[0].root), replicas.remove(0))),
        0 => bail!("it is no replica's folder: they are DATA/shard-N/logs/LOG/REPLICA"),
        n => bail!("it holds {n} replicas: name the folder of one"),
    }
}

/// A storage error as a plain failure: only a node that starts needs an operator for it.
pub fn plain(error: StorageError) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_or_told() {
        let root = std::env::temp_dir().join(format!("dlog-place-{}", std::process::id()));
        let log = root.join("shard-0/logs/5");
        std::fs::create_dir_all(log.join("4294967298")).expect("a folder");
        std::fs::create_dir_all(root.join("shard-0/journal")).expect("a folder");
        let root = root.canonicalize().expect("exists");
        for path in [log.clone(), log.join("4294967298")] {
            let (found, place) = replica(&path).expect("a replica");
            assert_eq!((found, place.log.0, place.replica.0), (root.clone(), 5, 4_294_967_298));
        }
        assert!(replica(&root).is_err() && replica(&root.join("missing")).is_err() && file(&root).is_err());
        std::fs::create_dir_all(log.join("4294967299")).expect("a folder");
        assert!(replica(&log).expect_err("two").to_string().contains("2 replicas"));
        let journal = root.join("shard-3/journal/1.journal");
        std::fs::create_dir_all(journal.parent().expect("a folder")).expect("a folder");
        std::fs::write(&journal, b"x").expect("a file");
        assert_eq!(journal_shard(&journal).expect("a shard"), ShardId(3));
        assert_eq!(file(&journal).expect("a file").1, "1.journal");
        std::fs::remove_dir_all(&root).expect("removed");
    }
}

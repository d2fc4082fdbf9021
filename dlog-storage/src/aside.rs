//! Names in a log's folder: setting aside what the state doesn't name, and removing.

use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::log_state::{LogState, SegmentName, SegmentState};
use std::collections::BTreeSet;
use std::io;

/// The folder, below a log's own, to which unnamed files are moved.
pub const ASIDE: &str = "aside";

/// How often a folder that is filled anew while it is emptied (by a reader that saves an index) is emptied again.
const REMOVE_TRIES: usize = 3;

/// What [`set_aside`] left in a log's folder.
pub(crate) struct Stays {
    /// All names there.
    pub(crate) names: Vec<String>,
    /// Segments and indexes from before the local start, which the state doesn't name any more but an older one may.
    pub(crate) before_start: Vec<String>,
}

/// Moves every segment, index and half-written file that belongs to no segment of `state` into the folder `aside`, and makes
/// that durable. Other files are somebody else's. What begins at or below the local start stays too: new frames never take
/// its name, and the older checkpoint may still want it.
pub(crate) fn set_aside<D: Disk>(disk: &D, dir: &str, state: &LogState) -> Result<Stays, StorageError> {
    let named: BTreeSet<SegmentName> = state.segments.iter().map(SegmentState::name).collect();
    let names = disk.list(dir).map_err(|e| StorageError::io("list", dir, e))?;
    let ours = |name: &String| [".segment", ".index", ".index.tmp"].iter().any(|end| name.ends_with(end));
    let before_start = |name: &&String| {
        let segment = SegmentName::parse(name).filter(|segment| !named.contains(segment));
        segment.is_some_and(|segment| segment.first_index <= state.local_start.index)
    };
    let unnamed = |name: &&String| {
        let known = SegmentName::parse(name).is_some_and(|segment| named.contains(&segment));
        ours(name) && !known && !before_start(name)
    };
    let goes: Vec<&String> = names.iter().filter(unnamed).collect();
    if !goes.is_empty() {
        let aside = format!("{dir}/{ASIDE}");
        disk.create_dir(&aside).map_err(|e| StorageError::io("create", &aside, e))?;
        let taken: BTreeSet<String> =
            disk.list(&aside).map_err(|e| StorageError::io("list", &aside, e))?.into_iter().collect();
        for name in goes {
            let from = format!("{dir}/{name}");
            let free = (0u64..).map(|n| format!("{name}.{n}")).find(|to| !taken.contains(to));
            let to = format!("{aside}/{}", free.expect("some number is free"));
            tracing::info!(file = %from, %to, "set aside a file that no checkpoint names");
            disk.rename(&from, &to).map_err(|e| StorageError::io("rename", &from, e))?;
        }
        for dir in [&aside, dir] {
            disk.sync_dir(dir).map_err(|e| StorageError::sync(dir, e))?;
        }
    }
    let before_start: Vec<String> = names.iter().filter(before_start).cloned().collect();
    Ok(Stays { names: names.into_iter().filter(|name| !unnamed(&name)).collect(), before_start })
}

/// Removes a file; it is fine if it is gone.
pub(crate) fn remove_if_there<D: Disk>(disk: &D, path: &str) -> Result<(), StorageError> {
    match disk.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StorageError::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Removes a log's folder with everything in it, folders that somebody else made there too.
pub(crate) fn remove_folder<D: Disk>(disk: &D, dir: &str) -> Result<(), StorageError> {
    remove_aside(disk, dir)?;
    let mut tries = 0;
    loop {
        tries += 1;
        for name in disk.list(dir).map_err(|e| StorageError::io("list", dir, e))? {
            let path = format!("{dir}/{name}");
            match remove_if_there(disk, &path) {
                Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::IsADirectory => {
                    remove_folder(disk, &path)?;
                }
                done => done?,
            }
        }
        match disk.remove_dir(dir) {
            Err(_) if tries < REMOVE_TRIES => {}
            done => return done.map_err(|e| StorageError::io("remove", dir, e)),
        }
    }
}

/// Removes what was set aside, and its folder; says how many bytes.
pub(crate) fn remove_aside<D: Disk>(disk: &D, dir: &str) -> Result<u64, StorageError> {
    let aside = format!("{dir}/{ASIDE}");
    let names = match disk.list(&aside) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        names => names.map_err(|e| StorageError::io("list", &aside, e))?,
    };
    let mut bytes = 0;
    for name in names {
        let path = format!("{aside}/{name}");
        let file = disk.open(&path).map_err(|e| StorageError::io("open", &path, e))?;
        bytes += file.len().map_err(|e| StorageError::io("read the length of", &path, e))?;
        drop(file);
        remove_if_there(disk, &path)?;
    }
    disk.remove_dir(&aside).map_err(|e| StorageError::io("remove", &aside, e))?;
    disk.sync_dir(dir).map_err(|e| StorageError::sync(dir, e))?;
    Ok(bytes)
}

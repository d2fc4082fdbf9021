//! What a node uses: memory from `/proc`, disk from its data directory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

impl Memory {
    /// Of the process with this id.
    #[track_caller]
    pub fn of(pid: u32) -> Memory {
        let path = format!("/proc/{pid}/status");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("can't read {path}: {e}"));
        Memory { resident: kilobytes(&text, "VmRSS:") * 1024, peak: kilobytes(&text, "VmHWM:") * 1024 }
    }
}

/// How many files, sockets and the like the process with this id has open.
#[track_caller]
pub fn open_files(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/fd");
    fs::read_dir(&path).unwrap_or_else(|e| panic!("can't read {path}: {e}")).count() as u64
}

fn kilobytes(status: &str, name: &str) -> u64 {
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {status}"));
    line.trim().trim_end_matches(" kB").trim().parse().unwrap_or_else(|e| panic!("{name} {line:?}: {e}"))
}

/// Disk use of a data directory, in bytes that the file system gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Journal files.
    pub journal: u64,
    /// How many journal files.
    pub journal_files: usize,
    /// The number of the newest journal file: how many there were so far.
    pub newest_journal: u64,
    /// What lies under `logs`: segments, indexes, producer files.
    pub logs: u64,
    /// Held back for a full disk; made while a node has little else to do.
    pub ballast: u64,
    /// Everything else: state store, checkpoints, identity.
    pub rest: u64,
}

impl Disk {
    /// Of the data directory at this path.
    pub fn of(dir: &Path) -> Disk {
        let mut disk = Disk::default();
        disk.add(dir, dir);
        disk
    }

    /// All of it but the ballast, which says nothing of the load.
    pub fn total(&self) -> u64 {
        self.journal + self.logs + self.rest
    }

    fn add(&mut self, root: &Path, dir: &Path) {
        // Files come and go while this looks.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                self.add(root, &path);
                continue;
            }
            let below = path.strip_prefix(root).unwrap_or(&path);
            let is_in = |name: &str| below.components().any(|c| c.as_os_str() == name);
            let bytes = metadata.blocks() * 512;
            if is_in("journal") {
                self.journal += bytes;
                self.journal_files += 1;
                let number = below.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
                self.newest_journal = self.newest_journal.max(number.unwrap_or(0));
            } else if is_in("ballast") {
                self.ballast += bytes;
            } else if is_in("logs") {
                self.logs += bytes;
            } else {
                self.rest += bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        let memory = Memory::of(std::process::id());
        assert!(memory.resident > 0 && memory.peak >= memory.resident, "{memory:?}");
        assert!(open_files(std::process::id()) > 0);
    }
}

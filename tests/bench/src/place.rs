//! `Place`: the folder that everything is measured in, and the file system and device behind it.

use crate::Result;
use dlog_storage::OsDisk;
use rustix::fs::{Advice, StatFs};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What `statfs` says of file systems in memory: nothing measured there says anything of a disk.
const IN_MEMORY: &[(u64, &str)] = &[(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];
/// Bytes of a sector in the kernel's counters, whatever the device's own are.
const SECTOR_BYTES: u64 = 512;
/// Field of `/sys/dev/block/<device>/stat` with the sectors written, from 0.
const SECTORS_WRITTEN_FIELD: usize = 6;

/// A folder of this run alone, removed at its end.
///
/// Invariant: it is not in memory.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    /// Name of the file system.
    pub file_system: String,
    /// The counters of the device, where there is one.
    counters: Option<PathBuf>,
}

impl Place {
    /// A new folder below `base`, which is made if it is missing.
    ///
    /// # Errors
    /// If `base` is in memory, or what the system says of it.
    pub fn new(base: &Path) -> Result<Place> {
        fs::create_dir_all(base)?;
        let kind = rustix::fs::statfs(base)?;
        refuse_memory(&kind)?;
        let folder = base.join(format!("run-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let device = fs::metadata(&folder)?.dev();
        let numbers = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let device = PathBuf::from(format!("/sys/dev/block/{numbers}"));
        let counters = device.join("stat");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut file_system = file_system(&mounts, &numbers).unwrap_or_else(|| format!("type {:#x}", kind.f_type));
        if file_system == "ext4" && !has_ext4_journal(&device) {
            file_system.push_str(" without a journal of its own");
        }
        Ok(Place { folder, file_system, counters: counters.exists().then_some(counters) })
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A disk in a folder of its own, empty.
    ///
    /// # Errors
    /// The system's.
    pub fn fresh_disk(&self, name: &str) -> Result<OsDisk> {
        self.remove(name)?;
        Ok(OsDisk::new(self.path(name))?)
    }

    /// Removes such a folder, if it is there.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, name: &str) -> Result<()> {
        match fs::remove_dir_all(self.path(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// All files below a folder of it.
    ///
    /// # Errors
    /// The system's.
    pub fn files(&self, name: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        walk(&self.path(name), &mut found)?;
        found.sort();
        Ok(found)
    }

    /// Waits until nothing of the file system is left to be written, so that one measurement doesn't pay for another.
    ///
    /// # Errors
    /// The system's.
    pub fn settle(&self) -> Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.folder)?)?)
    }

    /// Takes the files of a folder out of the page cache, as after a start of the machine.
    ///
    /// # Errors
    /// The system's.
    pub fn forget_cached(&self, name: &str) -> Result<()> {
        self.settle()?;
        for path in self.files(name)? {
            rustix::fs::fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }

    /// Bytes that the device has written since the machine started, by whomever; `None` without such a counter.
    pub fn device_written(&self) -> Option<u64> {
        sectors_written(&fs::read_to_string(self.counters.as_ref()?).ok()?).map(|sectors| sectors * SECTOR_BYTES)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} could not be removed ({error}): remove it by hand", self.folder.display());
        }
    }
}

fn refuse_memory(kind: &StatFs) -> Result<()> {
    match IN_MEMORY.iter().find(|(magic, _)| *magic == kind.f_type as u64) {
        Some((_, name)) => {
            Err(format!("the folder is on {name}, in memory: name one on a disk with --dir or DLOG_BENCH_DIR").into())
        }
        None => Ok(()),
    }
}

/// Whether the kernel runs a journal for the ext4 on this device: without one, a sync of a file that grew is cheaper.
fn has_ext4_journal(device: &Path) -> bool {
    let Ok(target) = fs::read_link(device) else { return true };
    let (Some(name), Ok(journals)) = (target.file_name(), fs::read_dir("/proc/fs/jbd2")) else { return false };
    let prefix = format!("{}-", name.to_string_lossy());
    journals.flatten().any(|journal| journal.file_name().to_string_lossy().starts_with(&prefix))
}

/// The name of the file system of a device in `/proc/self/mountinfo`.
fn file_system(mounts: &str, device: &str) -> Option<String> {
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    let (_, behind) = line.split_once(" - ")?;
    behind.split(' ').next().map(str::to_string)
}

fn sectors_written(stat: &str) -> Option<u64> {
    stat.split_whitespace().nth(SECTORS_WRITTEN_FIELD)?.parse().ok()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let mounts = "22 1 0:20 / /proc rw - proc proc rw\n36 1 8:2 / / rw,noatime shared:1 - ext4 /dev/x rw\n";
        assert_eq!(file_system(mounts, "8:2").as_deref(), Some("ext4"));
        assert_eq!(file_system(mounts, "8:3"), None);
        assert_eq!(sectors_written(" 1 2 3 4 5 6 77 8\n"), Some(77));
        assert_eq!(sectors_written("1 2"), None);
    }
}

//! The corpus: `corpus/<target>/seed-<number>` are valid inputs, made anew by `make fuzz-corpus`; `found-<checksum>` are inputs that
//! once showed a bug.

use crate::target::Target;
use std::path::PathBuf;
use std::{fs, io};

/// A member of the corpus is no longer: many small ones are quicker to mutate, and to review.
pub const MEMBER_BYTES_MAX: usize = 4 << 10;

/// One input and its name.
pub struct Member {
    /// The file's name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Member {
    /// Whether it is valid input; others showed a bug.
    pub fn is_seed(&self) -> bool {
        self.name.starts_with("seed-")
    }
}

/// Where a target's corpus stands.
pub fn folder(target: &Target) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "corpus", target.name].iter().collect()
}

/// All members, by name.
///
/// # Errors
/// If the folder or a file in it can't be read.
pub fn load(target: &Target) -> io::Result<Vec<Member>> {
    let mut members = Vec::new();
    for entry in fs::read_dir(folder(target))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        members.push(Member { name, bytes: fs::read(entry.path())? });
    }
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(members)
}

/// Writes the seeds anew; what was found stays.
///
/// # Errors
/// If the folder can't be written.
pub fn make(target: &Target) -> io::Result<usize> {
    let folder = folder(target);
    fs::create_dir_all(&folder)?;
    for old in load(target)?.into_iter().filter(Member::is_seed) {
        fs::remove_file(folder.join(old.name))?;
    }
    let seeds = (target.seeds)();
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:02}")), seed)?;
    }
    Ok(seeds.len())
}

/// Keeps an input that shows a bug, and says under which name.
///
/// # Errors
/// If the folder can't be written.
pub fn keep(target: &Target, bytes: &[u8]) -> io::Result<PathBuf> {
    let path = folder(target).join(format!("found-{:08x}", crc32c::crc32c(bytes)));
    fs::write(&path, bytes)?;
    Ok(path)
}

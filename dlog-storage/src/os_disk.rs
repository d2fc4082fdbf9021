//! [`OsDisk`]: the operating system's files below one folder. The only file of this crate that touches `std::fs`.

use crate::disk::{Disk, DiskFile};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Parts given to one `pwritev`: Linux takes at most 1024, and takes none of them beyond that.
const PARTS_PER_CALL_MAX: usize = 1024;

/// The files below one folder of the operating system. Clones share the folder's name, nothing else.
#[derive(Clone, Debug)]
pub struct OsDisk {
    root: Arc<PathBuf>,
}

/// An open file of the operating system.
#[derive(Debug)]
pub struct OsFile {
    file: File,
}

impl OsDisk {
    /// The files below `root`, which is made if it is missing.
    ///
    /// # Errors
    /// What the system says of the folder.
    pub fn new(root: impl AsRef<Path>) -> io::Result<OsDisk> {
        fs::create_dir_all(root.as_ref())?;
        Ok(OsDisk { root: Arc::new(root.as_ref().to_owned()) })
    }

    /// The folder that paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// An empty path is the root itself; absolute paths and `..` would leave it.
    fn path(&self, relative: &str) -> io::Result<PathBuf> {
        if relative.starts_with('/') || relative.split('/').any(|part| part == "..") {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("path {relative} leaves the folder")));
        }
        Ok(self.root.join(relative))
    }
}

impl Disk for OsDisk {
    type File = OsFile;

    fn open(&self, path: &str) -> io::Result<OsFile> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(path)?)?;
        Ok(OsFile { file })
    }

    fn create(&self, path: &str) -> io::Result<OsFile> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.path(path)?)?;
        Ok(OsFile { file })
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(path)?)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(path)?)? {
            let name = entry?.file_name().into_string();
            names.push(name.map_err(|name| {
                let what = format!("the name {} is not UTF-8, so it is not ours: move it away", name.display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?);
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from)?, self.path(to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path)?)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        fs::remove_dir(self.path(path)?)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        File::open(self.path(path)?)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(self.root.as_path())?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

impl DiskFile for OsFile {
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], position + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn read_vec(&self, bytes: usize, position: u64) -> io::Result<Vec<u8>> {
        let mut into = Vec::with_capacity(bytes);
        while into.len() < bytes {
            let at = position + into.len() as u64;
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut into), at) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // An allocator may give more than was asked for.
        into.truncate(bytes);
        Ok(into)
    }

    fn write_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        let mut position = position;
        for chunk in parts.chunks(PARTS_PER_CALL_MAX) {
            let mut slices: Vec<IoSlice<'_>> = chunk.iter().map(|part| IoSlice::new(part)).collect();
            let mut rest = slices.as_mut_slice();
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.file, rest, position) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        position += count as u64;
                        IoSlice::advance_slices(&mut rest, count);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_promises_of_a_disk() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        crate::disk_conformance::check(&OsDisk::new(folder.path()).expect("the folder is there"));
    }

    #[test]
    fn a_path_stays_below_the_root() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let disk = OsDisk::new(folder.path()).expect("the folder is there");
        for path in ["/etc/x", "../x", "a/../../x"] {
            assert_eq!(disk.create(path).expect_err("leaves the root").kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn more_parts_than_one_call_takes() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let disk = OsDisk::new(folder.path()).expect("the folder is there");
        let file = disk.create("parts").expect("created");
        let bytes: Vec<[u8; 2]> = (0..3000u16).map(u16::to_le_bytes).collect();
        let parts: Vec<&[u8]> = bytes.iter().map(|part| part.as_slice()).collect();
        file.write_at(&parts, 7).expect("written");
        let mut back = vec![0u8; 6007];
        assert_eq!(file.read_at(&mut back, 0).expect("read"), 6007);
        assert_eq!(&back[7..], bytes.concat());
    }
}

//! `Counted`: a disk that counts what is asked of it.

use dlog_storage::{Disk, DiskFile};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was asked of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads of files.
    pub reads: u64,
    /// Bytes asked for by them.
    pub read_bytes: u64,
    /// Bytes of the largest.
    pub largest_read: u64,
    /// Syncs of files and of folders.
    pub syncs: u64,
}

#[derive(Debug, Default)]
struct Counters {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    largest_read: AtomicU64,
    syncs: AtomicU64,
}

/// A disk, counted. Clones share the counts.
#[derive(Clone, Debug)]
pub struct Counted<D> {
    inner: D,
    counters: Arc<Counters>,
}

/// A file of it.
#[derive(Debug)]
pub struct CountedFile<F> {
    inner: F,
    counters: Arc<Counters>,
}

impl<D> Counted<D> {
    /// Counts from zero.
    pub fn new(inner: D) -> Counted<D> {
        Counted { inner, counters: Arc::default() }
    }

    /// What was asked since the last call.
    pub fn take(&self) -> Counts {
        Counts {
            reads: self.counters.reads.swap(0, Ordering::Relaxed),
            read_bytes: self.counters.read_bytes.swap(0, Ordering::Relaxed),
            largest_read: self.counters.largest_read.swap(0, Ordering::Relaxed),
            syncs: self.counters.syncs.swap(0, Ordering::Relaxed),
        }
    }

    fn file<F>(&self, inner: F) -> CountedFile<F> {
        CountedFile { inner, counters: Arc::clone(&self.counters) }
    }
}

impl<D: Disk> Disk for Counted<D> {
    type File = CountedFile<D::File>;

    fn open(&self, path: &str) -> io::Result<Self::File> {
        Ok(self.file(self.inner.open(path)?))
    }

    fn create(&self, path: &str) -> io::Result<Self::File> {
        Ok(self.file(self.inner.create(path)?))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.inner.list(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.inner.remove_dir(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync_dir(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }
}

impl<F: DiskFile> DiskFile for CountedFile<F> {
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        let bytes = into.len() as u64;
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        self.counters.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counters.largest_read.fetch_max(bytes, Ordering::Relaxed);
        self.inner.read_at(into, position)
    }

    fn write_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        self.inner.write_at(parts, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}

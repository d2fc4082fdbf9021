//! Small files that are read and written whole, with magic, version and checksum.

use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use std::io;
use std::ops::RangeInclusive;

/// Such a file is never larger: what a damaged length can make us allocate.
const BYTES_MAX: u64 = 16 << 20;

/// `name` in the folder `root`, which is empty for the disk's own root.
pub(crate) fn join(root: &str, name: &str) -> String {
    if root.is_empty() { name.to_string() } else { format!("{root}/{name}") }
}

/// The file's bytes; `None` if there is no such file.
pub(crate) fn read<D: Disk>(disk: &D, path: &str) -> Result<Option<Vec<u8>>, StorageError> {
    let file = match disk.open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|e| StorageError::io("open", path, e))?,
    };
    let length = file.len().map_err(|e| StorageError::io("read the length of", path, e))?;
    let mut bytes = vec![0; length.min(BYTES_MAX) as usize];
    let have = file.read_at(&mut bytes, 0).map_err(|e| StorageError::io("read", path, e))?;
    bytes.truncate(have);
    Ok(Some(bytes))
}

/// Writes the file durably, so that after a crash the old or the new one is there, whole.
pub(crate) fn replace<D: Disk>(disk: &D, root: &str, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
    let (path, temporary) = (join(root, name), join(root, &format!("{name}.tmp")));
    match disk.remove(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(StorageError::io("remove", &temporary, e)),
        _ => {}
    }
    let file = disk.create(&temporary).map_err(|e| StorageError::io("create", &temporary, e))?;
    file.write_at(&[bytes], 0).map_err(|e| StorageError::io("write", &temporary, e))?;
    file.sync_data().map_err(|e| StorageError::sync(&temporary, e))?;
    disk.rename(&temporary, &path).map_err(|e| StorageError::io("rename", &temporary, e))?;
    disk.sync_dir(root).map_err(|e| StorageError::sync(root, e))
}

/// Puts the checksum behind the bytes.
pub(crate) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// The bytes before the checksum, once that, magic and version (at position 8) are found right.
pub(crate) fn open<'a>(bytes: &'a [u8], magic: &[u8; 8], versions: RangeInclusive<u32>) -> Result<&'a [u8], String> {
    if bytes.len() < 16 || &bytes[..8] != magic {
        return Err("it does not begin with its magic number".to_string());
    }
    let (body, stored) = bytes.split_at(bytes.len() - 4);
    if crc32c::crc32c(body).to_le_bytes() != stored {
        return Err("its checksum does not match".to_string());
    }
    match u32_at(body, 8) {
        found if versions.contains(&found) => Ok(body),
        found => Err(format!("its version {found} is not known; use the dlog that wrote it")),
    }
}

/// The little-endian number at `at`, which must be there.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// As [`u32_at`].
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Takes so many bytes off the front.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or("it ends too early")?;
    *bytes = rest;
    Ok(*head)
}

//! The clean-shutdown manifest: says that a shard was closed in order. Only a hint (recovery runs all the same), so it is
//! bincode: a file that a node writes for itself and can do without.
//!
//! ```text
//! position  size  field, integers little-endian
//!        0     8  magic "DLOGSTOP"
//!        8     2  version, 1
//!       10     2  reserved, 0
//!       12     4  bytes of the body
//!       16     4  CRC32C over bytes 0..16 and the body
//!       20        body: bincode 2, standard configuration, of [`Manifest`]
//! ```

use crate::aside::remove_if_there;
use crate::checkpoint::replace_file;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::journal::file::read_whole;
use std::io::ErrorKind;

const NAME: &str = "clean-stop";
const MAGIC: [u8; 8] = *b"DLOGSTOP";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 20;
const CRC_AT: usize = 16;

/// What was true at the stop. A start that finds something else takes the manifest for stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Manifest {
    /// Sequence of the last checkpoint.
    pub sequence: u64,
    /// The last journal group.
    pub group: u64,
}

fn encode(manifest: &Manifest) -> Vec<u8> {
    let body = bincode::encode_to_vec(manifest, bincode::config::standard()).expect("two numbers can be encoded");
    let mut out = vec![0u8; HEADER_BYTES];
    out[0..8].copy_from_slice(&MAGIC);
    out[8..10].copy_from_slice(&VERSION.to_le_bytes());
    out[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[..CRC_AT]), &body);
    out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&body);
    out
}

fn decode(bytes: &[u8]) -> Option<Manifest> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..CRC_AT]), body);
    let good = header[0..8] == MAGIC
        && header[8..10] == VERSION.to_le_bytes()
        && header[12..16] == (body.len() as u32).to_le_bytes()
        && header[CRC_AT..] == crc.to_le_bytes();
    let (manifest, used) = bincode::decode_from_slice(body, bincode::config::standard()).ok().filter(|_| good)?;
    (used == body.len()).then_some(manifest)
}

/// Writes and syncs it into the shard's folder.
///
/// # Errors
/// The disk's.
pub fn write<D: Disk>(disk: &D, dir: &str, manifest: &Manifest) -> Result<(), StorageError> {
    replace_file(disk, dir, NAME, &[&encode(manifest)])
}

/// Reads and removes it: whatever happens from now on, it is not true any more. A damaged one is none.
///
/// # Errors
/// The disk's.
pub fn take<D: Disk>(disk: &D, dir: &str) -> Result<Option<Manifest>, StorageError> {
    let path = format!("{dir}/{NAME}");
    let found = match disk.open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io("open", &path, error)),
        Ok(_) => decode(&read_whole(disk, &path)?),
    };
    remove_if_there(disk, &path)?;
    disk.sync_dir(dir).map_err(|error| StorageError::sync(dir, error))?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::SimDisk;
    use proptest::prelude::*;

    /// The bytes of version 1: a change here breaks every data directory.
    #[test]
    fn golden_bytes() {
        let hex: String = encode(&Manifest { sequence: 7, group: 300 }).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(&hex[..32], "444c4f4753544f500100000004000000");
        assert_eq!(&hex[40..], "07fb2c01");
    }

    #[test]
    fn is_taken_once() {
        let disk = SimDisk::with_seed(1);
        let manifest = Manifest { sequence: 3, group: 9 };
        assert_eq!(take(&disk, "").expect("read"), None);
        write(&disk, "", &manifest).expect("written");
        disk.crash();
        assert_eq!(take(&disk, "").expect("read"), Some(manifest));
        disk.crash();
        assert_eq!(take(&disk, "").expect("read"), None);
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_found(sequence in any::<u64>(), group in any::<u64>(), bit in any::<prop::sample::Index>()) {
            let manifest = Manifest { sequence, group };
            let mut bytes = encode(&manifest);
            prop_assert_eq!(decode(&bytes), Some(manifest));
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(&bytes), None);
        }
    }
}

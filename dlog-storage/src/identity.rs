//! `Identity`: who a data directory belongs to (file `identity`).
//!
//! Written whole: a new file, synced, renamed over the old one, the folder synced. All integers little-endian:
//!
//! ```text
//! position  size  field
//!        0     8  magic "DLOGIDN\0"
//!        8     4  version, 2
//!       12     4  bytes in all
//!       16    16  cluster id, 0 before bootstrap
//!       32    16  directory id
//!       48     4  node id, 0 if not known yet
//!       52     2  shards
//!       54     2  members of the bootstrap set
//!       56     8  boot number
//!       64     8  boot's random value
//!       72        name: length u16, UTF-8; then for each member: name (likewise), directory id;
//!                 then the boots before: count u16, their random values, u64 each, the latest first
//!      end     4  CRC32C over all before
//! ```
//!
//! Version 1, without the boots before, is still read.

use crate::Disk;
use crate::earlier_boots::EarlierBoots;
use crate::error::StorageError;
use crate::whole_file::{self, take};
use dlog_core::NodeId;
use std::fmt;

/// The cluster's id: a hash of its bootstrap set. All zero before bootstrap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClusterId(pub [u8; 16]);

/// A data directory's own id, drawn when it is made: a wiped directory is another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DirectoryId(pub [u8; 16]);

macro_rules! hex {
    ($name:ident, $prefix:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self)
            }
        }
    };
}

hex!(ClusterId, "cluster:");
hex!(DirectoryId, "directory:");

/// One start of a node: the number rises with each, the random value tells a restored copy of the directory apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Boot {
    /// From 1 up; 0 before the first start.
    pub number: u64,
    /// Drawn at each start.
    pub random: u64,
}

/// One member of the set that made the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootstrapMember {
    /// The node's name.
    pub name: String,
    /// Its data directory.
    pub directory: DirectoryId,
}

/// What a data directory says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; zero before bootstrap.
    pub cluster: ClusterId,
    /// This directory.
    pub directory: DirectoryId,
    /// The node; 0 until it is known.
    pub node: NodeId,
    /// The node's name, chosen by its operator.
    pub name: String,
    /// How many shards the directory has; fixed when it is made.
    pub shards: u16,
    /// The set that made the cluster, sorted by name; empty before bootstrap, and on nodes that joined later.
    pub bootstrap: Vec<BootstrapMember>,
    /// The latest start.
    pub boot: Boot,
    /// Those before it.
    pub earlier: EarlierBoots,
}

const IDENTITY_FILE: &str = "identity";
const IDENTITY_MAGIC: &[u8; 8] = b"DLOGIDN\0";
const VERSION: u32 = 2;
/// The oldest version that is read.
const VERSION_FIRST: u32 = 1;
const FIXED_BYTES: usize = 72;
const CRC_BYTES: usize = 4;

impl Identity {
    /// The identity of a directory that is being made: no cluster, no node id, no start yet.
    pub fn new(name: &str, shards: u16, directory: DirectoryId) -> Identity {
        Identity {
            cluster: ClusterId::default(),
            directory,
            node: NodeId(0),
            name: name.to_string(),
            shards,
            bootstrap: Vec::new(),
            boot: Boot::default(),
            earlier: EarlierBoots::default(),
        }
    }

    /// The identity of the directory `root` of `disk` (empty: the disk's root); `None` if it has none yet.
    ///
    /// # Errors
    /// [`StorageError::NeedsOperator`] if it is damaged or of another version; [`StorageError::Io`].
    pub fn load<D: Disk>(disk: &D, root: &str) -> Result<Option<Identity>, StorageError> {
        let path = whole_file::join(root, IDENTITY_FILE);
        let Some(bytes) = whole_file::read(disk, &path)? else { return Ok(None) };
        Identity::decode(&bytes).map(Some).map_err(|what| StorageError::NeedsOperator {
            path,
            detail: format!(
                "{what}; without it the node can't tell whose data this is. Move the directory away and replace the node as a new \
                 one. Only a single node may take the file back from a backup: peers refuse an older one"
            ),
        })
    }

    /// Writes it durably.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] if a name or a count is too large; [`StorageError::Io`], [`StorageError::Full`] (the old
    /// one stays), [`StorageError::SyncFailed`].
    pub fn save<D: Disk>(&self, disk: &D, root: &str) -> Result<(), StorageError> {
        let long = |name: &String| name.len() > usize::from(u16::MAX);
        if long(&self.name) || self.bootstrap.iter().any(|member| long(&member.name)) || self.bootstrap.len() > 0xffff {
            return Err(StorageError::Invalid { detail: "a name or the bootstrap set is too long".to_string() });
        }
        whole_file::replace(disk, root, IDENTITY_FILE, &self.encode())
    }

    /// Begins a start: the next number, with a new random value. [`Identity::save`] it before any peer hears of it.
    pub fn begin_boot(&mut self, random: u64) -> Boot {
        if self.boot.number > 0 {
            self.earlier.push(self.boot.random);
        }
        self.boot = Boot { number: self.boot.number + 1, random };
        self.boot
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(IDENTITY_MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(&self.directory.0);
        bytes.extend_from_slice(&self.node.0.to_le_bytes());
        bytes.extend_from_slice(&self.shards.to_le_bytes());
        bytes.extend_from_slice(&(self.bootstrap.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&self.boot.number.to_le_bytes());
        bytes.extend_from_slice(&self.boot.random.to_le_bytes());
        put_name(&mut bytes, &self.name);
        for member in &self.bootstrap {
            put_name(&mut bytes, &member.name);
            bytes.extend_from_slice(&member.directory.0);
        }
        let earlier = self.earlier.values();
        bytes.extend_from_slice(&(earlier.len() as u16).to_le_bytes());
        for random in earlier {
            bytes.extend_from_slice(&random.to_le_bytes());
        }
        let total = (bytes.len() + CRC_BYTES) as u32;
        bytes[12..16].copy_from_slice(&total.to_le_bytes());
        whole_file::seal(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Identity, String> {
        let body = whole_file::open(bytes, IDENTITY_MAGIC, VERSION_FIRST..=VERSION)?;
        if body.len() < FIXED_BYTES || whole_file::u32_at(body, 12) as usize != bytes.len() {
            return Err("the identity has another length than it says".to_string());
        }
        let members = u16::from_le_bytes([body[54], body[55]]);
        let mut rest = &body[FIXED_BYTES..];
        let name = take_name(&mut rest)?;
        let mut bootstrap = Vec::new();
        for _ in 0..members {
            let name = take_name(&mut rest)?;
            bootstrap.push(BootstrapMember { name, directory: DirectoryId(take(&mut rest)?) });
        }
        let with_earlier = whole_file::u32_at(body, 8) > VERSION_FIRST;
        let count = if with_earlier { u16::from_le_bytes(take(&mut rest)?) } else { 0 };
        let mut earlier = Vec::new();
        for _ in 0..count {
            earlier.push(u64::from_le_bytes(take(&mut rest)?));
        }
        if !rest.is_empty() {
            return Err("bytes stand behind the earlier boots".to_string());
        }
        let mut ids = &body[16..48];
        Ok(Identity {
            cluster: ClusterId(take(&mut ids)?),
            directory: DirectoryId(take(&mut ids)?),
            node: NodeId(whole_file::u32_at(body, 48)),
            name,
            shards: u16::from_le_bytes([body[52], body[53]]),
            bootstrap,
            boot: Boot { number: whole_file::u64_at(body, 56), random: whole_file::u64_at(body, 64) },
            earlier: EarlierBoots::new(earlier),
        })
    }
}

fn put_name(bytes: &mut Vec<u8>, name: &str) {
    bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
    bytes.extend_from_slice(name.as_bytes());
}

fn take_name(bytes: &mut &[u8]) -> Result<String, String> {
    let length = usize::from(u16::from_le_bytes(take(bytes)?));
    let (name, rest) = bytes.split_at_checked(length).ok_or("it ends within a name")?;
    *bytes = rest;
    String::from_utf8(name.to_vec()).map_err(|_| "a name is not UTF-8".to_string())
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;

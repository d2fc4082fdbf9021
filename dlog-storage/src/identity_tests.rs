//! Tests of the identity.

use super::*;
use crate::SimDisk;
use proptest::prelude::*;

fn sample() -> Identity {
    Identity {
        cluster: ClusterId([1; 16]),
        directory: DirectoryId([2; 16]),
        node: NodeId(3),
        name: "n1".to_string(),
        shards: 4,
        bootstrap: vec![BootstrapMember { name: "n1".to_string(), directory: DirectoryId([2; 16]) }],
        boot: Boot { number: 5, random: 6 },
        earlier: EarlierBoots::new(vec![7, 8]),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of version 2: a change here breaks every data directory.
#[test]
fn golden_bytes() {
    let expected = concat!(
        "444c4f4749444e00",
        "02000000",
        "76000000",
        "01010101010101010101010101010101",
        "02020202020202020202020202020202",
        "03000000",
        "0400",
        "0100",
        "0500000000000000",
        "0600000000000000",
        "02006e31",
        "02006e31",
        "02020202020202020202020202020202",
        "0200",
        "0700000000000000",
        "0800000000000000",
    );
    let bytes = sample().encode();
    assert_eq!(hex(&bytes[..bytes.len() - 4]), expected);
    assert_eq!(&bytes[bytes.len() - 4..], crc32c::crc32c(&bytes[..bytes.len() - 4]).to_le_bytes());
}

/// A file as versions before this one wrote it.
#[test]
fn version_1_is_read() {
    let mut bytes = Identity { earlier: EarlierBoots::default(), ..sample() }.encode();
    bytes.truncate(bytes.len() - CRC_BYTES - 2);
    let length = (bytes.len() + CRC_BYTES) as u32;
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    let mut identity = Identity::decode(&whole_file::seal(bytes)).expect("it is read");
    assert_eq!(identity, Identity { earlier: EarlierBoots::default(), ..sample() });
    identity.begin_boot(7);
    assert_eq!(identity.earlier.values(), [6]);
}

#[test]
fn an_identity_survives_power_loss_once_saved() {
    let disk = SimDisk::with_seed(1);
    assert_eq!(Identity::load(&disk, "").expect("nothing there"), None);
    let mut identity = sample();
    identity.save(&disk, "").expect("saved");
    disk.crash();
    assert_eq!(Identity::load(&disk, "").expect("readable"), Some(identity.clone()));
    assert_eq!(identity.begin_boot(9), Boot { number: 6, random: 9 });
    identity.save(&disk, "").expect("saved over the old one");
    disk.crash();
    assert_eq!(Identity::load(&disk, "").expect("readable"), Some(identity));
}

#[test]
fn a_damaged_identity_needs_the_operator() {
    let disk = SimDisk::with_seed(2);
    sample().save(&disk, "").expect("saved");
    disk.flip("identity", 40, 1);
    assert!(matches!(Identity::load(&disk, ""), Err(StorageError::NeedsOperator { .. })));
}

fn any_boots() -> impl Strategy<Value = (u64, u64, Vec<u64>)> {
    (any::<u64>(), any::<u64>(), proptest::collection::vec(any::<u64>(), 0..70))
}

fn any_identity() -> impl Strategy<Value = Identity> {
    let member = ("[a-z]{0,5}", any::<[u8; 16]>());
    let members = proptest::collection::vec(member, 0..4);
    (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u32>(), "\\PC{0,9}", any::<u16>(), members, any_boots()).prop_map(
        |(cluster, directory, node, name, shards, members, (number, random, earlier))| Identity {
            cluster: ClusterId(cluster),
            directory: DirectoryId(directory),
            node: NodeId(node),
            name,
            shards,
            bootstrap: members
                .into_iter()
                .map(|(name, id)| BootstrapMember { name, directory: DirectoryId(id) })
                .collect(),
            boot: Boot { number, random },
            earlier: EarlierBoots::new(earlier),
        },
    )
}

proptest! {
    #[test]
    fn round_trip(identity in any_identity()) {
        prop_assert_eq!(Identity::decode(&identity.encode()), Ok(identity));
    }

    #[test]
    fn a_flipped_bit_is_found(identity in any_identity(), bit in any::<proptest::sample::Index>()) {
        let mut bytes = identity.encode();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Identity::decode(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Identity::decode(&bytes);
        let _ = Identity::decode(&whole_file::seal([IDENTITY_MAGIC.as_slice(), &[1, 0, 0, 0], &bytes].concat()));
    }
}

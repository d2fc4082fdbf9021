//! Tests of a state's encoding and of its parts.

use super::*;
use proptest::prelude::*;

fn image(entries: &[(&[u8], &[u8])]) -> StateImage {
    StateImage::of_entries(entries.iter().map(|(k, v)| (Bytes::copy_from_slice(k), Bytes::copy_from_slice(v))))
}

fn assemble(image: &StateImage) -> Option<StateImage> {
    let mut assembly = Assembly::of(&image.part(0));
    while !assembly.is_whole() {
        let part = image.part(assembly.have());
        assert!(assembly.is_of(&part));
        let wire = StatePartProto::decode(part.to_proto().encode_to_vec().as_slice()).expect("own bytes");
        assembly.take(&StatePart::from_proto(wire).expect("a valid part"));
    }
    assembly.finish()
}

#[test]
fn golden_bytes() {
    let image = image(&[(b"a", b"1"), (b"b", b"")]);
    assert_eq!(&image.bytes[..], b"\x08\x01\x12\x06\x0a\x01a\x12\x011\x12\x03\x0a\x01b");
    let part = image.part(12).to_proto().encode_to_vec();
    assert_eq!(part, [&[8, 15, 21][..], &image.crc.to_le_bytes(), &[24, 12, 34, 3, 10, 1, 98]].concat());
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let good = image(&[(b"key", b"value")]).part(0);
    assert_eq!(StatePart::from_proto(good.to_proto()), Ok(good.clone()));
    let broken = |change: fn(&mut StatePartProto)| {
        let mut proto = good.to_proto();
        change(&mut proto);
        StatePart::from_proto(proto)
    };
    assert!(broken(|part| part.total = 0).is_err());
    assert!(broken(|part| part.total = STATE_BYTES_MAX as u64 + 1).is_err());
    assert!(broken(|part| part.total = u64::MAX).is_err());
    assert!(broken(|part| part.offset = part.total + 1).is_err());
    assert!(broken(|part| part.offset = 1).is_err());
    let long = StatePartProto { total: 1 << 21, crc: 0, offset: 0, bytes: vec![0; STATE_PART_BYTES + 1].into() };
    assert!(StatePart::from_proto(long).is_err());
    let newer = StateImage::of_bytes(Bytes::from_static(&[8, 2]));
    assert_eq!(newer.entries(), Err(StateImageError::Version(2)));
    assert!(matches!(StateImage::of_bytes(Bytes::from_static(&[255])).entries(), Err(StateImageError::Encoding(_))));
}

#[test]
fn bytes_that_changed_on_the_way_are_no_image() {
    let image = image(&[(b"key", b"value")]);
    let mut part = image.part(0);
    let mut assembly = Assembly::of(&part);
    let mut bytes = part.bytes.to_vec();
    bytes[5] ^= 1;
    part.bytes = bytes.into();
    assembly.take(&part);
    assert!(assembly.is_whole());
    assert_eq!(assembly.finish(), None);
}

/// What 200,000 partitions may have, and more than one message may.
#[test]
fn a_large_state_goes_in_parts() {
    let key = |n: u32| Bytes::from(format!("partition/{n:012}"));
    let entries: Vec<(Bytes, Bytes)> = (0..200_000).map(|n| (key(n), Bytes::from(vec![7; 100]))).collect();
    let image = StateImage::of_entries(entries.clone());
    assert!(image.len() > 24 << 20, "{}", image.len());
    let again = assemble(&image).expect("the same bytes");
    assert_eq!(again, image);
    assert_eq!(again.entries(), Ok(entries));
}

proptest! {
    #[test]
    fn images_round_trip(entries in proptest::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..20)) {
        let entries: Vec<(Bytes, Bytes)> = entries.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        let image = StateImage::of_entries(entries.clone());
        let again = assemble(&image).expect("the same bytes");
        prop_assert_eq!(again.entries(), Ok(entries));
    }

    #[test]
    fn any_bytes_are_a_state_or_none(bytes in any::<Vec<u8>>()) {
        let _ = StateImage::of_bytes(bytes.into()).entries();
    }

    /// Parts may come twice, late and from the middle.
    #[test]
    fn only_the_next_part_is_taken(offsets in proptest::collection::vec(0usize..40, 0..60)) {
        let image = StateImage::of_entries([(Bytes::from_static(b"k"), Bytes::from(vec![9; 30]))]);
        let mut assembly = Assembly::of(&image.part(0));
        for offset in offsets {
            let mut part = image.part(offset);
            part.bytes.truncate(3);
            assembly.take(&part);
        }
        while !assembly.is_whole() {
            assembly.take(&image.part(assembly.have()));
        }
        prop_assert_eq!(assembly.finish(), Some(image));
    }
}

//! Property tests of batches: what holds for any records, any damage and any bytes.

use super::tests::{built, read, records_of, resealed};
use super::*;
use crate::{Record, record};
use proptest::prelude::*;

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    proptest::collection::vec(record::tests::any_record(), 1..30)
}

fn any_codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(&Codec::ALL[..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn attributes_round_trip(bits in any::<i16>()) {
        if let Some(attributes) = Attributes::from_bits(bits) {
            prop_assert_eq!(attributes.to_bits(), bits);
        } else {
            prop_assert!(bits & !0x7f != 0 || bits & 7 > 4);
        }
    }

    #[test]
    fn records_round_trip(records in any_records(), codec in any_codec()) {
        let mut builder = BatchBuilder::new(codec).producer(ProducerId(3), 1, 9);
        for record in &records {
            let with = builder.estimated_bytes_with(record);
            builder.push(record).expect("a small record");
            prop_assert_eq!(builder.estimated_bytes(), with);
        }
        let estimated = builder.estimated_bytes();
        let batch = builder.build().expect("a working codec");
        prop_assert!(batch.len() <= estimated);
        prop_assert!(codec != Codec::None || batch.len() == estimated);
        let header = validate_records(&batch).expect("own bytes");
        prop_assert_eq!(header, validate(&batch, BatchLimits::HARD).expect("own bytes"));
        prop_assert_eq!(header.record_count as usize, records.len());
        prop_assert_eq!(Some(header.max_timestamp), records.iter().map(|r| r.timestamp).max());
        prop_assert_eq!(&header.encode()[..], &batch[..BATCH_HEADER_BYTES]);
        prop_assert_eq!(records_of(&batch), records);
    }

    #[test]
    fn stamping_keeps_records_and_validity(
        records in any_records(),
        codec in any_codec(),
        offset in 0..=Offset::MAX.0 - 100,
        term in 0..=i32::MAX as u64,
        append_time in proptest::option::of(any::<i64>().prop_map(TimestampMs)),
    ) {
        let batch = built(codec, &records);
        let stamped = stamp(&batch, Offset(offset), Term(term), append_time);
        let header = validate_records(&stamped).expect("still valid");
        prop_assert_eq!((header.base_offset, header.term()), (Offset(offset), Some(Term(term))));
        prop_assert_eq!(header.next_offset(), Offset(offset + records.len() as u64));
        prop_assert_eq!(&stamped[BATCH_HEADER_BYTES..], &batch[BATCH_HEADER_BYTES..]);
        if append_time.is_none() {
            prop_assert_eq!(&stamped[16..], &batch[16..]);
        }
        let mut in_place = batch.to_vec();
        stamp_in_place(&mut in_place, Offset(offset), Term(term), append_time);
        prop_assert_eq!(&stamped[..], &in_place[..]);
        for (i, (read, written)) in read(&stamped).expect("still valid").into_iter().zip(&records).enumerate() {
            prop_assert_eq!(read.offset, Offset(offset + i as u64));
            prop_assert_eq!(read.record.timestamp, append_time.unwrap_or(written.timestamp));
            prop_assert_eq!(&read.record.value, &written.value);
        }
    }

    /// One flipped bit in the covered bytes, in the CRC, in the length or in the magic is always found.
    #[test]
    fn a_flipped_bit_is_found(records in any_records(), codec in any_codec(), bit in any::<proptest::sample::Index>()) {
        let mut bytes = built(codec, &records).to_vec();
        let positions: Vec<usize> = (8..12).chain(16..bytes.len()).collect();
        let bit = bit.index(positions.len() * 8);
        bytes[positions[bit / 8]] ^= 1 << (bit % 8);
        prop_assert!(validate(&bytes, BatchLimits::HARD).is_err());
        prop_assert!(validate_records(&bytes).is_err());
        // Whoever doesn't check the CRC gets errors or other records, never a panic.
        if let Ok(records) = decode_records(&Bytes::from(bytes)) {
            prop_assert!(records.count() <= RECORDS_PER_BATCH_MAX as usize);
        }
    }

    #[test]
    fn a_cut_batch_is_found(records in any_records(), codec in any_codec(), cut in any::<proptest::sample::Index>()) {
        let bytes = built(codec, &records);
        let cut = bytes.slice(..cut.index(bytes.len()));
        prop_assert!(validate(&cut, BatchLimits::HARD).is_err());
        prop_assert!(decode_records(&cut).is_err());
    }

    /// Damage whose CRC was made to fit: the records are still read within their bounds.
    #[test]
    fn damage_with_a_good_crc_is_answered(
        records in any_records(),
        codec in any_codec(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = built(codec, &records).to_vec();
        for (at, byte) in changes {
            let at = BATCH_CRC_START + at.index(bytes.len() - BATCH_CRC_START);
            bytes[at] = byte;
        }
        let bytes = resealed(bytes);
        let strict = validate_records(&bytes);
        let lenient = read(&bytes);
        if strict.is_ok() {
            prop_assert!(lenient.is_ok(), "what validation takes must be readable: {:?}", lenient);
        }
    }

    #[test]
    fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..200), shaped in any::<bool>()) {
        let mut bytes = body;
        if shaped && bytes.len() >= BATCH_HEADER_BYTES {
            let length = (bytes.len() - BATCH_LENGTH_END) as u32;
            bytes[0] &= 0x7f;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = BATCH_MAGIC as u8;
            bytes[21] = 0;
            bytes[22] &= 0x0c;
            write_crc(&mut bytes);
        }
        let bytes = Bytes::from(bytes);
        if validate_records(&bytes).is_ok() {
            prop_assert!(read(&bytes).is_ok());
        } else if let Ok(records) = decode_records(&bytes) {
            for record in records {
                drop(record);
            }
        }
    }
}

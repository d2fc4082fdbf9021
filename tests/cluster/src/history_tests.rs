//! The checker must find each kind of broken promise, and nothing in a good history.

use super::*;

const fn value(counter: u32) -> Value {
    Value { writer: 1, counter }
}

fn acked(counter: u32, offset: u64) -> Write {
    Write { value: value(counter), partition: 0, known: None, told: Told::Acked(offset) }
}

fn reading(records: &[(u64, u32)]) -> Reading {
    let records = records.iter().map(|&(offset, counter)| (offset, value(counter))).collect();
    Reading { reader: "r".into(), partition: 0, records }
}

fn found(writes: &[Write], readings: &[Reading]) -> Vec<Anomaly> {
    check(&History { writes: writes.to_vec(), readings: readings.to_vec() }).anomalies
}

#[test]
fn a_good_history_passes() {
    let unknown = Write { told: Told::Unknown, ..acked(2, 0) };
    let rejected = Write { told: Told::Rejected, ..acked(3, 0) };
    let writes = [acked(0, 0), acked(1, 1), unknown, rejected, Write { known: Some(2), ..acked(4, 3) }];
    let readings = [reading(&[(0, 0), (1, 1), (2, 2), (3, 4)]), reading(&[(1, 1), (2, 2)]), reading(&[])];
    let verdict = check(&History { writes: writes.to_vec(), readings: readings.to_vec() });
    assert_eq!(verdict, Verdict { anomalies: vec![], told: [3, 1, 1], unknown_read: 1, read: 6 });
}

#[test]
fn other_partitions_and_writers_are_told_apart() {
    let other = Value { writer: 2, counter: 0 };
    let writes = [acked(5, 0), Write { value: other, ..acked(0, 1) }, Write { partition: 1, ..acked(0, 0) }];
    let mut first = reading(&[(0, 5)]);
    first.records.push((1, other));
    let second = Reading { partition: 1, ..reading(&[(0, 0)]) };
    assert_eq!(found(&writes, &[first, second]), []);
}

#[test]
fn two_values_at_one_offset() {
    let values = [value(0), value(1)];
    let expected = Anomaly::InconsistentOffset { partition: 0, offset: 0, values };
    let unknown = Write { told: Told::Unknown, ..acked(1, 0) };
    // Seen by two readers, and seen where another was acked.
    assert!(found(&[acked(0, 0), unknown], &[reading(&[(0, 0)]), reading(&[(0, 1)])]).contains(&expected));
    assert!(found(&[acked(0, 0), unknown], &[reading(&[(0, 1)])]).contains(&expected));
    assert!(found(&[acked(0, 0), acked(1, 0)], &[reading(&[(0, 0)])]).contains(&expected));
}

#[test]
fn a_value_that_stands_twice() {
    let expected = Anomaly::Duplicate { partition: 0, value: value(0), offsets: [0, 1] };
    assert_eq!(found(&[acked(0, 0)], &[reading(&[(0, 0), (1, 0)])]), [expected]);
}

#[test]
fn a_lost_write_and_an_unseen_one() {
    let writes = [acked(0, 0), acked(1, 1), acked(2, 2), acked(3, 3)];
    let readings = [reading(&[(0, 0)]), reading(&[(2, 2)])];
    let lost = Anomaly::LostWrite { partition: 0, value: value(1), offset: 1 };
    let unseen = Anomaly::Unseen { partition: 0, value: value(3), offset: 3 };
    assert_eq!(found(&writes, &readings), [lost, unseen]);
    assert_eq!(found(&writes[..1], &[]).len(), 1, "nobody read at all");
}

#[test]
fn records_that_should_not_be() {
    let rejected = Write { told: Told::Rejected, ..acked(0, 0) };
    let read = Anomaly::RejectedButRead { partition: 0, value: value(0), offset: 0 };
    assert_eq!(found(&[rejected], &[reading(&[(0, 0)])]), [read]);
    let phantom = Anomaly::Phantom { partition: 0, value: value(0), offset: 0 };
    assert_eq!(found(&[], &[reading(&[(0, 0)])]), std::slice::from_ref(&phantom));
    let elsewhere = Write { partition: 1, told: Told::Unknown, ..acked(0, 0) };
    assert_eq!(found(&[elsewhere], &[reading(&[(0, 0)])]), [phantom]);
}

#[test]
fn a_writer_out_of_order() {
    let writes = [acked(0, 1), acked(1, 0)];
    let expected = Anomaly::NonMonotonicSend { partition: 0, earlier: (value(0), 1), later: (value(1), 0) };
    assert_eq!(found(&writes, &[reading(&[(0, 1), (1, 0)])]), std::slice::from_ref(&expected));
    // Also where the acks alone tell, or one of the two was never acked.
    assert!(found(&writes, &[]).contains(&expected));
    let unknown = Write { told: Told::Unknown, ..acked(0, 0) };
    assert_eq!(found(&[unknown, acked(1, 0)], &[reading(&[(0, 1), (1, 0)])]), [expected]);
}

#[test]
fn a_reader_that_goes_back_or_leaps() {
    let writes = [acked(0, 0), acked(1, 1), acked(2, 2)];
    let whole = reading(&[(0, 0), (1, 1), (2, 2)]);
    let back = Anomaly::NonMonotonicPoll { reader: "r".into(), partition: 0, before: 1, then: 1 };
    assert_eq!(found(&writes, &[whole.clone(), reading(&[(0, 0), (1, 1), (1, 1), (2, 2)])]), [back]);
    let skip = Anomaly::PollSkip { reader: "r".into(), partition: 0, before: 0, then: 2 };
    assert_eq!(found(&writes, &[whole, reading(&[(0, 0), (2, 2)])]), [skip]);
}

#[test]
fn an_offset_that_was_taken_before_the_write_was_sent() {
    let late = Write { known: Some(1), ..acked(1, 1) };
    let expected = Anomaly::OffsetFromThePast { partition: 0, value: value(1), offset: 1, known: 1 };
    assert_eq!(found(&[acked(0, 0), late], &[reading(&[(0, 0), (1, 1)])]), [expected]);
}

#[test]
fn values_are_text() {
    let value = Value { writer: 3, counter: 17 };
    assert_eq!(value.text(), "w3-17");
    assert_eq!(Value::parse(b"w3-17"), Some(value));
    assert_eq!(Value::parse(b"w3-17 xxxx"), Some(value));
    assert_eq!([&b"3-17"[..], b"w3", b"w3-x", b"", b"\xff"].map(Value::parse), [None; 5]);
}

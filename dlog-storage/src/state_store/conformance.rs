//! What every [`StateStore`] must do. Each store's tests run it.

use super::{StateChange, StateStore};
use crate::error::StorageError;
use bytes::Bytes;
use dlog_core::LogIndex;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;

/// Runs the suite. `make` gives an empty store, and what opens it again once that is dropped.
pub(super) fn run<S: StateStore, A: Fn() -> S>(make: impl Fn() -> (S, A)) {
    starts_empty(&make().0);
    applied_only_rises(&make().0);
    changes_take_effect_in_order(&make().0);
    a_scan_stays_within_its_prefix(&make().0);
    {
        let (store, again) = make();
        survives_reopening(store, again);
    }
    {
        let (store, again) = make();
        replace_leaves_nothing_behind(store, again);
    }
    takes_a_large_state(&make().0);
    equals_a_map(make);
}

fn put(key: &[u8], value: &[u8]) -> StateChange {
    (key.to_vec(), Some(value.to_vec()))
}

fn starts_empty(store: &impl StateStore) {
    assert_eq!((store.applied(), store.synced_applied()), (LogIndex(0), LogIndex(0)));
    assert_eq!(store.get(b"").expect("read"), None);
    assert_eq!(store.scan(b"").expect("read"), Vec::new());
}

fn applied_only_rises(store: &impl StateStore) {
    store.write(vec![put(b"a", b"1")], LogIndex(5)).expect("written");
    for index in [0, 4, 5] {
        let refused = store.write(vec![put(b"a", b"2")], LogIndex(index));
        assert!(matches!(refused, Err(StorageError::Invalid { .. })), "{refused:?}");
        let refused = store.replace(Vec::new(), LogIndex(index), Bytes::from_static(b"late"));
        assert!(matches!(refused, Err(StorageError::Invalid { .. })), "{refused:?}");
    }
    assert_eq!(store.get(b"a").expect("read"), Some(Bytes::from_static(b"1")));
    store.write(Vec::new(), LogIndex(9)).expect("an empty change moves the index");
    assert_eq!(store.applied(), LogIndex(9));
    assert_eq!(store.sync().expect("synced"), LogIndex(9));
    assert_eq!(store.synced_applied(), LogIndex(9));
}

fn changes_take_effect_in_order(store: &impl StateStore) {
    let changes =
        vec![put(b"k", b"1"), (b"k".to_vec(), None), put(b"k", b"2"), put(b"gone", b"x"), (b"gone".to_vec(), None)];
    store.write(changes, LogIndex(1)).expect("written");
    assert_eq!(store.get(b"k").expect("read"), Some(Bytes::from_static(b"2")));
    assert_eq!(store.get(b"gone").expect("read"), None);
}

fn a_scan_stays_within_its_prefix(store: &impl StateStore) {
    let keys: [&[u8]; 6] = [b"", b"\x00", b"a", b"a\x00", b"a\xff\xff", b"b"];
    store.write(keys.iter().map(|key| put(key, b"v")).collect(), LogIndex(1)).expect("written");
    let found = |prefix: &[u8]| -> Vec<Vec<u8>> {
        store.scan(prefix).expect("read").into_iter().map(|(key, _)| key.to_vec()).collect()
    };
    assert_eq!(found(b"a"), [b"a".to_vec(), b"a\x00".to_vec(), b"a\xff\xff".to_vec()]);
    assert_eq!(found(b"a\xff"), [b"a\xff\xff".to_vec()]);
    assert_eq!(found(b"").len(), keys.len());
    assert_eq!(found(b"c").len(), 0);
}

fn survives_reopening<S: StateStore>(store: S, again: impl Fn() -> S) {
    store.write(vec![put(b"a", b"1")], LogIndex(1)).expect("written");
    store.sync().expect("synced");
    store.write(vec![put(b"b", b"2")], LogIndex(2)).expect("written");
    store.sync().expect("synced");
    drop(store);
    let store = again();
    assert_eq!((store.applied(), store.synced_applied()), (LogIndex(2), LogIndex(2)));
    assert_eq!(store.scan(b"").expect("read").len(), 2);
}

fn replace_leaves_nothing_behind<S: StateStore>(store: S, again: impl Fn() -> S) {
    store.write(vec![put(b"", b"0"), put(b"old", b"1"), put(b"\xff\xff", b"2")], LogIndex(1)).expect("written");
    assert_eq!(store.origin().expect("read"), None, "it has seen every change itself");
    let new = || vec![(b"new".to_vec(), b"3".to_vec())];
    store.replace(new(), LogIndex(7), Bytes::from_static(b"\0from")).expect("replaced");
    assert_eq!(store.synced_applied(), LogIndex(7), "a snapshot is synced");
    drop(store);
    let store = again();
    assert_eq!(store.applied(), LogIndex(7));
    assert_eq!(store.scan(b"").expect("read"), [(Bytes::from_static(b"new"), Bytes::from_static(b"3"))]);
    assert_eq!(store.origin().expect("read"), Some(Bytes::from_static(b"\0from")));
    // It stays with what follows, and goes with the next snapshot.
    store.write(vec![put(b"later", b"4")], LogIndex(8)).expect("written");
    assert!(store.replace(new(), LogIndex(8), Bytes::new()).is_err(), "that would go back");
    assert_eq!(store.origin().expect("read"), Some(Bytes::from_static(b"\0from")));
    store.replace(new(), LogIndex(9), Bytes::from_static(b"other")).expect("replaced");
    assert_eq!(store.origin().expect("read"), Some(Bytes::from_static(b"other")));
    assert_eq!(store.scan(b"").expect("read").len(), 1);
}

/// As many keys as 100,000 partitions have, and as large.
fn takes_a_large_state(store: &impl StateStore) {
    store.write(vec![put(b"partition/old", b"1")], LogIndex(1)).expect("written");
    let entries = (0..100_000u32).map(|n| ([b"partition/12345678", &n.to_be_bytes()[..]].concat(), vec![7; 75]));
    store.replace(entries.clone().collect(), LogIndex(2), Bytes::from_static(b"origin")).expect("replaced");
    let found = store.scan(b"").expect("read");
    assert!(found.into_iter().eq(entries.map(|(key, value)| (Bytes::from(key), Bytes::from(value)))));
    assert_eq!(store.synced_applied(), LogIndex(2));
}

fn equals_a_map<S: StateStore, A: Fn() -> S>(make: impl Fn() -> (S, A)) {
    let key = || proptest::collection::vec(0u8..3, 0..3);
    let change = (key(), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4)));
    let batches = proptest::collection::vec(proptest::collection::vec(change, 0..6), 0..12);
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    let ran = runner.run(&(batches, key()), |(batches, prefix)| {
        let (store, _again) = make();
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (number, changes) in batches.into_iter().enumerate() {
            store.write(changes.clone(), LogIndex(number as u64 + 1)).expect("written");
            for (key, value) in changes {
                match value {
                    Some(value) => model.insert(key, value),
                    None => model.remove(&key),
                };
            }
        }
        let expected: Vec<(Bytes, Bytes)> = model
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix))
            .map(|(key, value)| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))
            .collect();
        prop_assert_eq!(store.scan(&prefix).expect("read"), expected);
        Ok(())
    });
    ran.expect("the store is as the map");
}

//! Decay is drawn from its seed, meets every kind of file, and leaves alone what a node couldn't notice.

use super::*;
use crate::scenes::decay::{SHARD, fill};
use dlog_storage::inspect;
use std::collections::{BTreeMap, BTreeSet};

/// A disk that was worked on, and its bytes.
fn worked_on(seed: u64) -> (SimDisk, BTreeMap<String, Vec<u8>>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let disk = SimDisk::with_seed(seed);
    fill(&disk, &mut random).expect("a healthy disk");
    let bytes = bytes(&disk);
    (disk, bytes)
}

fn bytes(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let files = disk.tree().into_iter().filter(|(_, bytes)| bytes.is_some());
    files.map(|(path, _)| (path.clone(), content(disk, &path))).collect()
}

#[test]
fn the_same_seed_damages_the_same() {
    let run = |seed| {
        let (disk, _) = worked_on(3);
        let decayed = decay(&disk, SHARD, Reach::Proved, &mut fastrand::Rng::with_seed(seed));
        (decayed.expect("there are files"), bytes(&disk))
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn it_says_what_it_did_and_does_nothing_else() {
    let (mut kinds, mut hows) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..200 {
        let (disk, before) = worked_on(seed % 10);
        let random = &mut fastrand::Rng::with_seed(seed);
        let decayed = decay(&disk, SHARD, Reach::Proved, random).expect("there are files");
        let after = bytes(&disk);
        for (path, old) in &before {
            let (place, new) = (decayed.position as usize.., &after[path]);
            let same = |at: usize| !decayed.touches(path, &(at as u64..at as u64 + 1));
            assert!((0..old.len()).filter(|at| same(*at)).all(|at| old[at] == new[at]), "{decayed} touched {path}");
            assert_eq!(old != new, *path == decayed.path, "{decayed}");
            if *path == decayed.path {
                let new = &new[place][..decayed.length as usize];
                match &decayed.how {
                    How::Flipped(mask) => assert_eq!(new, [old[decayed.position as usize] ^ mask]),
                    How::Misdirected { from, position } => {
                        assert_eq!(new, &before[from][*position as usize..][..new.len()], "{decayed}");
                    }
                    How::Zeroed => assert!(new.iter().all(|byte| *byte == 0)),
                }
            }
        }
        disk.crash();
        assert_eq!(content(&disk, &decayed.path), after[&decayed.path], "no crash takes {decayed} back");
        kinds.insert(decayed.kind);
        hows.insert(decayed.to_string().split_once(": ").map(|(_, how)| how[..4].to_owned()));
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), Kind::ALL, "every kind gets its share");
    assert_eq!(hows.len(), 3, "{hows:?}");
}

/// The last group of a journal that nothing behind it proves, and the range that it takes.
fn last_group(disk: &SimDisk) -> (String, Range<u64>, bool) {
    let mut last = (0, String::new(), 0..0, false);
    for (path, _) in disk.tree().into_iter().filter(|(path, _)| path.ends_with(".journal")) {
        let mut visit = |at: dlog_storage::journal::GroupAt, _: &[_]| {
            if at.number > last.0 {
                last = (at.number, path.clone(), at.position..at.position + at.bytes, false);
            }
        };
        let report = inspect::journal(disk, &path, SHARD.shard, Some(SHARD.cluster), &mut visit).expect("read");
        if path == last.1 {
            last.3 = report.sealed;
        }
    }
    (last.1, last.2, last.3)
}

#[test]
fn what_nothing_proves_stays_as_it_is() {
    let (mut of_journal, mut proved) = (0, 0);
    for seed in 0..400 {
        let (disk, _) = worked_on(seed % 20);
        let (path, group, _) = last_group(&disk);
        let seal = group.end..group.end + 4096;
        let sealed = disk.is_synced(&path, seal.start, 4096) && last_group(&disk).2;
        let random = &mut fastrand::Rng::with_seed(seed);
        let decayed = decay(&disk, SHARD, Reach::Proved, random).expect("there are files");
        of_journal += u64::from(decayed.kind == Kind::Journal);
        if decayed.touches(&path, &group) {
            proved += 1;
            assert!(sealed, "{decayed} touches the last group, {group:?}");
            assert!(!decayed.touches(&path, &seal), "{decayed} touches what proves it, too");
        }
    }
    assert!(of_journal > 40, "only {of_journal}");
    println!("{of_journal} in journals, {proved} of a last group that is proved");
}

#[test]
fn what_rested_is_damaged_anywhere_but_behind_its_last_group() {
    let mut last_groups = 0;
    for seed in 0..400 {
        let (disk, _) = worked_on(seed % 20);
        let (path, group, _) = last_group(&disk);
        let random = &mut fastrand::Rng::with_seed(seed);
        let decayed = decay(&disk, SHARD, Reach::Rested, random).expect("there are files");
        assert!(!decayed.touches(&path, &(group.end..group.end + 4096)), "{decayed}");
        last_groups += u64::from(decayed.touches(&path, &group));
    }
    assert!(last_groups > 20, "only {last_groups}");
}

#[test]
fn a_journal_is_damaged_once() {
    let mut twice = 0;
    for seed in 0..100 {
        let (disk, _) = worked_on(seed % 10);
        let random = &mut fastrand::Rng::with_seed(seed);
        for _ in 0..10 {
            let report = disk.tree().into_iter().filter(|(path, _)| path.ends_with(".journal")).any(|(path, _)| {
                let report = inspect::journal(&disk, &path, SHARD.shard, Some(SHARD.cluster), &mut |_, _| {});
                !report.expect("read").damage.is_empty()
            });
            let decayed = decay(&disk, SHARD, Reach::Proved, random).expect("there are files");
            twice += u64::from(report);
            assert!(!report || decayed.kind != Kind::Journal, "{decayed}, though the journal is damaged already");
        }
    }
    assert!(twice > 0);
}

#[test]
fn an_empty_disk_stays_as_it_is() {
    let disk = SimDisk::with_seed(1);
    assert_eq!(decay(&disk, SHARD, Reach::Proved, &mut fastrand::Rng::with_seed(1)), None);
}

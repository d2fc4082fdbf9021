//! The simulated disk keeps a disk's promises, and breaks what it never promised.

use super::*;

fn disk(lose_unsynced: LoseUnsynced, seed: u64) -> SimDisk {
    SimDisk::new(SimDiskOptions { seed, lose_unsynced, ..SimDiskOptions::default() })
}

fn content(disk: &SimDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path).expect("opened");
    let mut bytes = vec![0u8; file.len().expect("length") as usize];
    file.read_at(&mut bytes, 0).expect("read");
    bytes
}

#[test]
fn keeps_the_promises_of_a_disk() {
    crate::disk_conformance::check(&SimDisk::with_seed(1));
}

#[test]
fn what_is_synced_survives_and_nothing_else() {
    let disk = disk(LoseUnsynced::All, 1);
    let file = disk.create("a").expect("created");
    file.write_at(&[b"kept"], 0).expect("written");
    file.sync_data().expect("synced");
    disk.sync_dir("").expect("synced");
    file.write_at(&[b"LOST and longer"], 0).expect("written");
    disk.create("unnamed").expect("created").sync_data().expect("synced");
    disk.crash();
    assert_eq!(content(&disk, "a"), b"kept");
    assert_eq!(disk.list("").expect("listed"), ["a"]);
    assert!(file.len().is_err(), "handles die with the power");
}

#[test]
fn sectors_tear_one_by_one() {
    let (mut old, mut new) = (false, false);
    for seed in 0..20 {
        let disk = disk(LoseUnsynced::Random, seed);
        let file = disk.create("a").expect("created");
        file.write_at(&[&[1u8; 2048]], 0).expect("written");
        file.sync_data().expect("synced");
        disk.sync_dir("").expect("synced");
        file.write_at(&[&[2u8; 1024]], 512).expect("written");
        disk.crash();
        let bytes = content(&disk, "a");
        assert_eq!(bytes.len(), 2048);
        assert!(bytes[..512].iter().chain(&bytes[1536..]).all(|byte| *byte == 1), "untouched sectors stay");
        for sector in bytes.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is old or new, never mixed");
        }
        old |= bytes[512] == 1 && bytes[1024] == 2;
        new |= bytes[512] == 2 && bytes[1024] == 1;
    }
    assert!(old && new, "both orders are seen");
}

#[test]
fn a_rename_is_whole() {
    let (mut seen_old, mut seen_new) = (false, false);
    for seed in 0..20 {
        let disk = disk(LoseUnsynced::Random, seed);
        for (name, byte) in [("a", b"1"), ("b", b"2")] {
            let file = disk.create(name).expect("created");
            file.write_at(&[byte], 0).expect("written");
            file.sync_data().expect("synced");
        }
        disk.sync_dir("").expect("synced");
        disk.rename("b", "a").expect("renamed");
        disk.crash();
        match disk.list("").expect("listed").len() {
            1 => assert_eq!(content(&disk, "a"), b"2"),
            _ => assert_eq!((content(&disk, "a"), content(&disk, "b")), (b"1".to_vec(), b"2".to_vec())),
        }
        seen_new |= disk.list("").expect("listed").len() == 1;
        seen_old |= disk.list("").expect("listed").len() == 2;
    }
    assert!(seen_old && seen_new);
}

#[test]
fn after_a_failed_sync_the_cache_lies() {
    let disk = disk(LoseUnsynced::All, 1);
    let file = disk.create("a").expect("created");
    file.write_at(&[&[1u8; 1024]], 0).expect("written");
    file.sync_data().expect("synced");
    disk.sync_dir("").expect("synced");
    file.write_at(&[&[2u8; 1024]], 0).expect("written");
    disk.fail_syncs(1);
    assert!(file.sync_data().is_err());
    assert_eq!(content(&disk, "a"), [2u8; 1024], "still readable");
    file.write_at(&[&[3u8; 512]], 0).expect("written again");
    file.sync_data().expect("says it is synced");
    disk.crash();
    assert_eq!(content(&disk, "a"), [[3u8; 512], [1u8; 512]].concat(), "only what was written again");
}

#[test]
fn a_write_that_went_astray_is_there_before_and_after_a_crash() {
    let disk = disk(LoseUnsynced::All, 1);
    let file = disk.create("a").expect("created");
    file.write_at(&[&[1u8; 2048]], 0).expect("written");
    file.sync_data().expect("synced");
    disk.sync_dir("").expect("synced");
    file.write_at(&[&[2u8; 512]], 512).expect("written");
    file.write_at(&[&[3u8; 512]], 1024).expect("written");
    disk.fail_syncs(1);
    assert!(file.sync_data().is_err());
    file.write_at(&[&[2u8; 512]], 512).expect("written again");
    assert!(disk.is_synced("a", 0, 512) && disk.is_synced("a", 1536, 512));
    assert!(!disk.is_synced("a", 1000, 8) && !disk.is_synced("a", 1024, 1), "one isn't synced, one never will be");
    assert!(!disk.is_synced("a", 2040, 10), "behind the end");
    disk.overwrite("a", 500, &[9; 600]);
    assert_eq!(content(&disk, "a"), [&[1u8; 500][..], &[9; 600], &[3; 436], &[1; 512]].concat());
    disk.crash();
    assert_eq!(content(&disk, "a"), [&[1u8; 500][..], &[9; 600], &[1; 948]].concat());
    assert!(disk.is_synced("a", 0, 2048));
}

#[test]
fn a_process_that_dies_leaves_the_cache_as_it_is() {
    let disk = disk(LoseUnsynced::Nothing, 1);
    disk.create("a").expect("created").write_at(&[b"x"], 0).expect("written");
    disk.crash();
    assert_eq!(content(&disk, "a"), b"x");
    disk.set_lose_unsynced(LoseUnsynced::All);
    disk.crash();
    assert_eq!(disk.list("").expect("listed"), Vec::<String>::new(), "the power loss after it takes it all the same");
}

#[test]
fn ignored_syncs_lose_data() {
    let lose_unsynced = LoseUnsynced::All;
    let disk = SimDisk::new(SimDiskOptions { lose_unsynced, ignore_sync: true, ..SimDiskOptions::default() });
    let file = disk.create("a").expect("created");
    file.write_at(&[b"x"], 0).expect("written");
    file.sync_data().expect("says so");
    disk.sync_dir("").expect("says so");
    disk.crash();
    assert_eq!(disk.list("").expect("listed"), Vec::<String>::new());
}

#[test]
fn a_full_disk_says_so_and_takes_overwrites() {
    let disk = SimDisk::new(SimDiskOptions { capacity_bytes: 1000, ..SimDiskOptions::default() });
    let file = disk.create("a").expect("created");
    file.write_at(&[&[1u8; 900]], 0).expect("fits");
    assert_eq!(file.write_at(&[&[1u8; 200]], 900).expect_err("full").kind(), ErrorKind::StorageFull);
    file.write_at(&[&[2u8; 900]], 0).expect("takes no room");
    disk.set_capacity(2000);
    file.write_at(&[&[1u8; 200]], 900).expect("fits now");
}

#[test]
fn power_goes_where_it_is_told() {
    let disk = disk(LoseUnsynced::Random, 3);
    let file = disk.create("a").expect("created");
    disk.cut_power_after(2);
    file.write_at(&[b"1"], 0).expect("the first goes through");
    assert!(file.write_at(&[b"2"], 0).is_err(), "the second is cut");
    assert!(file.sync_data().is_err() && disk.list("").is_err(), "then nothing works");
    disk.crash();
    assert!(disk.list("").is_ok());
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let disk = disk(LoseUnsynced::Random, seed);
        for round in 0..5u8 {
            let name = format!("f{round}");
            let file = disk.create(&name).expect("created");
            disk.sync_dir("").expect("synced");
            file.write_at(&[&[round; 5000]], 100).expect("written");
            if round % 2 == 0 {
                disk.rename(&name, &format!("g{round}")).expect("renamed");
            }
        }
        disk.crash();
        let tree = disk.tree();
        let bytes: Vec<Vec<u8>> = tree.iter().map(|(name, _)| content(&disk, name)).collect();
        (tree, bytes)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_crash_keeps_exactly_what_it_is_told_to() {
    let disk = disk(LoseUnsynced::Random, 5);
    let file = disk.create("a").expect("created");
    file.write_at(&[&[1u8; 1024]], 0).expect("written");
    file.sync_data().expect("synced");
    disk.sync_dir("").expect("synced");
    file.write_at(&[&[2u8; 1024]], 512).expect("written");
    file.write_at(&[&[1u8; 512]], 0).expect("written as it was");
    disk.create("b").expect("created").sync_data().expect("synced");
    disk.rename("b", "c").expect("renamed");
    let sector = |sector| Unsynced::Sector { file: "a".into(), sector };
    let length = Unsynced::Length { file: "a".into() };
    let created = Unsynced::Names { number: 0, names: vec!["b".into()] };
    let renamed = Unsynced::Names { number: 1, names: vec!["b".into(), "c".into()] };
    let all = [created.clone(), renamed.clone(), length.clone(), sector(1), sector(2)];
    assert_eq!(disk.unsynced(), all, "a sector that holds what it held is no matter");
    let mut seen = std::collections::BTreeSet::new();
    for chosen in 0..1usize << all.len() {
        let kept: Vec<Unsynced> =
            all.iter().enumerate().filter(|(at, _)| chosen & (1 << at) != 0).map(|(_, one)| one.clone()).collect();
        let forked = disk.fork(1);
        forked.crash_keeping(&kept);
        let is_kept = |one: &Unsynced| kept.contains(one);
        let sectors = [1, if is_kept(&sector(1)) { 2 } else { 1 }, if is_kept(&sector(2)) { 2 } else { 0 }];
        let expected: Vec<u8> = sectors.into_iter().flat_map(|byte| [byte; 512]).collect();
        let len = if is_kept(&length) { 1536 } else { 1024 };
        assert_eq!(content(&forked, "a"), expected[..len], "{kept:?}");
        let names = match (is_kept(&created), is_kept(&renamed)) {
            (_, true) => vec!["a", "c"],
            (true, false) => vec!["a", "b"],
            (false, false) => vec!["a"],
        };
        assert_eq!(forked.list("").expect("listed"), names, "{kept:?}");
        assert!(forked.unsynced().is_empty());
        seen.insert((forked.tree(), content(&forked, "a")));
    }
    assert_eq!(seen.len(), 3 * (4 + 2), "each outcome is met");
    assert_eq!(disk.unsynced(), all, "a fork changes nothing here");
}

#[test]
fn the_sync_that_is_asked_for_fails() {
    let disk = disk(LoseUnsynced::All, 1);
    let file = disk.create("a").expect("created");
    disk.fail_sync_after(2);
    let synced: Vec<bool> = (0..5).map(|_| file.sync_data().is_ok()).collect();
    assert_eq!(synced, [true, true, false, true, true]);
    assert_eq!(disk.stats().changes, 6);
}

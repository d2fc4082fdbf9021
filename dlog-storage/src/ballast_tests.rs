//! A ballast over both disks: real bytes, given back whole.

use super::*;
use crate::os_disk::OsDisk;
use crate::sim_disk::{SimDisk, SimDiskOptions};

const WANTED: u64 = 1 << 20;

fn disk() -> SimDisk {
    let disk = SimDisk::new(SimDiskOptions::default());
    disk.create_dir("shard-0").expect("made");
    disk.sync_dir("").expect("synced");
    disk
}

fn whole(disk: &SimDisk) -> Ballast<SimDisk> {
    let mut ballast = Ballast::open(disk.clone(), "shard-0", WANTED).expect("opened");
    while !ballast.grow(300 << 10).expect("there is room") {}
    ballast
}

#[test]
fn it_takes_its_bytes_and_gives_them_back() {
    let disk = disk();
    let before = disk.free_bytes().expect("known");
    let mut ballast = whole(&disk);
    assert_eq!((ballast.bytes(), ballast.missing()), (WANTED, 0));
    assert_eq!(disk.free_bytes().expect("known"), before - WANTED);
    assert!(ballast.give_back().expect("removed"));
    assert_eq!(disk.free_bytes().expect("known"), before);
    assert!(!ballast.give_back().expect("nothing is left to remove"));
    assert_eq!(ballast.missing(), WANTED);
}

#[test]
fn a_start_goes_on_with_what_is_there() {
    let disk = disk();
    let mut ballast = Ballast::open(disk.clone(), "shard-0", WANTED).expect("opened");
    assert!(!ballast.grow(300 << 10).expect("there is room"));
    drop(ballast);
    disk.crash();
    let mut ballast = Ballast::open(disk.clone(), "shard-0", WANTED).expect("opened");
    assert_eq!(ballast.bytes(), 300 << 10, "a slice is durable when it returns");
    assert!(ballast.grow(WANTED).expect("there is room"));
    drop(ballast);
    let smaller = Ballast::open(disk.clone(), "shard-0", WANTED / 2).expect("opened");
    assert_eq!(smaller.bytes(), 0, "one that is too large is made anew");
    assert!(!disk.list("shard-0").expect("listed").contains(&BALLAST.to_string()));
}

#[test]
fn a_full_disk_leaves_a_file_that_can_be_given_back() {
    let disk = disk();
    disk.set_capacity(disk.used_bytes() + WANTED / 2);
    let mut ballast = Ballast::open(disk.clone(), "shard-0", WANTED).expect("opened");
    let error = loop {
        match ballast.grow(300 << 10) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StorageError::Full { .. }), "{error}");
    assert!(ballast.give_back().expect("removed"));
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn its_bytes_are_real_ones() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().expect("a folder for the test");
    let disk = OsDisk::new(folder.path()).expect("the folder is there");
    let mut ballast = Ballast::open(disk, "", WANTED).expect("opened");
    assert!(ballast.grow(WANTED).expect("there is room"));
    let path = folder.path().join(BALLAST);
    let blocks = std::fs::metadata(&path).expect("it is there").blocks();
    assert!(blocks * 512 >= WANTED, "{blocks} blocks of 512 bytes: a sparse file holds nothing back");
    let bytes = std::fs::read(&path).expect("it is there");
    let zeros = bytes.iter().filter(|byte| **byte == 0).count();
    assert!(zeros < bytes.len() / 64, "{zeros} zeros: a file system that packs would store little");
    assert_ne!(bytes[..4096], bytes[WRITE_BYTES..WRITE_BYTES + 4096], "nor the same again and again");
}

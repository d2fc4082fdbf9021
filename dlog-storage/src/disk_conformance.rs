//! What every [`Disk`] must do, checked on each implementation. Crashes are checked where they can be made: on the
//! simulated disk.

use crate::disk::{Disk, DiskFile};
use std::io::ErrorKind;

/// Runs every check on an empty disk. Panics with what is wrong.
pub fn check<D: Disk>(disk: &D) {
    files(disk);
    positions_and_lengths(disk);
    names(disk);
    handles_outlive_names(disk);
    folders(disk);
}

fn files<D: Disk>(disk: &D) {
    assert_eq!(disk.open("none").err().expect("no such file").kind(), ErrorKind::NotFound);
    let file = disk.create("file").expect("created");
    assert!(file.is_empty().expect("length"));
    assert_eq!(disk.create("file").err().expect("taken").kind(), ErrorKind::AlreadyExists);
    file.write_at(&[b"ab", b"", b"cde"], 0).expect("written");
    let other = disk.open("file").expect("opened");
    assert_eq!(read(&other, 0, 10), b"abcde", "another handle sees what was written, in order");
    file.sync_data().expect("synced");
    disk.sync_dir("").expect("synced");
    assert!(disk.free_bytes().expect("free bytes") > 0);
}

fn positions_and_lengths<D: Disk>(disk: &D) {
    let file = disk.create("holes").expect("created");
    file.write_at(&[b"x"], 5000).expect("written");
    assert_eq!(file.len().expect("length"), 5001);
    assert_eq!(read(&file, 4998, 10), [0, 0, b'x'], "a hole reads as zeros, a read ends at the end");
    assert_eq!(read(&file, 6000, 4), [], "nothing behind the end");
    for (bytes, position, found) in [(0, 0, 0), (2, 4999, 2), (10, 4998, 3), (4, 6000, 0)] {
        assert_eq!(file.read_vec(bytes, position).expect("read"), read(&file, position, found), "into its own buffer");
    }
    file.write_at(&[b"yy"], 4999).expect("overwritten");
    assert_eq!(read(&file, 4998, 10), [0, b'y', b'y']);
    file.set_len(5000).expect("cut");
    file.set_len(5002).expect("grown");
    assert_eq!(read(&file, 4999, 10), [b'y', 0, 0], "growing gives zeros, not what stood there before");
}

fn names<D: Disk>(disk: &D) {
    disk.create_dir("n").expect("made");
    disk.create("n/a").expect("created").write_at(&[b"a"], 0).expect("written");
    disk.create("n/b").expect("created").write_at(&[b"b"], 0).expect("written");
    assert_eq!(disk.list("n").expect("listed"), ["a", "b"], "sorted");
    disk.rename("n/b", "n/a").expect("replaces");
    assert_eq!(disk.list("n").expect("listed"), ["a"]);
    assert_eq!(read(&disk.open("n/a").expect("opened"), 0, 9), b"b");
    assert_eq!(disk.rename("n/none", "n/x").expect_err("no source").kind(), ErrorKind::NotFound);
    disk.remove("n/a").expect("removed");
    assert_eq!(disk.remove("n/a").expect_err("gone").kind(), ErrorKind::NotFound);
    disk.sync_dir("n").expect("synced");
}

fn handles_outlive_names<D: Disk>(disk: &D) {
    let kept = disk.create("kept").expect("created");
    kept.write_at(&[b"old"], 0).expect("written");
    disk.remove("kept").expect("removed");
    let new = disk.create("kept").expect("the name is free");
    new.write_at(&[b"new"], 0).expect("written");
    assert_eq!(read(&kept, 0, 9), b"old");
    disk.rename("kept", "moved").expect("renamed");
    assert_eq!(read(&new, 0, 9), b"new");
}

fn folders<D: Disk>(disk: &D) {
    assert_eq!(disk.list("deep").expect_err("no such folder").kind(), ErrorKind::NotFound);
    disk.create_dir("deep/er").expect("made with those above");
    disk.create_dir("deep/er").expect("there already");
    assert_eq!(disk.list("deep").expect("listed"), ["er"]);
    assert_eq!(disk.create("none/file").err().expect("no folder").kind(), ErrorKind::NotFound);
    disk.create("deep/er/file").expect("created");
    assert!(disk.remove_dir("deep/er").is_err(), "not empty");
    disk.rename("deep/er", "moved-folder").expect("renamed with what is in it");
    assert_eq!(disk.list("moved-folder").expect("listed"), ["file"]);
    assert_eq!(disk.list("deep").expect("listed"), Vec::<String>::new());
    disk.remove("moved-folder/file").expect("removed");
    disk.remove_dir("moved-folder").expect("empty now");
    disk.sync_dir("deep").expect("synced");
}

fn read(file: &impl DiskFile, position: u64, bytes: usize) -> Vec<u8> {
    let mut into = vec![0u8; bytes];
    let count = file.read_at(&mut into, position).expect("read");
    into.truncate(count);
    into
}

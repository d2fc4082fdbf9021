//! Where the binary `dlog` is.

use std::path::{Path, PathBuf};

/// The folder that cargo builds into, such as `target/debug`: the test itself runs from its `deps`.
pub fn build_dir() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_else(|e| panic!("can't tell where this test runs from: {e}"));
    let deps = own.parent().unwrap_or(Path::new("."));
    if deps.ends_with("deps") { deps.parent().unwrap_or(deps).to_path_buf() } else { deps.to_path_buf() }
}

/// The binary: `DLOG_BIN` if it is set, else the one beside this test.
pub fn dlog() -> PathBuf {
    let path = match std::env::var_os("DLOG_BIN") {
        Some(path) => PathBuf::from(path),
        None => build_dir().join("dlog"),
    };
    assert!(
        path.is_file(),
        "there is no dlog binary at {}: run `cargo build -p dlog-server` first (or set DLOG_BIN)",
        path.display()
    );
    path
}

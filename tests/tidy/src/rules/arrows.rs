//! Which crate may use which, read from every `Cargo.toml`: arrows run one way.

use crate::Violation;
use crate::tree::TextFile;
use toml::{Table, Value};

/// A crate, the crates of ours it may use, and whether it is a shell: may it use a runtime, sockets, threads?
struct Place {
    name: &'static str,
    uses: &'static [&'static str],
    runtime: bool,
}

const CORE: &str = "dlog-core";
const STORAGE: &str = "dlog-storage";
const REPLICATION: &str = "dlog-replication";
const CONSENSUS: &str = "dlog-consensus";
const PROTOCOL: &str = "dlog-protocol";
const CLIENT: &str = "dlog-client";
const SERVER: &str = "dlog-server";

/// The house plan. A new crate gets its line here, and its room in ARCHITECTURE.md.
const PLACES: &[Place] = &[
    Place { name: CORE, uses: &[], runtime: false },
    Place { name: STORAGE, uses: &[CORE], runtime: false },
    Place { name: REPLICATION, uses: &[CORE], runtime: false },
    Place { name: CONSENSUS, uses: &[CORE, REPLICATION], runtime: false },
    Place { name: PROTOCOL, uses: &[CORE], runtime: true },
    Place { name: CLIENT, uses: &[CORE, PROTOCOL], runtime: true },
    Place { name: SERVER, uses: &[CORE, STORAGE, REPLICATION, CONSENSUS, PROTOCOL, CLIENT], runtime: true },
    Place { name: "dlog-sim", uses: &[CORE, STORAGE, REPLICATION, CONSENSUS, CLIENT], runtime: false },
    Place { name: "dlog-storage-bench", uses: &[CORE, STORAGE], runtime: false },
    Place { name: "dlog-cluster-tests", uses: &[CORE, REPLICATION, PROTOCOL, CLIENT], runtime: true },
    Place { name: "dlog-fuzz", uses: &[CORE, STORAGE, REPLICATION, CONSENSUS, PROTOCOL, CLIENT], runtime: false },
    Place { name: "dlog-interop", uses: &[CORE], runtime: false },
    Place { name: "dlog-tidy", uses: &[], runtime: false },
];

/// Crates that bring a runtime or sockets.
const RUNTIMES: &[&str] =
    &["tokio", "tokio-stream", "tokio-util", "tonic", "tonic-health", "tonic-reflection", "hyper"];

/// Crates that only the named ones of ours may use, and why.
const KEPT_APART: &[(&str, &[&str], &str)] = &[
    ("raft", &[CONSENSUS], "raft's types do not leave dlog-consensus"),
    ("raft-proto", &[CONSENSUS], "raft's types do not leave dlog-consensus"),
    ("rocksdb", &[STORAGE], "RocksDB stands behind dlog-storage's StateStore"),
    ("bincode", &[STORAGE], "bincode writes only files that a node can rebuild"),
    ("anyhow", &[SERVER, "dlog-cluster-tests"], "a library names its errors (thiserror)"),
];

/// Checks every manifest.
pub fn check(manifests: &[&TextFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for manifest in manifests {
        match manifest.text.parse::<Table>() {
            Ok(table) => check_one(&manifest.path, &table, &mut violations),
            Err(e) => violations.push(Violation::new(&manifest.path, 0, format!("is no TOML: {e}"))),
        }
    }
    violations
}

fn check_one(path: &str, table: &Table, violations: &mut Vec<Violation>) {
    // The workspace's own manifest names versions, not arrows.
    let Some(name) = table.get("package").and_then(|p| p.get("name")).and_then(Value::as_str) else { return };
    let mut tell = |message: String| violations.push(Violation::new(path, 0, message));
    if table.get("lints").and_then(|l| l.get("workspace")).and_then(Value::as_bool) != Some(true) {
        tell(format!("{name} lacks `[lints] workspace = true`"));
    }
    let Some(place) = PLACES.iter().find(|p| p.name == name) else {
        return tell(format!("{name} has no place in the house plan (PLACES in tests/tidy/src/rules/arrows.rs)"));
    };
    for dependency in dependencies(table) {
        if dependency.starts_with("dlog-") && !place.uses.contains(&dependency.as_str()) {
            tell(format!("{name} must not use {dependency}; it may use {:?}", place.uses));
        }
        if !place.runtime && RUNTIMES.contains(&dependency.as_str()) {
            tell(format!("{name} must not use {dependency}: it has no runtime and no sockets"));
        }
        for (kept, by, reason) in KEPT_APART {
            if dependency == *kept && !by.contains(&name) {
                tell(format!("{name} must not use {kept}: {reason}"));
            }
        }
    }
}

/// Every dependency of a manifest by the name of its package: normal, dev, build, and those of one platform.
fn dependencies(table: &Table) -> Vec<String> {
    let mut names = Vec::new();
    for (key, value) in table {
        let Some(inner) = value.as_table() else { continue };
        if key.ends_with("dependencies") {
            for (alias, spec) in inner {
                let package = spec.get("package").and_then(Value::as_str);
                names.push(package.unwrap_or(alias).to_string());
            }
        } else if key == "target" {
            names.extend(inner.values().filter_map(Value::as_table).flat_map(dependencies));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let file = TextFile { path: "x/Cargo.toml".into(), text: text.into() };
        check(&[&file]).into_iter().map(|v| v.message).collect()
    }

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}")
    }

    #[test]
    fn good_manifests_pass() {
        assert_eq!(
            messages(&manifest("dlog-storage", "[dependencies]\ndlog-core.workspace = true\nbytes = \"1\"")),
            [""; 0]
        );
        assert_eq!(messages("[workspace]\nmembers = []\n[workspace.dependencies]\ntokio = \"1\""), [""; 0]);
    }

    #[test]
    fn arrows_that_point_up_or_sideways_are_found() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
            let found = messages(&manifest("dlog-storage", &format!("[{section}]\ndlog-replication.workspace = true")));
            assert_eq!(found.len(), 1, "{section}: {found:?}");
            assert!(found[0].contains("must not use dlog-replication"), "{found:?}");
        }
    }

    #[test]
    fn a_renamed_dependency_is_seen_through() {
        let found = messages(&manifest("dlog-core", "[dependencies]\nx = { package = \"tokio\", version = \"1\" }"));
        assert!(found.len() == 1 && found[0].contains("must not use tokio"), "{found:?}");
    }

    #[test]
    fn crates_kept_apart_strangers_and_missing_lints_are_found() {
        assert_eq!(messages(&manifest("dlog-server", "[dependencies]\nraft.workspace = true")).len(), 1);
        assert_eq!(messages(&manifest("dlog-client", "[dependencies]\nanyhow = \"1\"")).len(), 1);
        assert_eq!(messages(&manifest("dlog-new", "")).len(), 1);
        assert_eq!(messages("[package]\nname = \"dlog-core\"\n").len(), 1);
        assert_eq!(messages("[package\n").len(), 1);
    }
}

//! ARCHITECTURE.md's code map names every source file of every crate, and none that is gone.

use crate::Violation;
use crate::tree::TextFile;
use std::collections::BTreeSet;

/// Where the map stands.
pub const MAP: &str = "ARCHITECTURE.md";

/// Compares the map with the files. A crate's part begins with a heading that holds its folder in backticks; its files are
/// the backticked names ending in `.rs` or `.proto` at the start of table rows or list items, relative to `src/` (or to the folder). Files
/// below a named folder `x/` are covered by that row, and tests need no row.
pub fn check(map: &TextFile, crates: &[&str], paths: &[String]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let rooms = rooms(&map.text);
    for krate in crates {
        let Some((_, line, named)) = rooms.iter().find(|(folder, _, _)| folder == krate) else {
            violations.push(Violation::new(&map.path, 0, format!("has no heading for `{krate}`")));
            continue;
        };
        let below = format!("{krate}/");
        let real: BTreeSet<&str> = paths
            .iter()
            .filter_map(|p| p.strip_prefix(&below))
            .filter(|p| p.ends_with(".rs") || p.ends_with(".proto"))
            .filter(|p| !p.ends_with("tests.rs") && !p.contains("tests/"))
            .map(|p| p.strip_prefix("src/").unwrap_or(p))
            .collect();
        for name in named {
            let gone = if name.ends_with('/') {
                !real.iter().any(|r| r.starts_with(name.as_str()))
            } else {
                !real.contains(name.as_str())
            };
            if gone {
                violations.push(Violation::new(&map.path, *line, format!("`{krate}` has no {name} (any more)")));
            }
        }
        for file in real {
            let covered = named.iter().any(|n| n == file || (n.ends_with('/') && file.starts_with(n.as_str())));
            if !covered && file != "lib.rs" {
                violations.push(Violation::new(
                    &format!("{krate}/{file}"),
                    0,
                    format!("has no row in the code map of {MAP}"),
                ));
            }
        }
    }
    violations
}

/// Each heading that names a folder, with its line and the files named below it.
fn rooms(text: &str) -> Vec<(String, usize, Vec<String>)> {
    let mut rooms: Vec<(String, usize, Vec<String>)> = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with('#') {
            inside = line.contains('`');
            if let Some(folder) = line.split('`').nth(1) {
                rooms.push((folder.trim_end_matches('/').to_string(), index + 1, Vec::new()));
            }
        } else if inside && (line.starts_with("| `") || line.starts_with("- `")) {
            // The first cell may name several files.
            let cell = line.trim_start_matches("| ").split(" | ").next().unwrap_or_default();
            let cell = cell.split(": ").next().unwrap_or_default();
            let names = cell.split('`').skip(1).step_by(2).map(str::to_string);
            rooms.last_mut().expect("inside a room").2.extend(names);
        }
    }
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(map: &str) -> Vec<String> {
        let map = TextFile { path: MAP.into(), text: map.into() };
        let paths = [
            "a/src/lib.rs",
            "a/src/b.rs",
            "a/src/b_tests.rs",
            "a/src/c/d.rs",
            "a/src/c/e.rs",
            "a/proto/f.proto",
            "a/tests/g.rs",
        ];
        check(&map, &["a"], &paths.map(str::to_string)).into_iter().map(|v| v.message).collect()
    }

    #[test]
    fn a_true_map_passes() {
        assert_eq!(
            run(
                "# M\n### `a`\n| file | what |\n|---|---|\n| `b.rs`, `c/` | words `x.rs` |\n| `proto/f.proto` | y |\n## End\n- `z.rs`: no\n"
            ),
            [""; 0]
        );
    }

    #[test]
    fn missing_and_dead_rows_are_found() {
        assert_eq!(run("# M\n"), ["has no heading for `a`"]);
        assert_eq!(run("### `a`\n- `b.rs`: x\n- `c/`: x\n").len(), 1, "the proto has no row");
        assert_eq!(run("### `a`\n- `b.rs`: x\n- `c/d.rs`: x\n- `proto/f.proto`: x\n").len(), 1, "c/e.rs has no row");
        assert_eq!(
            run("### `a`\n- `b.rs`, `gone.rs`: x\n- `c/`, `h/`: x\n- `proto/f.proto`: x\n").len(),
            2,
            "two rows are dead"
        );
    }
}

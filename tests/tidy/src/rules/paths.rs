//! No path of somebody's own machine: a clone works wherever it stands.

use crate::Violation;
use crate::tree::TextFile;

/// Beginnings of paths that belong to one person or machine. Split, so that this file does not name them itself.
const OWN: &[&str] = &[concat!("/", "root/"), concat!("/", "home/"), concat!("/", "Users/"), concat!("/", "work/")];

/// Finds such paths in any text file.
pub fn check(files: &[TextFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            for own in OWN {
                // `target/home/x` and `$DIR/work/` go on from something else.
                let absolute = line.match_indices(own).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "._-})*/".contains(c))
                });
                if absolute {
                    violations.push(Violation::new(
                        &file.path,
                        index + 1,
                        format!("names an absolute path below {own}"),
                    ));
                }
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_are_found() {
        let text = format!("fine/home/x\ncd {}me/src\n\"{}x\"\n$A{}y ${{A}}{}y\n", OWN[1], OWN[0], OWN[3], OWN[3]);
        let file = TextFile { path: "a.sh".into(), text };
        let lines: Vec<usize> = check(&[file]).iter().map(|v| v.line).collect();
        assert_eq!(lines, [2, 3]);
    }
}

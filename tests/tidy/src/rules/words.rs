//! Words that mean "not done yet", in code and in comments.

use crate::Violation;
use crate::rust::{RustFile, find_word};
use crate::tree::TextFile;

/// Macros that stand for missing code or forgotten debugging.
const MACROS: &[&str] = &["todo!", "unimplemented!", "dbg!"];
/// Marks that people leave for later. Split, so that this file does not hold them itself.
const MARKS: &[&str] = &[concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK"), concat!("TO", "DO")];
/// Where marks are looked for.
const ENDINGS: &[&str] =
    &[".rs", ".proto", ".sh", ".toml", ".yml", ".yaml", ".md", "Makefile", "Dockerfile", ".ci/run"];

/// Finds banned macros in Rust code.
pub fn check_macros(files: &[RustFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        for name in MACROS {
            for at in file.find_word(name) {
                violations.push(Violation::new(&file.path, file.line_at(at), format!("{name} is left in the code")));
            }
        }
    }
    violations
}

/// Finds banned marks in any text of ours.
pub fn check_marks(files: &[TextFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|f| ENDINGS.iter().any(|e| f.path.ends_with(e))) {
        for (index, line) in file.text.lines().enumerate() {
            for mark in MARKS.iter().filter(|m| !find_word(line, m).is_empty()) {
                let message = format!("{mark}: do it, or write it down as an issue");
                violations.push(Violation::new(&file.path, index + 1, message));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_banned_macro_is_found_in_code_only() {
        for name in MACROS {
            let text = format!("// {name}()\nfn f() {{ {name}(\"{name}()\") }}\n");
            let found = check_macros(&[RustFile::scan("a/src/b.rs", &text)]);
            assert_eq!(found.iter().map(|v| v.line).collect::<Vec<_>>(), [2], "{name}");
        }
    }

    #[test]
    fn every_mark_is_found_as_a_whole_word() {
        for mark in MARKS {
            let text = format!("fine {mark}X\n// {mark}: later\n");
            let found = check_marks(&[TextFile { path: "a/src/b.rs".into(), text: text.clone() }]);
            assert_eq!(found.iter().map(|v| v.line).collect::<Vec<_>>(), [2], "{mark}");
            assert_eq!(check_marks(&[TextFile { path: "a/data.jsonl".into(), text }]), []);
        }
    }
}

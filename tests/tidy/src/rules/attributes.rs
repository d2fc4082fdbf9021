//! Attributes that switch a check off: a lint only with a reason, a test never.

use crate::Violation;
use crate::rust::RustFile;

/// Finds `#[allow]` and `#[expect]` without `reason`, and `#[ignore]`.
pub fn check(files: &[RustFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        for name in ["allow", "expect"] {
            for (at, inside) in file.attributes(name) {
                if !inside.contains("reason") {
                    let message = format!("`{name}` without a reason: say why the lint is wrong here, or obey it");
                    violations.push(Violation::new(&file.path, file.line_at(at), message));
                }
            }
        }
        for (at, _) in file.attributes("ignore") {
            let message = "an ignored test proves nothing: make it fast, make it right, or delete it";
            violations.push(Violation::new(&file.path, file.line_at(at), message));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let mut lines: Vec<usize> = check(&[RustFile::scan("a/src/b.rs", text)]).iter().map(|v| v.line).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn reasons_are_asked_for() {
        assert_eq!(
            lines("#![allow(x)]\n#[allow(y, reason = \"z\")]\n#[expect(x)]\n#[cfg_attr(a, allow(b))]\n"),
            [1, 3, 4]
        );
    }

    #[test]
    fn code_that_only_looks_like_it_passes() {
        assert_eq!(lines("// #[allow(x)]\nfn f() { g().expect(\"#[ignore]\"); allow(1); }\n"), [0usize; 0]);
    }

    #[test]
    fn ignored_tests_are_found() {
        assert_eq!(
            lines(
                "#[test]\n#[ignore]\nfn a() {}\n#[ignore = \"slow\"]\nfn b() {}\n#[cfg_attr(c, ignore)]\nfn d() {}\n"
            ),
            [2, 4, 6]
        );
    }
}

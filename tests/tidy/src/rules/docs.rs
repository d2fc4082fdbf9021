//! Every module says what it is, every limit what it bounds.

use crate::Violation;
use crate::rust::RustFile;

/// Every file begins with `//!` and says something there.
pub fn check_modules(files: &[RustFile]) -> Vec<Violation> {
    let says_something = |file: &&RustFile| {
        let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        first.strip_prefix("//!").is_some_and(|doc| !doc.trim().is_empty())
    };
    let lacking = files.iter().filter(|file| !says_something(file));
    lacking.map(|file| Violation::new(&file.path, 1, "begins without a `//!` line that says what it is")).collect()
}

/// Every named constant of a limits file has a doc comment: what it bounds, and what it costs.
pub fn check_limits(files: &[RustFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|f| f.path.ends_with("/limits.rs")) {
        for at in file.find_word("const") {
            let rest = file.code[at + "const".len()..].trim_start();
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let is_item = rest[name.len()..].trim_start().starts_with(':');
            if name == "_" || !is_item || file.in_test(at) {
                continue;
            }
            let line = file.line_at(at);
            let above = file.text.lines().take(line - 1).collect::<Vec<_>>();
            let doc = above.iter().rev().find(|line| !line.trim_start().starts_with("#["));
            let text = doc.and_then(|doc| doc.trim_start().strip_prefix("///")).unwrap_or_default();
            if text.trim().is_empty() {
                violations.push(Violation::new(
                    &file.path,
                    line,
                    format!("{name} does not say what it bounds and costs"),
                ));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_modules_are_found() {
        for silent in ["", "use x;\n//! Late.\n", "//!\n", "// Not a doc.\n", "/// Not the module's.\nfn a() {}\n"] {
            assert_eq!(check_modules(&[RustFile::scan("a/src/b.rs", silent)]).len(), 1, "{silent:?}");
        }
        assert_eq!(check_modules(&[RustFile::scan("a/src/b.rs", "\n//! Says it.\n")]), []);
    }

    #[test]
    fn undocumented_limits_are_found() {
        let text = "/// Doc.\npub const A: u8 = 1;\n\npub const B: u8 = 2;\nconst _: () = assert!(A < B);\n///\nconst C: u8 = 1;\nconst fn d() {}\n\
                    /// Doc.\n#[rustfmt::skip]\nconst E: u8 = 1;\n";
        let lines: Vec<usize> =
            check_limits(&[RustFile::scan("a/src/limits.rs", text)]).iter().map(|v| v.line).collect();
        assert_eq!(lines, [4, 7]);
        assert_eq!(check_limits(&[RustFile::scan("a/src/other.rs", text)]), []);
    }
}

//! How long a file and a function may be, as a ratchet: an exception may shrink, never grow, and goes when it is no longer one.

use crate::Violation;
use crate::rust::RustFile;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Lines of code a file may have, tests apart: what can be read in one sitting.
pub const FILE_LINES_MAX: usize = 500;
/// Lines a function may have from `fn` to its closing bracket: what fits a screen.
pub const FUNCTION_LINES_MAX: usize = 70;

/// The exceptions of `ratchet.toml`: what is too long today, with its length.
#[derive(Debug, Default)]
pub struct Ratchet {
    files: BTreeMap<String, usize>,
    functions: BTreeMap<String, usize>,
}

impl Ratchet {
    /// Reads `[files]` ("path" = lines) and `[functions]` ("path::name" = lines).
    ///
    /// # Errors
    /// With a text that is no TOML, or holds something else than lengths.
    pub fn parse(text: &str) -> Result<Ratchet, String> {
        let table: Table = text.parse().map_err(|e| format!("is no TOML: {e}"))?;
        let read = |section: &str| -> Result<BTreeMap<String, usize>, String> {
            let Some(value) = table.get(section) else { return Ok(BTreeMap::new()) };
            let entries = value.as_table().ok_or_else(|| format!("[{section}] is no table"))?;
            let length = |v: &Value| v.as_integer().and_then(|n| usize::try_from(n).ok());
            entries
                .iter()
                .map(|(k, v)| Ok((k.clone(), length(v).ok_or_else(|| format!("{k} has no length"))?)))
                .collect()
        };
        Ok(Ratchet { files: read("files")?, functions: read("functions")? })
    }
}

/// Checks every file and function against the bounds and the exceptions.
pub fn check(files: &[RustFile], ratchet: &Ratchet) -> Vec<Violation> {
    let mut sizes = Vec::new();
    let mut functions = BTreeMap::new();
    for file in files {
        if !file.is_test {
            sizes.push((file.path.clone(), (file.path.clone(), 0, file.code_lines())));
        }
        for f in file.functions() {
            // Two functions of one name in one file (two impls) share an exception: the longest counts.
            let entry = functions.entry(format!("{}::{}", file.path, f.name)).or_insert((file.path.clone(), f.line, 0));
            if f.lines > entry.2 {
                *entry = (file.path.clone(), f.line, f.lines);
            }
        }
    }
    let mut violations = compare(sizes.into_iter().collect(), &ratchet.files, FILE_LINES_MAX, "lines of code");
    violations.extend(compare(functions, &ratchet.functions, FUNCTION_LINES_MAX, "lines"));
    violations
}

/// Compares lengths (by key: path, line, length) with a bound and its exceptions.
fn compare(
    found: BTreeMap<String, (String, usize, usize)>,
    exceptions: &BTreeMap<String, usize>,
    max: usize,
    unit: &str,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, (path, line, length)) in &found {
        let name = key.strip_prefix(path.as_str()).and_then(|rest| rest.strip_prefix("::")).unwrap_or("it");
        let complaint = match exceptions.get(key) {
            None if *length > max => {
                format!("{name} has {length} {unit}, at most {max} are allowed: split it by nouns")
            }
            Some(allowed) if length > allowed => {
                format!("{name} grew from {allowed} to {length} {unit}: it may only shrink")
            }
            Some(_) if *length <= max => {
                format!("{name} has {length} {unit} and needs no line in ratchet.toml any more")
            }
            Some(allowed) if length < allowed => {
                format!("{name} shrank to {length} {unit}: lower its line in ratchet.toml")
            }
            _ => continue,
        };
        violations.push(Violation::new(path, *line, complaint));
    }
    for key in exceptions.keys().filter(|k| !found.contains_key(*k)) {
        violations.push(Violation::new("tests/tidy/ratchet.toml", 0, format!("{key} does not exist any more")));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, function_lines: usize, constants: usize) -> RustFile {
        let body = "    x();\n".repeat(function_lines - 2);
        let text = format!("//! Doc.\nfn f() {{\n{body}}}\n{}", "const A: u8 = 1;\n".repeat(constants));
        RustFile::scan(path, &text)
    }

    fn count(file: RustFile, ratchet: &str) -> usize {
        check(&[file], &Ratchet::parse(ratchet).expect("is good TOML")).len()
    }

    #[test]
    fn bounds_hold() {
        assert_eq!(count(file("a/src/b.rs", FUNCTION_LINES_MAX, FILE_LINES_MAX - FUNCTION_LINES_MAX), ""), 0);
        assert_eq!(count(file("a/src/b.rs", FUNCTION_LINES_MAX + 1, 0), ""), 1);
        assert_eq!(count(file("a/src/b.rs", FUNCTION_LINES_MAX, FILE_LINES_MAX - FUNCTION_LINES_MAX + 1), ""), 1);
    }

    #[test]
    fn a_files_tests_do_not_count() {
        assert_eq!(count(file("a/src/b_tests.rs", 2, FILE_LINES_MAX), ""), 0);
        let text = format!("//! Doc.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "const A: u8 = 1;\n".repeat(FILE_LINES_MAX));
        assert_eq!(check(&[RustFile::scan("a/src/b.rs", &text)], &Ratchet::default()), []);
    }

    #[test]
    fn exceptions_only_shrink_and_go() {
        let long = FUNCTION_LINES_MAX + 10;
        let ratchet = |lines: usize| format!("[functions]\n\"a/src/b.rs::f\" = {lines}\n");
        assert_eq!(count(file("a/src/b.rs", long, 0), &ratchet(long)), 0);
        assert_eq!(count(file("a/src/b.rs", long, 0), &ratchet(long - 1)), 1, "grown");
        assert_eq!(count(file("a/src/b.rs", long, 0), &ratchet(long + 1)), 1, "shrunk");
        assert_eq!(count(file("a/src/b.rs", 10, 0), &ratchet(long)), 1, "no exception any more");
        assert_eq!(count(file("a/src/c.rs", 10, 0), &ratchet(long)), 1, "gone");
        assert_eq!(count(file("a/src/b.rs", 2, FILE_LINES_MAX), "[files]\n\"a/src/b.rs\" = 502\n"), 0);
    }

    #[test]
    fn a_bad_ratchet_is_told() {
        assert!(Ratchet::parse("[files").is_err());
        assert!(Ratchet::parse("files = 1").is_err());
        assert!(Ratchet::parse("[files]\na = \"long\"").is_err());
    }
}

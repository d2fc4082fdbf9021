//! Markdown: one first heading a file, and no link into nothing.

use crate::Violation;
use crate::tree::TextFile;

/// Exactly one `# ` heading, and it comes first.
pub fn check_headings(files: &[&TextFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        let prose = prose_lines(&file.text);
        let headings: Vec<usize> = prose.iter().filter(|(_, l)| l.starts_with("# ")).map(|(n, _)| *n).collect();
        let first = prose.iter().find(|(_, line)| !line.trim().is_empty()).map_or(0, |(number, _)| *number);
        match headings.as_slice() {
            [only] if *only == first => {}
            [] => violations.push(Violation::new(&file.path, 0, "has no first-level heading")),
            [only] => violations.push(Violation::new(&file.path, *only, "its heading does not come first")),
            [_, second, ..] => violations.push(Violation::new(&file.path, *second, "has a second first-level heading")),
        }
    }
    violations
}

/// Every relative link names a file (or folder) that exists. `paths` are all files of the repository.
pub fn check_links(files: &[&TextFile], paths: &[String]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        let dir = file.path.rsplit_once('/').map_or("", |(dir, _)| dir);
        for (number, line) in prose_lines(&file.text) {
            for (_, rest) in line.match_indices("](").map(|(at, m)| (at, &line[at + m.len()..])) {
                let target = rest.split([')', ' ', '#']).next().unwrap_or_default();
                if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let path = resolve(dir, target);
                let folder = format!("{path}/");
                if !paths.iter().any(|p| *p == path || p.starts_with(&folder)) {
                    violations.push(Violation::new(
                        &file.path,
                        number,
                        format!("links to {target}, which does not exist"),
                    ));
                }
            }
        }
    }
    violations
}

/// The numbered lines outside fenced blocks.
fn prose_lines(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((index + 1, line));
        }
    }
    lines
}

/// `a/b` and `../c` to `a/c`.
fn resolve(dir: &str, target: &str) -> String {
    let mut parts: Vec<&str> = dir.split('/').filter(|p| !p.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> TextFile {
        TextFile { path: "docs/a.md".into(), text: text.into() }
    }

    #[test]
    fn headings_are_counted_outside_code() {
        assert_eq!(check_headings(&[&file("# One\n\n```sh\n# a comment\n```\n## Two\n")]), []);
        assert_eq!(check_headings(&[&file("# One\n# Two\n")])[0].line, 2);
        assert_eq!(check_headings(&[&file("Words.\n# One\n")])[0].line, 2);
        assert_eq!(check_headings(&[&file("## One\n")]).len(), 1);
    }

    #[test]
    fn dead_links_are_found() {
        let paths = ["docs/b.md".to_string(), "README.md".to_string(), "docs/decisions/0001-x.md".to_string()];
        let good = "# A\n[b](b.md#part) [r](../README.md) [d](decisions) [w](https://example.org/x) [h](#here)\n```\n[x](y)\n```\n";
        assert_eq!(check_links(&[&file(good)], &paths), []);
        let bad = check_links(&[&file("# A\n\n[b](b.md) [c](c.md)\n")], &paths);
        assert_eq!((bad.len(), bad[0].line), (1, 3));
    }
}

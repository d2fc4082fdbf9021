//! The repository's files, read once.

use crate::rust::RustFile;
use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the repository.
#[derive(Clone, Debug)]
pub struct TextFile {
    /// Relative to the repository's root, with forward slashes.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// Every text file of the repository, without what builds leave behind. Sorted by path.
#[derive(Debug)]
pub struct Tree {
    /// All text files.
    pub files: Vec<TextFile>,
    /// The paths of all files, also of those that are not text.
    pub paths: Vec<String>,
}

impl Tree {
    /// Reads the repository that this crate stands in.
    pub fn load() -> Tree {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut found = Vec::new();
        walk(&root, &mut found);
        let mut tree = Tree { files: Vec::new(), paths: Vec::new() };
        for file in found {
            let relative = file.strip_prefix(&root).expect("walk stays below the root");
            let path = relative.to_string_lossy().replace('\\', "/");
            tree.paths.push(path.clone());
            // What is not UTF-8 (the sample data) is no text and has no rules.
            if let Ok(text) = fs::read_to_string(&file) {
                tree.files.push(TextFile { path, text });
            }
        }
        tree.paths.sort();
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree
    }

    /// The files whose name ends so.
    pub fn ending(&self, suffix: &str) -> Vec<&TextFile> {
        self.files.iter().filter(|f| f.path.ends_with(suffix)).collect()
    }

    /// One file by its path.
    pub fn file(&self, path: &str) -> Option<&TextFile> {
        self.files.iter().find(|f| f.path == path)
    }

    /// The Rust files, scanned, with those marked that only tests include.
    pub fn rust(&self) -> Vec<RustFile> {
        let mut files: Vec<RustFile> = self.ending(".rs").iter().map(|f| RustFile::scan(&f.path, &f.text)).collect();
        let test_only: Vec<String> = files.iter().flat_map(|f| f.test_files.clone()).collect();
        for file in &mut files {
            let below = test_only.iter().any(|t| file.path == *t || file.path.starts_with(&format!("{}/", stem(t))));
            file.is_test |= below;
        }
        files
    }
}

/// `a/b.rs` and `a/b/mod.rs` to `a/b`: where the file's submodules stand.
pub fn stem(path: &str) -> &str {
    path.strip_suffix("/mod.rs").or_else(|| path.strip_suffix(".rs")).unwrap_or(path)
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("cannot list {}: {e}", dir.display()));
    for entry in entries {
        let entry = entry.unwrap_or_else(|e| panic!("cannot list {}: {e}", dir.display()));
        let path = entry.path();
        let kind = entry.file_type().unwrap_or_else(|e| panic!("cannot stat {}: {e}", path.display()));
        if kind.is_dir() {
            // Cargo marks its build directories, whatever they are called, with this file.
            let built = path.join("CACHEDIR.TAG").exists() || entry.file_name() == "target";
            if !built && entry.file_name() != ".git" {
                walk(&path, found);
            }
        // In a work tree of its own, .git is a file that says where the repository is.
        } else if kind.is_file() && entry.file_name() != ".git" {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_this_file_and_no_build_output() {
        let tree = Tree::load();
        assert!(tree.file("tests/tidy/src/tree.rs").is_some());
        assert!(tree.file("Cargo.toml").is_some());
        assert!(!tree.paths.iter().any(|p| p.starts_with("target/") || p.starts_with(".git/")), "{:?}", tree.paths);
    }

    #[test]
    fn stems() {
        assert_eq!(stem("a/b.rs"), "a/b");
        assert_eq!(stem("a/b/mod.rs"), "a/b");
    }
}

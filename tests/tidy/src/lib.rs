//! House rules, as tests: what a reviewer would otherwise have to remember.
//!
//! A rule is a pure function from files to [`Violation`]s, in a file of its own under [`rules`]; `tests/house.rs` runs every
//! rule over the repository. Each rule has a negative test beside it, so that a rule that can no longer fail is noticed.
//!
//! Rust is not parsed: [`rust`] blanks comments and literals and finds test modules and function bodies by their brackets.
//! That is enough for these rules on code that `rustfmt` has laid out; code that tries to hide from them can.

pub mod rules;
pub mod rust;
pub mod tree;

use std::fmt;

/// One place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The file, relative to the repository's root.
    pub path: String,
    /// The line, from 1; 0 where the whole file is meant.
    pub line: usize,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl Violation {
    /// A violation at a line (0: the whole file).
    pub fn new(path: &str, line: usize, message: impl Into<String>) -> Violation {
        Violation { path: path.to_string(), line, message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{}: {}", self.path, line, self.message),
        }
    }
}

/// Panics with all violations, one a line, if there are any.
pub fn assert_none(rule: &str, violations: &[Violation]) {
    let list: Vec<String> = violations.iter().map(|v| format!("  {v}")).collect();
    assert!(violations.is_empty(), "house rule `{rule}` is broken {} times:\n{}", list.len(), list.join("\n"));
}

//! What the rules need to know of a Rust file: its code without comments and literals, its test parts, its functions.

use crate::tree::stem;

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, without its path.
    pub name: String,
    /// The line of `fn`, from 1.
    pub line: usize,
    /// Lines from `fn` to the closing bracket, both counted.
    pub lines: usize,
}

/// A scanned Rust file.
///
/// Invariants: `code` and `uncommented` have as many bytes as the text, and line breaks at the same places.
#[derive(Clone, Debug)]
pub struct RustFile {
    /// Relative to the repository's root.
    pub path: String,
    /// The text as it stands.
    pub text: String,
    /// The text with comments and the insides of literals blanked.
    pub code: String,
    /// The text with comments blanked.
    pub uncommented: String,
    /// True if the whole file is test code.
    pub is_test: bool,
    /// Byte ranges of test modules inside the file.
    pub test_ranges: Vec<(usize, usize)>,
    /// Files that this one includes for tests only.
    pub test_files: Vec<String>,
}

impl RustFile {
    /// Scans a file.
    pub fn scan(path: &str, text: &str) -> RustFile {
        let (code, uncommented) = blank(text);
        let (test_ranges, test_files) = test_parts(path, &code, text);
        let is_test = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs");
        RustFile { path: path.into(), text: text.into(), code, uncommented, is_test, test_ranges, test_files }
    }

    /// The line of a byte, from 1.
    pub fn line_at(&self, byte: usize) -> usize {
        line_at(&self.code, byte)
    }

    /// True if this byte is test code.
    pub fn in_test(&self, byte: usize) -> bool {
        self.is_test || self.test_ranges.iter().any(|(from, to)| (*from..*to).contains(&byte))
    }

    /// How many lines hold code, outside test modules. Comments and blank lines are free: they are to be encouraged.
    pub fn code_lines(&self) -> usize {
        let mut start = 0;
        let mut count = 0;
        for line in self.uncommented.split_inclusive('\n') {
            let in_module = self.test_ranges.iter().any(|(from, to)| (*from..*to).contains(&start));
            if !line.trim().is_empty() && !in_module {
                count += 1;
            }
            start += line.len();
        }
        count
    }

    /// Where a word (or path, or macro name) stands in the code, not as a part of a longer identifier.
    pub fn find_word(&self, word: &str) -> Vec<usize> {
        find_word(&self.code, word)
    }

    /// Every function with a body.
    pub fn functions(&self) -> Vec<Function> {
        let bytes = self.code.as_bytes();
        let mut functions = Vec::new();
        for at in self.find_word("fn") {
            let rest = &self.code[at + 2..];
            let name: String = rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            // `fn(u8) -> u8` is a type.
            if name.is_empty() {
                continue;
            }
            let Some(open) = body_start(bytes, at) else { continue };
            let Some(close) = matching(bytes, open) else { continue };
            let line = self.line_at(at);
            functions.push(Function { name, line, lines: self.line_at(close) - line + 1 });
        }
        functions
    }

    /// The attributes `#[name(…)]`, also inside `cfg_attr`: the byte of the name and what stands in its brackets.
    pub fn attributes(&self, name: &str) -> Vec<(usize, String)> {
        let bytes = self.code.as_bytes();
        let mut found = Vec::new();
        for (start, _) in self.code.match_indices('#') {
            let open = if bytes.get(start + 1) == Some(&b'!') { start + 2 } else { start + 1 };
            if bytes.get(open) != Some(&b'[') {
                continue;
            }
            let Some(close) = matching(bytes, open) else { continue };
            for at in find_word(&self.code[open..close], name) {
                let after = open + at + name.len();
                let inside = match bytes.get(after) {
                    Some(b'(') => matching(bytes, after).map(|end| self.code[after + 1..end].to_string()),
                    _ => Some(String::new()),
                };
                found.push((open + at, inside.unwrap_or_default()));
            }
        }
        found
    }
}

/// The line of a byte, from 1.
pub fn line_at(text: &str, byte: usize) -> usize {
    text.as_bytes()[..byte].iter().filter(|b| **b == b'\n').count() + 1
}

/// Where `word` stands in `text`, not as a part of a longer identifier.
pub fn find_word(text: &str, word: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let part = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let head = part(word.as_bytes().first());
    let tail = part(word.as_bytes().last());
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| !(head && *at > 0 && part(bytes.get(at - 1))))
        .filter(|at| !(tail && part(bytes.get(at + word.len()))))
        .collect()
}

/// From `fn` to the bracket that opens its body; none for a declaration without one.
fn body_start(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'(' | b'[' => at = matching(bytes, at)?,
            b'{' => return Some(at),
            b';' => return None,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The bracket that closes the one at `open`. Only for code whose comments and literals are blanked.
pub fn matching(bytes: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// `#[cfg(test)] mod x { … }` as byte ranges, `#[cfg(test)] mod x;` as the paths it can mean.
fn test_parts(path: &str, code: &str, text: &str) -> (Vec<(usize, usize)>, Vec<String>) {
    let bytes = code.as_bytes();
    let mut ranges = Vec::new();
    let mut files = Vec::new();
    for (start, marker) in code.match_indices("#[cfg(test)]") {
        let mut at = start + marker.len();
        let mut named_path = None;
        // Further attributes stand between; `path` names the file.
        loop {
            at += code[at..].len() - code[at..].trim_start().len();
            if !code[at..].starts_with("#[") {
                break;
            }
            let Some(close) = matching(bytes, at + 1) else { break };
            if code[at + 2..].trim_start().starts_with("path") {
                named_path = text[at..close].split('"').nth(1).map(str::to_string);
            }
            at = close + 1;
        }
        let item = code[at..].trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        match (code[at..].find(['{', ';']).map(|i| at + i), item.strip_prefix("mod ")) {
            (Some(end), Some(after)) if bytes[end] == b';' => {
                let name = after.split(';').next().unwrap_or_default().trim();
                files.extend(module_paths(path, name, named_path.as_deref()));
            }
            (Some(end), _) if bytes[end] == b'{' => {
                ranges.push((start, matching(bytes, end).map_or(code.len(), |close| close + 1)));
            }
            (Some(end), _) => ranges.push((start, end + 1)),
            (None, _) => {}
        }
    }
    (ranges, files)
}

/// The files that `mod name;` in `path` can mean.
fn module_paths(path: &str, name: &str, named: Option<&str>) -> Vec<String> {
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    if let Some(named) = named {
        return vec![format!("{dir}/{named}")];
    }
    let is_root = ["lib.rs", "main.rs", "mod.rs"].iter().any(|root| path.ends_with(&format!("/{root}")));
    let base = if is_root { dir } else { stem(path) };
    vec![format!("{base}/{name}.rs"), format!("{base}/{name}/mod.rs")]
}

/// The text with comments and the insides of literals blanked, and the text with only comments blanked.
fn blank(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut uncommented = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let before = at.checked_sub(1).map(|i| bytes[i]);
        let (length, is_comment) = match rest[0] {
            b'/' if rest.starts_with(b"//") => (line_comment(rest), true),
            b'/' if rest.starts_with(b"/*") => (block_comment(rest), true),
            b'"' => (quoted(rest, b'"'), false),
            b'\'' => (char_literal(rest), false),
            b'r' | b'b' | b'c' if !before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') => {
                (prefixed(rest), false)
            }
            _ => (0, false),
        };
        if length == 0 {
            at += 1;
            continue;
        }
        for i in at..at + length {
            if bytes[i] != b'\n' {
                code[i] = b' ';
                if is_comment {
                    uncommented[i] = b' ';
                }
            }
        }
        at += length;
    }
    let utf8 = |bytes| String::from_utf8(bytes).expect("only whole characters are blanked");
    (utf8(code), utf8(uncommented))
}

fn line_comment(rest: &[u8]) -> usize {
    rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character, or nothing if this quote begins a lifetime.
fn char_literal(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return quoted(rest, b'\'');
    }
    // One character of up to four bytes, then the quote.
    let width = match rest.get(1) {
        Some(b) if *b < 0x80 => 1,
        Some(b) if *b >= 0xf0 => 4,
        Some(b) if *b >= 0xe0 => 3,
        Some(_) => 2,
        None => return 0,
    };
    if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
}

/// A literal that begins with `r`, `b`, `br`, `c` or `cr`; nothing if it is only an identifier.
fn prefixed(rest: &[u8]) -> usize {
    let letters = rest.iter().take(2).take_while(|b| b"rbc".contains(b)).count();
    let raw = rest[..letters].contains(&b'r');
    let hashes = rest[letters..].iter().take_while(|b| **b == b'#').count();
    match rest.get(letters + hashes) {
        Some(b'"') if raw => {
            let mut end = vec![b'"'];
            end.extend(std::iter::repeat_n(b'#', hashes));
            let from = letters + hashes + 1;
            let found = rest[from..].windows(end.len()).position(|w| w == end.as_slice());
            found.map_or(rest.len(), |i| from + i + end.len())
        }
        Some(b'"') if hashes == 0 => letters + quoted(&rest[letters..], b'"'),
        Some(b'\'') if rest[0] == b'b' && letters == 1 => match char_literal(&rest[1..]) {
            0 => 0,
            length => 1 + length,
        },
        _ => 0,
    }
}

#[cfg(test)]
#[path = "rust_tests.rs"]
mod tests;

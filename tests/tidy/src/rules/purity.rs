//! The pure crates neither read a clock nor touch the world, and files are opened in one place.

use crate::Violation;
use crate::rust::{RustFile, find_word, matching};

/// What a set of crates must not name in code (comments may).
struct Ban {
    /// Folders; a module `x` is `x.rs` with the folder beside it.
    crates: &'static [&'static str],
    words: &'static [&'static str],
    /// Whether tests are free of it.
    tests_may: bool,
    /// Files that may, each with its reason.
    except: &'static [(&'static str, &'static str)],
    why: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        crates: &["dlog-core", "dlog-replication", "dlog-consensus"],
        words: &[
            "tokio::",
            "tonic::",
            "std::fs",
            "std::net",
            "std::thread",
            "std::process",
            "std::env",
            "Instant::now",
            "SystemTime::now",
            "thread_rng",
            "HashMap",
            "HashSet",
        ],
        tests_may: false,
        except: &[],
        why: "this crate is pure: time, randomness and bytes are handed in, and iteration has one order",
    },
    Ban {
        crates: &[
            "dlog-client/src/backoff",
            "dlog-client/src/consumer/position",
            "dlog-client/src/consumer/turns",
            "dlog-client/src/producer/flight",
            "dlog-client/src/producer/lane",
            "dlog-client/src/retry",
        ],
        words: &["tokio::", "tonic::", "Instant::now", "SystemTime::now", "random_seed", "HashMap", "HashSet"],
        tests_may: true,
        except: &[("dlog-client/src/backoff.rs", "has the seeds for everybody else")],
        why: "the client's decisions are pure, so that the simulator runs the very same ones",
    },
    Ban {
        crates: &["dlog-storage"],
        words: &["std::fs"],
        tests_may: true,
        except: &[("dlog-storage/src/os_disk.rs", "the Disk over the operating system")],
        why: "dlog-storage reaches files through the Disk trait, so that the simulator can stand in for them",
    },
    Ban {
        crates: &["dlog-storage"],
        words: &["tokio::", "tonic::", "std::net", "thread::spawn", "thread::Builder", "SystemTime::now"],
        tests_may: true,
        except: &[],
        why: "dlog-storage is synchronous and has no threads or clock of its own",
    },
    Ban {
        crates: &["tests/sim"],
        words: &["tokio::", "tonic::", "std::fs", "std::net", "std::thread", "SystemTime::now", "HashMap", "HashSet"],
        tests_may: false,
        except: &[
            ("tests/sim/src/main.rs", "asks how many cores there are"),
            ("tests/sim/src/many.rs", "runs several whole worlds side by side, a thread each"),
            ("tests/sim/tests/scenarios.rs", "reads the scripts, outside of any world"),
        ],
        why: "a simulated world is one thread and one seed",
    },
];

/// Checks every file against the bans of its crate.
pub fn check(files: &[RustFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        let bans = BANS.iter().filter(|b| b.crates.iter().any(|c| is_within(&file.path, c)));
        for ban in bans.filter(|b| !b.except.iter().any(|(path, _)| *path == file.path)) {
            let mut tell = |at: usize, word: &str| {
                if !(ban.tests_may && file.in_test(at)) {
                    let message = format!("names {word}: {}", ban.why);
                    violations.push(Violation::new(&file.path, file.line_at(at), message));
                }
            };
            for word in ban.words {
                file.find_word(word).into_iter().for_each(|at| tell(at, word));
            }
            for (at, module) in grouped_std(&file.code) {
                if ban.words.contains(&module.as_str()) {
                    tell(at, &module);
                }
            }
        }
    }
    violations
}

/// Whether a file belongs to a crate or a module.
fn is_within(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// The modules of `use std::{fs, thread::sleep}` as `std::fs`, `std::thread`.
fn grouped_std(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in find_word(code, "std::{") {
        let open = at + "std::".len();
        let Some(close) = matching(code.as_bytes(), open) else { continue };
        let mut depth = 0;
        let mut start = open + 1;
        for (index, c) in code[open + 1..=close].char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    let item = code[start..open + 1 + index].trim();
                    let module: String = item.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    found.push((at, format!("std::{module}")));
                    start = open + 2 + index;
                }
                _ => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&[RustFile::scan(path, text)]).into_iter().map(|v| v.line).collect()
    }

    #[test]
    fn every_banned_word_is_found() {
        for ban in BANS {
            for word in ban.words {
                for krate in ban.crates {
                    let used = if word.ends_with("::") { format!("{word}x") } else { word.to_string() };
                    let text = format!("//! {used}\nfn f() {{ {used} }}\n");
                    let found = lines(&format!("{krate}/src/x.rs"), &text);
                    assert!(found.contains(&2) && !found.contains(&1), "{krate} {word}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn grouped_imports_are_seen_through() {
        assert_eq!(lines("dlog-core/src/x.rs", "use std::{fmt, fs};\n"), [1]);
        assert_eq!(
            lines("dlog-core/src/x.rs", "use std::{\n    collections::{BTreeMap, BTreeSet},\n    thread::sleep,\n};\n"),
            [1]
        );
        assert_eq!(lines("dlog-core/src/x.rs", "use std::{fmt, collections::BTreeMap};\n"), [0usize; 0]);
    }

    #[test]
    fn a_pure_crates_tests_are_pure_too_but_storages_may_open_files() {
        let text = "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(lines("dlog-core/src/x.rs", text), [3]);
        assert_eq!(lines("dlog-storage/src/x.rs", text), [0usize; 0]);
        assert_eq!(lines("dlog-storage/src/x.rs", "use std::fs;\n"), [1]);
        assert_eq!(lines("dlog-storage/src/os_disk.rs", "use std::fs;\n"), [0usize; 0]);
        assert_eq!(lines("dlog-server/src/x.rs", "use std::fs;\n"), [0usize; 0]);
    }
}

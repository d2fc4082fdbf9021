//! What the command line says.

use crate::Result;
use crate::rows;
use crate::scale::{LONG, Scale, TINY, USUAL};
use std::path::PathBuf;

/// How it is called.
pub const USAGE: &str = "\
usage: dlog-storage-bench [--long | --tiny] [--rounds N] [--dir FOLDER] [--out FILE] [ROW ...]

Measures the storage engine against the raw disk in the same run, and prints a page in Markdown.
  ROW           only these (default: all)
  --long        logs of 10 GiB where a row speaks of them; needs 12 GiB of disk
  --tiny        as little as shows that it works; its figures mean nothing
  --rounds N    how often dlog and the raw disk take turns in each row, at least 5 (default 5)
  --dir FOLDER  where to measure, on the disk that is meant, never in memory (default: beside this program;
                also by DLOG_BENCH_DIR)
  --out FILE    the page goes there instead of to standard output
exit codes: 0 measured (met or not), 1 could not measure, 2 wrong usage";

/// Fewer rounds than this have no median worth the name.
const ROUNDS_MIN: usize = 5;

/// What was asked for.
#[derive(Debug, PartialEq)]
pub struct Arguments {
    /// How much.
    pub scale: Scale,
    /// How often.
    pub rounds: usize,
    /// Where the page goes.
    pub out: Option<PathBuf>,
    dir: Option<PathBuf>,
    rows: Vec<String>,
}

impl Arguments {
    /// Reads the command line; `None` if help was asked for. `dir` is what the environment says.
    pub fn parse(
        mut given: impl Iterator<Item = String>,
        dir: Option<String>,
    ) -> std::result::Result<Option<Arguments>, String> {
        let dir = dir.map(PathBuf::from);
        let mut arguments = Arguments { scale: USUAL, rounds: ROUNDS_MIN, out: None, dir, rows: Vec::new() };
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--long" => arguments.scale = LONG,
                "--tiny" => arguments.scale = TINY,
                "--rounds" => {
                    let rounds = value()?.parse().map_err(|_| "--rounds needs a number".to_string())?;
                    if rounds < ROUNDS_MIN {
                        return Err(format!("--rounds {rounds}: fewer than {ROUNDS_MIN} say nothing"));
                    }
                    arguments.rounds = rounds;
                }
                "--dir" => arguments.dir = Some(value()?.into()),
                "--out" => arguments.out = Some(value()?.into()),
                row if rows::ROWS.iter().any(|known| known.name == row) => arguments.rows.push(argument),
                other => return Err(format!("{other} is no row and no flag")),
            }
        }
        Ok(Some(arguments))
    }

    /// Whether this row is to be measured.
    pub fn wants(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|wanted| wanted == row)
    }

    /// Where to measure: where cargo builds, if nothing was said.
    pub fn folder(&self) -> Result<PathBuf> {
        match &self.dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(std::env::current_exe()?.with_file_name("bench-data")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[&str]) -> std::result::Result<Option<Arguments>, String> {
        Arguments::parse(given.iter().map(ToString::to_string), Some("x".to_string()))
    }

    #[test]
    fn what_is_said_counts() {
        let arguments = parse(&["--long", "--rounds", "7", "seek"]).expect("good").expect("no help");
        assert_eq!((arguments.scale, arguments.rounds), (LONG, 7));
        assert!(arguments.wants("seek") && !arguments.wants("open"));
        assert_eq!(arguments.folder().expect("named"), PathBuf::from("x"));
        let arguments = parse(&["--dir", "y"]).expect("good").expect("no help");
        assert!(arguments.wants("seek") && arguments.wants("open"));
        assert_eq!(arguments.folder().expect("named"), PathBuf::from("y"));
        assert_eq!(parse(&["-h"]), Ok(None));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for given in [&["--rounds"][..], &["--rounds", "4"], &["--rounds", "x"], &["nothing"], &["--dir"]] {
            assert!(parse(given).is_err(), "{given:?}");
        }
    }
}

//! The producers of a partition as of an entry are the same on every replica, whether it applied all entries itself or began with
//! a snapshot.

use crate::trace::fingerprint;
use dlog_core::LogIndex;
use std::collections::BTreeMap;

/// The tables of one partition, by the entry that they are as of.
#[derive(Debug, Default)]
pub struct Tables {
    known: BTreeMap<LogIndex, u64>,
}

impl Tables {
    /// A replica says that this is its table as of `index`.
    ///
    /// # Errors
    /// If another one, or itself, said otherwise.
    pub fn told(&mut self, index: LogIndex, table: &[u8]) -> Result<(), String> {
        let now = fingerprint(table);
        match *self.known.entry(index).or_insert(now) {
            known if known == now => Ok(()),
            _ => Err(format!("its producers as of {index} aren't those that were told before")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_has_one_table() {
        let mut tables = Tables::default();
        tables.told(LogIndex(3), b"a").expect("first");
        tables.told(LogIndex(4), b"b").expect("another entry");
        tables.told(LogIndex(3), b"a").expect("the same");
        tables.told(LogIndex(3), b"b").expect_err("another one");
    }
}

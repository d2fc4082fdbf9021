//! One leader a term: a term of a log is led by at most one life of one replica.

use dlog_core::{LogId, ReplicaId, Term};
use std::collections::BTreeMap;

/// Who led which term.
#[derive(Debug, Default)]
pub struct Leaders {
    led: BTreeMap<(LogId, Term), (ReplicaId, u64)>,
}

impl Leaders {
    /// `replica`, in the `life`-th life of its node, tells somebody that it leads.
    ///
    /// # Errors
    /// If another one did, or the same one before its node was started again: it may have forgotten what it said then.
    pub fn leads(&mut self, log: LogId, term: Term, replica: ReplicaId, life: u64) -> Result<(), String> {
        let first = *self.led.entry((log, term)).or_insert((replica, life));
        if first == (replica, life) {
            return Ok(());
        }
        Err(format!("term {term} of log {log} has two leaders: {first:?} and {:?} (replica, life)", (replica, life)))
    }

    /// Elections won so far.
    pub fn elections(&self) -> u64 {
        self.led.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_has_one_leader_in_one_life() {
        let mut leaders = Leaders::default();
        let led = |leaders: &mut Leaders, term, replica, life| {
            leaders.leads(LogId(1), Term(term), ReplicaId(replica), life).is_ok()
        };
        assert!(led(&mut leaders, 1, 7, 1) && led(&mut leaders, 1, 7, 1) && led(&mut leaders, 2, 8, 1));
        assert!(!led(&mut leaders, 1, 8, 1) && !led(&mut leaders, 2, 8, 2));
        assert_eq!(leaders.elections(), 2);
    }
}

//! How a run ended, and the exit codes that tell it.

use dlog_core::LogId;
use std::fmt;

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The code under test panicked, or gave up without a fault that explains it.
    Crash,
    /// After everything was healed, something didn't go on within its time.
    Liveness,
    /// A promise was broken.
    Correctness,
}

impl Kind {
    /// The process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Kind::Crash => 10,
            Kind::Liveness => 11,
            Kind::Correctness => 12,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Crash => "crash",
            Kind::Liveness => "liveness",
            Kind::Correctness => "correctness",
        })
    }
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub kind: Kind,
    /// What was seen.
    pub what: String,
    /// The log that it is about, if it is about one.
    pub log: Option<LogId>,
}

impl Failure {
    /// The code under test gave up.
    pub fn crash(what: impl Into<String>) -> Failure {
        Failure { kind: Kind::Crash, what: what.into(), log: None }
    }

    /// Something didn't go on.
    pub fn liveness(what: impl Into<String>) -> Failure {
        Failure { kind: Kind::Liveness, what: what.into(), log: None }
    }

    /// The same, about this log.
    #[must_use]
    pub fn about(self, log: impl Into<Option<LogId>>) -> Failure {
        Failure { log: self.log.or(log.into()), ..self }
    }

    /// A promise was broken.
    pub fn correctness(what: impl Into<String>) -> Failure {
        Failure { kind: Kind::Correctness, what: what.into(), log: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.what)
    }
}

/// What happened in a run, for people and for tests that want to know that something happened at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Batches that were acked.
    pub acked: u64,
    /// Acks of retries that found their first append.
    pub duplicates: u64,
    /// Times at which a node lost power.
    pub power_losses: u64,
    /// Times at which all nodes lost power at once.
    pub all_power_losses: u64,
    /// Times at which a process died, for whatever reason.
    pub deaths: u64,
    /// Orderly restarts.
    pub graceful_stops: u64,
    /// Disks that were full for a while.
    pub full_disks: u64,
    /// Times at which a store wanted room that its disk didn't have.
    pub no_room: u64,
    /// Times at which replicas were told that there is no room, or less.
    pub less_room: u64,
    /// Times at which they were told that there is room again.
    pub room_again: u64,
    /// Requests refused for want of room.
    pub disk_full: u64,
    /// Ballasts given back.
    pub ballasts: u64,
    /// Times at which replicas were told that their disk is stuck.
    pub stuck: u64,
    /// Processes that ended because their disk didn't answer.
    pub hopeless: u64,
    /// Jumps of wall clocks.
    pub clock_jumps: u64,
    /// Committed batches with an earlier append time than the one before.
    pub stamps_back: u64,
    /// Elections won.
    pub elections: u64,
    /// Partitions of the network.
    pub partitions: u64,
    /// Committed frames over all logs.
    pub frames: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Batches that readers were given.
    pub batches_read: u64,
    /// Reads for followers that lag.
    pub catch_up_reads: u64,
    /// Ends of logs told after a majority confirmed the leader.
    pub ends_told: u64,
    /// Records, acked before somebody asked a replica for its end, that were read there when it had told it.
    pub ends_read: u64,
    /// Conflicting suffixes cut.
    pub cuts: u64,
    /// Log starts that were moved, as clients were told.
    pub log_start_moves: u64,
    /// Logs whose first segments were dropped.
    pub drops: u64,
    /// Logs that were reset to a snapshot.
    pub installs: u64,
    /// Readers that had to skip what is no longer kept.
    pub skips: u64,
    /// Batches that were rejected, each time, until their producer gave up.
    pub rejected: u64,
    /// Commands for the catalogue whose outcome was told.
    pub commands: u64,
    /// Catalogues that nodes published.
    pub published: u64,
    /// Replicas deleted with their topics.
    pub deletions: u64,
    /// States of group 0 that came with a snapshot.
    pub states_installed: u64,
    /// Entries that changed a log's members.
    pub changes: u64,
    /// Intents that a log's leader confirmed.
    pub confirmed: u64,
    /// Copies taken of directories.
    pub copies: u64,
    /// Old copies put back.
    pub restored: u64,
    /// Disks that were emptied.
    pub wiped: u64,
    /// Disks of which synced bytes were changed.
    pub decayed: u64,
    /// Faults found in segments.
    pub faults: u64,
    /// Replicas that got back all that their disks had lost.
    pub repaired: u64,
    /// Replicas that couldn't start before they had.
    pub starts_held: u64,
    /// Nodes that were lost for good.
    pub lost: u64,
    /// Starts that a node refused to believe.
    pub refused_starts: u64,
}

/// The end of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Of all lines of the trace.
    pub hash: u64,
    /// Lines of the trace.
    pub lines: u64,
    /// Events of the schedule.
    pub events: u64,
    /// Virtual time, in nanoseconds.
    pub virtual_ns: u64,
    /// What happened.
    pub counts: Counts,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.failure.is_none() { "PASSED" } else { "FAILED" };
        write!(f, "{end} seed={} events={} lines={} ", self.seed, self.events, self.lines)?;
        write!(f, "seconds={:.1} hash={:016x}", self.virtual_ns as f64 / 1e9, self.hash)?;
        let c = &self.counts;
        write!(f, " acked={} duplicates={} frames={} read={}", c.acked, c.duplicates, c.frames, c.batches_read)?;
        write!(f, " elections={} deaths={} power_losses={}", c.elections, c.deaths, c.power_losses)?;
        write!(f, " (all at once: {}) partitions={} cuts={}", c.all_power_losses, c.partitions, c.cuts)?;
        write!(f, " checkpoints={} catch_up_reads={} ends={}", c.checkpoints, c.catch_up_reads, c.ends_told)?;
        write!(f, " ends_read={}", c.ends_read)?;
        write!(f, " log_start_moves={} drops={} installs={}", c.log_start_moves, c.drops, c.installs)?;
        write!(f, " skips={} rejected={}", c.skips, c.rejected)?;
        write!(f, " commands={} catalogues={}", c.commands, c.published)?;
        write!(f, " deletions={} changes={} confirmed={}", c.deletions, c.changes, c.confirmed)?;
        write!(f, " states={} copies={} restored={} wiped={}", c.states_installed, c.copies, c.restored, c.wiped)?;
        write!(f, " faults={} repaired={} starts_held={}", c.faults, c.repaired, c.starts_held)?;
        write!(f, " decayed={} lost={} refused_starts={}", c.decayed, c.lost, c.refused_starts)?;
        write!(f, " full_disks={} no_room={} less_room={}", c.full_disks, c.no_room, c.less_room)?;
        write!(f, " room_again={} disk_full={} ballasts={}", c.room_again, c.disk_full, c.ballasts)?;
        write!(f, " stuck={} hopeless={}", c.stuck, c.hopeless)?;
        write!(f, " clock_jumps={} stamps_back={}", c.clock_jumps, c.stamps_back)?;
        match &self.failure {
            Some(failure) => write!(f, "\n  {failure}"),
            None => Ok(()),
        }
    }
}

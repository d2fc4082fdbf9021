//! Which checker a failure is of, by its text.

use crate::report::{Failure, Kind};

/// A part of a failure's text, and whose it is. The first that fits counts.
const FINDERS: &[(&str, &str)] = &[
    ("scenario ", "its checks"),
    ("is a second empty one", "log matching: empty entries"),
    ("the members as of", "members"),
    ("belongs to its log", "members: deleted too soon"),
    ("is bad", "decay"),
    ("and the learner has", "log matching"),
    ("has two leaders", "leaders"),
    ("voted for", "promises"),
    ("answered in term", "promises"),
    ("its producers as of", "tables"),
    ("progress went from", "progress"),
    ("was said to end at", "ends of logs"),
    ("was committed as", "log matching"),
    ("before it were seen", "log matching"),
    ("but the log ends at", "log matching"),
    ("older than the one before", "log matching"),
    ("a read from", "log matching: reads"),
    ("below the bound", "readers"),
    ("is out of range: readable", "readers"),
    ("a reader of replica", "readers"),
    ("stands at", "acks"),
    ("stands twice", "acks"),
    ("was acked", "acks"),
    ("nobody sent", "acks"),
    ("answered request", "replies"),
    ("can't start", "recovery"),
    ("is damaged", "recovery"),
    ("opened at the end", "recovery: disks alone"),
    ("can't go on", "loader"),
    ("on a healthy disk", "store"),
    ("digests of", "digests"),
    ("can't be read", "frames can't be read"),
    ("has no frame after", "frames are missing"),
    ("is missing", "frames are missing"),
];

/// Who found it.
pub fn finder(failure: &Failure) -> String {
    let what = &failure.what;
    if let Some((_, at)) = what.split_once("panicked at ") {
        let place = at.split(':').next().unwrap_or_default();
        let file = place.rsplit("/registry/src/").next().unwrap_or(place);
        return format!("assertion in {file}");
    }
    if failure.kind == Kind::Liveness {
        return "liveness".to_owned();
    }
    let known = FINDERS.iter().find(|(part, _)| what.contains(part));
    known.map_or_else(|| format!("{failure}"), |(_, name)| (*name).to_owned())
}

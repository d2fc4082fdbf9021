//! The scenarios that the gate plays: for what no simulated cluster meets, or has no promise about.

use crate::report::Failure;
use crate::scenario;

/// By name, with their scripts.
const SCRIPTS: &[(&str, &str)] = &[
    ("wiped_node", include_str!("../../scenarios/wiped_node.txt")),
    ("leader_leaves", include_str!("../../scenarios/leader_leaves.txt")),
];

/// Plays a scenario.
///
/// # Errors
/// The first check that doesn't hold, or command that can't be carried out. What is only printed in another way is none.
pub fn play(name: &str) -> Result<(), Failure> {
    let (_, text) = SCRIPTS.iter().find(|(known, _)| *known == name).expect("the gate names a script that it has");
    let played = scenario::play(text).expect("a script in its form, as the scenarios' test says");
    match played.failures.into_iter().next() {
        Some(what) => Err(Failure::correctness(format!("scenario {name}: {what}"))),
        None => Ok(()),
    }
}

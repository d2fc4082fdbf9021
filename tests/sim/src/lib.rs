//! The simulator: one to seven nodes with the production replica, storage and recovery, over simulated disks, network and time.
//!
//! One thread and one seed. A seed draws [`Options`]; [`run`] plays them and says how it ended. The parts:
//!
//! - [`schedule`]: the one queue of (time, sequence, event). Nothing else makes time pass.
//! - [`world`]: the nodes, and what every event does to them. Its files stand for the server's threads: `turns` for the
//!   consensus thread, `disks` for the disk thread, `starts` for a start; `faults` breaks things.
//! - [`network`]: who hears whom, how late, how often.
//! - [`clients`]: producers that retry, readers that poll any replica, and those who ask where a log ends.
//! - [`checkers`]: what must hold, one file for each rule, asked after the events that could break it.
//! - [`broken`]: ways to do it wrong, to show that the checkers notice.
//!
//! First faults come, and only safety counts; then all is healed, and every partition must take writes again and the
//! replicas become equal. `docs/simulator.md` says what is simulated and what isn't.

pub mod broken;
pub mod checkers;
pub mod clients;
pub mod decay;
pub mod gate;
pub mod many;
pub mod network;
pub mod node;
pub mod options;
pub mod report;
pub mod run;
pub mod scenario;
pub mod scenes;
pub mod schedule;
pub mod trace;
pub mod world;

pub use broken::Broken;
pub use options::{Options, Shape};
pub use report::{Failure, Kind, Report};
pub use run::run;

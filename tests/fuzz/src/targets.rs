//! The targets, by crate.

mod archive;
mod batch;
mod catalogue;
mod client;
mod codec;
mod consensus;
mod directory;
mod frame;
mod journal;
mod log_files;
mod protocol;
mod small_files;
mod varint;

use crate::target::Target;

/// All of them.
pub const TARGETS: &[Target] = &[
    varint::VARINT,
    codec::CODEC,
    batch::BATCH,
    frame::FRAME,
    small_files::IDENTITY,
    small_files::BOOTS,
    small_files::MANIFEST,
    small_files::PRODUCERS_FILE,
    small_files::CHECKPOINT,
    log_files::INDEX,
    log_files::SEGMENT,
    journal::TABLE,
    journal::FILE,
    directory::DIRECTORY,
    catalogue::COMMAND,
    catalogue::STATE,
    catalogue::OUTCOME,
    catalogue::SETTINGS,
    consensus::PAYLOADS,
    consensus::MESSAGE,
    protocol::REQUESTS,
    client::ANSWER,
];

/// The target of this name.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

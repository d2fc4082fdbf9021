//! The page: what was found, as Markdown.

use crate::figure::Figure;
use crate::machine::Machine;
use std::fmt::Write;

const HEAD: &str = "\
# Storage benchmarks

What `make bench` printed on one machine. Every ratio pairs dlog with the raw disk (or with what the row names) in the same
run: the two take turns, the ratio is made of each turn, and the median of all turns is judged, with the range behind it. So
a ratio may be compared between machines; the absolute figures beside it belong to this machine alone.

dlog is `dlog-storage` on the operating system's files, laid out as nodes have it, in the round that a node's disk thread
runs: commit (one write, one fdatasync), frames into segments, a slice of the next journal file, two steps of a checkpoint.
Checkpoints store one producer table for each log, as a node's do. Where a row speaks of acks, the next group is submitted
the moment the one before is durable: its time holds all work that stands between the two syncs.

*Raw* is write + fdatasync of the same bytes, one behind the other, in one file: the fastest of a file that grows, one whose
blocks fallocate gave, and one that was written before, by the median over the turns of that row; which one it was is named.
Megabytes and gigabytes are powers of ten, KiB and MiB of two.
";

/// The whole page.
pub fn page(machine: &Machine, figures: &[Figure], scale: &str, rounds: usize) -> String {
    let mut page = format!("{HEAD}\n## The machine's limits\n\n{machine}\n## Figures\n\n");
    let profile = if cfg!(debug_assertions) { "dev, which is not what ships" } else { "dist, as it ships" };
    let _ = write!(page, "In {scale}, {rounds} turns for each row, profile {profile}.\n\n");
    page.push_str("| what | median (range) | bar | | beside it, in the same run |\n|---|---|---|---|---|\n");
    for figure in figures {
        let (value, bar, verdict) = (figure.value_text(), figure.bar_text(), figure.verdict());
        let _ = writeln!(page, "| {} | {value} | {bar} | {verdict} | {} |", figure.what, figure.beside);
    }
    page
}

//! `dlog inspect`: prints and checks single files of a data directory, of a stopped or a running node. Never writes.

mod place;

use super::consume::sink::Sink;
use super::exit::Exit;
use super::{Output, out, runtime};
use anyhow::{Context, bail};
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_storage::inspect::{self, Damage, FrameAt, LogPlace, LogReport};
use dlog_storage::{Identity, OsDisk};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Verbs of `dlog inspect`.
#[derive(clap::Subcommand, Debug)]
pub enum InspectVerb {
    /// Print and check one segment file (bytes behind the last frame count as damage, though a cut may have left them)
    Segment(InspectArgs),
    /// Print and check one journal file
    Journal(InspectArgs),
    /// Print and check the log of one replica, and give its digest: equal on every replica
    Log(InspectArgs),
}

/// Flags of `dlog inspect`.
#[derive(clap::Args, Debug)]
pub struct InspectArgs {
    /// DATA/shard-N/logs/LOG/REPLICA for a log, DATA/shard-N/logs/LOG/REPLICA/X.segment, DATA/shard-N/journal/X.journal
    path: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// Prints what is there; ends with 1 if something is damaged.
///
/// # Errors
/// What can't be read.
pub fn run(verb: InspectVerb) -> anyhow::Result<Exit> {
    runtime::run_here(false, move |_| print_and_check(&verb))
}

fn print_and_check(verb: &InspectVerb) -> anyhow::Result<Exit> {
    let (result, path) = match verb {
        InspectVerb::Segment(args) => (segment(args), &args.path),
        InspectVerb::Journal(args) => (journal(args), &args.path),
        InspectVerb::Log(args) => (log(args), &args.path),
    };
    result.with_context(|| format!("can't inspect {}", path.display()))
}

/// Prints on standard output while files are read; what failed first is kept.
struct Printer {
    sink: Sink<io::StdoutLock<'static>>,
    silent: bool,
    result: io::Result<()>,
}

impl Printer {
    fn new(silent: bool) -> Printer {
        Printer { sink: Sink::new(io::stdout().lock()), silent, result: Ok(()) }
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        if !self.silent && self.result.is_ok() {
            let buffer = self.sink.buffer();
            self.result = buffer.write_fmt(text).and_then(|()| buffer.write_all(b"\n"));
            self.result = std::mem::replace(&mut self.result, Ok(())).and_then(|()| self.sink.settle());
        }
    }

    fn frame(&mut self, at: &FrameAt<'_>) {
        let frame = at.frame;
        let (index, term, offset, count) = (frame.index, frame.term, frame.base_offset, frame.record_count);
        let place = if at.position > 0 { format!("{}:{}", at.path, at.position) } else { at.path.to_string() };
        self.line(format_args!(
            "index {index}  term {term}  {:?}  offset {offset}  records {count}  bytes {}  {place}",
            frame.kind,
            frame.payload.len(),
        ));
    }

    /// The end: `summary` is printed in any case.
    fn finish(mut self, summary: &str) -> anyhow::Result<()> {
        self.silent = false;
        self.line(format_args!("{summary}"));
        out::check(self.result.and_then(|()| self.sink.flush()))
    }
}

/// Tells what is damaged on standard error, and gives the exit code.
pub fn tell_damage(damage: &[Damage]) -> Exit {
    for place in damage {
        out::note(format!("damaged: {}", place_text(place)));
    }
    if damage.is_empty() { Exit::Done } else { Exit::Failed }
}

/// One damaged range on a line.
pub fn place_text(damage: &Damage) -> String {
    let mut text = format!("{} at byte {}", damage.path, damage.position);
    if damage.bytes > 0 {
        text.push_str(&format!(" ({} bytes)", damage.bytes));
    }
    if let Some(index) = damage.index {
        text.push_str(&format!(", index {index}"));
    }
    if let Some(offset) = damage.offset {
        text.push_str(&format!(", offset {offset}"));
    }
    format!("{text}: {}", damage.detail)
}

fn segment(args: &InspectArgs) -> anyhow::Result<Exit> {
    let (disk, name) = place::file(&args.path)?;
    let json = args.output.is_json();
    let mut printer = Printer::new(json);
    let report = inspect::segment(&disk, &name, &mut |at| printer.frame(&at)).map_err(place::plain)?;
    let first = report.header.map(|header| header.start.index.next().0);
    let summary = match json {
        true => json!({
            "first_index": first,
            "last_index": report.last_index.0,
            "log_end": report.next_offset.0,
            "frames": report.frames,
            "bytes": report.bytes,
            "damaged": report.damage.len(),
            "log": report.header.map(|header| header.identity.log.0),
            "replica": report.header.map(|header| header.identity.replica.0),
            "generation": report.header.map(|header| header.generation),
        })
        .to_string(),
        false => format!(
            "{} frames up to index {}, next offset {}, {} bytes, {} damaged",
            report.frames,
            report.last_index,
            report.next_offset,
            report.bytes,
            report.damage.len()
        ),
    };
    printer.finish(&summary)?;
    Ok(tell_damage(&report.damage))
}

fn journal(args: &InspectArgs) -> anyhow::Result<Exit> {
    let (disk, name) = place::file(&args.path)?;
    let shard = place::journal_shard(&args.path)?;
    let json = args.output.is_json();
    let mut printer = Printer::new(json);
    let report = inspect::journal(&disk, &name, shard, None, &mut |group, writes| {
        let (number, position, bytes) = (group.number, group.position, group.bytes);
        printer.line(format_args!("group {number}  at {position}  bytes {bytes}  writes {}", writes.len()));
        for write in writes {
            print_write(&mut printer, write);
        }
    });
    let report = report.map_err(place::plain)?;
    let summary = match json {
        true => json!({
            "generation": report.generation,
            "groups": report.groups,
            "first_group": report.numbers.map(|(first, _)| first),
            "last_group": report.numbers.map(|(_, last)| last),
            "frames": report.frames,
            "end": report.end,
            "sealed": report.sealed,
            "damaged": report.damage.len(),
        })
        .to_string(),
        false => format!(
            "{} groups with {} frames, used up to byte {}{}, {} damaged",
            report.groups,
            report.frames,
            report.end,
            if report.sealed { ", sealed" } else { "" },
            report.damage.len()
        ),
    };
    printer.finish(&summary)?;
    Ok(tell_damage(&report.damage))
}

fn print_write(printer: &mut Printer, write: &ReplicaWrite) {
    let (log, replica, commit) = (write.log, write.replica, write.commit);
    printer.line(format_args!("  log {log}  replica {replica}  commit {commit}"));
    for op in &write.ops {
        match op {
            WriteOp::Append(frames) => {
                for frame in frames {
                    let (index, term, offset) = (frame.index, frame.term, frame.base_offset);
                    printer.line(format_args!(
                        "    append index {index}  term {term}  {:?}  offset {offset}  records {}  bytes {}",
                        frame.kind,
                        frame.record_count,
                        frame.payload.len()
                    ));
                }
            }
            WriteOp::Create(create) => printer.line(format_args!("    create, intent {}", create.intent)),
            WriteOp::HardState { term, vote: Some(vote) } => {
                printer.line(format_args!("    term {term}, vote for replica {vote}"));
            }
            WriteOp::HardState { term, vote: None } => printer.line(format_args!("    term {term}, no vote")),
            WriteOp::Configuration { index, .. } => printer.line(format_args!("    configuration of index {index}")),
            WriteOp::Cut { from } => printer.line(format_args!("    cut from index {from}")),
            WriteOp::LogStart(offset) => printer.line(format_args!("    log start {offset}")),
            WriteOp::Reset(point) => printer.line(format_args!("    reset to behind index {}", point.index)),
            WriteOp::Producers { index, .. } => printer.line(format_args!("    producers as of index {index}")),
            WriteOp::Delete { ended } => {
                printer.line(format_args!("    delete, out of use since group 0 index {ended}"))
            }
        }
    }
}

fn log(args: &InspectArgs) -> anyhow::Result<Exit> {
    let (root, log_place) = place::replica(&args.path)?;
    let disk = OsDisk::new(&root).context("can't open the data directory")?;
    let Some(identity) = Identity::load(&disk, "").map_err(place::plain)? else {
        bail!("{} is no data directory: it has no file `identity`", root.display());
    };
    let json = args.output.is_json();
    let mut printer = Printer::new(json);
    let place = LogPlace { root: String::new(), ..log_place };
    let report = inspect::log(&disk, &place, identity.cluster, &mut |at| printer.frame(&at)).map_err(place::plain)?;
    let summary = match json {
        true => log_json(&report).to_string(),
        false => format!(
            "indexes {} to {}, offsets {} to {} (not with), high watermark at index {}, {} frames, {} damaged\ndigest {}",
            report.first_index,
            report.last_index,
            report.log_start,
            report.log_end,
            report.high_watermark,
            report.frames,
            report.damage.len(),
            report.digest_hex()
        ),
    };
    printer.finish(&summary)?;
    Ok(tell_damage(&report.damage))
}

fn log_json(report: &LogReport) -> Value {
    json!({
        "first_index": report.first_index.0,
        "last_index": report.last_index.0,
        "log_start": report.log_start.0,
        "log_end": report.log_end.0,
        "frames": report.frames,
        "damaged": report.damage.len(),
        "digest": report.digest_hex(),
    })
}

/// Whether a path is a folder that can be looked into; nothing is ever made.
pub fn require_folder(path: &Path) -> anyhow::Result<()> {
    if !path.is_dir() {
        bail!("{} is no folder", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::{LogIndex, Offset};

    #[test]
    fn the_keys_of_a_log_are_the_contract() {
        let report = LogReport {
            first_index: LogIndex(1),
            last_index: LogIndex(9),
            log_start: Offset(0),
            log_end: Offset(70),
            high_watermark: LogIndex(8),
            frames: 9,
            damage: Vec::new(),
            digest: [0xab; 32],
        };
        assert_eq!(
            log_json(&report).to_string(),
            format!(
                "{{\"first_index\":1,\"last_index\":9,\"log_start\":0,\"log_end\":70,\"frames\":9,\"damaged\":0,\
                 \"digest\":\"{}\"}}",
                "ab".repeat(32)
            )
        );
    }

    #[test]
    fn damage_names_file_position_and_offset() {
        let damage = Damage {
            path: "x.segment".into(),
            position: 128,
            bytes: 7,
            index: Some(LogIndex(3)),
            offset: Some(Offset(5)),
            detail: "bad checksum".into(),
        };
        assert_eq!(place_text(&damage), "x.segment at byte 128 (7 bytes), index 3, offset 5: bad checksum");
        assert_eq!((tell_damage(&[damage]), tell_damage(&[])), (Exit::Failed, Exit::Done));
    }
}

//! `show …`: the state of nodes, their logs and the messages on their way, as lines.

use super::stage::Stage;
use super::words;
use dlog_consensus::Replica;

/// Bytes of frames read at once.
const READ_BYTES: usize = 1 << 20;

impl Stage {
    /// Each replica of a node.
    pub(super) fn status_of(&self, node: u32) -> Vec<String> {
        let Some(one) = self.nodes.get(&node) else { return vec![format!("there is no node {node}")] };
        let Some(process) = &one.process else { return vec![format!("{node} is down")] };
        let line = |machine: &Replica| {
            let status = machine.status();
            let marks = [(one.paused, ", paused"), (one.slow, ", slow disk")];
            let marks: String = marks.iter().filter(|(on, _)| *on).map(|(_, text)| *text).collect();
            format!(
                "{} {}: last {}, durable {}, commit {}, high watermark {}, readable to {}{marks}",
                words::replica(machine.id()),
                words::role(&machine.role()),
                status.last.0,
                status.persisted.0,
                status.progress.commit.0,
                status.progress.high_watermark.0,
                status.progress.read_bound.0,
            )
        };
        process.host.replicas().map(line).collect()
    }

    /// What stands in the segments of a node, also what isn't committed.
    pub(super) fn log_of(&self, node: u32) -> Vec<String> {
        let Some(process) = self.nodes.get(&node).and_then(|node| node.process.as_ref()) else {
            return vec![format!("{node} is down")];
        };
        let mut lines = Vec::new();
        for machine in process.host.replicas() {
            let who = words::replica(machine.id());
            let Some(reader) = process.store.reader(machine.id()) else {
                lines.push(format!("{who} has no segments"));
                continue;
            };
            let (start, end) = (reader.local_start().index, reader.last().index.next());
            let mut text = format!("{who} after {}:", start.0);
            let mut next = start.next();
            while next < end {
                let frames = match reader.read_frames(next, end, READ_BYTES) {
                    Ok(frames) => frames,
                    Err(error) => {
                        text.push_str(&format!(" {error}"));
                        break;
                    }
                };
                for frame in frames {
                    next = frame.index.next();
                    let what = words::content(&self.requests, frame.kind, &frame.payload);
                    let at = if frame.record_count > 0 { format!(" @{}", frame.base_offset.0) } else { String::new() };
                    text.push_str(&format!(" [{} {what}{at}]", words::place(frame.term, frame.index)));
                }
            }
            lines.push(text);
        }
        lines
    }

    /// All that is on its way.
    pub(super) fn wire_lines(&self) -> Vec<String> {
        let line = |sent: &super::wire::Sent| {
            let held = sent.held.as_ref().map_or(String::new(), |name| format!(" (held as {name})"));
            format!("{}{held}", words::message(&self.requests, &sent.message))
        };
        self.wire.sent().iter().map(line).collect()
    }
}

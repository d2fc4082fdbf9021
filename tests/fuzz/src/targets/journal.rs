//! The journal: the table of a group, and a whole file with its groups.

use crate::target::{Mend, Target};
use crate::targets::archive::{list, packed, parts, unpacked};
use crate::targets::batch;
use crate::targets::frame::mend_front;
use crate::targets::log_files::mend_batch_of;
use crate::targets::small_files::{CLUSTER, SHARD, disk_with, point};
use bytes::Bytes;
use dlog_core::frame::{FRAME_HEADER_BYTES, FrameHeader};
use dlog_core::write::{Create, ReplicaWrite, WriteOp};
use dlog_core::{Frame, FrameKind, LogId, LogIndex, Offset, ReplicaId, Term};
use dlog_storage::inspect;
use dlog_storage::journal::file::{FIRST_GROUP_AT, encode_header, file_name};
use dlog_storage::journal::format::{
    GROUP_ALIGN, GROUP_HEADER_BYTES, GroupHeader, GroupKind, decode_table, encode_write, group_bytes, header_crc,
};
use dlog_storage::journal::group::{GroupBuilder, GroupContext, GroupPlace, frames};
use dlog_storage::journal::{JournalPosition, scan_journal};
use std::collections::BTreeMap;

pub(super) const TABLE: Target = Target {
    name: "journal_table",
    seeds: table_seeds,
    mend: Mend::Nothing,
    check: check_table,
    memory: 64 << 10,
    runs: 24_000,
};
pub(super) const FILE: Target = Target {
    name: "journal_file",
    seeds: file_seeds,
    mend: Mend::Anew(mend_packed),
    check: check_file,
    memory: 2 << 20,
    runs: 6400,
};

const GENERATION: u64 = 7;
/// Bytes of the longest journal file here: sixteen blocks.
const FILE_BYTES_MAX: usize = 64 << 10;
const REPLICA: ReplicaId = ReplicaId(0x1_0000_0002);

/// Every operation once.
fn writes() -> Vec<ReplicaWrite> {
    let batch = Bytes::from(batch::seeds().swap_remove(0));
    let command = Bytes::from_static(b"command");
    let first = Frame::new(LogId(5), FrameKind::Records, Term(1), LogIndex(1), Offset(1), 1, 0, batch);
    let second = Frame::new(LogId(5), FrameKind::Command, Term(1), LogIndex(2), Offset(2), 0, first.crc, command);
    let membership = Bytes::from_static(b"members");
    let start = point(0, 0);
    let ops = vec![
        WriteOp::Create(Create { intent: LogIndex(4), membership: membership.clone(), start }),
        WriteOp::HardState { term: Term(1), vote: Some(REPLICA) },
        WriteOp::Append(vec![first, second]),
        WriteOp::Configuration { index: LogIndex(2), membership },
    ];
    let more = vec![
        WriteOp::HardState { term: Term(3), vote: None },
        WriteOp::Cut { from: LogIndex(2) },
        WriteOp::LogStart(Offset(1)),
        WriteOp::Producers { index: LogIndex(1), table: Bytes::new() },
        WriteOp::Reset(point(9, 50)),
        WriteOp::Delete { ended: LogIndex(7) },
    ];
    let write = |replica, commit, ops| ReplicaWrite { replica, log: LogId(5), commit: LogIndex(commit), ops };
    vec![write(REPLICA, 1, ops), write(ReplicaId(0x1_0000_0003), 0, more)]
}

fn table_of(writes: &[ReplicaWrite]) -> Vec<u8> {
    let mut table = Vec::new();
    writes.iter().for_each(|write| encode_write(&mut table, write, write.commit));
    table
}

fn payloads_of(writes: &[ReplicaWrite]) -> Vec<u8> {
    frames(writes).flat_map(|frame| frame.payload.iter().copied()).collect()
}

fn table_seeds() -> Vec<Vec<u8>> {
    let writes = writes();
    let seed = |writes: &[ReplicaWrite]| list([table_of(writes), payloads_of(writes)]);
    vec![seed(&writes), seed(&writes[..1]), seed(&writes[1..])]
}

fn check_table(input: &[u8]) -> bool {
    let parts = parts(input);
    let [table, payloads, ..] = parts[..] else { return false };
    let Ok(writes) = decode_table(table, &Bytes::copy_from_slice(payloads)) else { return false };
    assert_eq!(payloads_of(&writes), payloads, "each byte of payload belongs to a frame");
    let again = decode_table(&table_of(&writes), &Bytes::copy_from_slice(payloads));
    assert_eq!(again, Ok(writes));
    true
}

const CONTEXT: GroupContext = GroupContext { cluster: CLUSTER, shard: SHARD, generation: GENERATION };

/// A file with a group for each of these, and a seal behind the last if asked for.
fn file_of(groups: &[Vec<ReplicaWrite>], sealed: bool) -> Vec<u8> {
    let mut file = vec![0; FIRST_GROUP_AT as usize];
    let (mut builder, mut previous_crc, mut number) = (GroupBuilder::default(), 0, 0);
    let mut add = |writes: &[ReplicaWrite], kind, number, previous_crc| {
        builder.clear();
        writes.iter().for_each(|write| builder.push(write, write.commit));
        let place = GroupPlace { position: file.len() as u64, number, previous_crc };
        let crc = builder.finish(CONTEXT, place, kind);
        builder.parts(writes).into_iter().for_each(|part| file.extend_from_slice(part));
        crc
    };
    for writes in groups {
        number += 1;
        previous_crc = add(writes, GroupKind::Group, number, previous_crc);
    }
    if sealed {
        add(&[], GroupKind::Seal, number, previous_crc);
    }
    file.resize(file.len() + GROUP_ALIGN as usize, 0);
    let header = encode_header(CLUSTER, SHARD, GENERATION, file.len() as u64);
    file[..header.len()].copy_from_slice(&header);
    file
}

fn file_seeds() -> Vec<Vec<u8>> {
    let writes = writes();
    let both = [writes[..1].to_vec(), writes[1..].to_vec()];
    vec![packed(&file_of(&[], false)), packed(&file_of(&both, true)), packed(&file_of(&[writes], false))]
}

fn mend_packed(short: &[u8]) -> Vec<u8> {
    let mut file = unpacked(short, FILE_BYTES_MAX);
    // A file that isn't as long as its header says is refused before anything else of it is read.
    let header = encode_header(CLUSTER, SHARD, GENERATION, file.len() as u64);
    if file.len() >= header.len() && file[..8] == header[..8] {
        file[..header.len()].copy_from_slice(&header);
    }
    mend_file(&mut file, (0, 0));
    packed(&file)
}

/// Group after group: lengths, position, number and chain in the header; the CRCs of batches and frames; table and header at the
/// end like those at the head. The first group follows the one of this number and CRC.
pub(super) fn mend_file(file: &mut [u8], (mut number, mut previous): (u64, u32)) {
    let mut at = FIRST_GROUP_AT as usize;
    while let Some(end) = mend_group(file, at, &mut number, &mut previous) {
        at = end;
    }
}

fn mend_group(file: &mut [u8], at: usize, number: &mut u64, previous: &mut u32) -> Option<usize> {
    let head = file.get(at..at + GROUP_HEADER_BYTES)?;
    if head[..4] != *b"DLGG" {
        return None;
    }
    let u32_at = |from: usize| u32::from_le_bytes(head[from..from + 4].try_into().expect("four bytes"));
    let (table_bytes, payload_bytes) = (u32_at(40), u32_at(44));
    let seal = head[52] == 2;
    *number += u64::from(!seal);
    let header = GroupHeader {
        shard: SHARD,
        generation: u64::from_le_bytes(head[8..16].try_into().expect("eight bytes")),
        number: *number,
        position: at as u64,
        bytes: group_bytes(u64::from(table_bytes), u64::from(payload_bytes)),
        table_bytes,
        payload_bytes,
        previous_crc: *previous,
        kind: if seal { GroupKind::Seal } else { GroupKind::Group },
    };
    let end = at.checked_add(usize::try_from(header.bytes).ok()?).filter(|end| *end <= file.len())?;
    let (table_at, payload_at) = (at + GROUP_HEADER_BYTES, at + GROUP_HEADER_BYTES + table_bytes as usize);
    let mut table = file[table_at..payload_at].to_vec();
    let payload_end = payload_at + payload_bytes as usize;
    mend_frames(&mut table, &mut file[payload_at..payload_end]);
    let header = header.encode(CLUSTER, &table);
    assert_eq!(header_crc(CLUSTER, &header, &table), GroupHeader::stored_crc(&header));
    let tail_at = end - GROUP_HEADER_BYTES - table.len();
    for (place, part) in [(at, &header[..]), (table_at, &table), (tail_at, &table), (end - GROUP_HEADER_BYTES, &header)]
    {
        file[place..place + part.len()].copy_from_slice(part);
    }
    if !seal {
        *previous = GroupHeader::stored_crc(&header);
    }
    Some(end)
}

/// The CRCs of frames that are headers in a table and payloads behind it, wherever in the table something like a frame's header
/// stands whose payload comes next. All are of the first write's log.
fn mend_frames(table: &mut [u8], payloads: &mut [u8]) {
    let Some(log) = table.get(8..16).map(|log| LogId(u64::from_le_bytes(log.try_into().expect("eight bytes")))) else {
        return;
    };
    let mut used = 0;
    let mut at = 0;
    while let Some(header) = table.get(at..at + FRAME_HEADER_BYTES).map(<[u8]>::to_vec) {
        let length = FrameHeader::decode(&header).ok().map(|header| header.payload_bytes as usize);
        let fits = length.filter(|length| *length > 0 && *length <= payloads.len() - used);
        let Some(length) = fits else {
            at += 1;
            continue;
        };
        let mut frame = [&header, &payloads[used..used + length]].concat();
        mend_batch_of(&mut frame);
        mend_front(log, &mut frame, None);
        table[at..at + FRAME_HEADER_BYTES].copy_from_slice(&frame[..FRAME_HEADER_BYTES]);
        payloads[used..used + length].copy_from_slice(&frame[FRAME_HEADER_BYTES..]);
        (used, at) = (used + length, at + FRAME_HEADER_BYTES);
    }
}

fn check_file(input: &[u8]) -> bool {
    let path = format!("journal/{}", file_name(GENERATION));
    let disk = disk_with(&path, &unpacked(input, FILE_BYTES_MAX));
    let (mut shown, mut frames_shown) = (Vec::new(), 0);
    let report = inspect::journal(&disk, &path, SHARD, Some(CLUSTER), &mut |at, writes| {
        shown.push(at);
        frames_shown += frames(writes).count() as u64;
    })
    .expect("damage is no error");
    assert_eq!((report.groups, report.frames), (shown.len() as u64, frames_shown));
    inspect::journal(&disk, &path, SHARD, None, &mut |_, _| {}).expect("damage is no error");

    let start = JournalPosition { generation: GENERATION, position: FIRST_GROUP_AT, number: 0, crc: 0 };
    let mut visited = Vec::new();
    let scan =
        scan_journal(&disk, "journal", (CLUSTER, SHARD), start, &[GENERATION], BTreeMap::new(), &mut |at, writes| {
            let again = decode_table(&table_of(writes), &Bytes::from(payloads_of(writes)));
            assert_eq!(again.as_deref(), Ok(writes));
            visited.push(at);
        });
    let Ok(scan) = scan else { return false };
    assert_eq!(scan.groups, visited);
    assert!(visited.windows(2).all(|two| two[1].position == two[0].position + two[0].bytes));
    assert!(visited.iter().enumerate().all(|(at, group)| group.number == at as u64 + 1), "numbers have no gap");
    assert!(visited.iter().all(|group| shown.contains(group)), "what recovery takes, inspect shows");
    !scan.torn
}

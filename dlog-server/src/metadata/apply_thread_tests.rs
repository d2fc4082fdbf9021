//! Tests of the apply thread: a state goes out and comes in, and nothing is told of before it is synced.

use super::*;
use dlog_core::FrameKind;
use dlog_core::limits::STATE_BYTES_MAX;
use dlog_core::{LogId, NodeId, Term};
use dlog_replication::command::{Command, CommandBody, CommandId, RegisterNode};
use dlog_storage::state_store::memory::MemoryStateStore;

type Thread = ApplyThread<MemoryStateStore>;

/// A thread over this store, what it says to its shard, and to its disk.
fn thread(store: &MemoryStateStore) -> (Thread, mpsc::Receiver<ShardMessage>, mpsc::Receiver<DiskMessage>) {
    let (inbox, shard) = Inbox::new();
    let (disk, disk_end) = mpsc::channel();
    let (thread, ..) = ApplyThread::new(store.clone(), inbox, vec![disk]).expect("an empty store");
    (thread, shard, disk_end)
}

fn replica() -> ReplicaId {
    ReplicaId::new(NodeId(1), 1)
}

fn register(node: u32) -> Frame {
    let body = RegisterNode {
        node,
        name: format!("n{node}"),
        rack: String::new(),
        client_address: "a:1".to_owned(),
        peer_address: "a:2".to_owned(),
        version: "0".to_owned(),
        shards: 1,
        boot: 1,
        directory: vec![node as u8; 16],
    };
    let payload = Command::new(CommandId(u128::from(node)), CommandBody::RegisterNode(body)).encode();
    let index = LogIndex(u64::from(node));
    Frame::new(LogId::GROUP_ZERO, FrameKind::Command, Term(1), index, dlog_core::Offset(0), 0, 0, payload)
}

fn taken(thread: &Thread, shard: &mpsc::Receiver<ShardMessage>) -> (LogIndex, StateImage) {
    thread.take(replica()).expect("readable");
    let last = shard.try_iter().last();
    let Some(ShardMessage::StateTaken { index, state, .. }) = last else { panic!("it says what it has") };
    (index, state)
}

#[test]
fn a_state_moves_from_one_node_to_another() {
    let (from, to) = (MemoryStateStore::new(), MemoryStateStore::new());
    let (mut sender, sent, _disk) = thread(&from);
    sender.apply(replica(), &[register(1), register(2), register(3)]).expect("applied");
    let (index, state) = taken(&sender, &sent);
    assert_eq!(index, LogIndex(3));
    let (mut receiver, told, disk) = thread(&to);
    receiver.apply(replica(), &[register(1)]).expect("applied");
    receiver.install(replica(), index, &state, Bytes::from_static(b"origin")).expect("installed");
    // A power loss takes nothing of it back.
    to.crash();
    assert_eq!((to.applied(), to.origin().expect("read")), (index, Some(Bytes::from_static(b"origin"))));
    assert_eq!(to.scan(b"").expect("read"), from.scan(b"").expect("read"));
    assert_eq!(receiver.catalogue, sender.catalogue);
    assert_eq!((receiver.publish.borrow().nodes().len(), *receiver.applied.borrow()), (3, index));
    assert!(matches!(told.try_iter().last(), Some(ShardMessage::StateInstalled { result: Ok(()), .. })));
    assert!(matches!(disk.try_iter().last(), Some(DiskMessage::CatalogueSynced(LogIndex(3)))));
    // What it has is not taken back by an older one, and commands that it knows are skipped.
    receiver.apply(replica(), &[register(2), register(3), register(4)]).expect("applied");
    receiver.install(replica(), index, &state, Bytes::new()).expect("nothing to do");
    assert_eq!((to.applied(), to.synced_applied()), (LogIndex(4), LogIndex(4)));
    assert_eq!(receiver.publish.borrow().nodes().len(), 4);
    assert!(matches!(told.try_iter().last(), Some(ShardMessage::StateInstalled { result: Ok(()), .. })));
}

#[test]
fn a_state_that_can_not_be_read_is_refused() {
    let store = MemoryStateStore::new();
    let (mut thread, told, _disk) = thread(&store);
    thread.apply(replica(), &[register(1)]).expect("applied");
    let strange = StateImage::of_entries([(Bytes::from_static(b"no such key"), Bytes::new())]);
    thread.install(replica(), LogIndex(9), &strange, Bytes::new()).expect("the thread goes on");
    let Some(ShardMessage::StateInstalled { result: Err(reason), .. }) = told.try_iter().last() else {
        panic!("taken")
    };
    assert!(reason.contains("no such key"), "{reason}");
    assert_eq!((store.applied(), thread.publish.borrow().nodes().len()), (LogIndex(1), 1));
    assert!(strange.len() < STATE_BYTES_MAX);
}

//! Connections that say nothing, connections that say rubbish, and more connections than there are places: a node's memory
//! stays under a bound made of its own constants, and whoever has something to say is served meanwhile.

use crate::wire;
use dlog_cluster_tests::usage::Memory;
use dlog_cluster_tests::{Cluster, Producing, Ran, Random, Scrape, Turn, short_or_full, wait};
use dlog_core::limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

const TOPIC: &str = "kept";
const PARTITIONS: u32 = 3;
/// Lines a second that are produced all the while.
const RATE: usize = 400;
/// What a connection may cost, as `limits::CONNECTIONS_MAX` says.
const CONNECTION_BYTES: u64 = 100 * limits::KIB as u64;
/// Newcomers of the listeners for clients, for nodes and for HTTP.
const NEWCOMERS: u64 = 2 * limits::HANDSHAKES_MAX as u64 + 16;
/// What the producer and the readers of the test itself may cost meanwhile: the tail cache, and as much again.
const WORK_BYTES: u64 = 2 * limits::TAIL_CACHE_BYTES as u64;
/// Descriptors that the test keeps for other things.
const FDS_KEPT: u64 = 500;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// How many connections the test itself may open.
fn connections_allowed() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, the old limit stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(allowed.saturating_sub(FDS_KEPT)).unwrap_or(usize::MAX)
}

/// Samples the memory of a process until it is stopped.
struct Watch {
    stop: std::sync::Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Watch {
    fn start(pid: u32) -> Watch {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let stopped = std::sync::Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            while !stopped.load(Ordering::Relaxed) {
                most = most.max(Memory::of(pid).resident);
                std::thread::sleep(Duration::from_millis(20));
            }
            most
        });
        Watch { stop, thread }
    }

    /// The most that was resident.
    fn most(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only reads")
    }
}

/// A cluster under attack, with its own work going on.
struct Besieged {
    cluster: Cluster,
    /// The node that is attacked: it leads a partition.
    victim: usize,
    producing: Producing,
    following: JoinHandle<Ran>,
    base: u64,
    lines: usize,
}

impl Besieged {
    fn start(turn: &Turn, seconds: usize) -> Besieged {
        let mut cluster = Cluster::start(turn, 3);
        cluster.create_topic(TOPIC, PARTITIONS, &["--replicas", "3"]);
        let leader = cluster.leader_of(TOPIC, 0);
        let victim = cluster.index_of(&leader);
        let lines = RATE * seconds;
        let text = (0..lines).map(|i| format!("k{i}\tline {i} {}", "x".repeat(200))).collect();
        let mut producing = Producing::lines(&cluster, TOPIC, text, RATE, &["--key-separator", "\t"]);
        let follow = cluster
            .dlog(["consume", TOPIC, "--follow", "--timeout", "5m", "--count", &lines.to_string()])
            .bound(Duration::from_secs(900));
        let following = std::thread::spawn(move || follow.run());
        producing.wait_acked(RATE);
        let base = Memory::of(cluster.nodes[victim].process().pid()).resident;
        Besieged { cluster, victim, producing, following, base, lines }
    }

    fn port(&self, of: fn(&dlog_cluster_tests::NodeOptions) -> u16) -> u16 {
        of(self.cluster.nodes[self.victim].options())
    }

    fn scrape(&self) -> Scrape {
        Scrape::of(&self.cluster.nodes[self.victim])
    }

    /// A newcomer that asks the victim alone is served within the time that a user would give it.
    fn assert_serves(&self, when: &str) {
        let address = self.cluster.nodes[self.victim].options().client_address();
        let ran = dlog_cluster_tests::Verb::new(&address, ["cluster", "status", "--timeout", "10s"]).run();
        assert_eq!(ran.code, Some(0), "{when}, a new client: {ran}");
        eprintln!("{when}: a new client was served in {:?}", ran.took);
    }

    /// Does it, and asks that the victim's memory grew by no more than `growth` while it was done.
    fn bounded<T>(&mut self, what: &str, growth: u64, work: impl FnOnce(&mut Besieged) -> T) -> T {
        let watch = Watch::start(self.cluster.nodes[self.victim].process().pid());
        let acked = self.producing.acked();
        let done = work(self);
        let most = watch.most();
        let mib = |bytes: u64| bytes >> 20;
        let (base, bound) = (self.base, self.base + growth);
        let through = self.producing.acked() - acked;
        eprintln!(
            "{what}: {} MiB at most, {} before, bound {}; {through} records acked",
            mib(most),
            mib(base),
            mib(bound)
        );
        assert!(most <= bound, "{what}: {most} bytes resident, bound {bound}");
        done
    }

    /// All that was produced is acked and was read.
    fn finish(self) {
        let produced = self.producing.finish(Duration::from_secs(600));
        produced.assert_all_acked(self.lines);
        let read = self.following.join().expect("it ends").expect_code(0);
        assert_eq!(read.text().lines().count(), self.lines, "the follower has read everything");
        self.cluster.wait_healthy();
        self.cluster.finish();
    }
}

fn connect(port: u16) -> Option<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Duration::from_secs(5)).ok()
}

#[test]
fn of_silence_and_garbage() {
    let turn = Turn::take("flood");
    let allowed = connections_allowed();
    let mut besieged = Besieged::start(&turn, short_or_full(25, 120));
    let ports = [besieged.port(|o| o.client), besieged.port(|o| o.peer), besieged.port(|o| o.ops)];
    // As many to clients' port as are asked for, some to the others.
    let wished = [short_or_full(2_000, 10_000), short_or_full(500, 2_000), short_or_full(200, 1_000)];
    let share = |count: usize| count.min(count * allowed / wished.iter().sum::<usize>());

    let mut silent = besieged.bounded("silence", NEWCOMERS * CONNECTION_BYTES + WORK_BYTES, |besieged| {
        let mut silent = Vec::new();
        for (port, count) in ports.into_iter().zip(wished.map(share)) {
            let began = Instant::now();
            let opened: Vec<TcpStream> = (0..count).filter_map(|_| connect(port)).collect();
            eprintln!("{} of {count} silent connections to {port} in {:?}", opened.len(), began.elapsed());
            assert_eq!(opened.len(), count, "the kernel takes them all");
            silent.extend(opened);
            besieged.assert_serves("among the silent");
        }
        let open = besieged.scrape().value("dlog_connections{listener=\"client\"}");
        // The newcomers' places, and those of the producer, the reader and the like.
        assert!(open <= limits::HANDSHAKES_MAX as f64 + 20.0, "{open} connections are open");
        silent
    });
    let gone = besieged.bounded("silence that went on", WORK_BYTES + NEWCOMERS * CONNECTION_BYTES, |besieged| {
        wait::until_ok("the silent were sent away", Duration::from_secs(60), || {
            let now = besieged.scrape();
            let open = now.sum("dlog_connections", "\"client\"") + now.sum("dlog_connections", "\"peer\"");
            if open <= 40.0 { Ok(now) } else { Err(format!("{open} connections are open")) }
        })
    });
    let turned = gone.sum("dlog_connections_turned_away_total", "");
    assert!(turned >= (silent.len() - 100) as f64, "{turned} of {} were turned away", silent.len());
    assert_eq!(gone.sum("dlog_connections_turned_away_total", "full\""), 0.0, "nobody found the house full");
    for stream in silent.iter_mut().step_by(97) {
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0, "its socket was closed");
    }
    drop(silent);

    // A newcomer may have filled a frame's buffer before it is found out.
    let growth = NEWCOMERS * (CONNECTION_BYTES + u64::from(limits::GRPC_FRAME_BYTES)) + WORK_BYTES;
    besieged.bounded("garbage", growth, |besieged| flood(besieged, ports));
    besieged.finish();
}

/// Garbage at all ports from several threads, for some seconds, while new clients are served.
fn flood(besieged: &Besieged, ports: [u16; 3]) {
    let until = Instant::now() + Duration::from_secs(short_or_full(5, 40));
    let sent = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let sent = &sent;
            scope.spawn(move || {
                let mut random = Random::of_seed(number);
                let garbage = garbage(&mut random);
                let mut open = std::collections::VecDeque::new();
                for (turn, port) in ports.iter().cycle().enumerate() {
                    if Instant::now() >= until {
                        return;
                    }
                    let Some(mut stream) = connect(*port) else { continue };
                    let _ = stream.set_write_timeout(Some(Duration::from_millis(50)));
                    // The other side may close at any moment.
                    let _ = stream.write_all(&garbage[turn % garbage.len()]);
                    sent.fetch_add(1, Ordering::Relaxed);
                    // Most stay open for a while in the middle of what they say.
                    open.push_back(stream);
                    if open.len() > 200 {
                        open.pop_front();
                    }
                }
            });
        }
        let mut served = 0;
        while Instant::now() < until {
            besieged.assert_serves("among garbage");
            served += 1;
        }
        eprintln!("{served} new clients were served meanwhile");
    });
    eprintln!("{} connections with garbage", sent.load(Ordering::Relaxed));
}

/// What is said by somebody who means another protocol, or no good.
fn garbage(random: &mut Random) -> Vec<Vec<u8>> {
    let after_preface = |frame: &[u8]| [PREFACE, SETTINGS, frame].concat();
    let frame_bytes = limits::GRPC_FRAME_BYTES.to_be_bytes();
    // DATA of the greatest length, of which half comes.
    let half = [&frame_bytes[1..], &[0, 0, 0, 0, 0, 1]].concat();
    let half = [half, vec![7; limits::GRPC_FRAME_BYTES as usize / 2]].concat();
    vec![
        random.bytes(64),
        random.bytes(100_000),
        [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 100_000]].concat(),
        after_preface(&[]),
        after_preface(&random.bytes(4096)),
        after_preface(&half),
        // Headers that never end.
        after_preface(&[0, 0, 3, 1, 0, 0, 0, 0, 1, 0x83, 0x86, 0x84]),
        PREFACE[..10].to_vec(),
    ]
}

/// A connection that has made one request and now idles: HTTP/2 by hand, from an address of its own.
async fn idling(from: Ipv4Addr, port: u16) -> Option<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(SocketAddr::from((from, 0))).ok()?;
    let mut stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.ok()?;
    // :method POST, :scheme http, :path /, in one frame that ends headers and stream.
    let headers = [0, 0, 3, 1, 5, 0, 0, 0, 1, 0x83, 0x86, 0x84];
    stream.write_all(&[PREFACE, SETTINGS, &headers].concat()).await.ok()?;
    // Its own settings, and an answer.
    let mut answered = [0; 64];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut answered)).await.ok()?.ok()?;
    (read > 0).then_some(stream)
}

#[test]
fn of_idle_clients() {
    let turn = Turn::take("flood-idle");
    let allowed = connections_allowed();
    let mut besieged = Besieged::start(&turn, short_or_full(12, 60));
    let port = besieged.port(|o| o.client);
    let wished = short_or_full(800, limits::CONNECTIONS_MAX + 500).min(allowed);
    let growth = wished.min(limits::CONNECTIONS_MAX) as u64 * CONNECTION_BYTES + WORK_BYTES;
    besieged.bounded("idle clients", growth, |besieged| {
        let idle = wire::run(async {
            let mut idle = Vec::new();
            for number in 0..wished {
                // No address may have more than its share.
                let host = 2 + number / (limits::CONNECTIONS_PER_ADDRESS_MAX / 2);
                let from = Ipv4Addr::new(127, 0, 0, u8::try_from(host).expect("few addresses"));
                idle.extend(idling(from, port).await);
            }
            idle
        });
        let now = besieged.scrape();
        let open = now.value("dlog_connections{listener=\"client\"}");
        eprintln!("{} of {wished} idle clients were let in; {open} connections are open", idle.len());
        assert!(open <= limits::CONNECTIONS_MAX as f64);
        if wished > limits::CONNECTIONS_MAX {
            let full = now.value("dlog_connections_turned_away_total{listener=\"client\",reason=\"full\"}");
            assert!(full >= 300.0, "{full} were refused for want of places");
        } else {
            assert_eq!(idle.len(), wished, "there is room for all");
            besieged.assert_serves("among the idle");
        }
        // Silence is no life: who answers no ping is sent away, and his place is free again.
        wait::until_ok("those who answer no ping are gone", Duration::from_secs(90), || {
            let open = besieged.scrape().value("dlog_connections{listener=\"client\"}");
            if open <= 30.0 { Ok(()) } else { Err(format!("{open} connections are open")) }
        });
        drop(idle);
        besieged.assert_serves("after the idle");
    });
    besieged.finish();
}

#[test]
fn one_address_takes_no_more_than_its_share() {
    let turn = Turn::take("flood-address");
    connections_allowed();
    let cluster = Cluster::start(&turn, 1);
    let port = cluster.nodes[0].options().client;
    wire::run(async {
        let (greedy, modest) = (Ipv4Addr::new(127, 0, 0, 9), Ipv4Addr::new(127, 0, 0, 10));
        let mut taken = Vec::new();
        for _ in 0..limits::CONNECTIONS_PER_ADDRESS_MAX + 50 {
            taken.extend(idling(greedy, port).await);
        }
        assert!(taken.len() <= limits::CONNECTIONS_PER_ADDRESS_MAX, "{}", taken.len());
        assert!(taken.len() > limits::CONNECTIONS_PER_ADDRESS_MAX / 2, "{}", taken.len());
        assert!(idling(modest, port).await.is_some(), "another address is let in");
    });
    let refused = Scrape::of(&cluster.nodes[0])
        .value("dlog_connections_turned_away_total{listener=\"client\",reason=\"address_full\"}");
    assert!(refused >= 50.0, "{refused}");
    cluster.finish();
}

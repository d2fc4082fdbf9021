//! Every hard bound of dlog in one place: what it bounds, what it costs, and (as constant assertions) how it relates to its
//! neighbours.
//!
//! Sizes of things in memory or on the wire are `usize`, sizes and positions of files `u64`. A bound with `_DEFAULT` is a
//! setting's default value, and stands between a `_MIN` and a `_MAX`; all others can't be set.

/// One kibibyte.
pub const KIB: usize = 1 << 10;
/// One mebibyte.
pub const MIB: usize = 1 << 20;

// ---- Records and batches ----------------------------------------------------------------------------------------------

/// Least value of `max.batch.bytes`. Below it a batch's header (61 bytes) outweighs what it carries.
pub const BATCH_BYTES_MIN: usize = KIB;
/// Default of `max.batch.bytes`: bytes of one batch as sent, after compression. A batch is the unit of admission, so this much
/// can stand between a small batch and its turn on a connection (about 1 ms at 1 GB/s).
pub const BATCH_BYTES_DEFAULT: usize = MIB;
/// Greatest value of `max.batch.bytes`, and the bound of a batch whatever the topic says. Every queue, message and cache must
/// have room for one, so it costs that much in each of them.
pub const BATCH_BYTES_MAX: usize = 8 * MIB;

/// Least bytes of a record in a batch: length, attributes, two deltas, key and value length, header count.
pub const RECORD_BYTES_MIN: usize = 7;
/// Records of one batch. Bounds what one batch can cost a reader in work and in list entries (about 100 bytes each); a batch
/// of the default size can't reach it without compression.
pub const RECORDS_PER_BATCH_MAX: u32 = 1 << 18;
/// Bytes of a record's key. Keys are kept in memory where topics are compacted or grouped, so they are bounded more tightly
/// than values.
pub const RECORD_KEY_BYTES_MAX: usize = MIB;
/// Headers of one record. Each costs a list entry of about 60 bytes when decoded, from as few as two bytes on the wire.
pub const RECORD_HEADERS_MAX: usize = 1024;
/// Bytes of the name of one header.
pub const RECORD_HEADER_KEY_BYTES_MAX: usize = 32 * KIB;
/// Bytes of a batch of one record that are not its key, value or headers, at most: the batch's header, seven varints.
pub const RECORD_OVERHEAD_BYTES_MAX: usize = 128;
/// Bytes of a record's value, and of the value of one header. It must fit into a batch with nothing else.
pub const RECORD_VALUE_BYTES_MAX: usize = BATCH_BYTES_MAX - RECORD_OVERHEAD_BYTES_MAX;

/// What any batch may decompress to, however small it is: no more than an uncompressed batch may cost.
pub const DECOMPRESSION_FREE_BYTES: usize = BATCH_BYTES_MAX;
/// Above [`DECOMPRESSION_FREE_BYTES`], how many bytes one compressed byte may become. Text of logs stays below 100; a bomb is
/// 1,000 (snappy can't pass 22, lz4 255) to 30,000.
pub const DECOMPRESSION_RATIO_MAX: usize = 512;
/// What one batch may decompress to at all. It is held in memory while its records are read: the cost of one reader.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 * MIB;
/// log2 of the largest zstd window that is decoded: the 8 MiB that RFC 8878 asks of every decoder. The window is allocated as
/// the frame's header says, before any of it is filled. Encoders need more only at their levels 20 to 22.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What a batch of `compressed` bytes of records may decompress to.
pub const fn decompressed_bytes_max(compressed: usize) -> usize {
    let by_ratio = compressed.saturating_mul(DECOMPRESSION_RATIO_MAX);
    let allowed = if by_ratio > DECOMPRESSION_FREE_BYTES { by_ratio } else { DECOMPRESSION_FREE_BYTES };
    if allowed > DECOMPRESSED_BYTES_MAX { DECOMPRESSED_BYTES_MAX } else { allowed }
}

const _: () = assert!(BATCH_BYTES_MIN < BATCH_BYTES_DEFAULT && BATCH_BYTES_DEFAULT <= BATCH_BYTES_MAX);
const _: () = assert!(RECORDS_PER_BATCH_MAX as usize * RECORD_BYTES_MIN >= BATCH_BYTES_DEFAULT);
const _: () = assert!(RECORDS_PER_BATCH_MAX <= i32::MAX as u32, "Kafka counts records in an i32");
const _: () = assert!(RECORD_KEY_BYTES_MAX <= RECORD_VALUE_BYTES_MAX);
const _: () = assert!(RECORD_HEADER_KEY_BYTES_MAX <= RECORD_KEY_BYTES_MAX);
const _: () = assert!(DECOMPRESSION_FREE_BYTES >= BATCH_BYTES_MAX, "what a builder may build must be readable");
const _: () = assert!(DECOMPRESSED_BYTES_MAX >= DECOMPRESSION_FREE_BYTES);
const _: () = assert!(1 << ZSTD_WINDOW_LOG_MAX <= DECOMPRESSED_BYTES_MAX);

// ---- Names and counts -------------------------------------------------------------------------------------------------

/// Bytes of a topic's name, as Kafka has it: with a partition's number it still is a file name everywhere.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Bytes of a node's name: a label of the DNS with its domain.
pub const NODE_NAME_BYTES_MAX: usize = 253;
/// Bytes of an address (`host:port`) in the catalogue and in errors.
pub const ADDRESS_BYTES_MAX: usize = 253 + 6;
/// Bytes of an error's message. It travels in HTTP/2 trailers, where peers take 8 KiB in all by default.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 2 * KIB;
/// Nodes of one cluster. Each holds a stream pair to each other and one entry in every listing.
pub const NODES_MAX: usize = 1024;
/// Nodes that may be listed to start a cluster. Each asks every other, and all must have answered.
pub const INITIAL_CLUSTER_NODES_MAX: usize = 64;
/// Shards of one node: each costs three threads and a journal.
pub const SHARDS_MAX: u16 = 256;
/// Partitions of one topic. One command of the catalogue creates them all, about 64 bytes for each replica set.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 10_000;
/// Partitions of one cluster: the catalogue is held in memory on every node, about 300 bytes for each.
pub const PARTITIONS_MAX: u32 = 200_000;
/// Replicas of one partition. Raft's leader sends each batch to every one; five outlive two failures, nine is far beyond.
pub const REPLICAS_PER_PARTITION_MAX: u32 = 9;
/// Bytes of one command of the catalogue.
pub const COMMAND_BYTES_MAX: usize = 2 * MIB;

const _: () = assert!(INITIAL_CLUSTER_NODES_MAX <= NODES_MAX);
const _: () = assert!(PARTITIONS_PER_TOPIC_MAX <= PARTITIONS_MAX);
const _: () =
    assert!(PARTITIONS_PER_TOPIC_MAX as usize * (REPLICAS_PER_PARTITION_MAX as usize * 12 + 16) <= COMMAND_BYTES_MAX);
const _: () = assert!(COMMAND_BYTES_MAX <= FRAME_PAYLOAD_BYTES_MAX);
const _: () = assert!(ERROR_MESSAGE_BYTES_MAX + ADDRESS_BYTES_MAX + NODE_NAME_BYTES_MAX <= 4 * KIB);

// ---- Raft -------------------------------------------------------------------------------------------------------------

/// Bytes of a frame's payload: what a header may say before anything is allocated for it.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// Bytes of entries in one Raft append, beyond its first. Larger ones save messages, smaller ones let other partitions in
/// between.
pub const APPEND_BYTES_MAX: usize = MIB;
/// Raft appends in flight to one peer for one partition: what a round trip of 50 ms needs for 100 MB/s of 256 KiB batches.
pub const APPENDS_IN_FLIGHT_MAX: usize = 32;
/// Bytes of entries in flight to one peer for one partition; what a leader may have to hold for a slow follower.
pub const IN_FLIGHT_BYTES_MAX: usize = 16 * MIB;
/// Bytes proposed but not committed in one partition. When reached, its producers get `overloaded`.
pub const UNCOMMITTED_BYTES_MAX: usize = 32 * MIB;
/// Bytes of one bundle of Raft messages to one peer, beyond its first message: what may stand before a heartbeat on the
/// stream.
pub const PEER_BUNDLE_BYTES_MAX: usize = 2 * MIB;
/// Bytes queued for one peer and priority before further messages to it are dropped (Raft sends them again).
pub const PEER_QUEUE_BYTES_MAX: usize = 32 * MIB;
/// Bytes of frames read back from segments in one step for a follower that lags.
pub const CATCH_UP_READ_BYTES_MAX: usize = MIB;

/// Bytes of group 0's state in its snapshot. Measured: a partition with three replicas takes about 95, so 100,000 are 9 MiB;
/// as many topics of one partition as there may be, with the longest names, are some 110 MiB. Held in memory on both sides while
/// it is on its way.
pub const STATE_BYTES_MAX: usize = 256 * MIB;
/// Bytes of one part of it, of which one is in flight to a peer: what may stand before a heartbeat on the stream.
pub const STATE_PART_BYTES: usize = MIB;

const _: () = assert!(STATE_PART_BYTES <= PEER_BUNDLE_BYTES_MAX);
const _: () = assert!(FRAME_PAYLOAD_BYTES_MAX >= BATCH_BYTES_MAX);
const _: () = assert!(FRAME_PAYLOAD_BYTES_MAX <= u32::MAX as usize, "a frame's header holds the length in a u32");
const _: () = assert!(IN_FLIGHT_BYTES_MAX >= BATCH_BYTES_MAX + APPEND_BYTES_MAX);
const _: () = assert!(IN_FLIGHT_BYTES_MAX >= APPEND_BYTES_MAX);
const _: () = assert!(UNCOMMITTED_BYTES_MAX >= IN_FLIGHT_BYTES_MAX, "else a leader could not keep a follower busy");
const _: () = assert!(PEER_QUEUE_BYTES_MAX >= PEER_BUNDLE_BYTES_MAX + FRAME_PAYLOAD_BYTES_MAX);

// ---- The wire ---------------------------------------------------------------------------------------------------------

/// Bytes of an RPC message that are not batches, at most: ids, positions, framing.
pub const GRPC_OVERHEAD_BYTES: usize = 256 * KIB;
/// Bytes of one gRPC message, set on both sides of every connection.
pub const GRPC_MESSAGE_BYTES_MAX: usize = 16 * MIB;
/// Bytes of one HTTP/2 data frame. Measured: uploads more than double from 16 KiB to 1 MiB; a larger window alone brings
/// nothing.
pub const GRPC_FRAME_BYTES: u32 = MIB as u32;
/// HTTP/2 flow control window of one stream: what a sender may have on its way before the receiver has read it.
pub const GRPC_STREAM_WINDOW_BYTES: u32 = 4 * MIB as u32;
/// HTTP/2 flow control window of one connection, shared by its streams.
pub const GRPC_CONNECTION_WINDOW_BYTES: u32 = 16 * MIB as u32;
/// Bytes of batches in one answer of a consume stream, beyond its first batch.
pub const CONSUME_ANSWER_BYTES_MAX: usize = MIB;
/// Bytes of batches that one consume stream may have unread by its client.
pub const CONSUME_WINDOW_BYTES_MAX: usize = 16 * MIB;
/// Bytes of produce requests that one connection may have waiting for their acks. Then it isn't read from any more.
pub const CONNECTION_IN_FLIGHT_BYTES_MAX: usize = 32 * MIB;
/// Bytes of produce requests that one node may have waiting for their acks. Then producers get `overloaded`.
pub const NODE_IN_FLIGHT_BYTES_MAX: usize = 256 * MIB;
/// Connections of clients to one node: each costs a socket and about 100 KiB of buffers.
pub const CONNECTIONS_MAX: usize = 4096;
/// Connections to one listener from one address: no machine takes all places, and a client needs one a node.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 1024;
/// Connections that have made no request yet. Small: the oldest of them makes room for the next, so whoever connects and
/// says nothing only shortens that wait for his own kind.
pub const HANDSHAKES_MAX: usize = 256;
/// Streams of one connection, open at once.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// Consume streams of one node, open at once: each holds a reader and at most [`CONSUME_WINDOW_BYTES_MAX`].
pub const CONSUME_STREAMS_MAX: usize = 4096;

const _: () = assert!(GRPC_MESSAGE_BYTES_MAX >= BATCH_BYTES_MAX + GRPC_OVERHEAD_BYTES);
const _: () = assert!(GRPC_MESSAGE_BYTES_MAX >= PEER_BUNDLE_BYTES_MAX + FRAME_PAYLOAD_BYTES_MAX + GRPC_OVERHEAD_BYTES);
const _: () = assert!(GRPC_MESSAGE_BYTES_MAX >= APPEND_BYTES_MAX + FRAME_PAYLOAD_BYTES_MAX + GRPC_OVERHEAD_BYTES);
const _: () = assert!(GRPC_MESSAGE_BYTES_MAX >= CONSUME_ANSWER_BYTES_MAX + BATCH_BYTES_MAX + GRPC_OVERHEAD_BYTES);
const _: () = assert!(GRPC_MESSAGE_BYTES_MAX >= COMMAND_BYTES_MAX + GRPC_OVERHEAD_BYTES);
const _: () = assert!(GRPC_FRAME_BYTES < 1 << 24, "HTTP/2 lengths have 24 bits");
const _: () = assert!(GRPC_FRAME_BYTES <= GRPC_STREAM_WINDOW_BYTES);
const _: () = assert!(GRPC_STREAM_WINDOW_BYTES <= GRPC_CONNECTION_WINDOW_BYTES);
const _: () = assert!(CONSUME_WINDOW_BYTES_MAX >= CONSUME_ANSWER_BYTES_MAX + BATCH_BYTES_MAX);
const _: () = assert!(CONNECTION_IN_FLIGHT_BYTES_MAX >= GRPC_MESSAGE_BYTES_MAX);
const _: () = assert!(NODE_IN_FLIGHT_BYTES_MAX >= CONNECTION_IN_FLIGHT_BYTES_MAX);
const _: () = assert!(HANDSHAKES_MAX <= CONNECTIONS_PER_ADDRESS_MAX && CONNECTIONS_PER_ADDRESS_MAX <= CONNECTIONS_MAX);

// ---- The shard and its files ------------------------------------------------------------------------------------------

/// Bytes queued for one shard's consensus thread. When reached, producers get `overloaded`; ticks and peers' messages have
/// their own queue.
pub const SHARD_INBOX_BYTES_MAX: usize = 64 * MIB;
/// Alignment of journal groups: a block of the file system, so that no write reads a block first.
pub const JOURNAL_GROUP_ALIGN: u64 = 4096;
/// Bytes of one journal group. One fdatasync covers it, so this bounds how long one sync can take.
pub const JOURNAL_GROUP_BYTES_MAX: u64 = 24 * MIB as u64;
/// Bytes of queued writes at which a disk thread stops to collect and writes the group. Larger groups save syncs, smaller
/// ones answer sooner; at 1 GB/s this is 8 ms. The last write taken may exceed it by a frame.
pub const JOURNAL_GROUP_BYTES_TARGET: usize = 8 * MIB;
/// Bytes of the first journal file of a new shard: zero-filled while the node starts, so small.
pub const JOURNAL_FIRST_FILE_BYTES: u64 = 32 * MIB as u64;
/// Bytes of every further journal file: zero-filled once in the background. Larger ones make checkpoints rarer.
pub const JOURNAL_FILE_BYTES: u64 = 64 * MIB as u64;
/// Journal files of one shard (K). With none free, appends wait; what a restart may have to replay.
pub const JOURNAL_FILES_MAX: usize = 6;
/// Bytes of the journal that only hard states may use when it is full: votes go on though appends wait.
pub const JOURNAL_RESERVE_BYTES: u64 = 4 * MIB as u64;

/// Least value of `segment.bytes`. Each segment costs two files and an entry in every checkpoint.
pub const SEGMENT_BYTES_MIN: u64 = 64 * KIB as u64;
/// Bytes that the scrub reads in a second: a fraction of any disk's rate; a terabyte takes a day and a half.
pub const SCRUB_BYTES_PER_SECOND: u64 = 8 * MIB as u64;
/// Seconds at least from one pass of the scrub to the next: a small node need not be read all the time.
pub const SCRUB_EVERY_SECONDS: u64 = 3600;
/// Default of `segment.bytes`: retention deletes whole segments, so this is its granularity.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 * MIB as u64;
/// Greatest value of `segment.bytes`; positions in an index are 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a segment of group 0's log: the least, since only whole segments leave a log and this one grows slowly (about 200
/// bytes a command). What is kept of it is some [`GROUP_ZERO_KEPT_BYTES`], so there are about 64 of them at most.
pub const GROUP_ZERO_SEGMENT_BYTES: u64 = SEGMENT_BYTES_MIN;
/// Entries of group 0's log that stay behind the one that its state is synced up to: a follower that missed no more goes on with
/// ordinary appends. A cluster at rest makes a few a day, one that creates ten topics a second gives a restart 100 seconds.
pub const GROUP_ZERO_KEPT_ENTRIES: u64 = 1024;
/// Bytes of segments of group 0's log that stay for that reason at most: entries may have [`COMMAND_BYTES_MAX`], and a snapshot
/// costs less than so many appends.
pub const GROUP_ZERO_KEPT_BYTES: u64 = 4 * MIB as u64;
/// Bytes of frames between two entries of a segment's index: what a reader may have to skip, some 10 µs in memory. The index of
/// a segment of the default size then has 56 KiB, which the first seek into it reads whole.
pub const INDEX_INTERVAL_BYTES: u64 = 32 * KIB as u64;
/// Bytes of recent frames that one shard keeps for its readers. What is in it costs no disk and one buffer for all of them.
pub const TAIL_CACHE_BYTES: usize = 64 * MIB;

const _: () = assert!(SHARD_INBOX_BYTES_MAX >= UNCOMMITTED_BYTES_MAX);
const _: () = assert!(JOURNAL_GROUP_ALIGN.is_power_of_two() && JOURNAL_GROUP_ALIGN >= 512);
const _: () =
    assert!(JOURNAL_GROUP_BYTES_MAX >= 2 * FRAME_PAYLOAD_BYTES_MAX as u64, "any frame fits with its descriptions");
const _: () =
    assert!(JOURNAL_FIRST_FILE_BYTES >= JOURNAL_GROUP_BYTES_MAX + JOURNAL_RESERVE_BYTES + 2 * JOURNAL_GROUP_ALIGN);
const _: () = assert!(JOURNAL_FILE_BYTES >= JOURNAL_FIRST_FILE_BYTES);
const _: () = assert!(JOURNAL_FILE_BYTES.is_multiple_of(JOURNAL_GROUP_ALIGN));
const _: () = assert!(JOURNAL_FILES_MAX >= 3, "one in use, two kept by the two checkpoints");
const _: () = assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES_DEFAULT && SEGMENT_BYTES_DEFAULT <= SEGMENT_BYTES_MAX);
const _: () = assert!(SEGMENT_BYTES_MAX + FRAME_PAYLOAD_BYTES_MAX as u64 + 64 * KIB as u64 <= u32::MAX as u64);
const _: () = assert!(INDEX_INTERVAL_BYTES <= SEGMENT_BYTES_MIN);
const _: () =
    assert!(GROUP_ZERO_SEGMENT_BYTES >= SEGMENT_BYTES_MIN && GROUP_ZERO_SEGMENT_BYTES <= GROUP_ZERO_KEPT_BYTES);
const _: () = assert!(TAIL_CACHE_BYTES >= 2 * FRAME_PAYLOAD_BYTES_MAX);

// ---- Producers --------------------------------------------------------------------------------------------------------

/// Batches of one producer that may be in flight to one partition in order, and whose answers are remembered: Kafka's number.
pub const PRODUCER_WINDOW_BATCHES: usize = 5;
/// Producers that one partition remembers. Each costs about 200 bytes in memory and in the producer file of a checkpoint.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 10_000;
/// Producer ids in one block from the catalogue: one entry of group 0 for so many new producers.
pub const PRODUCER_ID_BLOCK: u32 = 1000;

const _: () = assert!(PRODUCERS_PER_PARTITION_MAX * (32 + PRODUCER_WINDOW_BATCHES * 32) <= GRPC_MESSAGE_BYTES_MAX / 4);

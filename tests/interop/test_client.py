"""A client that knows only the published .proto files (docs/examples/python/client.py) against three real nodes."""

import base64
import itertools
import json
import sys
import time
import unittest
from pathlib import Path

import grpc

import batch_sets
import nodes

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "examples" / "python"))

import client as example  # noqa: E402  (its folder is known only now)
from dlog.v1 import admin_pb2, admin_pb2_grpc, cluster_pb2, cluster_pb2_grpc, common_pb2, log_pb2, log_pb2_grpc  # noqa: E402
from kafka.partitioner.default import murmur2  # noqa: E402
from kafka.record.memory_records import MemoryRecords  # noqa: E402

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
TIMEOUT = 60


def setUpModule():
    global CLUSTER
    CLUSTER = nodes.Nodes(3)


def tearDownModule():
    codes = CLUSTER.stop()
    assert set(codes.values()) == {0}, f"exit codes of the nodes: {codes}"


class Case(unittest.TestCase):
    def setUp(self):
        self.client = example.Client(CLUSTER.servers)
        self.addCleanup(self.client.close)

    def topic(self, name, partitions=1, replicas=1):
        """A topic of one replica, whose leader stays, so that a slow machine changes nothing; of more where that is the matter."""
        self.client.create_topic(name, partitions=partitions, replicas=replicas)
        return name

    def leader(self, name, partition=0):
        return self.client.log(self.client.leader(name, partition))

    def raw_batches(self, name, partition=0):
        request = log_pb2.ConsumeRequest(topic=example.topic(name), partition=partition)
        answers = list(self.leader(name, partition).Consume(request, timeout=TIMEOUT))
        return [batch for answer in answers for batch in answer.batches]

    def refused(self, call):
        """The error of a call that must fail, and dlog's words about it."""
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        detail = example.error_detail(caught.exception)
        self.assertIsNotNone(detail, "the error has details")
        self.assertTrue(caught.exception.details(), "the status has a message")
        return caught.exception.code(), detail


def as_record(record):
    return batch_sets.Record(record.timestamp, record.key, record.value, tuple(record.headers))


class RecordsAndBatches(Case):
    def test_structured_records_come_back_in_every_codec(self):
        sent = batch_sets.KEYS_AND_NULLS + batch_sets.HEADERS

        def message(record):
            headers = [common_pb2.Header(key=name, value=value) for name, value in record.headers]
            return common_pb2.Record(timestamp_ms=record.timestamp, key=record.key, value=record.value, headers=headers)

        for codec, number in CODECS.items():
            with self.subTest(codec=codec):
                name = self.topic(f"records-{codec}")
                done = self.client.produce_records(name, 0, [message(r) for r in sent], codec=number)
                self.assertEqual((done.base_offset, done.last_offset), (0, len(sent) - 1))
                (raw,) = self.raw_batches(name)
                batch, records = batch_sets.read(raw)
                self.assertEqual(batch.compression_type, number)
                self.assertEqual(records, sent)

    def test_records_are_replicated_and_read_from_every_node(self):
        name = self.topic("everywhere", replicas=3)
        self.client.produce_batch(name, 0, batch_sets.build(batch_sets.SETS["headers"], "gzip"))
        for address in CLUSTER.addresses.values():
            # Fresh metadata: then that node knows of the topic. A replica that lacks records waits for them, as it is asked to.
            stub = cluster_pb2_grpc.ClusterStub(self.client.channel(address))
            stub.Metadata(cluster_pb2.MetadataRequest(topics=[example.topic(name)], fresh=True), timeout=TIMEOUT)
            request = log_pb2.ConsumeRequest(topic=example.topic(name), until=len(batch_sets.HEADERS), max_wait_ms=30_000)
            answers = self.client.retried(lambda at: list(self.client.log(at).Consume(request, timeout=TIMEOUT)), lambda: address)
            (raw,) = (batch for answer in answers for batch in answer.batches)
            self.assertEqual(batch_sets.read(raw)[1], batch_sets.HEADERS, address)

    def test_the_server_chooses_a_time(self):
        name = self.topic("timed")
        done = self.client.produce_records(name, 0, [common_pb2.Record(value=b"now")])
        (record,) = self.client.consume(name, 0, done.base_offset)
        self.assertGreater(record.timestamp, batch_sets.BASE_TIME)

    def test_the_server_chooses_the_partition_that_kafka_clients_choose(self):
        name, partitions = self.topic("chosen", partitions=5), 5
        for partition in range(partitions):
            self.client.produce_records(name, partition, [common_pb2.Record(value=b"it has a leader")])
        for number in range(12):
            key = b"key-%d" % number
            expected = (murmur2(key) & 0x7FFFFFFF) % partitions
            request = log_pb2.ProduceOnceRequest(topic=example.topic(name), records=[common_pb2.Record(key=key, value=b"v")])
            # The node that is asked chooses; if it has no replica of that partition, another one is asked.
            ask = itertools.cycle(CLUSTER.addresses.values())
            done = self.client.retried(lambda at: self.client.log(at).ProduceOnce(request, timeout=TIMEOUT), lambda: next(ask))
            self.assertEqual(done.partition, expected, key)
            self.assertIn(key, [record.key for record in self.client.consume(name, expected)])

    def test_batches_come_back_byte_for_byte(self):
        """But for what the leader stamps: base offset and term, which stand before the checksum."""
        for set_name in ("keys-and-nulls", "headers", "times", "many", "large"):
            name, batch_set = self.topic(f"batches-{set_name}"), batch_sets.SETS[set_name]
            sent = [batch_sets.build(batch_set, codec) for codec in batch_sets.CODECS]
            for number, batch in enumerate(sent):
                done = self.client.produce_batch(name, 0, batch)
                self.assertEqual(done.base_offset, number * len(batch_set.records))
            self.assertEqual([batch[16:] for batch in self.raw_batches(name)], [batch[16:] for batch in sent], set_name)
            got = [as_record(record) for record in self.client.consume(name, 0)]
            self.assertEqual(got, batch_set.records * len(sent), set_name)

    def test_reading_begins_in_the_middle_of_a_batch(self):
        name = self.topic("middle")
        self.client.produce_batch(name, 0, batch_sets.build(batch_sets.SETS["many"], "zstd"))
        got = list(self.client.consume(name, 0, start=444))
        self.assertEqual([r.offset for r in got], list(range(444, len(batch_sets.MANY))))
        self.assertEqual([as_record(r) for r in got], batch_sets.MANY[444:])

    def test_a_stream_of_batches_keeps_its_order_and_knows_repeats(self):
        name = self.topic("stream", partitions=2)
        admin = admin_pb2_grpc.AdminStub(self.client.channel(self.client.server))
        ids = admin.AllocateProducerId(admin_pb2.AllocateProducerIdRequest(count=1), timeout=TIMEOUT)
        records = batch_sets.KEYS_AND_NULLS

        def request(number, sequence):
            batch = batch_sets.build(batch_sets.BatchSet(records, producer=(ids.first_producer_id, 0, sequence)), "lz4")
            return log_pb2.ProduceRequest(request_id=number, topic=example.topic(name), partition=0, batch=batch, timeout_ms=30_000)

        # A first one by itself: once it is acked, the partition has a leader.
        self.client.produce_batch(name, 0, request(0, 0).batch)
        several = [request(number, number * len(records)) for number in range(1, 5)]
        answers = list(self.leader(name).Produce(iter([*several, several[1]]), timeout=TIMEOUT))
        self.assertEqual([answer.request_id for answer in answers], [1, 2, 3, 4, 2])
        self.assertFalse([answer.error.code_name for answer in answers if answer.HasField("error")])
        self.assertEqual([a.base_offset for a in answers], [len(records) * n for n in (1, 2, 3, 4, 2)])
        self.assertEqual([answer.duplicate for answer in answers], [False, False, False, False, True])
        self.assertEqual(len(list(self.client.consume(name, 0))), 5 * len(records))

    def test_a_follower_of_the_log_sees_what_comes(self):
        name = self.topic("followed")
        self.client.produce_records(name, 0, [common_pb2.Record(value=b"before")])
        request = log_pb2.ConsumeRequest(topic=example.topic(name), partition=0, follow=True)
        stream = self.leader(name).Consume(request, timeout=TIMEOUT)
        values = self.values(stream)
        self.assertEqual(next(values), b"before")
        self.client.produce_records(name, 0, [common_pb2.Record(value=b"after")])
        self.assertEqual(next(values), b"after")
        stream.cancel()

    @staticmethod
    def values(stream):
        for answer in stream:
            for batch in (batch for several in answer.batches for batch in MemoryRecords(several)):
                yield from (record.value for record in batch)


class CommandLine(Case):
    def test_kafka_python_reads_what_the_command_line_writes(self):
        lines = [b'{"line":%d,"text":"the same words again and again"}' % number for number in range(300)]
        for codec, number in CODECS.items():
            with self.subTest(codec=codec):
                name = self.topic(f"cli-{codec}")
                options = ["--compression", codec, "--linger", "200ms", "--partition", "0"]
                nodes.dlog(CLUSTER.servers, "produce", name, *options, stdin=b"\n".join(lines) + b"\n")
                batches = [batch_sets.read(raw) for raw in self.raw_batches(name)]
                self.assertEqual([r.value for _, records in batches for r in records], lines)
                # A batch of few records is sent as it is where compression saves nothing.
                self.assertIn(number, {batch.compression_type for batch, _ in batches})
                self.assertLessEqual({batch.compression_type for batch, _ in batches}, {0, number})
                self.assertEqual(nodes.dlog(CLUSTER.servers, "consume", name).splitlines(), lines)

    def test_the_command_line_reads_what_kafka_python_writes(self):
        def text(data):
            if data is None:
                return None
            try:
                return data.decode()
            except UnicodeDecodeError:
                return {"base64": base64.b64encode(data).decode()}

        records = batch_sets.KEYS_AND_NULLS + batch_sets.HEADERS
        for codec in batch_sets.CODECS:
            with self.subTest(codec=codec):
                name = self.topic(f"read-{codec}")
                self.client.produce_batch(name, 0, batch_sets.build(batch_sets.BatchSet(records), codec))
                lines = nodes.dlog(CLUSTER.servers, "consume", name, "-o", "json").splitlines()
                expected = [
                    {
                        "topic": name,
                        "partition": 0,
                        "offset": offset,
                        "timestamp": r.timestamp,
                        "key": text(r.key),
                        "value": text(r.value),
                        "headers": [{"key": key, "value": text(value)} for key, value in r.headers],
                    }
                    for offset, r in enumerate(records)
                ]
                self.assertEqual([json.loads(line) for line in lines], expected)


class Errors(Case):
    def test_an_unknown_topic(self):
        record = common_pb2.Record(value=b"v")
        code, detail = self.refused(lambda: self.client.produce_records("nobody-made-this", 0, [record]))
        self.assertEqual(code, grpc.StatusCode.NOT_FOUND)
        self.assertEqual((detail.code_name, detail.outcome), ("unknown_topic", common_pb2.OUTCOME_REJECTED))
        self.assertTrue(detail.stage and detail.node)

    def test_a_batch_that_was_damaged_or_is_too_large(self):
        name = self.topic("refusals")
        whole = batch_sets.build(batch_sets.SETS["many"], "gzip")
        damaged = whole[:-1] + bytes([whole[-1] ^ 1])
        code, detail = self.refused(lambda: self.client.produce_batch(name, 0, damaged))
        self.assertEqual((code, detail.code_name), (grpc.StatusCode.INVALID_ARGUMENT, "invalid_batch"))
        self.assertEqual((detail.stage, detail.outcome), ("admission", common_pb2.OUTCOME_REJECTED))
        record = common_pb2.Record(value=bytes(2 << 20))
        code, detail = self.refused(lambda: self.client.produce_records(name, 0, [record]))
        self.assertEqual((code, detail.code_name), (grpc.StatusCode.INVALID_ARGUMENT, "batch_too_large"))
        transaction = batch_sets.build(batch_sets.SETS["transactional"], "none")
        code, detail = self.refused(lambda: self.client.produce_batch(name, 0, transaction))
        self.assertEqual((code, detail.code_name), (grpc.StatusCode.UNIMPLEMENTED, "unsupported"))
        self.assertEqual(self.raw_batches(name), [], "nothing of it was appended")

    def test_a_node_that_does_not_lead_says_who_does(self):
        name = self.topic("led", replicas=3)
        self.client.produce_records(name, 0, [common_pb2.Record(value=b"first")])
        request = log_pb2.ProduceOnceRequest(topic=example.topic(name), partition=0, records=[common_pb2.Record(value=b"v")])
        code, detail, asked = self.ask_a_follower(name, request)
        self.assertEqual((code, detail.outcome), (grpc.StatusCode.FAILED_PRECONDITION, common_pb2.OUTCOME_REJECTED))
        self.assertEqual(CLUSTER.addresses[detail.node], asked)
        self.assertIn(detail.leader_address, set(CLUSTER.addresses.values()) - {asked})
        self.client.retried(lambda at: self.client.log(at).ProduceOnce(request, timeout=TIMEOUT), lambda: detail.leader_address)
        self.assertEqual([r.value for r in self.client.consume(name, 0)][-1], b"v")

    def ask_a_follower(self, name, request):
        """The refusal by a node that knows who leads instead; a node that has just learned of the topic may not know yet."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            leader = self.client.leader(name, 0)
            asked = next(address for address in CLUSTER.addresses.values() if address != leader)
            try:
                self.client.log(asked).ProduceOnce(request, timeout=TIMEOUT)
            except grpc.RpcError as error:
                detail = example.error_detail(error)
                if detail.code_name == "not_leader" and detail.leader_address:
                    return error.code(), detail, asked
            time.sleep(0.05)
        raise AssertionError("no follower has said who leads")

    def test_an_offset_that_is_not_there(self):
        name = self.topic("short")
        self.client.produce_records(name, 0, [common_pb2.Record(value=b"v")])
        code, detail = self.refused(lambda: list(self.client.consume(name, 0, start=99)))
        self.assertEqual((code, detail.code_name), (grpc.StatusCode.OUT_OF_RANGE, "offset_out_of_range"))

    def test_an_error_inside_a_stream_concerns_its_request_alone(self):
        name = self.topic("one-of-two")
        self.client.produce_records(name, 0, [common_pb2.Record(value=b"first")])
        good = batch_sets.build(batch_sets.SETS["headers"], "snappy-raw")
        several = [
            log_pb2.ProduceRequest(request_id=number, topic=example.topic(name), batch=batch, timeout_ms=30_000)
            for number, batch in enumerate([good[:-1], good])
        ]
        answers = {a.request_id: a for a in self.leader(name).Produce(iter(several), timeout=TIMEOUT)}
        self.assertEqual(answers[0].error.code_name, "invalid_batch")
        self.assertTrue(answers[0].error.message, "a field carries its message")
        self.assertFalse(answers[1].HasField("error"))
        self.assertEqual(answers[1].base_offset, 1)


class Metadata(Case):
    def test_any_node_knows_where_everything_is(self):
        name = self.topic("known", partitions=3)
        for address in CLUSTER.addresses.values():
            stub = cluster_pb2_grpc.ClusterStub(self.client.channel(address))
            metadata = stub.Metadata(cluster_pb2.MetadataRequest(topics=[example.topic(name)], fresh=True), timeout=TIMEOUT)
            self.assertEqual({n.name: n.client_address for n in metadata.nodes}, CLUSTER.addresses)
            self.assertEqual([p.partition for p in metadata.topics[0].partitions], [0, 1, 2])


if __name__ == "__main__":
    unittest.main()

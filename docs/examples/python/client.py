"""A client of dlog in Python, made from the published .proto files alone: see docs/other-languages.md.

Makes a topic, writes structured records and a batch, reads both back, and shows what an error says.

    client.py [HOST:PORT]      any node; default: DLOG_SERVER, else 127.0.0.1:7411
"""

import os
import random
import sys
import time

import grpc
from dlog.v1 import admin_pb2, admin_pb2_grpc, cluster_pb2, cluster_pb2_grpc, common_pb2, log_pb2, log_pb2_grpc
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

TOPIC = "greetings"
# A batch may have 8 MiB, and an answer carries a megabyte of others beside it: gRPC's own bound of 4 MiB is too tight.
OPTIONS = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)]
# Every call has a deadline, in seconds.
TIMEOUT = 30
# What passes by itself, or is different at another node.
RETRYABLE = {"not_leader", "no_leader", "not_yet_available", "overloaded", "unavailable", "shutting_down"}


def topic(name):
    return common_pb2.TopicSelector(name=name)


def error_detail(error):
    """dlog's words about a failed call, or None if the failure is not from dlog (say, no connection).

    They travel, encoded, in the trailer `grpc-status-details-bin`."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return common_pb2.ErrorDetail.FromString(value)
    return None


class Client:
    """Finds the leader of each partition, where records must go; reading works at any replica."""

    def __init__(self, server):
        self.channels = {}
        self.server = server.split(",")[0]

    def channel(self, address):
        if address not in self.channels:
            self.channels[address] = grpc.insecure_channel(address, options=OPTIONS)
        return self.channels[address]

    def close(self):
        for channel in self.channels.values():
            channel.close()

    def log(self, address):
        return log_pb2_grpc.LogStub(self.channel(address))

    def retried(self, call, find):
        """What `call` returns, given an address: the one that `find` returns, or the one that an error names."""
        deadline = time.monotonic() + TIMEOUT
        address = find()
        while True:
            try:
                return call(address)
            except grpc.RpcError as error:
                address = self.after(error, deadline) or find()

    @staticmethod
    def after(error, deadline):
        """Waits as long as the error asks for, and says where the leader is if the error does. Raises it where trying again
        is no cure."""
        detail = error_detail(error)
        # What may have been done is not done again: a record without a producer id might then be there twice.
        rejected = detail is not None and detail.outcome == common_pb2.OUTCOME_REJECTED
        if not rejected or detail.code_name not in RETRYABLE or time.monotonic() > deadline:
            raise error
        if not detail.leader_address:
            time.sleep((detail.retry_after_ms or 50) / 1000)
        return detail.leader_address

    def leader(self, name, partition):
        """Where the node answers that leads this partition. If that isn't known (yet): one that holds a replica of it, or else
        any node, whose error then says more."""
        request = cluster_pb2.MetadataRequest(topics=[topic(name)], fresh=True)
        metadata = self.retried(
            lambda address: cluster_pb2_grpc.ClusterStub(self.channel(address)).Metadata(request, timeout=TIMEOUT),
            lambda: self.server,
        )
        addresses = {node.id: node.client_address for node in metadata.nodes}
        for found in (p for t in metadata.topics for p in t.partitions if p.partition == partition):
            return addresses[found.leader if found.HasField("leader") else random.choice(found.replicas)]
        return self.server

    def create_topic(self, name, partitions=1, replicas=0):
        request = admin_pb2.CreateTopicRequest(name=name, partitions=partitions, replicas=replicas, if_not_exists=True)
        return self.retried(
            lambda address: admin_pb2_grpc.AdminStub(self.channel(address)).CreateTopic(request, timeout=TIMEOUT),
            lambda: self.server,
        )

    def produce_once(self, request):
        return self.retried(
            lambda address: self.log(address).ProduceOnce(request, timeout=TIMEOUT),
            lambda: self.leader(request.topic.name, request.partition),
        )

    def produce_records(self, name, partition, records, codec=common_pb2.CODEC_NONE):
        """Structured records: the server makes the batch. The simplest way in."""
        selector = topic(name)
        return self.produce_once(log_pb2.ProduceOnceRequest(topic=selector, partition=partition, records=records, codec=codec))

    def produce_batch(self, name, partition, batch):
        """A record batch as Kafka's clients make it: the fast way in, and with a producer id a retry is safe."""
        return self.produce_once(log_pb2.ProduceOnceRequest(topic=topic(name), partition=partition, batch=batch))

    def consume(self, name, partition, start=0):
        """Every record from offset `start` to the end as it is when reading begins."""
        deadline = time.monotonic() + TIMEOUT
        address = self.leader(name, partition)
        while True:
            request = log_pb2.ConsumeRequest(topic=topic(name), partition=partition, **{"from": start})
            try:
                for answer in self.log(address).Consume(request, timeout=TIMEOUT):
                    for batch in (batch for several in answer.batches for batch in MemoryRecords(several)):
                        # The first batch contains the offset asked for, and may begin before it.
                        yield from (record for record in batch if record.offset >= start)
                    start = answer.next_offset
                return
            except grpc.RpcError as error:
                address = self.after(error, deadline) or self.leader(name, partition)


def main():
    server = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DLOG_SERVER", "127.0.0.1:7411")
    client = Client(server)

    client.create_topic(TOPIC)
    print(f"topic {TOPIC} is there")

    header = common_pb2.Header(key="language", value=b"de")
    records = [
        common_pb2.Record(key=b"ada", value=b"hello"),
        common_pb2.Record(value="grüß Gott".encode(), headers=[header]),
    ]
    done = client.produce_records(TOPIC, 0, records)
    print(f"records: offsets {done.base_offset} to {done.last_offset} of partition {done.partition}")

    builder = MemoryRecordsBuilder(magic=2, compression_type=1, batch_size=1 << 20)  # 1: gzip, if it makes it smaller
    for greeting in (b"bonjour", b"buongiorno", b"dobry den"):
        builder.append(timestamp=None, key=b"kafka", value=greeting)
    builder.close()
    done = client.produce_batch(TOPIC, 0, bytes(builder.buffer()))
    print(f"batch: offsets {done.base_offset} to {done.last_offset} of partition {done.partition}")

    for record in client.consume(TOPIC, 0):
        key = record.key.decode() if record.key is not None else "-"
        print(f"{record.offset} {key} {record.value.decode()}")

    try:
        client.produce_records("no-such-topic", 0, records)
    except grpc.RpcError as error:
        detail = error_detail(error)
        print(f"an error: {error.code().name} {detail.code_name} at {detail.stage}, {common_pb2.Outcome.Name(detail.outcome)}")
    client.close()


if __name__ == "__main__":
    main()

"""The records that go into golden batches, and how kafka-python makes batches of them."""

import functools
import struct
from typing import NamedTuple, Optional
from unittest import mock

from kafka import codec as kafka_codec
from kafka.record import default_records
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

BASE_TIME = 1_700_000_000_000

# Every way to compress a batch, with its number in the batch's attributes.
CODECS = {"none": 0, "gzip": 1, "snappy-xerial": 2, "snappy-raw": 2, "lz4": 3, "zstd": 4}


class Record(NamedTuple):
    timestamp: int
    key: Optional[bytes]
    value: Optional[bytes]
    headers: tuple = ()


class BatchSet(NamedTuple):
    """Records, and what a batch says beside them. With `append_time` the leader stamped it."""

    records: list
    producer: tuple = (-1, -1, -1)
    transactional: bool = False
    append_time: Optional[int] = None


KEYS_AND_NULLS = [
    Record(BASE_TIME, b"key", b"value"),
    Record(BASE_TIME + 1, None, b"no key"),
    Record(BASE_TIME + 2, b"no value", None),
    Record(BASE_TIME + 3, None, None),
    Record(BASE_TIME + 4, b"", b""),
    Record(BASE_TIME + 5, b"", None),
    Record(BASE_TIME + 6, None, b""),
    Record(BASE_TIME + 7, bytes(range(256)), bytes(range(255, -1, -1))),
    Record(BASE_TIME + 8, b"compressible", b"again and " * 60),
]

HEADERS = [
    Record(BASE_TIME, b"k", b"v", (("one", b"1"),)),
    Record(BASE_TIME, b"k", b"v", (("twice", b"a"), ("twice", b"b"), ("null", None), ("empty", b""))),
    Record(BASE_TIME, b"k", b"v", (("", b"a header without a name"), ("Größe ⛵", "größer".encode()))),
    Record(BASE_TIME, b"k", b"v", tuple((f"header-{i}", b"value %d" % i) for i in range(70))),
    Record(BASE_TIME, b"k", b"v"),
]

TIMES = [
    Record(BASE_TIME, b"first", b"what the others are relative to"),
    Record(BASE_TIME - 1, b"earlier", b"time stamps need not rise " * 20),
    Record(0, b"epoch", b"1970"),
    Record(-1, b"none", b"no time stamp"),
    Record(-62_135_596_800_000, b"far back", b"year 1"),
    Record(253_402_300_799_999, b"far ahead", b"year 9999"),
    Record(BASE_TIME + 3_600_000, b"later", b"an hour"),
]

MANY = [
    Record(BASE_TIME + 7 * i, b"aircraft-%03d" % (i * 37 % 300), b'{"flight":%d,"delay":%d}' % (1000 + i, i * i % 181 - 20))
    for i in range(900)
]

LARGE = [
    Record(BASE_TIME, b"large", bytes((i * i >> 7) & 0xFF for i in range(9_000))),
    Record(BASE_TIME + 1, b"repeated", b"0123456789abcdef" * 2_500),
]

SETS = {
    "keys-and-nulls": BatchSet(KEYS_AND_NULLS),
    "headers": BatchSet(HEADERS),
    "times": BatchSet(TIMES),
    "append-time": BatchSet(TIMES, append_time=BASE_TIME + 86_400_000),
    "many": BatchSet(MANY),
    "large": BatchSet(LARGE),
    "producer": BatchSet(KEYS_AND_NULLS, producer=(4_611_686_018_427_387_905, 32_767, 2_147_483_645)),
    "producer-first": BatchSet(KEYS_AND_NULLS, producer=(0, 0, 0)),
    "transactional": BatchSet(KEYS_AND_NULLS, producer=(7, 1, 0), transactional=True),
}


class Builder(DefaultRecordBatchBuilder):
    """kafka-python's builder, which can also say that the leader set the time stamps: else only a broker does."""

    __slots__ = ("append_time",)

    def _get_attributes(self, include_compression_type=True):
        bits = super()._get_attributes(include_compression_type)
        return bits if self.append_time is None else bits | self.TIMESTAMP_TYPE_MASK

    def write_header(self, use_compression_type=True):
        if self.append_time is not None:
            self._max_timestamp = self.append_time
        super().write_header(use_compression_type)


def build(batch_set, codec):
    """The batch's bytes as kafka-python makes them. Fails if the records would stay uncompressed against the codec."""
    producer_id, epoch, sequence = batch_set.producer
    builder = Builder(
        magic=2,
        compression_type=CODECS[codec],
        is_transactional=batch_set.transactional,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
        batch_size=1 << 20,
    )
    builder.append_time = batch_set.append_time
    for offset, record in enumerate(batch_set.records):
        taken = builder.append(offset, record.timestamp, record.key, record.value, list(record.headers))
        assert taken is not None, "the batch is full"
    framed = codec != "snappy-raw"
    snappy_encode = functools.partial(kafka_codec.snappy_encode, xerial_compatible=framed)
    # gzip writes the time of the compression into its header: the same for every run.
    with mock.patch.object(default_records, "snappy_encode", snappy_encode), mock.patch("gzip.time.time", lambda: BASE_TIME / 1000):
        batch = bytes(builder.build())
    assert struct.unpack_from(">h", batch, 21)[0] & 7 == CODECS[codec], f"{codec} has not made it smaller"
    return batch


def read(batch):
    """The one batch in the bytes as kafka-python reads it, its checksum verified, and its records."""
    decoded = DefaultRecordBatch(batch)
    assert decoded.magic == 2 and decoded.size_in_bytes == len(batch)
    assert decoded.validate_crc(), "kafka-python finds the checksum wrong"
    records = [Record(r.timestamp, r.key, r.value, tuple(r.headers)) for r in decoded]
    return decoded, records


def expected_records(batch_set):
    """The records that a reader is to see."""
    if batch_set.append_time is None:
        return batch_set.records
    return [record._replace(timestamp=batch_set.append_time) for record in batch_set.records]


def manifest(batch_set):
    """What is in the batch as text, for readers in other languages: bytes as `x` and hexadecimal digits, no bytes as `-`."""

    def field(data):
        return "-" if data is None else "x" + data.hex()

    lines = ["producer %d %d %d" % batch_set.producer, "transactional %d" % batch_set.transactional]
    if batch_set.append_time is not None:
        lines.append(f"append-time {batch_set.append_time}")
    for record in batch_set.records:
        lines.append(f"record {record.timestamp} {field(record.key)} {field(record.value)}")
        lines += [f"header {field(name.encode())} {field(value)}" for name, value in record.headers]
    return "\n".join(lines) + "\n"

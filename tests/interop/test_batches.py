"""kafka-python reads its own golden batches and those that dlog makes of the same records (tests/golden.rs writes them)."""

import os
import unittest
from pathlib import Path

import batch_sets
from make_golden import GOLDEN

# Where `cargo test` has left dlog's batches.
OWN = Path(os.environ["DLOG_BATCHES"])
DLOG_CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


class Golden(unittest.TestCase):
    def test_no_file_is_missing_or_left_over(self):
        wanted = {f"{name}.{codec}.batch" for name in batch_sets.SETS for codec in batch_sets.CODECS}
        wanted |= {f"{name}.txt" for name in batch_sets.SETS}
        self.assertEqual({path.name for path in GOLDEN.iterdir()}, wanted)

    def test_they_hold_what_the_sets_say(self):
        for name, batch_set in batch_sets.SETS.items():
            self.assertEqual((GOLDEN / f"{name}.txt").read_text(encoding="ascii"), batch_sets.manifest(batch_set), name)
            for codec in batch_sets.CODECS:
                with self.subTest(set=name, codec=codec):
                    batch, records = batch_sets.read((GOLDEN / f"{name}.{codec}.batch").read_bytes())
                    self.assertEqual(batch.compression_type, batch_sets.CODECS[codec])
                    self.assertEqual(records, batch_sets.expected_records(batch_set))

    def test_they_are_what_the_library_makes(self):
        """Byte for byte without compression. Compressors may change between versions; what they hold may not."""
        for name, batch_set in batch_sets.SETS.items():
            with self.subTest(set=name):
                self.assertEqual(batch_sets.build(batch_set, "none"), (GOLDEN / f"{name}.none.batch").read_bytes())


class Own(unittest.TestCase):
    def test_every_batch_of_dlog_is_read(self):
        sets = {name: s for name, s in batch_sets.SETS.items() if not s.transactional}
        for name, batch_set in sets.items():
            for codec, number in DLOG_CODECS.items():
                with self.subTest(set=name, codec=codec):
                    batch, records = batch_sets.read((OWN / f"{name}.{codec}.batch").read_bytes())
                    self.assertEqual(batch.compression_type, number)
                    self.assertEqual((batch.base_offset, batch.leader_epoch), (1000, 7))
                    self.assertEqual(batch.next_offset, 1000 + len(batch_set.records))
                    self.assertEqual(batch.timestamp_type, int(batch_set.append_time is not None))
                    producer = (batch.producer_id, batch.producer_epoch, batch.base_sequence)
                    self.assertEqual(producer, batch_set.producer)
                    self.assertEqual(batch.max_timestamp, max(r.timestamp for r in batch_sets.expected_records(batch_set)))
                    self.assertEqual(records, batch_sets.expected_records(batch_set))

    def test_its_snappy_is_framed_as_other_clients_frame_it(self):
        """The same header and the same cut into blocks of 32 KiB; within a block encoders may differ."""

        def blocks(batch):
            framed = batch[61:]
            self.assertEqual(framed[:16], b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01")
            at, sizes = 16, []
            while at < len(framed):
                length = int.from_bytes(framed[at : at + 4], "big")
                sizes.append(len(batch_sets.kafka_codec.snappy.decompress(framed[at + 4 : at + 4 + length])))
                at += 4 + length
            return sizes

        theirs = blocks((GOLDEN / "many.snappy-xerial.batch").read_bytes())
        self.assertEqual(blocks((OWN / "many.snappy.batch").read_bytes()), theirs)
        self.assertGreater(len(theirs), 1)


if __name__ == "__main__":
    unittest.main()

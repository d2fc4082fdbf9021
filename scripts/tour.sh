#!/usr/bin/env bash
# Runs the README's tour word for word: every `sh` block below its heading, in one shell, from the repository's root.
set -euo pipefail
cd "$(dirname "$0")/.."

heading='## A five-minute tour'
[ ! -e tour ] || { echo "tour: the folder tour/ is in the way: remove it first" >&2; exit 1; }
script=$(mktemp "${TMPDIR:-/tmp}/dlog-tour.XXXXXXXX")
cleanup() {
    rm -rf "$script" tour
}
trap cleanup EXIT

{
    echo 'set -euo pipefail'
    # Whatever the blocks start in the background ends with them.
    echo 'trap '\''for child in $(jobs -p); do kill -9 "$child" 2>/dev/null || true; done'\'' EXIT'
    sed -n "/^$heading/,/^## /p" README.md | sed -n '/^```sh$/,/^```$/{/^```/d;p}'
} >"$script"
[ "$(wc -l <"$script")" -gt 10 ] || { echo "tour: README.md has no commands below \"$heading\"" >&2; exit 1; }

# Where the tour's ports are taken, it is taken elsewhere.
for port in 7411 7412 7413 7421 7422 7423 7431 7432 7433; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        echo "tour: port $port is in use, so 174xx stands for 74xx" >&2
        sed -i 's/\b74\([1-3][1-3]\)\b/174\1/g' "$script"
        export DLOG_SERVER=127.0.0.1:17411 DLOG_LISTEN=127.0.0.1:17411 DLOG_PEER_LISTEN=127.0.0.1:17412 DLOG_OPS_LISTEN=127.0.0.1:17413
        break
    fi
done

# The README says target/debug; a build elsewhere stands behind it on the PATH.
PATH="$PATH:$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug"
export PATH NO_COLOR=1
if timeout 600 bash "$script" </dev/null; then
    echo "tour: every command of the README's tour worked"
else
    echo "tour: the README's tour FAILED (what it ran:)" >&2
    cat "$script" >&2
    for log in tour/*.log; do [ -s "$log" ] && { echo "--- the end of $log"; tail -n 15 "$log"; } >&2; done
    exit 1
fi

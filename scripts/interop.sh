#!/usr/bin/env bash
# Tests dlog against other people's libraries, in Python: its batches against kafka-python, its API against a client that knows only
# the published .proto files. Brings what it needs: Python by apt where it is missing, packages of exact versions into target/python.
#
#   scripts/interop.sh                  DLOG_BIN names another binary than target/debug/dlog
#   scripts/interop.sh --make-golden    writes tests/interop/golden anew
#
# Where the package index can't be reached, it says so in a line that begins with SKIPPED, and passes.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'interop: %s\n' "$*" >&2; }

build_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
venv=$PWD/target/python
wanted=tests/interop/requirements.txt
# Nothing is written beside the sources.
export PYTHONDONTWRITEBYTECODE=1

# The packages, exactly as the file says, and for this Python.
install_packages() {
    local stamp said
    stamp=$(python3 --version && cat "$wanted")
    [ "$(cat "$venv/installed" 2>/dev/null)" != "$stamp" ] || return 0
    rm -rf "$venv"
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv"
    say "fetching the packages of $wanted"
    # Only what is built already: a compiler's errors would tell nobody anything.
    if said=$("$venv/bin/pip" install --quiet --only-binary :all: --retries 2 --timeout 20 --requirement "$wanted" 2>&1); then
        printf '%s\n' "$stamp" >"$venv/installed"
        return 0
    fi
    if grep -qiE 'connection broken|NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|Temporary failure in name|Network is unreachable' <<<"$said"; then
        say "SKIPPED: the Python package index can't be reached, so nothing was tested against kafka-python and grpcio"
        exit 0
    fi
    printf '%s\n' "$said" >&2
    say "the packages of $wanted can't be installed (see above)"
    exit 1
}

scripts/setup.sh --python
install_packages

if [ "${1:-}" = --make-golden ]; then
    exec "$venv/bin/python" tests/interop/make_golden.py
fi

DLOG_BIN=$(realpath -m "${DLOG_BIN:-$build_dir/debug/dlog}")
[ -x "$DLOG_BIN" ] || {
    say "there is no dlog binary at $DLOG_BIN: run \`make build\` first (or set DLOG_BIN)"
    exit 1
}

# dlog's own batches, for kafka-python to read. Old ones would prove nothing.
DLOG_BATCHES=$build_dir/tmp/dlog-batches
rm -rf "$DLOG_BATCHES"
cargo test --workspace --locked --quiet --test golden >&2

# The client's messages, from the published files.
rm -rf "$venv/protos"
mkdir "$venv/protos"
(cd dlog-protocol/proto && "$venv/bin/python" -m grpc_tools.protoc -I . \
    --python_out="$venv/protos" --grpc_python_out="$venv/protos" dlog/v1/{common,log,admin,cluster}.proto)

export DLOG_BIN DLOG_BATCHES PYTHONPATH=$venv/protos
"$venv/bin/python" -m unittest discover --start-directory tests/interop --pattern 'test_*.py'
say "kafka-python and grpcio agree with dlog"

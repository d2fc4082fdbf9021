#!/usr/bin/env bash
# Checks dependencies, licences and sources with cargo-deny (deny.toml), which it installs into its own cache when missing.
# Advisories are checked where their database can be reached, and it says so where not.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dlog-ci
export PATH="$cache/tools/bin:$PATH"

if ! cargo deny --version 2>/dev/null | grep -qx "cargo-deny $version"; then
    echo "lint: installing cargo-deny $version into $cache/tools (some minutes, once)" >&2
    CARGO_TARGET_DIR="$cache/tools/build" cargo install --locked --quiet --root "$cache/tools" --version "$version" cargo-deny
    rm -rf "$cache/tools/build"
fi

cargo deny --locked check --show-stats bans licenses sources

database=https://github.com/RustSec/advisory-db
if timeout 60 cargo deny fetch db >/dev/null 2>&1; then
    cargo deny --locked check --disable-fetch advisories
else
    echo "lint: advisories were NOT checked: $database cannot be reached from here" >&2
fi

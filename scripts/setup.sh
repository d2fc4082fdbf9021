#!/usr/bin/env bash
# Checks what a build needs: a Rust toolchain, a C++ compiler, and libclang (RocksDB's bindings are made at build time).
# On Debian and Ubuntu it installs what is missing, but for the toolchain; elsewhere it names it. Says nothing if all is there.
#
#   scripts/setup.sh [--python]     with --python: what the tests in Python need instead (Python with venv and pip)
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

check_rust() {
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! command -v cargo >/dev/null || ! have=$(rustc --version 2>/dev/null); then
        say "no Rust toolchain was found. dlog needs Rust $wanted or newer: install it from https://rustup.rs,"
        say "open a new shell (or: . \"\$HOME/.cargo/env\"), and run the same command again."
        exit 1
    fi
    have=$(printf '%s' "$have" | cut -d' ' -f2)
    if [ "$(printf '%s\n%s\n' "$wanted" "${have%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
        say "Rust $have is too old, dlog needs $wanted or newer: run \`rustup update stable\` and the same command again."
        exit 1
    fi
}

has_compiler() {
    command -v "${CC:-cc}" >/dev/null && command -v "${CXX:-c++}" >/dev/null || return 1
    # A compiler without the C++ library's headers is not enough.
    printf '#include <string>\nint main() { return 0; }\n' | "${CXX:-c++}" -x c++ -fsyntax-only - 2>/dev/null
}

has_libclang() {
    local dir
    for dir in "${LIBCLANG_PATH:-}" /usr/lib/llvm-*/lib /usr/lib/llvm*/lib* /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /usr/local/lib \
        /opt/homebrew/opt/llvm/lib /Library/Developer/CommandLineTools/usr/lib; do
        [ -d "$dir" ] || continue
        # Without a version behind .so it comes with the headers; the library alone (libclang.so.1) is not enough.
        if compgen -G "$dir/libclang.so" >/dev/null || compgen -G "$dir/libclang-*.so" >/dev/null \
            || compgen -G "$dir/libclang.dylib" >/dev/null; then
            return 0
        fi
    done
    return 1
}

has_python() {
    # Debian has the part that makes environments in a package of its own.
    python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

missing=()
find_missing() {
    missing=()
    if [ "$purpose" = python ]; then
        has_python || missing+=(python3 python3-venv)
        return
    fi
    has_compiler || missing+=(g++)
    has_libclang || missing+=(libclang-dev)
}

install_with_apt() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            say "missing: ${missing[*]}. There is no sudo here; as root, run:"
            say "    apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
            exit 1
        fi
        as_root=(sudo)
    fi
    say "$reason needs ${missing[*]}: installing with ${as_root[*]:+sudo }apt-get"
    "${as_root[@]}" apt-get update -qq >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

purpose=build
reason="building RocksDB"
if [ "${1:-}" = --python ]; then
    purpose=python
    reason="running the tests in Python"
else
    check_rust
fi
find_missing
if [ ${#missing[@]} -gt 0 ]; then
    if command -v apt-get >/dev/null; then
        install_with_apt
        find_missing
    fi
    if [ ${#missing[@]} -gt 0 ] && [ "$purpose" = python ]; then
        say "missing: Python 3.10 or newer with its modules venv and ensurepip. Install it, and run the same command again:"
        say "    Fedora: sudo dnf install python3           Arch: sudo pacman -S python"
        say "    openSUSE: sudo zypper install python3      Alpine: doas apk add python3"
        exit 1
    fi
    if [ ${#missing[@]} -gt 0 ]; then
        say "missing: ${missing[*]/libclang-dev/libclang with its headers}. Install a C++ compiler and libclang, and run the same command again:"
        say "    Fedora: sudo dnf install gcc-c++ clang-devel      Arch: sudo pacman -S gcc clang"
        say "    openSUSE: sudo zypper install gcc-c++ clang-devel Alpine: doas apk add g++ clang-dev"
        say "If libclang stands in an unusual place, set LIBCLANG_PATH to its folder."
        exit 1
    fi
fi

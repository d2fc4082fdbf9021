#!/usr/bin/env bash
# Proof that a newcomer's machine needs nothing but make and a Rust toolchain: makes a bare Debian in a temporary folder, puts a
# clone of the last commit into it, and runs make's verbs there (default: demo, then test).
#
#   scripts/fresh-machine.sh [--user] [VERB…]     as root; --user runs the verbs as an ordinary user with sudo
#   SUITE=trixie MIRROR=http://… KEEP=1           another Debian, another mirror, keep the folder afterwards
#
# The toolchain of this machine is lent to it read-only; packages and crates are fetched over the network, as a newcomer would.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${SUITE:-bookworm}
mirror=${MIRROR:-} # empty: debootstrap's own
user=root
if [ "${1:-}" = --user ]; then
    user=newcomer
    shift
fi
verbs=("${@:-demo}")
[ $# -gt 0 ] || verbs=(demo test)

say() { printf 'fresh-machine: %s\n' "$*" >&2; }
die() {
    say "$@"
    exit 1
}

[ "$(id -u)" -eq 0 ] || die "needs root to make a chroot: run it with sudo"
if ! command -v debootstrap >/dev/null; then
    command -v apt-get >/dev/null || die "debootstrap is missing: install it with this system's package manager"
    say "installing debootstrap with apt-get"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >&2
fi
sysroot=$(rustc --print sysroot) || die "a Rust toolchain must be on the PATH (with sudo: sudo env PATH=\"\$PATH\" $0)"
git rev-parse --verify --quiet HEAD >/dev/null || die "there is no commit to clone"
[ -z "$(git status --porcelain)" ] || say "note: what is not committed is not tried"

top=$(mktemp -d "${TMPDIR:-/tmp}/dlog-fresh.XXXXXXXX")
root=$top/root
# Nothing is mounted in this namespace (see below), so this can never reach the lent toolchain.
trap '[ -n "${KEEP:-}" ] && say "kept: $root" || rm -rf "$top"' EXIT

say "making a bare Debian $suite (some minutes)"
packages=make,ca-certificates
[ "$user" = root ] || packages=$packages,sudo
debootstrap --variant=minbase --include=$packages "$suite" "$root" ${mirror:+"$mirror"} >"$top/debootstrap.log" 2>&1 || {
    tail -n 20 "$top/debootstrap.log" >&2
    die "debootstrap failed"
}
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
echo "127.0.0.1 localhost" >"$root/etc/hosts"
# A network that has its own authority signs with it there too.
[ ! -r /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"

home=$root/newcomer
mkdir -p "$home" "$root/opt/rust"
git clone --quiet --no-hardlinks . "$home/dlog"
cargo_config=${CARGO_HOME:-$HOME/.cargo}/config.toml
if [ -r "$cargo_config" ]; then
    mkdir -p "$home/.cargo"
    cp "$cargo_config" "$home/.cargo/config.toml"
fi
if [ "$user" != root ]; then
    chroot "$root" useradd --home-dir /newcomer --shell /bin/bash "$user"
    chroot "$root" chown -R "$user:$user" /newcomer
    echo "$user ALL=(ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/$user"
fi

# Mounts live in a namespace of their own and end with it; so do processes, should any be left.
passed=(HOME=/newcomer PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 CI=true)
# pip has authorities of its own and would not know this network's.
passed+=(PIP_CERT=/etc/ssl/certs/ca-certificates.crt)
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY CARGO_BUILD_JOBS PIP_INDEX_URL; do
    [ -z "${!name:-}" ] || passed+=("$name=${!name}")
done
for verb in "${verbs[@]}"; do
    say "make $verb, as $user, in a bare Debian $suite"
    started=$SECONDS
    unshare --mount --pid --fork --kill-child bash -euc '
        root=$1 sysroot=$2 user=$3 verb=$4
        shift 4
        mount --make-rprivate /
        mount -t proc proc "$root/proc"
        mkdir -p "$root/dev/shm"
        mount -t tmpfs tmpfs "$root/dev/shm"
        mount --bind "$sysroot" "$root/opt/rust"
        mount -o remount,bind,ro "$root/opt/rust"
        exec chroot --userspec="$user" "$root" env -i "$@" bash -c "cd /newcomer/dlog && make $verb" </dev/null
    ' -- "$root" "$sysroot" "$user" "$verb" "${passed[@]}" || die "make $verb FAILED in a bare Debian $suite"
    say "make $verb passed after $((SECONDS - started)) s"
done
say "passed: ${verbs[*]}"

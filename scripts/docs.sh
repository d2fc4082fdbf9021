#!/usr/bin/env bash
# Runs the commands of the documents as they stand: each document's `sh` blocks in order, in one shell, in a fresh folder.
#
#   scripts/docs.sh [FILE…]          all documents, or these
#   scripts/docs.sh --in compose FILE…   runs the blocks that are marked `compose`, in DOCS_FOLDER (scripts/compose-test.sh does)
#
# The convention, for whoever writes a document:
#
#   ```sh            is run; a command that fails fails the document
#   ```sh make       is what make itself does (`make test` can't run itself): not run
#   ```sh compose    is run by scripts/compose-test.sh, where there is an engine
#   ```sh interop    is run by scripts/interop.sh, where there is Python and its package index
#   ```sh systemd    needs root and systemd: only its syntax is checked, and (where systemd-analyze is) the unit that it installs
#   ```text          right behind an `sh` block: what this block prints on standard output, line by line; … stands for
#                    anything within a line, and alone on a line for any number of lines
#
# The fresh folder has links to what the repository holds, and dlog is on the PATH; make and cargo work on the repository. Where
# a port of 7411 to 7433 is taken, others stand for them.
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD

mode=
if [ "${1:-}" = --in ]; then
    mode=${2:?a mode}
    shift 2
fi
files=("$@")
[ $# -gt 0 ] || files=(README.md docs/*.md deploy/README.md)
bounded=${DOCS_TIMEOUT:-900} # seconds for one document
build=$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug
top=$(mktemp -d "${TMPDIR:-/tmp}/dlog-docs.XXXXXXXX")
trap 'rm -rf "$top"' EXIT

say() { printf 'docs: %s\n' "$*" >&2; }
die() {
    say "$@"
    exit 1
}

# ---- Ports -----------------------------------------------------------------------------------------------------------

is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
all_free() {
    local end
    for end in 11 12 13 21 22 23 31 32 33; do is_free "$1$end" || return 1; done
}
prefix=
for candidate in ${DLOG_COMPOSE_PORTS:-74 174 184 194 204 214 224 234}; do
    if [ -n "${DLOG_COMPOSE_PORTS:-}" ] || all_free "$candidate"; then
        prefix=$candidate
        break
    fi
done
[ -n "$prefix" ] || die "no nine free ports were found on 127.0.0.1 (7411 and up)"
[ "$prefix" = 74 ] || say "some port of 7411 to 7433 is taken: ${prefix}11 to ${prefix}33 stand for them"

# ---- What stands on the PATH -----------------------------------------------------------------------------------------

mkdir "$top/bin"
# `dlog dev` has its ports from a flag's default, so a wrapper gives them.
cat >"$top/bin/dlog" <<END
#!/bin/sh
if [ "\$1" = dev ] && [ $prefix != 74 ]; then
    shift
    exec "$build/dlog" dev --port-base ${prefix}10 "\$@"
fi
exec "$build/dlog" "\$@"
END
for tool in make cargo; do
    path=$(command -v $tool) || continue
    printf '#!/bin/sh\ncd "%s" && exec "%s" "$@"\n' "$repository" "$path" >"$top/bin/$tool"
done
# As much of curl as the documents use, for machines that have none.
command -v curl >/dev/null || cat >"$top/bin/curl" <<'END'
#!/usr/bin/env bash
[ $# -eq 2 ] && [ "$1" = -s ] && [[ $2 =~ ^http://([^:/]+):([0-9]+)(/.*)$ ]] || { echo "this curl knows curl -s URL" >&2; exit 2; }
exec 3<>"/dev/tcp/${BASH_REMATCH[1]}/${BASH_REMATCH[2]}" || exit 7
printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "${BASH_REMATCH[3]}" >&3
sed '1,/^\r$/d' <&3
END
chmod +x "$top/bin/"*

# ---- From a document to a script -------------------------------------------------------------------------------------

# extract FILE FOLDER: writes FOLDER/script (the blocks that run here) and FOLDER/NUMBER.expected; tells what was left out.
extract() {
    local file=$1 out=$2 line number=0 inside= after= words=
    blocks=0 compared=0 left=0
    : >"$out/script"
    while IFS= read -r line || [ -n "$line" ]; do
        case $inside in
        '')
            case $line in
            '```sh' | '```sh '*)
                words=${line#'```sh'} words=${words# } inside=sh after=
                number=$((number + 1))
                : >"$out/$number.block"
                ;;
            '```text')
                inside=other
                # Only what a block that runs here prints is compared.
                if [ -n "$after" ]; then
                    inside=text compared=$((compared + 1))
                    : >"$out/$number.expected"
                fi
                after=
                ;;
            '```'*) inside=other after= ;;
            '') ;;
            *) after= ;;
            esac
            ;;
        sh)
            if [ "$line" != '```' ]; then
                printf '%s\n' "$line" >>"$out/$number.block"
                continue
            fi
            inside=
            bash -n "$out/$number.block" || die "$file: block $number is no valid shell"
            if [ "$words" = "$mode" ]; then
                after=yes blocks=$((blocks + 1))
                {
                    printf 'at=%s; {\n' "$number"
                    cat "$out/$number.block"
                    printf '} >%s/%s.printed\n' "$out" "$number"
                } >>"$out/script"
            else
                case $words in
                '' | make | compose | systemd | interop) left=$((left + 1)) ;;
                *) die "$file: a block is marked \"$words\", which nobody runs" ;;
                esac
            fi
            ;;
        text) if [ "$line" = '```' ]; then inside=; else printf '%s\n' "$line" >>"$out/$number.expected"; fi ;;
        other) [ "$line" != '```' ] || inside= ;;
        esac
    done <"$file"
    [ -z "$inside" ] || die "$file: a block has no end"
}

# matches EXPECTED PRINTED: line by line, with … for anything.
matches() {
    local -a want got
    mapfile -t want <"$1"
    mapfile -t got <"$2"
    matches_from 0 0
}
matches_from() {
    local i=$1 j=$2 line part pattern
    while [ "$i" -lt ${#want[@]} ]; do
        line=${want[i]}
        if [ "$line" = … ]; then
            for ((; j <= ${#got[@]}; j++)); do
                matches_from $((i + 1)) "$j" && return 0
            done
            return 1
        fi
        [ "$j" -lt ${#got[@]} ] || return 1
        pattern=
        while [[ $line == *…* ]]; do
            part=${line%%…*}
            pattern+=$(printf '%q' "$part")'*'
            line=${line#*…}
        done
        if [ -z "$pattern" ]; then
            [ "$line" = "${got[j]}" ] || return 1
        else
            pattern+=$(printf '%q' "$line")
            # The pattern's own stars are meant, everything else is quoted.
            # shellcheck disable=SC2053
            eval "[[ \${got[j]} == $pattern ]]" || return 1
        fi
        i=$((i + 1)) j=$((j + 1))
    done
    [ "$j" -eq ${#got[@]} ]
}

# ---- Running ---------------------------------------------------------------------------------------------------------

run() {
    local file=$1 out=$top/$2 entry folder
    mkdir -p "$out/folder"
    folder=${DOCS_FOLDER:-$out/folder}
    extract "$file" "$out"
    if [ "$blocks" -eq 0 ]; then
        [ "$left" -eq 0 ] || say "$file: its $left blocks run elsewhere"
        return 0
    fi
    if [ -z "${DOCS_FOLDER:-}" ]; then
        for entry in "$repository"/*; do
            case ${entry##*/} in target) ;; *) ln -s "$entry" "$folder/" ;; esac
        done
        mkdir "$folder/target"
        ln -s "$top/bin" "$folder/target/debug"
    fi
    {
        echo 'set -euo pipefail; at=0'
        # Whatever the blocks start in the background ends with them.
        echo 'trap '\''code=$?; for child in $(jobs -p); do kill -9 "$child" 2>/dev/null || true; done; [ $code -eq 0 ] || echo "block $at ended with $code" >&2'\'' EXIT'
        cat "$out/script"
    } >"$out/whole"
    if [ "$prefix" != 74 ]; then
        sed -i "s/\b74\([1-3][1-3]\)\b/$prefix\1/g; s/:74\([1-3]\)\b/:$prefix\1/g" "$out/whole"
        export DLOG_SERVER=127.0.0.1:${prefix}11 DLOG_LISTEN=127.0.0.1:${prefix}11
        export DLOG_PEER_LISTEN=127.0.0.1:${prefix}12 DLOG_OPS_LISTEN=127.0.0.1:${prefix}13
    fi
    local failed=
    (cd "$folder" && PATH="$top/bin:$PATH" NO_COLOR=1 timeout "$bounded" bash "$out/whole" </dev/null) || failed="a command of it failed"
    for expected in "$out"/*.expected; do
        [ -z "$failed" ] && [ -e "$expected" ] || continue
        if [ "$prefix" != 74 ]; then sed -i "s/\b74\([1-3][1-3]\)\b/$prefix\1/g" "$expected"; fi
        matches "$expected" "${expected%.expected}.printed" || {
            failed="a block prints something else than the document says"
            diff -u "$expected" "${expected%.expected}.printed" >&2 || true
        }
    done
    if [ -n "$failed" ]; then
        say "$file: FAILED: $failed. What it ran:"
        cat "$out/script" >&2
        for log in "$folder"/*.log "$folder"/*/*.log "$out"/*.printed; do
            if [ -f "$log" ] && [ -s "$log" ]; then printf -- '--- the end of %s\n' "${log##*/}"; tail -n 15 "$log"; fi >&2
        done
        exit 1
    fi
    say "$file: $blocks blocks ran, $compared outputs compared${left:+, $left run elsewhere}"
}

# The unit, as far as it can be looked at without a systemd that runs: is each line known, and does 12 stay down?
check_unit() {
    grep -qx 'RestartPreventExitStatus=.*\<12\>.*' deploy/dlog.service || die "deploy/dlog.service would restart a node after exit 12"
    if ! command -v systemd-analyze >/dev/null; then
        printf '\n*** SKIPPED systemd-analyze verify: it is not installed ***\n\n' >&2
        return
    fi
    # Its binary is not in place here; every other complaint counts.
    local said
    sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' deploy/dlog.service >"$top/dlog.service"
    said=$(systemd-analyze verify "$top/dlog.service" 2>&1) && [ -z "$said" ] || die "deploy/dlog.service: $said"
    say "deploy/dlog.service: systemd-analyze finds nothing"
}

[ -n "$mode" ] || [ $# -gt 0 ] || check_unit
number=0
for file in "${files[@]}"; do
    number=$((number + 1))
    run "$file" "$number"
done

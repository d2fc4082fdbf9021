#!/usr/bin/env bash
# Brings the compose file up for real: runs the tour of deploy/README.md, then looks at what a tour can't show (who the nodes
# run as, what brings them back and what doesn't). Skips, loudly, where there is no engine or no way to a base image.
#
# Everything that it makes has a name of its own and is removed at the end, whatever happens; only Debian's image stays.
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD

say() { printf 'compose: %s\n' "$*" >&2; }
die() {
    say "FAILED: $*"
    exit 1
}
skip() {
    printf '\n*** SKIPPED the compose test: %s ***\n\n' "$*" >&2
    exit 0
}

# ---- What is there ---------------------------------------------------------------------------------------------------

command -v docker >/dev/null || skip "there is no docker"
timeout 20 docker info >/dev/null 2>&1 || skip "no container engine answers"
top=$(mktemp -d "${TMPDIR:-/tmp}/dlog-compose.XXXXXXXX")
project=dlog-test-$$
image=dlog-test:$$
mkdir "$top/bin"
if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
elif command -v docker-compose >/dev/null; then
    compose=(docker-compose)
    # The documents write `docker compose`; 1.29 is called otherwise.
    real=$(command -v docker)
    printf '#!/bin/sh\nif [ "$1" = compose ]; then shift; exec docker-compose "$@"; fi\nexec "%s" "$@"\n' "$real" >"$top/bin/docker"
    chmod +x "$top/bin/docker"
else
    rm -rf "$top"
    skip "there is neither docker compose nor docker-compose"
fi
# Without its plug-in, BuildKit can't be asked for; the file needs nothing of it.
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0

cleanup() {
    local code=$? id
    trap - EXIT INT TERM
    if [ $code -ne 0 ]; then
        for id in $(docker ps --all --quiet --filter "label=com.docker.compose.project=$project"); do
            printf -- '--- %s\n' "$(docker inspect --format '{{.Name}} {{.State.Status}} {{.State.ExitCode}}' "$id")"
            docker logs --tail 15 "$id" 2>&1
        done >&2
    fi
    # By label, so that nothing else is met, and each kind on its own, so that nothing is left.
    for id in $(docker ps --all --quiet --filter "label=com.docker.compose.project=$project"); do docker rm --force "$id"; done
    docker rm --force "$project-refused"
    for id in $(docker volume ls --quiet --filter "label=com.docker.compose.project=$project"); do docker volume rm "$id"; done
    for id in $(docker network ls --quiet --filter "label=com.docker.compose.project=$project"); do docker network rm "$id"; done
    docker rmi --no-prune=false "$image"
    rm -rf "$top"
    exit $code
} >/dev/null 2>&1
trap cleanup EXIT
trap 'exit 130' INT TERM

# Debian's image under the name that the Dockerfile uses: pulled where there is a registry, else made from packages.
base=$(sed -n 's/^FROM \([^ ]*\) AS runtime$/\1/p' deploy/Dockerfile)
suite=${base#debian:} suite=${suite%-slim}
if ! docker image inspect "$base" >/dev/null 2>&1 && ! timeout 120 docker pull --quiet "$base" >/dev/null 2>&1; then
    [ "$(id -u)" -eq 0 ] || skip "$base can't be pulled, and only root can make it from Debian's packages"
    if ! command -v debootstrap >/dev/null; then
        command -v apt-get >/dev/null || skip "$base can't be pulled, and there is no debootstrap"
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap; } >/dev/null 2>&1 \
            || skip "$base can't be pulled, and debootstrap can't be installed"
    fi
    say "making $base from Debian's packages (a minute)"
    timeout 600 debootstrap --variant=minbase "$suite" "$top/base" >"$top/debootstrap.log" 2>&1 \
        || skip "$base can't be pulled, and debootstrap failed: $(tail -n 1 "$top/debootstrap.log")"
    tar -C "$top/base" --exclude='./var/cache/apt/archives/*.deb' --exclude='./var/lib/apt/lists/*' \
        --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' -c . | docker import --change 'CMD ["bash"]' - "$base" >/dev/null
    rm -rf "$top/base"
fi

# ---- The tour --------------------------------------------------------------------------------------------------------

# What a clone with a build in it holds, as far as the image is concerned.
binary=$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug/dlog
[ -x "$binary" ] || die "there is no $binary: run \`make build\` first"
mkdir -p "$top/clone/deploy" "$top/clone/target/debug"
cp deploy/Dockerfile deploy/docker-compose.yml "$top/clone/deploy/"
cp .dockerignore "$top/clone/"
cp "$binary" "$top/clone/target/debug/dlog"
cd "$top/clone"

is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
for ports in 74 174 184 194 204 214 224 234 none; do
    [ "$ports" != none ] || skip "no nine free ports on 127.0.0.1"
    for end in 11 13 21 23 31 33; do is_free "$ports$end" || continue 2; done
    break
done
export COMPOSE_PROJECT_NAME=$project DLOG_COMPOSE_IMAGE=$image DLOG_COMPOSE_PORTS=$ports COMPOSE_FILE=deploy/docker-compose.yml
"${compose[@]}" config --quiet || die "the compose file is not valid for $("${compose[@]}" version --short)"
docker build --quiet --file deploy/Dockerfile --target runtime --tag "$image" . >/dev/null || die "the image can't be built"
timeout 60 docker run --rm "$image" --version >/dev/null 2>&1 || skip "the binary built here does not run on $base (another glibc?)"

PATH="$top/bin:$PATH" DOCS_FOLDER=$top/clone DOCS_TIMEOUT=600 "$repository/scripts/docs.sh" --in compose deploy/README.md

# ---- What a tour can't show ------------------------------------------------------------------------------------------

container() { "${compose[@]}" ps --quiet "$1"; }
until_true() {
    local what=$1 deadline=$((SECONDS + 90))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || die "$what did not happen within 90 s"
        sleep 0.5
    done
}
state() { docker inspect --format "{{$2}}" "$1"; }

"${compose[@]}" up --detach >/dev/null 2>&1
n1=$(container n1) n3=$(container n3)
is_healthy() { [ "$(state "$1" .State.Health.Status)" = healthy ]; }
for node in n1 n2 n3; do until_true "$node is healthy" is_healthy "$(container $node)"; done
say "the engine calls all three healthy"

[ "$(docker exec "$n1" id -u)" = 7411 ] || die "the node doesn't run as an ordinary user"
if docker exec "$n1" sh -c 'echo >/usr/local/bin/x' 2>/dev/null; then die "the root file system can be written to"; fi
[ "$(docker exec "$n1" stat -c %a /var/lib/dlog)" = 700 ] || die "others can look into the data directory"
if docker port "$n1" | grep -v -- '-> 127\.0\.0\.1:'; then die "a port is published beyond loopback"; fi
say "ordinary user, read-only root, ports on loopback"

pid=$(state "$n3" .State.Pid)
if kill -9 "$pid" 2>/dev/null; then
    came_back() { [ "$(state "$n3" .State.Running)" = true ] && [ "$(state "$n3" .RestartCount)" -ge 1 ]; }
    until_true "a node that crashed comes back" came_back
    until_true "it is healthy again" is_healthy "$n3"
    say "a node that crashed came back by itself"
else
    say "note: its processes can't be killed from here, so crashing was not tried"
fi

"${compose[@]}" stop n3 >/dev/null 2>&1
[ "$(state "$n3" .State.ExitCode)" = 0 ] || die "a stop ended with $(state "$n3" .State.ExitCode)"
policy=$(state "$n3" .HostConfig.RestartPolicy.Name):$(state "$n3" .HostConfig.RestartPolicy.MaximumRetryCount)
volume=$(docker inspect --format '{{range .Mounts}}{{.Name}}{{end}}' "$n3")
# Under the same policy, but another name: its data directory is not for it.
docker run --detach --name "$project-refused" --restart "$policy" --volume "$volume:/var/lib/dlog" "$image" serve --name other >/dev/null
stays_down() { [ "$(state "$project-refused" .State.Status)" = exited ]; }
until_true "a node that refuses its directory stays down" stays_down
[ "$(state "$project-refused" .State.ExitCode)" = 12 ] || die "it ended with $(state "$project-refused" .State.ExitCode), not 12"
say "a node that refuses its directory stays down (exit 12, policy $policy)"
docker rm --force "$project-refused" >/dev/null
"${compose[@]}" down --volumes >/dev/null 2>&1
say "passed, with $("${compose[@]}" version --short) on $(docker version --format '{{.Server.Version}}')"

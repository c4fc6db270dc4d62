#!/bin/bash
# Runs ringway in a container, as `docker run --read-only --cap-drop ALL --security-opt no-new-privileges` does it.
#
#   scripts/container.sh             builds the program that the image holds (scripts/package.sh --static)
#   scripts/container.sh PROGRAM     takes that one instead: any static build, such as one for debugging
#
# The image is the archive that scripts/container/image.sh makes, the same as in a release. Podman loads it, and finds
# its user and its health check in it. runc, which Docker and containerd use, runs what is in it
# with Docker's default profile of system calls (packaging/docker/default.json), then with the one that allows io_uring
# (packaging/docker/seccomp.json). In it the demo must pass, and the configuration of the image must carry requests and
# a stream to a Redis, on what the profile allows. What Docker itself does is left out: its network with forwarded
# ports, AppArmor, and the first stage of the Dockerfile.
#
# Containers and servers are in a network of their own, and everything has ended when this has. That takes root.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d /tmp/ringway-container.XXXXXX)
# Of this run alone: others may run beside it.
name=${work##*/}
name=${name//./-}
docker=packaging/docker
stock=$docker/default.json
bytes=$((192 << 20))
started=()

finish() {
    [ ! -d "$work/store" ] || podman rm --force --time 1 "$name" >/dev/null 2>&1 || true
    for container in demo serve; do
        runc delete --force "$name-$container" >/dev/null 2>&1 || true
    done
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait || true
    ip netns delete "$name" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

# shellcheck source=scripts/common/fail.sh
. scripts/common/fail.sh

step() {
    echo "== $* ($(date +%H:%M:%S))"
}

# await WHAT COMMAND...: until it succeeds.
await() {
    local what=$1
    shift
    for _ in $(seq 200); do
        if "$@" >"$work/awaited" 2>&1; then return 0; fi
        sleep 0.05
    done
    fail "$what" "$(cat "$work/awaited" "$work/log" 2>&1)"
}

# fact FILTER: of the configuration of the image, one line for each word.
fact() {
    jq --raw-output ".config.$1" "$work/image/config.json"
}

# The archive that would be handed out, and what is in it.
make_image() { # program
    mkdir -p "$work/image" "$work/bundle/rootfs"
    scripts/container/image.sh "$1" "$(uname -m)" "$work/image.tar"
    tar --extract --file "$work/image.tar" --directory "$work/image"
    tar --extract --file "$work/image/layer.tar" --directory "$work/bundle/rootfs" --numeric-owner --same-owner
    user=$(fact 'User | split(":")[0]')
    readarray -t entrypoint < <(fact 'Entrypoint[]')
    readarray -t command < <(fact 'Cmd[]')
    readarray -t health < <(fact 'Healthcheck.Test[1:][]')
}

podman() {
    command podman --root "$work/store" --runroot "$work/runs" --storage-driver vfs --cgroup-manager cgroupfs "$@"
}

# What an engine makes of the archive, in a store of its own: it finds the user and the health check, and the image
# serves. Its flags are for this host: no network, limits that it may set, no systemd that would run the check.
load_image() {
    local image seen
    image=ringway:$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
    podman load --quiet --input "$work/image.tar"
    seen=$(podman image inspect "$image")
    jq --exit-status --argjson health "$(jq .config.Healthcheck "$work/image/config.json")" --arg arch "$arch" \
        --argjson most "$(($(stat -c %s "$program") + 1000000))" \
        '.[0] | .User == "65532:65532" and .Healthcheck == $health and .Architecture == $arch
            and .Config.Entrypoint == ["/usr/bin/ringway"] and .Config.StopSignal == "SIGTERM" and .Size < $most' \
        <<<"$seen" >/dev/null || fail "the user, the health check and little beside the program in the image" "$seen"
    podman run --detach --name "$name" --network none --no-healthcheck --ulimit nofile=1024:4096 \
        --ulimit nproc=4096:4096 --security-opt "seccomp=$stock" --read-only --cap-drop ALL \
        --security-opt no-new-privileges "$image" >/dev/null
    await "the health check to succeed" podman exec "$name" "${health[@]}"
    podman exec "$name" "${entrypoint[@]}" ctl status | head -2
    podman stop --time 45 "$name" >/dev/null
    [ "$(podman inspect "$name" | jq '.[0].State.ExitCode')" = 0 ] || fail "exit status 0" "$(podman logs "$name" 2>&1)"
    podman rm "$name" >/dev/null
}

# bundle PROFILE WORD...: what the next container is and runs. The limits are those of `--cpus 1 --memory 512m`.
bundle() {
    local profile=$1 words
    shift
    words=$(printf '%s\n' "$@" | jq --raw-input . | jq --slurp .)
    # shellcheck disable=SC2016
    jq --null-input --argjson words "$words" --argjson user "$user" --arg net "/run/netns/$name" \
        --slurpfile spec "$work/spec.json" \
        --slurpfile profile <(jq --arg arch "$arch" --from-file scripts/container/profile.jq "$profile") \
        '$spec[0] | .process += {
            terminal: false, args: $words, user: {uid: $user, gid: $user}, noNewPrivileges: true,
            capabilities: {}, rlimits: [{type: "RLIMIT_NOFILE", soft: 1024, hard: 4096}] }
        | .root.readonly = true
        | .mounts += [{destination: "/run/ringway", type: "tmpfs", source: "tmpfs",
            options: ["nosuid", "nodev", "noexec", "uid=\($user)", "gid=\($user)"]}]
        | .linux.namespaces |= map(if .type == "network" then .path = $net else . end)
        | .linux.resources += {cpu: {quota: 100000, period: 100000}, memory: {limit: 536870912}}
        | .linux.seccomp = $profile[0]' >"$work/bundle/config.json"
}

# What a command of ringway answers in the container that serves.
inside() {
    runc exec --user "$user:$user" "$name-serve" "${entrypoint[@]}" "$@"
}

redis() { # port, words
    ip netns exec "$name" redis-cli -p "$1" "${@:2}"
}

[ "$(id -u)" = 0 ] || fail "to run as root" "user $(id -un)"
scripts/setup.sh
case "$(uname -m)" in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) fail "x86_64 or aarch64" "$(uname -m)" ;;
esac

program=${1:-}
if [ -z "$program" ]; then
    step the static program
    scripts/package.sh --static
    program=target/packages/ringway-static
    size=$(stat -c %s "$program")
    [ "$size" -lt 25000000 ] || fail "less than 25 MB" "$size bytes"
fi
! readelf --dynamic "$program" | grep NEEDED || fail "a static program" "it needs the above"

step the image
make_image "$program"
du -sh --apparent-size "$work/bundle/rootfs" | cut -f1
if [ -e /usr/bin/podman ]; then load_image; else echo "left out: podman, which is not installed"; fi
runc spec --bundle "$work/bundle"
mv "$work/bundle/config.json" "$work/spec.json"
ip netns add "$name"
ip -n "$name" link set lo up

step "the demo, with Docker's default profile"
bundle "$stock" "${entrypoint[@]}" demo --for 6s
runc run --bundle "$work/bundle" "$name-demo" </dev/null >"$work/demo" 2>&1 ||
    fail "the demo to pass" "$(cat "$work/demo")"
grep -q ' 0 wrong$' "$work/demo" || fail "no wrong byte" "$(cat "$work/demo")"
grep -A2 '^fail-over' "$work/demo"

step a Redis, and random bytes
ip netns exec "$name" redis-server --port 7001 --bind 127.0.0.1 --save '' --dir "$work" --daemonize no \
    >"$work/redis" 2>&1 &
started+=($!)
await "a Redis that answers" redis 7001 PING
head -c "$bytes" /dev/urandom >"$work/sent"

# serve PROFILE LINE: the image as it is, whose status must have that line.
serve() {
    step "the configuration of the image, with $1"
    bundle "$1" "${entrypoint[@]}" "${command[@]}"
    runc run --bundle "$work/bundle" "$name-serve" </dev/null >"$work/log" 2>&1 &
    local runc=$! status pid
    started+=("$runc")
    await "the health check of the image to succeed" \
        runc exec --user "$user:$user" "$name-serve" "${health[@]}"
    # What the kernel says of the process.
    pid=$(runc state "$name-serve" | jq .pid)
    for fact in "Uid:	$user	" "CapEff:	0000000000000000" "NoNewPrivs:	1" "Seccomp:	2"; do
        grep -q "^$fact" "/proc/$pid/status" || fail "$fact" "$(cat "/proc/$pid/status")"
    done
    grep -q '^[0-9]* [0-9]* [0-9:]* [^ ]* / ro' "/proc/$pid/mountinfo" ||
        fail "a root that is read-only" "$(cat "/proc/$pid/mountinfo")"

    status=$(inside ctl status)
    grep "^$2" <<<"$status" || fail "$2" "$status"
    [ "$(inside ctl --json status | jq '.workers | length')" = 1 ] ||
        fail "one worker, as the quota is one CPU" "$status"
    [ "$(redis 7000 PING)" = PONG ] || fail "PONG" "$(cat "$work/log")"
    [ "$(redis 7000 -x SET stream <"$work/sent")" = OK ] || fail "a stream to be taken" "$(cat "$work/log")"
    # With a line break at its end.
    redis 7000 --raw GET stream >"$work/answered"
    head -c "$bytes" "$work/answered" | cmp - "$work/sent" || fail "the bytes that were sent" ""
    status=$(inside ctl --json status)
    jq -e ".workers | map(.copied_bytes_total + .spliced_bytes_total) | add >= 2 * $bytes" <<<"$status" >/dev/null ||
        fail "that many bytes to have gone through ringway" "$status"

    inside doctor >"$work/doctor" || fail "doctor to find nothing that forbids to serve" "$(cat "$work/doctor")"
    ! grep FAIL "$work/doctor" || fail "no FAIL of doctor" "$(cat "$work/doctor")"

    runc kill "$name-serve" TERM
    wait "$runc" || fail "exit status 0" "$(cat "$work/log")"
}

serve "$stock" "epoll: io_uring cannot be used: a seccomp profile forbids it"
grep '^note  io_uring ' "$work/doctor" || fail "doctor to note it" "$(cat "$work/doctor")"
if [ "$(cat /proc/sys/kernel/io_uring_disabled)" = 0 ]; then
    serve "$docker/seccomp.json" "io_uring: "
else
    echo "left out: io_uring, which kernel.io_uring_disabled forbids on this host"
fi

step passed

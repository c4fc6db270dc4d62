#!/bin/sh
# Installs what tests and benchmarks use, on Debian and its relatives, as root. What is there is left alone.
#
#   scripts/setup.sh
#   scripts/setup.sh --targets     also what builds for musl and for aarch64, and runs that
#
# The services of these packages are neither started nor used: tests start instances of their own, on ports of their
# own, and end them.
set -eu

missing=
need() { # package, then what it brings: a program, or a file
    for what in "$2" "/usr/sbin/$2" "/usr/lib/postgresql"/*/bin/"$2"; do
        if command -v "$what" >/dev/null 2>&1 || { [ "${what#/}" != "$what" ] && [ -e "$what" ]; }; then
            return 0
        fi
    done
    missing="$missing $1"
}

need gcc cc
need libc6-dev /usr/include/stdio.h
need redis-server redis-server
need redis-tools redis-benchmark
need etcd-server etcd
need etcd-client etcdctl
need patroni patroni
need postgresql initdb
need postgresql-contrib pgbench
need mariadb-server mariadbd
need gunicorn gunicorn
need openssl openssl
need haproxy haproxy
need nginx nginx
need libnginx-mod-stream /usr/lib/nginx/modules/ngx_stream_module.so
need iproute2 ip
need nftables nft
need procps ps
need strace strace
need chromium chromium
need chromium-driver chromedriver
need prometheus prometheus
need keepalived keepalived
need bird2 bird
need systemd systemd-analyze
need runc runc
need jq jq
need curl curl
need python3 python3
need python3-yaml /usr/lib/python3/dist-packages/yaml/__init__.py
need python3-kubernetes /usr/lib/python3/dist-packages/kubernetes/__init__.py
need shellcheck shellcheck
need golang-go go
need golang-github-masterminds-sprig-dev /usr/share/gocode/src/github.com/Masterminds/sprig
need golang-github-ghodss-yaml-dev /usr/share/gocode/src/github.com/ghodss/yaml
need python3-jsonschema /usr/lib/python3/dist-packages/jsonschema
if [ "${1:-}" = --targets ]; then
    need musl-tools musl-gcc
    need gcc-aarch64-linux-gnu aarch64-linux-gnu-gcc
    need libc6-dev-arm64-cross /usr/aarch64-linux-gnu/include/stdio.h
    need qemu-user qemu-aarch64
fi

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "setup.sh: these are missing, and tests that need them will fail:$missing" >&2
    echo "setup.sh: run it as root on Debian, or install them yourself" >&2
    exit 0
fi

# No service starts while packages are installed; whatever stood there before comes back.
policy=/usr/sbin/policy-rc.d
kept=
if [ -e "$policy" ]; then
    kept=$(mktemp)
    cp -p "$policy" "$kept"
fi
restore() {
    if [ -n "$kept" ]; then mv "$kept" "$policy"; else rm -f "$policy"; fi
}
trap restore EXIT
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"
# And no database cluster is made.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] ||
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf

export DEBIAN_FRONTEND=noninteractive
apt-get update -q </dev/null
# The list is words.
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing </dev/null

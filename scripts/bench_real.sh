#!/bin/bash
# redis-benchmark and pgbench, direct and through HAProxy, nginx and ringway: what a user of real tools sees.
#
#   scripts/bench_real.sh [--ringway PATH] [--rounds 3] [--requests 200000] [--seconds 3] [--only redis|pg] [--out FOLDER]
#
# The proxies run on CPU 0, servers and clients on CPU 1. A cell is the median of requests per second, then thousands
# of requests per CPU second of the proxy. Private instances on ports of their own in a network and process namespace
# that ends with this script. Needs root, redis, postgresql, haproxy, nginx, libnginx-mod-stream.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${RINGWAY_BENCH_INSIDE:-}" ]; then
    RINGWAY_BENCH_INSIDE=1 exec unshare --net --pid --fork --kill-child --mount-proc "$0" "$@"
fi

target="${CARGO_TARGET_DIR:-target}"
ringway="$target/release/ringway" rounds=3 requests=200000 seconds=3 only='' out=''
while [ $# -gt 0 ]; do
    case "$1" in
        --ringway) ringway=$2 ;;
        --rounds) rounds=$2 ;;
        --requests) requests=$2 ;;
        --seconds) seconds=$2 ;;
        --only) only=$2 ;;
        --out) out=$2 ;;
        *) echo "$1: not an option of this script" >&2; exit 2 ;;
    esac
    shift 2
done

ip link set lo up
echo reno >/proc/sys/net/ipv4/tcp_congestion_control
echo "1024 65535" >/proc/sys/net/ipv4/ip_local_port_range
ulimit -n "$(ulimit -Hn)"
work=$(mktemp -d)
chmod 755 "$work"
# Whatever else runs on the machine disturbs less; with autogroups, priority counts only within a session.
priority() {
    renice -n "$1" -p $$ >/dev/null
    [ ! -w /proc/self/autogroup ] || echo "$1" >/proc/self/autogroup
}
trap 'priority 0; rm -rf "$work"' EXIT
priority -20
pg_bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | tail -n 1)
redis_port=6390 pg_port=5440
declare -A redis_at=([direct]=$redis_port) pg_at=([direct]=$pg_port) pid_of=()
names=(direct haproxy nginx)

# --- the servers, on CPU 1 ---------------------------------------------------------------------------------------
if [ "$only" != pg ]; then
    taskset -c 1 redis-server --port $redis_port --bind 127.0.0.1 --save '' --appendonly no --dir "$work" \
        >"$work/redis.log" 2>&1 &
fi
if [ "$only" != redis ]; then
    mkdir "$work/pg"
    chown postgres "$work/pg"
    as_postgres=(setpriv --reuid postgres --regid postgres --clear-groups)
    "${as_postgres[@]}" "$pg_bin/initdb" -D "$work/pg" -A trust -U postgres >"$work/initdb.log"
    taskset -c 1 "${as_postgres[@]}" "$pg_bin/postgres" -D "$work/pg" -p $pg_port -k "$work/pg" -h 127.0.0.1 \
        -c fsync=off -c max_connections=200 >"$work/pg.log" 2>&1 &
fi

# --- the proxies, on CPU 0 ---------------------------------------------------------------------------------------
cat >"$work/haproxy.cfg" <<END
global
  nbthread 1
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen redis
  bind 127.0.0.1:7101
  server a 127.0.0.1:$redis_port
listen pg
  bind 127.0.0.1:7201
  server a 127.0.0.1:$pg_port
END
cat >"$work/nginx.conf" <<END
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
user root;
worker_processes 1;
pid $work/nginx.pid;
error_log $work/nginx.log error;
events { worker_connections 8192; }
stream {
  server { listen 127.0.0.1:7102; proxy_pass 127.0.0.1:$redis_port; proxy_timeout 1h; }
  server { listen 127.0.0.1:7202; proxy_pass 127.0.0.1:$pg_port; proxy_timeout 1h; }
}
END
{
    printf '[process]\nworkers = 1\n[log]\nlevel = "warn"\n'
    for pair in "redis 7103 $redis_port" "pg 7203 $pg_port"; do
        read -r name listen backend <<<"$pair"
        printf '[listeners.%s]\nbind = "127.0.0.1:%s"\npool = "%s"\n' "$name" "$listen" "$name"
        printf '[pools.%s.check]\ntype = "off"\n[[pools.%s.backends]]\naddress = "127.0.0.1:%s"\n' \
            "$name" "$name" "$backend"
    done
} >"$work/ringway.toml"

taskset -c 0 haproxy -db -f "$work/haproxy.cfg" >"$work/haproxy.log" 2>&1 &
pid_of[haproxy]=$! redis_at[haproxy]=7101 pg_at[haproxy]=7201
taskset -c 0 nginx -c "$work/nginx.conf" -p "$work" -e "$work/nginx.log" >/dev/null 2>&1 &
pid_of[nginx]=$! redis_at[nginx]=7102 pg_at[nginx]=7202
if [ -x "$ringway" ]; then
    taskset -c 0 "$ringway" run -c "$work/ringway.toml" >"$work/ringway.log" 2>&1 &
    pid_of[ringway]=$! redis_at[ringway]=7103 pg_at[ringway]=7203
    names+=(ringway)
else
    echo "$ringway is not there: without ringway" >&2
fi

answers() { # port
    for _ in $(seq 100); do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.05
    done
    echo "nothing answers on port $1" >&2
    tail -n 3 "$work"/*.log >&2
    exit 1
}
[ "$only" = pg ] || answers $redis_port
[ "$only" = redis ] || answers $pg_port
for name in "${names[@]:1}"; do answers "${redis_at[$name]}"; done
if [ "$only" != redis ]; then
    "$pg_bin/pgbench" -h 127.0.0.1 -p $pg_port -U postgres -i -s 10 -q postgres >"$work/pgbench.log" 2>&1
fi

# --- measuring ---------------------------------------------------------------------------------------------------
cpu_ticks() { # name: user and system time of its processes in ticks of 10 ms
    local pid=${pid_of[$1]:-}
    [ -n "$pid" ] || { echo 0; return; }
    # Two lists of words.
    # shellcheck disable=SC2046
    cat "/proc/$pid/stat" $(sed 's|\([0-9]\+\)|/proc/\1/stat|g' "/proc/$pid/task/$pid/children") |
        awk '{ sum += $14 + $15 } END { print sum }'
}

redis_rate() { # port, arguments of redis-benchmark
    local port=$1
    shift
    taskset -c 1 redis-benchmark -h 127.0.0.1 -p "$port" --csv "$@" 2>/dev/null | tr -d '"' |
        awk -F, '$2 + 0 > 0 { rate = $2 } END { print rate }'
}

pg_rate() { # port, arguments of pgbench
    local port=$1
    shift
    taskset -c 1 "$pg_bin/pgbench" -h 127.0.0.1 -p "$port" -U postgres -n -S -T "$seconds" "$@" postgres 2>/dev/null |
        awk '/^tps/ { print $3 }'
}

measure() { # title, redis|pg, arguments
    local title=$1 kind=$2 name before after start stop rate round port
    shift 2
    for round in $(seq "$rounds"); do
        for name in $(printf '%s\n' "${names[@]}" | shuf); do
            if [ "$kind" = redis ]; then port=${redis_at[$name]}; else port=${pg_at[$name]}; fi
            # Takes turns with other benchmarks on this machine.
            exec 9>"${TMPDIR:-/tmp}/ringway-bench.lock"
            flock 9
            before=$(cpu_ticks "$name") start=$(date +%s.%N)
            rate=$("${kind}_rate" "$port" "$@")
            after=$(cpu_ticks "$name") stop=$(date +%s.%N)
            exec 9>&-
            echo "$title,$name,$round,$rate,$before,$after,$start,$stop" >>"$work/raw.csv"
            echo "$round $title: $name $rate/s" >&2
        done
    done
}

if [ "$only" != pg ]; then
    measure "redis GET · 50 clients" redis -t get -c 50 -n "$requests"
    measure "redis SET · 50 clients" redis -t set -c 50 -n "$requests"
    measure "redis GET · 50 clients · 16 in a pipeline" redis -t get -c 50 -P 16 -n $((requests * 4))
    # In this order: the GETs read what the SETs before them wrote.
    measure "redis SET of 16 KiB · 50 clients" redis -t set -d 16384 -c 50 -n $((requests / 2))
    measure "redis GET of 16 KiB · 50 clients" redis -t get -d 16384 -c 50 -n $((requests / 2))
    measure "redis PING · a connection each" redis -t ping_mbulk -k 0 -c 50 -n $((requests / 4))
fi
if [ "$only" != redis ]; then
    measure "pgbench -S · 16 clients" pg -c 16
    measure "pgbench -S prepared · 16 clients" pg -c 16 -M prepared
    measure "pgbench -S · a connection each" pg -c 8 -C
fi

summary() {
    awk -F, -v names="${names[*]}" '
        function median(list, n, i, j, t, v) {
            n = split(list, v, " ")
            for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (v[j] + 0 < v[i] + 0) { t = v[i]; v[i] = v[j]; v[j] = t }
            return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
        }
        { key = $1 SUBSEP $2; if (!($1 in seen)) { seen[$1] = 1; order[++count] = $1 }
          rates[key] = rates[key] " " $4
          if ($6 > $5) costs[key] = costs[key] " " $4 * ($8 - $7) / (($6 - $5) / 100) }
        END {
            many = split(names, column, " ")
            printf "| test |"; for (i = 1; i <= many; i++) printf " %s |", column[i]; printf "\n|---|"
            for (i = 1; i <= many; i++) printf "--:|"; printf "\n"
            for (line = 1; line <= count; line++) {
                printf "| %s |", order[line]
                for (i = 1; i <= many; i++) {
                    key = order[line] SUBSEP column[i]
                    printf " %.0f", median(rates[key])
                    if (costs[key] != "") printf " · %.1f k", median(costs[key]) / 1000
                    printf " |"
                }
                printf "\n"
            }
        }' "$work/raw.csv"
}

echo
summary
if [ -n "$out" ]; then
    mkdir -p "$out"
    { echo "test,subject,round,per_second,ticks_before,ticks_after,start,stop"; cat "$work/raw.csv"; } >"$out/real_raw.csv"
    {
        echo "# Real tools"
        echo
        redis-server --version | sed 's/^/- /'
        "$pg_bin/postgres" --version | sed 's/^/- /'
        haproxy -v | sed -n '1s/^/- /p'
        nginx -v 2>&1 | sed 's/^/- /'
        echo "- kernel $(uname -r), reno, $rounds rounds; proxies on CPU 0, servers and clients on CPU 1"
        echo
        echo "Requests per second · thousands of requests per CPU second of the proxy; medians."
        echo
        summary
    } >"$out/real.md"
fi

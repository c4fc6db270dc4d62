# shellcheck shell=bash
# A PostgreSQL primary, its replica, and what becomes of their clients.

: "${work:?a folder of its own}"
: "${config:?}"

# As the user that PostgreSQL runs as.
as_postgres() {
    setpriv --reuid postgres --regid postgres --init-groups -- env LC_ALL=C HOME=/tmp "$@"
}

sql() { # HOST STATEMENT
    as_postgres psql -h "10.0.0.${1#pg}" -U postgres -XAtqc "$2"
}

cluster() { # HOST
    start "$1" ip netns exec "$1" setpriv --reuid postgres --regid postgres --init-groups -- env LC_ALL=C \
        postgres -D "$work/$1" -h 0.0.0.0 -k '' -c fsync=off -c shared_buffers=16MB
    until_so 20 "PostgreSQL on $1 to accept" sql "$1" "select 1"
}

# The account of the checks as databases.md makes it, and what an application needs.
accounts() {
    local role
    role=$(line docs/databases.md '^create role ringway login password' |
        in_place_of "'...'" "'first-week'" "a password of one's own")
    sql pg1 "$role" >/dev/null
    sql pg1 "create role app login password 'app'" >/dev/null
    sql pg1 "create database app owner app" >/dev/null
    PGPASSWORD=app psql "host=10.0.0.1 dbname=app user=app" -Xqc \
        "create table written (id bigserial primary key, at timestamptz default now())"
    printf 'first-week\n' >/etc/ringway/pg.pass
    chmod 600 /etc/ringway/pg.pass
}

database_pair() {
    begin "a PostgreSQL primary and a replica"
    local folder recipe explain
    for folder in /usr/lib/postgresql/*/bin; do PATH="$PATH:$folder"; done
    install -d -o postgres -g postgres -m 700 "$work/pg1" "$work/pg2"
    as_postgres initdb -D "$work/pg1" -U postgres -A trust -N >"$work/log/initdb" 2>&1
    cat >"$work/pg1/pg_hba.conf" <<'HBA'
host all postgres 10.0.0.0/24 trust
host replication postgres 10.0.0.0/24 trust
host all all 10.0.0.0/24 scram-sha-256
HBA
    cluster pg1
    accounts
    as_postgres pg_basebackup -h 10.0.0.1 -U postgres -D "$work/pg2" -R -X stream -c fast --no-sync
    cluster pg2
    until_so 20 "the replica to stream" sh -c \
        "psql -h 10.0.0.1 -U postgres -XAtqc 'select state from pg_stat_replication' | grep -qx streaming"
    recipe=$(block docs/recipes.md "## PostgreSQL: a primary and its replicas" toml)
    replaced "[admin] of the second recipe" "[admin] of the first one" "the same, and a table stands once in a file"
    printf '%s\n' "$recipe" | awk '/^\[/ { skip = $0 == "[admin]" } !skip' >>"$config"
    configure || fail "\`ringway ctl reload --wait\` to succeed" "$(cat "$work/log/reload")"
    until_so 15 "pg1 to be the primary, pg2 a replica" pools_are pg1 pg2
    connection=$(line docs/recipes.md '^psql .*port=5432')
    same "in recovery, at port 5432" f "$(ask 5432 'select pg_is_in_recovery()')"
    same "in recovery, at port 5433" t "$(ask 5433 'select pg_is_in_recovery()')"
    explain=$(line docs/databases.md '^ringway explain ringway.toml --listener read')
    run "cd /etc/ringway && $explain" >"$work/log/explain" 2>&1 ||
        fail "\`ringway explain\` of databases.md to answer" "$(cat "$work/log/explain")"
    end "port 5432 writes to pg1, port 5433 reads from pg2"
}

# Which backend is up in each pool: pools_are PRIMARY REPLICA
pools_are() {
    ringway ctl backends >"$work/log/backends"
    grep -q "^primary/$1 .* up " "$work/log/backends" && grep -q "^replicas/$2 .* up " "$work/log/backends"
}

# What a client gets at a port, with the command that is printed.
ask() {
    run_at "$1" "-XAtqc \"$2\""
}

run_at() {
    local command=${connection/port=5432/port=$1}
    on client env PGUSER=app PGPASSWORD=app bash -c "${command%%#*} $2"
}

# Sessions one after the other until there is a file `over`; a line each: when it began, ended, and what came.
sessions() { # PORT STATEMENT
    local at came
    while [ ! -e "$work/over" ]; do
        at=$(now_ms)
        if came=$(ask "$1" "$2" 2>&1); then
            echo "$at $(now_ms) ok $came"
        else
            echo "$at $(now_ms) failed $(echo "$came" | tr '\n' ' ')"
        fi
    done
}

# The primary is killed, the replica is promoted, and each client's way through it.
fail_over() {
    local died late pause stayed number
    begin "a fail-over of PostgreSQL"
    for number in 1 2; do
        sessions 5432 "insert into written default values returning host(inet_server_addr())" \
            >"$work/log/writer$number" &
        sessions 5433 "select host(inet_server_addr())" >"$work/log/reader$number" &
    done
    { while [ ! -e "$work/over" ]; do echo "select 1;" && sleep 0.2; done; } |
        run_at 5433 "-XAtq -v ON_ERROR_STOP=1" >"$work/log/stays" 2>&1 &
    stayed=$!
    until_so 20 "clients that write and read" enough
    kill_primary
    died=$(now_ms)
    sleep 1
    as_postgres pg_ctl promote -D "$work/pg2" >"$work/log/promote"
    until_so 20 "writers to reach pg2" grep -q "ok 10.0.0.2" "$work/log/writer1" "$work/log/writer2"
    until_so 20 "pg2 to be the primary" sh -c 'ringway ctl backends primary | grep -q "^primary/pg2 .* up "'
    sleep 3
    touch "$work/over"
    kill -0 "$stayed" || fail "a session that reads to stay" "it ended: $(tail -n 2 "$work/log/stays")"
    wait "$stayed" || fail "a session that reads to stay" "it failed: $(tail -n 2 "$work/log/stays")"
    late=$(awk -v died="$died" '$3 == "failed" && $1 > died' "$work"/log/writer?)
    same "writers that came when it was dead and failed" "" "$late"
    same "readers that failed" "" "$(grep -h failed "$work"/log/reader? || true)"
    alerts_are "RingwayBackendDown primary pg1" "RingwayBackendDown replicas pg1" "RingwayPoolUsesAll replicas "
    pause=$(awk '$3 == "ok" && $4 == "10.0.0.2" { print $2 }' "$work"/log/writer? | sort -n | head -n 1)
    end "writers waited $((pause - died)) ms; $(counted writer), $(counted reader)"
}

counted() {
    awk -v kind="$1" '$3 == "ok" { good++ } $3 == "failed" { bad++ }
        END { printf "%d sessions of %ss and %d cut", good, kind, bad }' "$work/log/$1"?
}

# All of its processes, as when a host dies. Some may end before their turn comes.
kill_primary() {
    local child children
    children=$(ps -o pid= --ppid "$(cat "$work/run/pg1.pid")")
    stop pg1 KILL
    for child in $children; do kill -KILL "$child" 2>/dev/null || true; done
}

enough() {
    local file
    for file in "$work"/log/writer? "$work"/log/reader?; do [ "$(grep -c " ok " "$file")" -ge 10 ] || return 1; done
}

# shellcheck shell=bash
# The other recipes, each added to the configuration that runs.

: "${work:?a folder of its own}" "${config:?}"

# Adds the configuration of a recipe to the one that runs: add HEADING
add() {
    block docs/recipes.md "$1" toml >>"$config"
    configure || fail "\`ringway ctl reload --wait\` to take the recipe \"$1\"" "$(cat "$work/log/reload")"
}

# The only line that is up in a pool: is_primary POOL BACKEND
is_primary() {
    ringway ctl backends "$1" | tee "$work/log/backends"
    [ "$(awk '$3 == "up" { print $1 }' "$work/log/backends")" = "$1/$2" ]
}

nginx_with_tls() {
    local recipe="## nginx in front of an application" host folder
    begin "nginx in front of an application"
    mkdir -p /etc/nginx/tls
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=app -days 2 -keyout /etc/nginx/tls/app.key \
        -out /etc/nginx/tls/app.crt 2>"$work/log/openssl"
    for host in pg1 pg2; do
        folder=$work/nginx-$host
        mkdir "$folder"
        {
            echo "daemon off; pid $folder/pid; events {} http { access_log off;"
            block docs/recipes.md "$recipe" nginx
            echo "}"
        } >"$folder/nginx.conf"
        start "nginx-$host" ip netns exec "$host" nginx -p "$folder" -c "$folder/nginx.conf" -e stderr
        start "application-$host" ip netns exec "$host" \
            gunicorn --chdir "$work/app" --bind 127.0.0.1:8000 app:application
    done
    add "$recipe"
    until_so 15 "answers over TLS" on client python3 scripts/first_week/clients.py 10.0.0.100 443 4
    on client python3 scripts/first_week/clients.py 10.0.0.100 443 40 >"$work/log/tls" 2>&1 ||
        fail "40 requests to be served" "$(cat "$work/log/tls")"
    same "clients that the application sees" 10.0.0.7 "$(awk 'NF == 2 { print $1 }' "$work/log/tls" | sort -u)"
    same "applications that served" 2 "$(awk 'NF == 2 { print $2 }' "$work/log/tls" | sort -u | grep -c '')"
    end "40 requests over TLS; the application is told the client's own address"
}

redis_pair() {
    begin "Redis and its replica"
    local host promoted
    for host in pg1 pg2; do
        start "redis-$host" ip netns exec "$host" redis-server --port 6379 --save '' --requirepass redis-week \
            --masterauth redis-week --repl-diskless-sync-delay 0 --dir "$work/run"
    done
    export REDISCLI_AUTH=redis-week
    until_so 10 "r1 to answer" pong 10.0.0.1 6379
    until_so 10 "r2 to answer" pong 10.0.0.2 6379
    on pg2 redis-cli replicaof 10.0.0.1 6379 >"$work/log/replicaof"
    until_so 10 "r2 to follow r1" sh -c 'ip netns exec pg2 redis-cli info replication | grep -q link_status:up'
    printf 'redis-week\n' >/etc/ringway/redis.pass
    chmod 600 /etc/ringway/redis.pass
    add "## Redis"
    until_so 10 "r1 to be used" is_primary redis r1
    same "SET through ringway" OK "$(on client redis-cli -h 10.0.0.100 SET key value)"
    # It is acknowledged before it is replicated.
    same "replicas that have the key" 1 "$(on pg1 redis-cli WAIT 1 5000)"
    stop redis-pg1 KILL
    on pg2 redis-cli replicaof no one >"$work/log/replicaof"
    promoted=$(now_ms)
    same "GET from the new primary" value "$(on client redis-cli -h 10.0.0.100 GET key)"
    promoted=$(($(now_ms) - promoted))
    # What the recipe says, and a second for the check itself and a busy machine.
    [ "$promoted" -lt 4300 ] || fail "the new primary to be followed within 3.3 s" "$promoted ms"
    unset REDISCLI_AUTH
    end "killed and promoted: the next client had its answer after $promoted ms"
}

mariadb() { # HOST STATEMENT
    command mariadb --no-defaults -uroot -NB -S "$work/mariadb-$1/socket" -e "$2"
}

mariadb_pair() {
    begin "MariaDB, read_only and PROXY headers"
    local host account folder
    account=$(line docs/databases.md "^create user ringway@" |
        in_place_of "'...'" "'mysql-week'" "a password of one's own")
    for host in pg1 pg2; do
        folder=$work/mariadb-$host
        mkdir "$folder"
        TMPDIR=$folder mariadb-install-db --no-defaults --auth-root-authentication-method=normal --skip-test-db \
            --user=root --datadir="$folder/data" >"$work/log/mariadb-install" 2>&1
        start "mariadb-$host" env TMPDIR="$folder" ip netns exec "$host" mariadbd --no-defaults --user=root \
            --datadir="$folder/data" --socket="$folder/socket" --pid-file="$folder/pid" \
            --innodb-buffer-pool-size=8M --read-only=1 --proxy-protocol-networks=10.0.0.100
        until_so 20 "MariaDB on $host to accept" mariadb "$host" "select 1"
        mariadb "$host" "$account create user app@'10.0.0.7' identified by 'app'"
    done
    mariadb pg1 "set global read_only = 0"
    printf 'mysql-week\n' >/etc/ringway/mysql.pass
    chmod 600 /etc/ringway/mysql.pass
    add "## MySQL and MariaDB"
    until_so 10 "m1 to be used" is_primary mysql m1
    same "account of a client, by its own address" "app@10.0.0.7" "$(as_app "select user()")"
    stop mariadb-pg1 KILL
    mariadb pg2 "set global read_only = 0"
    same "account of a client, at the new primary" "app@10.0.0.7" "$(as_app "select user()")"
    end "the server sees the client's own address; killed and promoted: the next client is served"
}

as_app() {
    on client mariadb --no-defaults -h 10.0.0.100 -uapp -papp -NB -e "$1" 2>&1
}

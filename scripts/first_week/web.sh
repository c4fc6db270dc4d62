# shellcheck shell=bash
# The package, and gunicorn behind it.

: "${work:?a folder of its own}" "${repository:?}"

config=/etc/ringway/ringway.toml

# Installs the package, or its files where Cargo.toml has them, and starts what systemd would.
package() {
    begin "the package: installed and started"
    if [ -e "$work/ringway.deb" ]; then
        dpkg -i "$work/ringway.deb" >"$work/log/dpkg" 2>&1 || fail "dpkg -i to succeed" "$(cat "$work/log/dpkg")"
    else
        assets
    fi
    ringway check "$config" >"$work/log/check" 2>&1 ||
        fail "the installed configuration to be valid" "$(cat "$work/log/check")"
    install -m 755 scripts/first_week/systemctl /usr/local/bin/systemctl
    mkdir "$work/app" /run/ringway
    unit=/usr/lib/systemd/system/ringway.service
    # shellcheck disable=SC2046
    start ringway $(sed -n 's/^ExecStart=//p' "$unit")
    until_so 10 "$(word README.md "ringway ctl status"), pools, backends" ringway ctl status
    ringway ctl pools >"$work/log/pools"
    ringway ctl backends >"$work/log/backends"
    same "backends of the installed configuration" 2 "$(grep -c '^main/' "$work/log/backends")"
    redis-server --port 7001 --save '' >"$work/log/redis" 2>&1 &
    echo $! >"$work/run/redis.pid"
    until_so 10 "PONG from port 7000" sh -c 'redis-cli -p 7000 PING | grep -qx PONG'
    run "$(sed -n 's/^ExecReload=//p' "$unit")" >"$work/log/reload" 2>&1 ||
        fail "ExecReload to succeed" "$(cat "$work/log/reload")"
    end "$(ringway --version), ctl status, PONG from a Redis behind port 7000, reload"
}

# What cargo deb would put into the package.
assets() {
    local source to mode count=0 file
    while read -r source to mode; do
        case "$to" in */) file=/$to${source##*/} ;; *) file=/$to ;; esac
        [ -e "$source" ] || fail "$source, which Cargo.toml puts into the package" "no such file"
        install -D -m "$mode" "$source" "$file"
        count=$((count + 1))
    done < <(sed -n '/^assets = \[/,/^\]/s/^ *\["\([^"]*\)", "\([^"]*\)", "\([^"]*\)"\],*$/\1 \2 \3/p' Cargo.toml)
    [ "$count" -gt 10 ] || fail "the files of the package in Cargo.toml" "$count of them"
}

# What README.md says of a configuration, of its own first one, and without any.
first_steps() {
    begin "README: a first configuration"
    local why
    cd "$work/app" || exit 1
    block "$repository/README.md" "## A first configuration" toml >ringway.toml
    same "$(word "$repository/README.md" "ringway check ringway.toml")" ok "$(ringway check ringway.toml 2>&1)"
    why=$(run "$(word "$repository/README.md" "ringway explain ringway.toml --listener db --client 10.0.0.7")" 2>&1) ||
        fail "\`ringway explain\` to say which backend the client gets" "$why"
    grep -q '10\.0\.0\.[12]:5432' <<<"$why" || fail "the backend of the client" "$why"
    ringway doctor -c ringway.toml >"$work/log/doctor" 2>&1 || grep -q 10.0.0.1 "$work/log/doctor" ||
        fail "\`ringway doctor\` to look at the file" "$(cat "$work/log/doctor")"
    cd "$repository" || exit 1
    without_a_file
    end "check, explain, doctor; without a file a Redis dies and the next client has the other one"
}

# The command line as it is printed, with a Redis on each of the two hosts.
without_a_file() {
    local host
    for host in pg1 pg2; do
        start "redis-$host" ip netns exec "$host" redis-server --port 6379 --save '' --protected-mode no
    done
    # The command is words.
    # shellcheck disable=SC2046
    start plain $(word README.md "ringway run --listen 0.0.0.0:6379 --backend 10.0.0.1:6379 --backend 10.0.0.2:6379")
    for host in pg1 pg2; do
        until_so 10 "PONG from a Redis at 10.0.0.${host#pg}:6379" pong "10.0.0.${host#pg}" 6379
    done
    until_so 10 "PONG through ringway" pong 10.0.0.100 6379
    stop redis-pg1
    for _ in 1 2 3 4; do pong 10.0.0.100 6379 || fail "the other Redis to answer" "no PONG"; done
    stop plain
    stop redis-pg2
}

pong() {
    [ "$(ip netns exec client redis-cli -h "$1" -p "$2" PING)" = PONG ]
}

# Checks what is in the file, and has it served.
configure() {
    ringway check "$config" >"$work/log/check" 2>&1 || fail "\`ringway check\` to say ok" "$(cat "$work/log/check")"
    ringway ctl reload --wait >"$work/log/reload" 2>&1
}

application() {
    cat >"$work/app/app.py" <<'PYTHON'
import os
import time


def application(environ, start_response):
    """The client that asks, and the instance that answers."""
    time.sleep(0.02)
    start_response("200 OK", [("Content-Type", "text/plain")])
    client = environ.get("HTTP_X_FORWARDED_FOR", environ["REMOTE_ADDR"])
    return [f"{client} {os.getppid()}\n".encode()]
PYTHON
}

# Three instances on this host, as the recipe has them.
three_gunicorns() {
    local recipe="### Several instances on one host" number=0 command
    begin "three gunicorn instances"
    application
    block docs/recipes.md "$recipe" sh >"$work/commands"
    while read -r command; do
        number=$((number + 1))
        # The name of the application is printed as this one has it.
        service "app$number" "$command"
    done <"$work/commands"
    same "commands that are printed" 3 "$number"
    block docs/recipes.md "$recipe" toml >"$config"
    ! configure || fail "a changed [admin] to take a restart" "the reload was done"
    take_over
    until_so 15 "three backends that are up" three_are_up
    on client python3 scripts/first_week/clients.py 10.0.0.100 80 60 >"$work/log/web" 2>&1 ||
        fail "60 requests to be served" "$(cat "$work/log/web")"
    same "clients that the application sees" 10.0.0.7 "$(awk 'NF == 2 { print $1 }' "$work/log/web" | sort -u)"
    same "instances that served" 3 "$(awk 'NF == 2 { print $2 }' "$work/log/web" | sort -u | grep -c '')"
    end "60 requests, each of three instances served, and they see the client's own address"
}

three_are_up() {
    ringway ctl backends web | tee "$work/log/backends"
    [ "$(grep -c " up " "$work/log/backends")" = 3 ]
}

# `[admin]` changes by a restart, or by taking over.
take_over() {
    local before command
    before=$(cat "$work/run/ringway.pid")
    command=$(line docs/operating.md '^ringway run -c .* --take-over /run/ringway/admin.sock$')
    # The command is words.
    # shellcheck disable=SC2086
    start ringway $command
    if ! wait "$before"; then fail "the old process to end with 0" "another status"; fi
    until_so 10 "the new one to answer" ringway ctl status
}

# An instance that was restarted is another process.
six_served() {
    awk '{ print $2 }' "$work/log/load" | sort | uniq -c | tee "$work/log/instances"
    [ "$(grep -c '' "$work/log/instances")" = 6 ]
}

# The loop as it is printed, under load.
rolling_deploy() {
    local deploy stopped=0
    begin "a rolling deploy"
    deploy=$(block docs/recipes.md "## A rolling deploy" sh)
    # The command itself, as its status is waited for.
    ip netns exec client python3 scripts/first_week/clients.py 10.0.0.100 80 0 \
        >"$work/log/load" 2>"$work/log/load.sum" &
    echo $! >"$work/run/load.pid"
    until_so 10 "clients that are served" grep -q . "$work/log/load"
    run "$deploy" >"$work/log/deploy" 2>&1 || fail "the loop to end with 0" "$(cat "$work/log/deploy")"
    until_so 15 "each of three instances to serve before and after its restart" six_served
    kill "$(cat "$work/run/load.pid")"
    wait "$(cat "$work/run/load.pid")" || stopped=$?
    [ "$stopped" = 0 ] || fail "0 requests to fail" "$(cat "$work/log/load.sum")"
    same "backends that were drained and without sessions when they were restarted" 3 \
        "$(awk '$3 == "draining" && $6 == 0' "$work/log/restarts" | grep -c '')"
    end "$(cat "$work/log/load.sum"), each instance served before and after it was restarted"
}

# shellcheck shell=bash
# Hosts, their addresses, and what runs on them.

: "${work:?a folder of its own}"

# /etc, /usr, /var and /run as they are, and changes to them only here.
own_file_system() {
    begin "a file system and a network of its own"
    local folder deb=
    if [ -e "$work/ringway.deb" ]; then deb=$(mktemp) && cp "$work/ringway.deb" "$deb"; fi
    mount -t tmpfs tmpfs "$work"
    mkdir "$work/log" "$work/run"
    if [ -n "$deb" ]; then mv "$deb" "$work/ringway.deb"; fi
    for folder in etc usr var; do
        mkdir -p "$work/$folder/upper" "$work/$folder/work"
        mount -t overlay overlay \
            -o "lowerdir=/$folder,upperdir=$work/$folder/upper,workdir=$work/$folder/work" "/$folder"
    done
    mount -t tmpfs tmpfs /run
    chmod 755 "$work" /run
}

# This host is ringway's, 10.0.0.100; the others are those that the documents name, and one for clients.
own_network() {
    local host address
    ip link set lo up
    ip link add bridge0 type bridge
    ip address add 10.0.0.100/24 dev bridge0
    ip link set bridge0 up
    for host in pg1=10.0.0.1 pg2=10.0.0.2 client=10.0.0.7; do
        address=${host#*=} host=${host%=*}
        ip netns add "$host"
        ip link add "$host" type veth peer name eth0 netns "$host"
        ip link set "$host" master bridge0 up
        ip -n "$host" address add "$address/24" dev eth0
        ip -n "$host" link set eth0 up
        ip -n "$host" link set lo up
    done
    end "ringway 10.0.0.100, pg1 10.0.0.1, pg2 10.0.0.2, clients 10.0.0.7"
}

on() {
    local host=$1
    shift
    ip netns exec "$host" "$@"
}

# A server that runs until the end: start NAME COMMAND...
start() {
    local name=$1
    shift
    "$@" >>"$work/log/$name" 2>&1 &
    echo $! >"$work/run/$name.pid"
}

# Ends what was started, and waits for it: stop NAME [SIGNAL]
stop() {
    local pid
    pid=$(cat "$work/run/$1.pid")
    rm "$work/run/$1.pid"
    kill "-${2:-TERM}" "$pid"
    # Bash says on standard error that it was killed.
    wait "$pid" 2>/dev/null || true
}

# Ends what was started, each by its own id, and waits for it.
stop_all() {
    local file pid
    for file in "$work"/run/*.pid; do
        pid=$(cat "$file" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || true
    done
    for _ in $(seq 50); do
        [ -n "$(jobs -rp)" ] || return 0
        sleep 0.1
    done
}

# A service as systemd would start it. `systemctl restart NAME` ends it and starts it again.
service() {
    printf '%s\n' "$2" >"$work/run/$1.command"
    scripts/first_week/systemctl start "$1"
}

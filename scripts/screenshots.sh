#!/bin/bash
# Makes the pictures of docs/pictures again: the status page, `ringway top` and the demo.
#
#   scripts/screenshots.sh            five minutes of load, then the pictures
#   scripts/screenshots.sh 60         as many seconds of load
#   scripts/screenshots.sh 60 top     one of them: page, top or demo
#
# The servers run in a network of their own, so nothing outside is touched and no port must be free. That takes root on
# Linux, Chromium for the page (CHROMIUM names it), tmux for the terminal, and python3.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-300}
wanted=${2:-page top demo}
chromium=${CHROMIUM:-/usr/bin/chromium}

if [ -z "${RINGWAY_SCREENSHOTS:-}" ]; then
    cargo build --quiet --release --locked
    RINGWAY_SCREENSHOTS=$(mktemp -d /tmp/ringway-screenshots.XXXXXX)
    export RINGWAY_SCREENSHOTS RINGWAY_BINARY="${RINGWAY_BINARY:-target/release/ringway}"
    exec unshare --net --pid --fork --kill-child --mount --mount-proc "$0" "$seconds" "$wanted"
fi

work=$RINGWAY_SCREENSHOTS
trap 'rm -rf "$work"' EXIT
ringway=$(realpath "$RINGWAY_BINARY")
export TMUX_TMPDIR=$work

ip link set lo up
for address in 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.7 10.9.0.1 10.0.0.100; do ip address add "$address/32" dev lo; done
cat >"$work/ringway.toml" <<TOML
[admin]
socket = "$work/admin.sock"
listen = "127.0.0.1:9900"

[listeners.db]
bind = "10.0.0.100:5432"
pool = "db"
deny = ["10.9.0.0/16"]

[pools.db]
balance = "least_conn"
backends = [
  { name = "pg1", address = "10.0.0.1:5432" },
  { name = "pg2", address = "10.0.0.2:5432" },
  { name = "pg3", address = "10.0.0.3:5432" },
]
TOML

python3 scripts/screenshots/load.py "$seconds" &
sleep 1
"$ringway" run -c "$work/ringway.toml" 2>"$work/log" &
sleep "$seconds"

page() { # FILE WIDTH HEIGHT
    "$chromium" --headless=new --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" \
        --window-size="$2,$3" --virtual-time-budget=6000 --screenshot="$work/page.png" \
        http://127.0.0.1:9900/ >"$work/chromium" 2>&1
    python3 scripts/screenshots/shrink.py "$work/page.png" "docs/pictures/$1"
}

# What a program draws, as a picture: terminal FILE COLUMNS LINES SECONDS COMMAND
terminal() {
    tmux -L shots new-session -d -x "$2" -y "$3" "env TERM=tmux-256color COLORTERM=truecolor $5; sleep 60"
    sleep "$4"
    tmux -L shots capture-pane -e -p >"$work/screen"
    tmux -L shots kill-server
    python3 scripts/screenshots/draw.py "$2" <"$work/screen" >"docs/pictures/$1"
}

for picture in $wanted; do
    case $picture in
    page) page page.png 1180 1120 ;;
    top) terminal top.svg 120 20 4 "$ringway top --socket $work/admin.sock" ;;
    demo) terminal demo.svg 100 30 12 "$ringway demo" ;;
    *) echo "screenshots: there is no picture $picture; there is page, top and demo" >&2 && exit 2 ;;
    esac
done
ls -l docs/pictures

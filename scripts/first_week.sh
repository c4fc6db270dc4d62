#!/bin/bash
# A newcomer's first week in a few minutes, with real servers, by the documents alone.
#
#   scripts/first_week.sh
#
# Runs what README.md and docs/*.md print, as it is printed: the two commands of the README, the package, a first
# configuration, three gunicorn instances, a PostgreSQL primary with a replica, Prometheus with the shipped alerts, a
# rolling deploy, and a fail-over of the database. Where something printed cannot be taken as it is, a line says what
# stands in its place. It ends with 1 where a document does not hold, and says what was expected and what came.
#
# The servers run in a network, a process namespace and a file system of their own, with the addresses, ports and paths
# of the documents: nothing outside is touched, and everything has ended when this has. That takes root on Linux.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d /tmp/ringway-first-week.XXXXXX)
export work
# shellcheck source=scripts/first_week/common.sh
. scripts/first_week/common.sh

inside=
finish() {
    if [ -n "$inside" ]; then kill "$inside" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

[ "$(id -u)" = 0 ] || fail "to run as root" "user $(id -un)"
mkdir "$work/log"

begin "README: the demo"
demo=$(line README.md '^cargo run .* demo$')
run "$demo" >"$work/log/demo" 2>&1 || fail "\`$demo\` to succeed" "$(tail -n 5 "$work/log/demo")"
# A client in the middle of its first request when backend b dies could not be served.
for said in "^backends  *a " " 0 wrong$" " [0-9] could not be served$" "^fail-over  *.* were cut with backend b"; do
    grep -qE "$said" "$work/log/demo" || fail "the demo to say \"$said\"" "$(tail -n 12 "$work/log/demo")"
done
end "$(sed -n 's/^ *p50.*; //p' "$work/log/demo"); $(sed -n 's/^fail-over *//p' "$work/log/demo")"

begin "README: the tests"
tests=$(line README.md '^scripts/test.sh$')
replaced "$tests" "$tests --test cli" "the whole of it takes longer than all that follows"
run "$tests --test cli" >"$work/log/tests" 2>&1 || fail "\`$tests\` to succeed" "$(tail -n 20 "$work/log/tests")"
end "$(grep -o '[0-9]* passed' "$work/log/tests" | tail -n 1)"

begin "the package"
if cargo deb --version >/dev/null 2>&1; then
    cargo deb --quiet --profile release --no-build --no-strip --locked -o "$work/ringway.deb"
    end "$(basename "$work/ringway.deb"), made by cargo deb"
else
    cargo build --quiet --release --locked
    end "no cargo deb here: its files go to their places by Cargo.toml"
fi

unshare --mount --net --pid --fork --kill-child --mount-proc scripts/first_week/inside.sh &
inside=$!
wait "$inside"
inside=

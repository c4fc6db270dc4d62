#!/bin/bash
# Runs every test. Words are passed on: `scripts/test.sh --test cli`.
#
# As root on Debian it first installs the real servers that some tests use (scripts/setup.sh). Without them those tests
# fail and name the package, unless RINGWAY_TEST_WITHOUT_PROGRAMS is set.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
# Debian keeps the programs of PostgreSQL out of the way.
for folder in /usr/lib/postgresql/*/bin; do
    if [ -d "$folder" ]; then PATH="$PATH:$folder"; fi
done
export PATH="$PATH:/usr/sbin:/sbin"
# Thousands of sessions need descriptors; a lower hard limit makes tests smaller, not wrong.
ulimit -n "$(ulimit -Hn)" || true

exec cargo test --quiet "$@"

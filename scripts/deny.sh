#!/bin/bash
# Checks the crates in Cargo.lock: known faults, licences, where they come from, and what may not come with us
# (deny.toml). Needs no network but what cargo build needs: the advisories are in .ci/advisories.txt.
#
#   scripts/deny.sh                    the check
#   scripts/deny.sh --renew FOLDER     takes the advisories from FOLDER, a clone of rustsec/advisory-db on GitHub
#
# Of each advisory the file has what a machine reads, and the title: half a megabyte, 110 kB of the repository, and a
# renewal is a diff that shows what is new. All of them are in it, also those of crates that we do not use, so that a
# crate that comes tomorrow is checked. A copy that is older than 90 days is worth a warning.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=.ci/advisories.txt
days_max=90

renew() {
    local date folder new
    date=$(git -C "$1" log -1 --format=%cs)
    folder=$(mktemp -d)
    git -C "$1" archive HEAD crates | tar -x -C "$folder"
    new=$folder/new
    {
        echo "# Advisories of rustsec/advisory-db at $(git -C "$1" rev-parse HEAD), made by scripts/deny.sh --renew."
        echo "# In the public domain (CC0-1.0), but for those that name another licence, with its source as their url."
        echo "# Date: $date"
        # The block of TOML that an advisory begins with, and its title.
        cd "$folder"
        find crates -name '*.md' | LC_ALL=C sort | xargs awk '
            FNR == 1 { fences = 0; print "== " FILENAME }
            /^```/ { fences++; if (fences > 2) next; print; next }
            fences == 1 { print }
            fences == 2 && /^# / { print; fences = 3 }'
        cd - >/dev/null
    } >"$new"
    cat "$new" >"$copy"
    rm -rf "$folder"
    echo "$copy: $(grep -c '^== ' "$copy") advisories of $date"
}

# unpack FOLDER: as cargo deny wants to find them.
unpack() {
    rm -rf "$1"
    # The name has a hash of the address that cargo deny would fetch them from.
    local database=$1/advisory-db-3157b0e258782691
    mkdir -p "$database/.git"
    touch "$database/.git/FETCH_HEAD"
    sed -n 's|^== \(crates/[A-Za-z0-9_-]*\)/[A-Za-z0-9-]*\.md$|\1|p' "$copy" | sort -u | (cd "$database" && xargs mkdir -p)
    awk -v into="$database/" '
        /^== crates\/[A-Za-z0-9_-]+\/[A-Za-z0-9-]+\.md$/ { close(file); file = into $2; next }
        file { print >file }' "$copy"
    local there
    there=$(find "$database" -name '*.md' | wc -l)
    if [ "$there" -lt 1000 ] || [ "$there" != "$(grep -c '^== ' "$copy")" ]; then
        echo "deny.sh: $there advisories in $copy, which is too few" >&2
        exit 1
    fi
}

warn_if_old() {
    local date age
    date=$(sed -n 's/^# Date: //p' "$copy")
    age=$((($(date +%s) - $(date -d "$date" +%s)) / 86400))
    if [ "$age" -gt "$days_max" ]; then
        echo "warning: $copy is of $date, $age days old: renew it (scripts/deny.sh --renew)" >&2
    fi
}

case "${1:-}" in
    --renew)
        renew "${2:?a clone of rustsec/advisory-db}"
        exit
        ;;
    '') ;;
    *)
        echo "deny.sh: $1 is not an option of this script" >&2
        exit 2
        ;;
esac

version=0.20.2
PATH="$PWD/target/tools/bin:$PATH"
if [ "$(cargo deny --version 2>/dev/null)" != "cargo-deny $version" ]; then
    # Built in half the time: it runs for a second.
    CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --debug --locked --root target/tools --version "$version" cargo-deny
fi
cargo fetch --quiet --locked
work=$PWD/target/deny
unpack "$work/advisories"
# Of a clone of its own it would want the network.
sed 's|^\[advisories\]$|&\ndb-path = "'"$work/advisories"'"|' deny.toml >"$work/deny.toml"
cargo deny --offline --locked --config "$work/deny.toml" check --hide-inclusion-graph
warn_if_old

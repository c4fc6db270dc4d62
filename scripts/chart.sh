#!/bin/bash
# Holds the Helm chart against Kubernetes, against ringway and against the plain manifests.
#
#   scripts/chart.sh            with target/debug/ringway, or the program that RINGWAY names
#   scripts/chart.sh --write    writes packaging/kubernetes, which is what the chart renders
#
# Values of packaging/helm/values are rendered; what comes out must fit the published schemas of Kubernetes, and its
# configuration must pass `ringway check`. Those in refused/ must break values.schema.json, and those in failing/ must
# stop the templates, each with the message of its first line. It takes ten seconds.
#
# There need not be a helm: scripts/chart/render.go renders with the libraries that Helm has for it, of Debian's packages
# golang-go, golang-github-masterminds-sprig-dev and golang-github-ghodss-yaml-dev. python3-jsonschema has the schemas.
set -euo pipefail
cd "$(dirname "$0")/.."
chart=packaging/helm/ringway
values=packaging/helm/values
plain=packaging/kubernetes
ringway=${RINGWAY:-target/debug/ringway}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# shellcheck source=scripts/common/fail.sh
. scripts/common/fail.sh

check() {
    /usr/bin/python3 scripts/chart/check.py "$@"
}

# One file per document, named after its kind, without what only Helm has to say.
split() { # where to
    awk -v folder="$1" '/^---$/ { n++; next } { print > sprintf("%s/%02d", folder, n) }' "$work/plain"
    local part kind
    for part in "$1"/[0-9]*; do
        kind=$(sed -n 's/^kind: //p' "$part")
        {
            echo "# Rendered from packaging/helm/ringway: scripts/chart.sh --write"
            sed -e '/^# Source: /d' -e '/ helm.sh\/chart: /d' -e '/ app.kubernetes.io\/managed-by: /d' -e 's/ *$//' "$part"
        } >"$1/${kind,,}.yaml"
        rm "$part"
    done
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
facts=$(sed -n "s/^\(version\|appVersion\): //p" "$chart/Chart.yaml" | tr -d "\"\n")
[ "$facts" = "$version$version" ] || fail "the version $version of Cargo.toml twice in Chart.yaml" "$facts"

GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE="$work/go" GOFLAGS='' \
    go build -o "$work/render" scripts/chart/render.go

"$work/render" manifests "$chart" ringway "$values/plain.yaml" >"$work/plain"
mkdir "$work/kubernetes"
split "$work/kubernetes"
if [ "${1:-}" = --write ]; then
    rm -f "$plain"/*.yaml
    cp "$work/kubernetes"/*.yaml "$plain"
    exit
fi
diff -r "$work/kubernetes" "$plain" ||
    fail "$plain to be what the chart renders: scripts/chart.sh --write" "the above"

echo '{}' >"$work/defaults.yaml"
for file in "$work/defaults.yaml" "$values"/*.yaml; do
    name=$(basename "$file" .yaml)
    "$work/render" values "$chart" prod "$file" >"$work/$name.json"
    check values "$chart/values.schema.json" "$work/$name.json"
    "$work/render" manifests "$chart" prod "$file" >"$work/$name.yaml"
    check manifests "$work/$name.yaml" >"$work/$name.toml"
    "$ringway" check "$work/$name.toml" >"$work/said" 2>&1 || fail "ringway to take what $file gives" "$(cat "$work/said")"
    echo "$name: $(grep -c '^kind: ' "$work/$name.yaml") objects"
done

for file in "$values"/refused/*.yaml "$values"/failing/*.yaml; do
    said=$(sed -n '1s/^# //p' "$file")
    case "$file" in
    */refused/*)
        "$work/render" values "$chart" prod "$file" >"$work/wrong.json"
        ! check values "$chart/values.schema.json" "$work/wrong.json" >"$work/said" 2>&1 ||
            fail "the schema to refuse $file" "it fits"
        ;;
    *)
        "$work/render" values "$chart" prod "$file" >"$work/wrong.json"
        check values "$chart/values.schema.json" "$work/wrong.json"
        ! "$work/render" manifests "$chart" prod "$file" >"$work/said" 2>&1 || fail "$file to stop the templates" "it renders"
        ;;
    esac
    grep -q -F -e "$said" "$work/said" || fail "$file: $said" "$(cat "$work/said")"
    echo "$(basename "$file" .yaml): refused"
done
check compose packaging/docker/compose.yaml
echo passed

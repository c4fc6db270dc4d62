#!/bin/bash
# Makes the image that the last stage of packaging/docker/Dockerfile describes, without Docker: an archive for `docker
# load`, `podman load` and `ctr images import`.
#
#   scripts/container/image.sh PROGRAM MACHINE ARCHIVE
#
# PROGRAM is the static program, and MACHINE its architecture, as `uname -m` prints it. Times in the archive are
# SOURCE_DATE_EPOCH, or 0; the same program gives the same bytes.
set -euo pipefail
program=$(realpath "$1") machine=$2 archive=$(realpath -m "$3")
cd "$(dirname "$0")/../.."
docker=packaging/docker
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
epoch=${SOURCE_DATE_EPOCH:-0}

# The last line of that instruction, without its name.
instruction() {
    sed -n '/^FROM scratch/,$ s/^'"$1"' //p' "$docker/Dockerfile" | tail -1
}

case "$machine" in
x86_64) architecture=amd64 ;;
aarch64) architecture=arm64 ;;
*)
    echo "image.sh: $machine: x86_64 or aarch64" >&2
    exit 1
    ;;
esac

# pack FOLDER WORD...: a tar of it whose bytes follow from its files.
pack() {
    tar --create --directory "$1" --format ustar --sort name --numeric-owner --mtime "@$epoch" "${@:2}"
}

# What comes from the stage before is the program, and an empty folder that belongs to the user.
root=$work/root
user=$(instruction USER)
while read -r -a words; do
    from=${words[-2]} to=$root/${words[-1]}
    mkdir -p "$(dirname "$to")"
    case "$from" in
    /packages/ringway-static) install -m 755 "$program" "$to" ;;
    /packages/run) mkdir -p "$work/owned/${words[-1]}" ;;
    *) install -m 644 "$from" "$to" ;;
    esac
done < <(sed -n '/^FROM scratch/,$ s/^COPY //p' "$docker/Dockerfile")
chmod -R u=rwX,go=rX "$root" "$work/owned"
mkdir "$work/archive"
layer=$work/archive/layer.tar
pack "$root" --owner 0 --group 0 . >"$layer"
# The folders above it are there.
for folder in $(cd "$work/owned" && find . -mindepth 1 -type d -links 2); do
    tar --append --file "$layer" --directory "$work/owned" --format ustar --numeric-owner --mtime "@$epoch" \
        --owner "${user%:*}" --group "${user#*:}" "$folder"
done

# A health check counts in nanoseconds.
health=$(instruction HEALTHCHECK)
seconds() {
    sed -n 's/.*--'"$1"'=\([0-9]*\)s .*/\1/p' <<<"$health"
}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
jq --null-input --compact-output --sort-keys \
    --arg architecture "$architecture" --arg user "$user" --arg version "$version" \
    --arg created "$(date --utc --date "@$epoch" +%Y-%m-%dT%H:%M:%SZ)" \
    --arg layer "sha256:$(sha256sum "$layer" | cut -d' ' -f1)" --arg stop "$(instruction STOPSIGNAL)" \
    --argjson entrypoint "$(instruction ENTRYPOINT)" --argjson command "$(instruction CMD)" \
    --argjson health "${health#* CMD }" --argjson interval "$(seconds interval)" --argjson timeout "$(seconds timeout)" \
    '{
        architecture: $architecture, os: "linux", created: $created,
        config: {
            User: $user, Entrypoint: $entrypoint, Cmd: $command, StopSignal: $stop, WorkingDir: "/",
            Env: ["PATH=/usr/bin"],
            Healthcheck: {
                Test: (["CMD"] + $health), Interval: ($interval * 1000000000), Timeout: ($timeout * 1000000000)
            },
            Labels: {
                "org.opencontainers.image.title": "ringway",
                "org.opencontainers.image.version": $version,
                "org.opencontainers.image.licenses": "Apache-2.0"
            }
        },
        rootfs: {type: "layers", diff_ids: [$layer]},
        history: [{created: $created, created_by: "packaging/docker/Dockerfile"}]
    }' >"$work/archive/config.json"
jq --null-input --compact-output --arg tag "ringway:$version" \
    '[{Config: "config.json", RepoTags: [$tag], Layers: ["layer.tar"]}]' >"$work/archive/manifest.json"
pack "$work/archive" --owner 0 --group 0 config.json layer.tar manifest.json >"$archive"

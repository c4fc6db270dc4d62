#!/bin/bash
# Makes everything that is handed out, into dist/:
#
#   ringway_VERSION_ARCH.deb                   Debian and its relatives
#   ringway-VERSION-1.MACHINE.rpm              Fedora, Red Hat, SUSE and their relatives
#   ringway-VERSION-MACHINE-linux-musl.tar.gz  the program, its unit, examples and documents, for any Linux
#   ringway-VERSION-MACHINE-image.tar          a container image, for `docker load` and `podman load`
#   ringway-VERSION-helm.tgz                   the Helm chart
#   ringway-VERSION-compose.tar.gz             a Compose file with its configuration
#   SHA256SUMS                                 of all of them: sha256sum --check SHA256SUMS
#
#   scripts/release.sh [--target TRIPLE] [--program FILE]
#
# TRIPLE is that of this machine with musl if it is left out. All of it holds the same static program, which
# scripts/package.sh builds, unless one is given. The same commit gives the same bytes: scripts/reproducible.sh.
# What is there of another version is taken away, and another architecture stays. RINGWAY_DIST says where else to put it.
#
# As root or not. Debian's packages musl-tools, rpm and jq have the tools, and cargo-deb is installed into target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$(pwd -P)
dist=${RINGWAY_DIST:-$here/dist}
triple=$(uname -m)-unknown-linux-musl
program=
while [ $# -gt 0 ]; do
    case "$1" in
    --target) triple=$2 ;;
    --program) program=$(realpath "$2") ;;
    *)
        sed -n 's/^# \{0,1\}//; 2,/^$/p' "$0" >&2
        exit 2
        ;;
    esac
    shift 2
done
machine=${triple%%-*}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The times of everything that is packed.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
# Whatever the umask and the owner of the work tree are.
umask 022

step() {
    echo "== $* ($(date +%H:%M:%S))"
}

# packed NAME FOLDER: a .tar.gz of what is in a folder of $work.
packed() {
    (cd "$work/$2" && find . -mindepth 1 -printf '%P\n' | LC_ALL=C sort) |
        tar --create --directory "$work/$2" --format ustar --numeric-owner --owner 0 --group 0 --mode u=rwX,go=rX \
            --mtime "@$SOURCE_DATE_EPOCH" --no-recursion --files-from - | gzip --no-name --best >"$dist/$1"
}

# What is in the packages, as Cargo.toml lists it: source, where to, mode.
assets() {
    cargo metadata --format-version 1 --no-deps --locked |
        jq --raw-output '.packages[] | select(.name == "ringway") | .metadata.deb.assets[] | @tsv'
}

deb() {
    PATH="$here/target/tools/bin:$PATH"
    cargo deb --version >/dev/null 2>&1 ||
        cargo install --quiet --locked --root target/tools --version 3.8.0 --debug cargo-deb
    # It takes the program from where cargo would have built it.
    install -D -m 755 "$program" "$work/target/$triple/packaged/ringway"
    CARGO_TARGET_DIR="$work/target" cargo deb --quiet --no-build --no-strip --locked --profile packaged \
        --target "$triple" --output "$dist/"
}

rpm() {
    local from to mode root=$work/rpm/root
    while IFS=$'\t' read -r from to mode; do
        [ "${to%/}" = "$to" ] || to=$to${from##*/}
        [ "$from" != target/release/ringway ] || from=$program
        install -D -m "$mode" "$from" "$root/$to"
        case "$to" in
        etc/*) echo "%config(noreplace) /$to" ;;
        usr/share/doc/*) echo "%doc /$to" ;;
        *) echo "/$to" ;;
        esac
    done < <(assets) >"$work/rpm.list"
    install -D -m 644 LICENSE "$root/usr/share/licenses/ringway/LICENSE"
    {
        printf '%%%s\n' 'defattr(-,root,root,-)' 'dir /etc/ringway' 'dir /usr/share/doc/ringway' \
            'license /usr/share/licenses/ringway/LICENSE'
        sort -u "$work/rpm.list"
    } >"$work/rpm.files"
    # Nothing of this machine: neither its name nor its clock, and no program of its rpm changes what is packed.
    rpmbuild -bb --quiet --target "$machine-linux" packaging/rpm/ringway.spec \
        --define "version $version" --define "root $root" --define "listed $work/rpm.files" \
        --define "_topdir $work/rpm/top" --define "_dbpath $work/rpm/db" --define "_rpmdir $work/rpm/out" \
        --define '_buildhost localhost' --define 'use_source_date_epoch_as_buildtime 1' \
        --define 'clamp_mtime_to_source_date_epoch 1' --define '_build_id_links none' \
        --define '__os_install_post %{nil}' --define '_binary_payload w19.zstdio' >"$work/rpm.log" 2>&1 ||
        { cat "$work/rpm.log" >&2; return 1; }
    cp "$work/rpm/out/$machine"/*.rpm "$dist/"
}

tarball() {
    local name=ringway-$version-$machine-linux-musl
    mkdir -p "$work/tarball/$name"
    cp -R README.md LICENSE CHANGELOG.md SECURITY.md conf docs "$work/tarball/$name"
    mkdir "$work/tarball/$name/packaging"
    cp -R packaging/kubernetes packaging/keepalived packaging/bird "$work/tarball/$name/packaging"
    install -D -m 644 -t "$work/tarball/$name/packaging/docker" packaging/docker/seccomp.json
    install -m 755 "$program" "$work/tarball/$name/ringway"
    packed "$name.tar.gz" tarball
}

if [ -z "$program" ]; then
    step "the program, for $triple"
    RINGWAY_PACKAGES="$work/packages" scripts/package.sh --static --target "$triple"
    program=$work/packages/ringway-static
fi
! readelf --dynamic "$program" | grep NEEDED || { echo "release.sh: $program is not static" >&2; exit 1; }
mkdir -p "$dist"
find "$dist" -maxdepth 1 -type f -name 'ringway[-_]*' ! -name "ringway[-_]${version}[-_.]*" -delete
rm -f "$dist/SHA256SUMS"

step the Debian package
deb
step the RPM
rpm
step the tarball
tarball
step the image
scripts/container/image.sh "$program" "$machine" "$dist/ringway-$version-$machine-image.tar"
step the chart, and the Compose file
mkdir -p "$work/chart" "$work/compose/ringway-compose"
cp -R packaging/helm/ringway "$work/chart"
packed "ringway-$version-helm.tgz" chart
cp -R packaging/docker/compose.yaml packaging/docker/compose "$work/compose/ringway-compose"
packed "ringway-$version-compose.tar.gz" compose

(cd "$dist" && sha256sum -- * >SHA256SUMS)
ls -l "$dist"
step what is in them
scripts/release/check.sh "$dist" "$machine"

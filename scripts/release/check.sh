#!/bin/bash
# Looks into what scripts/release.sh has made: whatever can be installed is installed, below a folder that goes away
# afterwards, and its program runs if it is for this machine.
#
#   scripts/release/check.sh DIST MACHINE
set -euo pipefail
dist=$(realpath "$1") machine=$2
cd "$(dirname "$0")/../.."
here=$(pwd -P)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# shellcheck source=scripts/common/fail.sh
. scripts/common/fail.sh

# works PROGRAM CONFIGURATION...
works() {
    [ "$machine" = "$(uname -m)" ] || return 0
    local program=$1 said
    said=$("$program" --version)
    [[ "$said" = "ringway $version"* ]] || fail "ringway $version" "$said"
    shift
    for file in "$@"; do
        said=$("$program" check "$file" 2>&1) || fail "$program to take $file" "$said"
    done
}

# installed ROOT: what both packages bring.
installed() {
    for file in usr/bin/ringway etc/ringway/ringway.toml usr/lib/systemd/system/ringway.service \
        usr/share/doc/ringway/operating.md usr/share/doc/ringway/reference.toml; do
        [ -f "$1/$file" ] || fail "$file in the package" "$(find "$1" -type f)"
    done
    works "$1/usr/bin/ringway" "$1/etc/ringway/ringway.toml"
}

cd "$dist"
sha256sum --check --strict --quiet SHA256SUMS
[ "$(wc -l <SHA256SUMS)" = "$(find . -type f ! -name SHA256SUMS | wc -l)" ] || fail "a sum of each file" "$(cat SHA256SUMS)"

case "$machine" in
x86_64) architecture=amd64 ;;
aarch64) architecture=arm64 ;;
*) fail "x86_64 or aarch64" "$machine" ;;
esac
deb=ringway_${version}_$architecture.deb
[ "$(dpkg-deb --field "$deb" Architecture)" = "$architecture" ] || fail "a package for $machine" "$(dpkg-deb --field "$deb")"
[ "$(dpkg-deb --field "$deb" Version)" = "$version" ] || fail "$version" "$(dpkg-deb --field "$deb")"
mkdir -p "$work/deb" "$work/control"
dpkg-deb --extract "$deb" "$work/deb"
installed "$work/deb"
dpkg-deb --control "$deb" "$work/control"
grep -q -x /etc/ringway/ringway.toml "$work/control/conffiles" || fail "a conffile" "$(ls "$work/control")"
for script in postinst prerm postrm; do
    cmp "$work/control/$script" "$here/packaging/debian/$script"
done

rpm=ringway-$version-1.$machine.rpm
mkdir -p "$work/rpm"
# Debian's rpm would rather not. There is no shell in the folder for the scripts: tests/packages.rs runs them.
rpm --root "$work/rpm" --ignorearch --nodeps --noscripts --install "$rpm" 2>/dev/null
installed "$work/rpm"
rpm --root "$work/rpm" --verify --nodeps --nouser --nogroup ringway || fail "what was packed to be installed" ""
[ "$(rpm --root "$work/rpm" --query --configfiles ringway)" = /etc/ringway/ringway.toml ] || fail "a file that is kept" ""
echo '# changed' >>"$work/rpm/etc/ringway/ringway.toml"
rpm --root "$work/rpm" --noscripts --erase ringway 2>/dev/null
[ -f "$work/rpm/etc/ringway/ringway.toml.rpmsave" ] || fail "a changed configuration to be kept" "$(ls -R "$work/rpm/etc")"
[ ! -e "$work/rpm/usr/bin/ringway" ] || fail "the program to be gone" ""
# Both have the same files, besides where they put the license.
diff <(cd "$work/deb" && find . -type f | sed 's/^\.//' | grep -v /copyright | sort) \
    <(rpm --query --package --list "$rpm" 2>/dev/null | grep -v -x -e /etc/ringway -e /usr/share/doc/ringway -e '.*/LICENSE' |
        sort) || fail "the same files in both packages" "the above"

mkdir "$work/tar"
tar --extract --file "ringway-$version-$machine-linux-musl.tar.gz" --directory "$work/tar"
folder=$work/tar/ringway-$version-$machine-linux-musl
works "$folder/ringway" "$folder/conf/reference.toml" "$folder/conf/ringway.toml"
for file in LICENSE CHANGELOG.md conf/systemd/ringway.service packaging/kubernetes/deployment.yaml docs/operating.md; do
    [ -f "$folder/$file" ] || fail "$file in the tarball" "$(ls -R "$folder")"
done

image=ringway-$version-$machine-image.tar
[ "$(stat -c %s "$image")" -lt 25000000 ] || fail "an image of less than 25 MB" "$(ls -l "$image")"
mkdir "$work/image"
tar --extract --file "$image" --directory "$work/image"
tar --extract --file "$work/image/layer.tar" --directory "$work/image" ./usr/bin/ringway ./etc/ringway/ringway.toml
works "$work/image/usr/bin/ringway" "$work/image/etc/ringway/ringway.toml"
[ "$(jq --raw-output '"sha256:" + .rootfs.diff_ids[0][7:]' "$work/image/config.json")" = \
    "sha256:$(sha256sum "$work/image/layer.tar" | cut -d' ' -f1)" ] || fail "the sum of the layer" ""

mkdir "$work/chart" "$work/compose"
tar --extract --file "ringway-$version-helm.tgz" --directory "$work/chart"
diff -r "$work/chart/ringway" "$here/packaging/helm/ringway" || fail "the chart of this work tree" "the above"
tar --extract --file "ringway-$version-compose.tar.gz" --directory "$work/compose"
works "$work/image/usr/bin/ringway" "$work/compose/ringway-compose/compose/ringway.toml"
echo "each is whole, and has ringway $version for $machine"

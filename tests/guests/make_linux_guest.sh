#!/bin/sh
# Makes a Linux guest from Debian's own packages: OUT/vmlinuz and OUT/initrd.gz (busybox). Everything comes through apt; nothing is
# installed on the host. Usage: make_linux_guest.sh OUT [KERNEL-PACKAGE]
#
# The guest's init mounts what busybox needs and then runs a shell on the console. For scripts: `kiln.run=CMD` on the kernel's
# command line (blanks as %) runs CMD and powers off.
set -eu
out=$1
package=${2:-linux-image-amd64}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)

if [ ! -s "$out/vmlinuz" ]; then
    echo "Fetching Debian's kernel ($package) ..."
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    # The package without a version depends on the one that holds the kernel.
    versioned() { apt-cache depends "$package" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1; }
    image=$(versioned)
    if [ -z "$image" ] && [ "$(id -u)" = 0 ]; then  # no package lists yet
        apt-get update -q || true
        image=$(versioned)
    fi
    [ -n "$image" ] || { echo "make_linux_guest: apt does not know $package: run 'apt-get update' first" >&2; exit 1; }
    (cd "$work" && apt-get download -q -o APT::Sandbox::User=root "$image" >/dev/null)
    dpkg-deb -x "$work"/*.deb "$work/x"
    cp "$work"/x/boot/vmlinuz-* "$out/vmlinuz.new"
    mv "$out/vmlinuz.new" "$out/vmlinuz"
fi

if [ ! -s "$out/busybox" ]; then
    echo "Fetching Debian's busybox ..."
    work=${work:-$(mktemp -d)}
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    mkdir -p "$work/b"
    (cd "$work/b" && apt-get download -q -o APT::Sandbox::User=root busybox-static >/dev/null)
    dpkg-deb -x "$work"/b/*.deb "$work/b/x"
    find "$work/b/x" -name busybox -type f -exec cp {} "$out/busybox.new" \;
    mv "$out/busybox.new" "$out/busybox"
fi

root=$(mktemp -d)
trap 'rm -rf "$root" ${work:+"$work"}' EXIT
mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp"
cp "$out/busybox" "$root/bin/busybox"
chmod 755 "$root/bin/busybox"
cp "$here/init" "$root/init"
chmod 755 "$root/init"
# More programs for the guest's /bin, for the benchmark.
for program in ${KILN_GUEST_PROGRAMS:-}; do cp "$program" "$root/bin/"; done
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc --owner 0:0 | gzip -9n) >"$out/initrd.gz.new"
mv "$out/initrd.gz.new" "$out/initrd.gz"
echo "Guest ready: $out/vmlinuz, $out/initrd.gz"

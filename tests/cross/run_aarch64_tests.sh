#!/bin/sh
# Builds kiln for aarch64 and runs its tests under qemu-user on an x86-64 Debian:
#   unit tests; the same random instructions here and there, which must end alike bit by bit; every test of
#   `meson test` (refusals, a Linux boot when there is a guest); and boots by SeaBIOS: the demonstration floppy,
#   FreeDOS and MikeOS when their images are in build/guest or $KILN_GUESTS.
# Usage: tests/cross/run_aarch64_tests.sh [--install] [BUILD-DIRECTORY]    (build-aarch64, beside build)
# Debian's gcc-multilib and its cross compilers can't be installed together.
set -eu
cd "$(dirname "$0")/../.."
packages="g++-aarch64-linux-gnu qemu-user-static libzydis-dev:arm64 libfmt-dev:arm64 libpng-dev:arm64"
if [ "${1:-}" = --install ]; then
    shift
    dpkg --add-architecture arm64
    apt-get update -q
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
fi
build=${1:-build-aarch64}
for program in aarch64-linux-gnu-g++ qemu-aarch64-static; do
    command -v $program >/dev/null || { echo "No $program: run this once with --install, as root." >&2; exit 1; }
done

[ -f "$build/build.ninja" ] || meson setup "$build" --cross-file tests/cross/aarch64.ini -Dsdl=disabled
ninja -C "$build"
qemu-aarch64-static "$build/tests/kiln-tests"

# -- the same results on both processors
native=${KILN_NATIVE_BUILD:-build}
[ -f "$native/build.ninja" ] || meson setup "$native"
ninja -C "$native" tests/kiln-tests
here=$(mktemp) there=$(mktemp)
trap 'rm -f "$here" "$there"' EXIT
only="-tc=fuzz against the host*"
export KILN_FUZZ_DIGEST=1 KILN_FUZZ_ITERATIONS="${KILN_FUZZ_ITERATIONS:-300000}"
"$native/tests/kiln-tests" "$only" | grep '^digest' >"$here"
qemu-aarch64-static "$build/tests/kiln-tests" "$only" | grep '^digest' >"$there"
unset KILN_FUZZ_DIGEST KILN_FUZZ_ITERATIONS
if ! diff "$here" "$there"; then
    echo "FAILED: these mnemonics end differently on x86-64 (<) and aarch64 (>)."
    exit 1
fi
echo "$(wc -l <"$here") mnemonics and modes end alike on x86-64 and aarch64."

# -- whole machines
meson test -C "$build" --no-rebuild --print-errorlogs
KILN_TIME_FACTOR=20 tests/guests/run_guests.py --kiln "$build/tests/run-kiln" --guests "$build/tests/guests" \
    --guests build/guest --pictures "$build/guest-pictures" demo freedos mikeos

#!/usr/bin/env python3
"""Runs statically linked programs in a Linux guest: QEMU's tests/tcg, Linux's selftests/x86, or any others.

    run_linux_programs.py --emulator build/kiln --kernel vmlinuz --busybox busybox --compare DIR/*
    run_linux_programs.py --emulator build/kiln --kernel vmlinuz --busybox busybox --known FILE DIR/*

With --compare a program passes when it says in the guest what it says on this computer (run twice, to see that it says the same
each time); without, by its exit status: 0 passes, 4 skips. --busybox is a static busybox for the guest. See docs/test-suites.md.
"""
import argparse
import gzip
import os
import re
import subprocess
import sys
import tempfile
import time

from suite_report import KnownFailures, Report

SKIPPED = 4  # as Linux's selftests have it

INIT = r"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /etc
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs tmp /tmp
mkdir -p /dev/shm /dev/pts && mount -t tmpfs shm /dev/shm && mount -t devpts pts /dev/pts
stty -onlcr </dev/console
ifconfig lo 127.0.0.1 up
cd /tmp
for program in $(cat /programs/list); do
    echo "@@ begin $program"
    begin=$(cut -d' ' -f1 /proc/uptime)
    timeout -s KILL LIMIT /programs/$program >/tmp/out 2>/tmp/err </dev/null
    status=$?
    if [ -e /expected/$program ]; then
        if cmp -s /tmp/out /expected/$program; then
            verdict=same
        else
            verdict=differs
            diff /expected/$program /tmp/out | head -n LINES
        fi
    else
        verdict=-
        [ $status = 0 ] || tail -n LINES /tmp/out
    fi
    [ $status = 0 ] || tail -n LINES /tmp/err
    echo
    echo "@@ end $program $status $verdict $begin $(cut -d' ' -f1 /proc/uptime)"
    rm -rf /tmp/*
done
echo "@@ done"
poweroff -f
"""


def cpio(entries):
    """A newc archive of (name, mode, contents)."""
    out = bytearray()
    for number, (name, mode, contents) in enumerate(list(entries) + [("TRAILER!!!", 0, b"")], 1):
        fields = [number, mode, 0, 0, 1, 0, len(contents), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + contents
        out += bytes(-len(out) % 4)
    return bytes(out)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def native_output(path, limit):
    """What the program says here, and why that can't be compared."""
    outputs = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as directory:
            try:
                done = subprocess.run([os.path.abspath(path)], stdin=subprocess.DEVNULL, capture_output=True,
                                      timeout=limit, cwd=directory, check=False)
            except subprocess.TimeoutExpired:
                return b"", "takes too long on this computer"
        if done.returncode < 0:
            return b"", f"ends by signal {-done.returncode} on this computer"
        outputs.append(done.stdout)
    return outputs[0], "" if outputs[0] == outputs[1] else "says something else each time"


def make_initrd(path, args, programs, expected):
    init = INIT.replace("LIMIT", str(args.limit)).replace("LINES", str(args.lines))
    entries = [(name, 0o40755, b"") for name in ("bin", "programs", "expected", "dev")]
    entries += [("init", 0o100755, init.encode()), ("bin/busybox", 0o100755, read(args.busybox))]
    entries += [("programs/" + name, 0o100755, read(file)) for name, file in programs.items()]
    entries += [("expected/" + name, 0o100644, text) for name, text in expected.items()]
    entries += [("programs/list", 0o100644, "\n".join(programs).encode())]
    with gzip.open(path, "wb", compresslevel=3) as f:
        f.write(cpio(entries))


def boot(args, initrd, log):
    """Runs the guest; yields (program, status, verdict, seconds, what it said) as they come."""
    command = [args.emulator, "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-m", args.memory]
    command += ["-kernel", args.kernel, "-initrd", initrd]
    command += ["-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on " + args.append] + args.extra.split()
    if args.accel:
        command += ["-accel", args.accel]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = []
    with open(log, "wb") as out:
        for raw in process.stdout:
            out.write(raw)
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if line.startswith("@@ begin"):
                said = []
            match = re.match(r"@@ end (\S+) (\d+) (\S+) ([\d.]+) ([\d.]+)", line)
            if match:
                yield match[1], int(match[2]), match[3], float(match[5]) - float(match[4]), said
            else:
                said.append(line)
    process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emulator", required=True)
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--busybox", required=True)
    parser.add_argument("--accel", default="")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--known", default="", help="list of known failures")
    parser.add_argument("--limit", type=int, default=600, help="seconds of guest time for a program")
    parser.add_argument("--lines", type=int, default=12, help="lines to show of what went wrong")
    parser.add_argument("--memory", default="1024")
    parser.add_argument("--append", default="", help="further words for the kernel's command line")
    parser.add_argument("--extra", default="", help="further options for the emulator")
    parser.add_argument("--log", default="linux-programs.log", help="the guest's console")
    parser.add_argument("programs", nargs="+")
    args = parser.parse_args()
    report = Report(KnownFailures(args.known))
    programs, expected = {}, {}
    for path in args.programs:
        name = os.path.basename(path)
        if args.compare:
            text, why_not = native_output(path, args.limit)
            if why_not:
                report.add(name, "skip", 0, why_not)
                continue
            expected[name] = text
        programs[name] = path
    left = set(programs)
    with tempfile.TemporaryDirectory() as directory:
        initrd = os.path.join(directory, "initrd")
        make_initrd(initrd, args, programs, expected)
        begin = time.time()
        for name, status, verdict, seconds, said in boot(args, initrd, args.log):
            left.discard(name)
            good = verdict == "same" if args.compare else status == 0
            outcome = "pass" if good else "skip" if status == SKIPPED and not args.compare else "fail"
            report.add(name, outcome, seconds, "" if good else f"exit status {status}")
            if outcome == "fail":
                print("".join("    " + line + "\n" for line in said if line.strip()), end="", flush=True)
    for name in sorted(left):
        report.add(name, "fail", 0, "the guest didn't get that far")
    print(f"{time.time() - begin:.0f} s")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Boots Debian's kernel to busybox, runs a command there, and checks what came over the serial port.
Usage: test_linux_boot.py KILN DIRECTORY... (the first with vmlinuz and initrd.gz, from make_linux_guest.sh, counts)

Skipped (exit status 77) when there is no Linux guest."""
import os
import re
import subprocess
import sys

LIMIT = 600 * float(os.environ.get("KILN_TIME_FACTOR", "1"))  # seconds; a sanitizer build on a busy machine needs a good part of it

# What must be on the serial line, in this order.
EXPECTED = [
    ("the kernel's banner", r"Linux version \d+\.\d+"),
    ("the command line", r"Command line: console=ttyS0"),
    ("the processor", r"smpboot: CPU0: .*kiln"),
    ("the start of init", r"Run /init as init process"),
    ("init's greeting", r"^kiln guest: Linux \d\S+ x86_64, up [\d.]+ s"),
    ("the command's output", r"^Linux kiln \d.* x86_64 GNU/Linux"),
    ("floating point", r"^3\.14286$"),
    ("the command's exit status", r"^kiln guest: exit status 3"),
    ("the power-off", r"reboot: Power down"),
]
BAD = r"Kernel panic|BUG:|Oops|general protection|segfault|WARNING: CPU|invalid opcode|Call Trace"


def main():
    kiln, places = sys.argv[1], sys.argv[2:]
    for place in places:
        kernel, initrd = os.path.join(place, "vmlinuz"), os.path.join(place, "initrd.gz")
        if os.path.exists(kernel) and os.path.exists(initrd):
            break
    else:
        print("skipped: no Linux guest in %s; tests/guests/make_linux_guest.sh makes it" % " or ".join(places))
        return 77
    command = "uname%-a;awk%'BEGIN{print%22/7}';exit%3"
    run = [kiln, "-m", "256M", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-kernel", kernel,
           "-initrd", initrd, "-append", "console=ttyS0 kiln.run=" + command]
    try:
        done = subprocess.run(run, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT)
        output, problems = done.stdout, []
        if done.returncode:
            problems.append("kiln ended with status %d" % done.returncode)
    except subprocess.TimeoutExpired as e:
        output, problems = e.stdout or b"", ["no end within %d s" % LIMIT]
    log = output.decode("utf-8", "replace").replace("\r", "")
    at = 0
    for what, pattern in EXPECTED:
        found = re.compile(pattern, re.MULTILINE).search(log, at)
        if not found:
            problems.append("%s is missing (%s)" % (what, pattern))
            break
        at = found.end()
    bad = re.search(BAD, log)
    if bad:
        problems.append("the kernel complains: " + log[bad.start():bad.start() + 300])
    if problems:
        print(log)
    print("; ".join(problems) or "Linux booted, ran a command and switched off")
    return 1 if problems else 0


sys.exit(main())

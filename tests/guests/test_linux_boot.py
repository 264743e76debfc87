#!/usr/bin/env python3
"""Boots Debian's kernel to busybox, runs a command there, and checks what came over the serial port.
Usage: test_linux_boot.py [--smp N [--threads]] [--iommu] [--pci] [--accel ENGINE] KILN DIRECTORY... (the first with vmlinuz and initrd.gz,
from make_linux_guest.sh, counts). With several processors the command also loads all of them at once; with --iommu all interrupts
are remapped; with --pci there are functions behind a root port and a bridge, which the command looks at.

Skipped (exit status 77) when there is no Linux guest."""
import argparse
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
BAD = r"Kernel panic|BUG:|DRHD: handling fault status|Oops|general protection|segfault|WARNING: CPU|invalid opcode|Call Trace"


# What several processors must say in place of the command's output.
EXPECTED_SMP = [
    ("the start of all processors", r"smp: Brought up 1 node, {n} CPUs"),
    ("their number", r"^processors {n}$"),
    ("the sums of the parallel load", r"^sum [0-9a-f]{{32}} of {n}$"),
]


# What the remapping unit's driver must say, and before what.
EXPECTED_IOMMU = [
    ("the processor", ("interrupt remapping", r"DMAR-IR: Enabled IRQ remapping in x2apic mode")),
    ("the start of init", ("DMA remapping", r"DMAR: Intel\(R\) Virtualization Technology for Directed I/O")),
]

# Functions behind a root port and a bridge: firmware gave them addresses and Linux kept those, a 64-bit one above 4 GiB; their registers
# are there.
PCI = ["-device", "pcie-root-port,id=port,chassis=1,slot=1", "-device", "kiln-irqtest,bus=port,memory=8G",
       "-device", "pci-bridge,id=bridge", "-device", "kiln-irqtest,bus=bridge,addr=5"]
PCI_COMMAND = ("cd%/sys/bus/pci/devices;for%d%in%*;do%[%`cat%$d/device`%=%0x4954%]||continue;echo%1>$d/enable;"
               "set%--%`cat%$d/resource`;echo%test%$d%is%`devmem%$1`,%memory%at%${13};done;")
EXPECTED_PCI = [
    ("the function behind the port", r"^test 0000:01:00.0 is 0x4B495401, memory at 0x0000008000000000$"),
    ("the function behind the bridge", r"^test 0000:02:05.0 is 0x4B495401, memory at 0x00000082\d{8}$"),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--smp", type=int, default=1)
    parser.add_argument("--threads", action="store_true")
    parser.add_argument("--iommu", action="store_true")
    parser.add_argument("--pci", action="store_true")
    parser.add_argument("--accel", default="", help="interp or jit, otherwise what kiln takes by itself")
    parser.add_argument("kiln")
    parser.add_argument("places", nargs="+")
    a = parser.parse_args()
    kiln, places = a.kiln, a.places
    for place in places:
        kernel, initrd = os.path.join(place, "vmlinuz"), os.path.join(place, "initrd.gz")
        if os.path.exists(kernel) and os.path.exists(initrd):
            break
    else:
        print("skipped: no Linux guest in %s; tests/guests/make_linux_guest.sh makes it" % " or ".join(places))
        return 77
    command = "uname%-a;awk%'BEGIN{print%22/7}';exit%3"
    expected = list(EXPECTED)
    if a.smp > 1:
        # Every processor compresses and hashes the same bytes; all sums must be equal.
        command = ("echo%processors%`nproc`;"
                   "for%i%in%`seq%{0}`;do%(dd%if=/bin/busybox%bs=64k%count=8%2>/dev/null|gzip|gunzip|md5sum>/tmp/$i)&%done;wait;"
                   "echo%sum%`cat%/tmp/[0-9]*|sort|uniq|cut%-c1-32`%of%`cat%/tmp/[0-9]*|wc%-l`;exit%3").format(a.smp)
        smp = [(what, pattern.format(n=a.smp)) for what, pattern in EXPECTED_SMP]
        at = [what for what, _ in expected].index("the start of init")
        expected[at:at] = smp[:1]
        at = [what for what, _ in expected].index("the command's output")
        expected[at:at + 2] = smp[1:]
    if a.iommu:
        for before, more in EXPECTED_IOMMU:
            expected.insert([what for what, _ in expected].index(before), more)
    if a.pci:
        command = PCI_COMMAND + command
        at = [what for what, _ in expected].index("init's greeting") + 1
        expected[at:at] = EXPECTED_PCI
    run = [kiln, "-m", "256M", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-kernel", kernel,
           "-initrd", initrd, "-append", "console=ttyS0 intel_iommu=on kiln.run=" + command, "-smp", str(a.smp)]
    accel = [a.accel] * bool(a.accel) + ["thread=multi"] * a.threads
    if accel:
        run += ["-accel", ",".join(accel)]
    if a.iommu:
        run += ["-device", "intel-iommu"]
    if a.pci:
        run += PCI
    try:
        done = subprocess.run(run, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT)
        output, problems = done.stdout, []
        if done.returncode:
            problems.append("kiln ended with status %d" % done.returncode)
    except subprocess.TimeoutExpired as e:
        output, problems = e.stdout or b"", ["no end within %d s" % LIMIT]
    log = output.decode("utf-8", "replace").replace("\r", "")
    at = 0
    for what, pattern in expected:
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

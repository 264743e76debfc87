#!/usr/bin/env python3
"""Boots one CD image (Debian's kernel, busybox, an integer program) in kiln, Bochs and QEMU TCG, interleaved, and prints how long
each took from process start to the guest's shell and for each program, with the ratios to kiln.

Usage: bench/bench.py [--kiln build/kiln] [--base OLDER_KILN] [--rounds 3] [--only kiln,qemu,bochs] [--work DIR]

Needs, besides what building kiln needs: gcc libc6-dev grub-pc-bin grub-common xorriso mtools bochs bochs-term bochsbios vgabios
qemu-system-x86 (all in Debian 12); an emulator that is not installed is left out, and said to be.
"""
import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tty

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PROGRAMS = ["sieve", "sort", "crc32", "calls", "hash"]
EXPECTED = {"SIEVE": 148933, "SORT": 2989120932, "CRC32": 3673658080, "CALLS": 1346269, "HASH": 1238632}
PROMPT = "kiln guest: Linux"
LIMIT = 1800  # seconds for one run


def make_guest(work):
    """The CD image: GRUB, kernel, initramfs with the program."""
    program = os.path.join(work, "integer")
    defines = [f"-D{k}={v}u" for k, v in EXPECTED.items()]
    subprocess.run(["gcc", "-O2", "-static", *defines, os.path.join(HERE, "integer.c"), "-o", program], check=True)
    subprocess.run([os.path.join(ROOT, "tests/guests/make_linux_guest.sh"), work], check=True,
                   env={**os.environ, "KILN_GUEST_PROGRAMS": program})
    tree = os.path.join(work, "cd")
    os.makedirs(os.path.join(tree, "boot/grub"), exist_ok=True)
    for name in ("vmlinuz", "initrd.gz"):
        shutil.copy(os.path.join(work, name), os.path.join(tree, "boot", name))
    with open(os.path.join(tree, "boot/grub/grub.cfg"), "w") as f:
        f.write("set timeout=0\nmenuentry bench {\n"
                "  linux /boot/vmlinuz console=ttyS0 quiet kiln.run=integer\n  initrd /boot/initrd.gz\n}\n")
    image = os.path.join(work, "bench.iso")
    subprocess.run(["grub-mkrescue", "-o", image, tree], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return image


def bochs_config(work, image, serial):
    rc = os.path.join(work, "bochsrc")
    with open(rc, "w") as f:
        f.write(f"""display_library: term
sound: waveoutdrv=dummy
megs: 512
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
ata0-master: type=cdrom, path="{image}", status=inserted
boot: cdrom
com1: enabled=1, mode=term, dev={serial}
cpu: model=core2_penryn_t9600, count=1, ips=100000000, reset_on_triple_fault=0
clock: sync=none
log: {work}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
""")
    with open(rc + ".commands", "w") as f:
        f.write("continue\n")  # Debian's Bochs stops in its debugger first
    return rc


def monitor_path(work):
    return os.path.join(work, "kiln.monitor")


def instructions(work):
    """How many instructions kiln's guest has executed, from the monitor."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(monitor_path(work))
        s.sendall(b"info status\n")
        answer = ""
        while not (m := re.search(r"(\d+) instructions", answer)):
            answer += s.recv(4096).decode()
        return int(m[1])


class FileTail:
    """What has been added to a file since the last read."""
    def __init__(self, path):
        self.path, self.at = path, 0
        if os.path.exists(path):
            os.remove(path)

    def read(self):
        if not os.path.exists(self.path):
            return ""
        with open(self.path, errors="replace") as f:
            f.seek(self.at)
            text = f.read()
            self.at = f.tell()
        return text


class Terminal:
    """A pseudo-terminal: Bochs buffers what its serial port writes to a file, but not to a terminal."""
    def __init__(self):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self.slave)

    def read(self):
        try:
            return os.read(self.master, 65536).decode(errors="replace")
        except BlockingIOError:
            return ""


def start_kiln(args, work, image, program=None):
    tail = FileTail(os.path.join(work, "kiln.serial"))
    return [program or args.kiln, "-m", "512M", "-display", "none", "-monitor", "unix:" + monitor_path(work), "-cdrom", image,
            "-boot", "d", "-serial", "file:" + tail.path, "-no-reboot"], tail


def start_base(args, work, image):
    return start_kiln(args, work, image, args.base)


def start_bochs(args, work, image):
    terminal = Terminal()
    rc = bochs_config(work, image, terminal.path)
    # Its text display wants a terminal, too.
    return ["script", "-qfc", f"bochs -q -f {rc} -rc {rc}.commands", "/dev/null"], terminal


def start_qemu(args, work, image):
    tail = FileTail(os.path.join(work, "qemu.serial"))
    return ["qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-m", "512M", "-display", "none", "-monitor", "none",
            "-cdrom", image, "-boot", "d", "-serial", "file:" + tail.path, "-no-reboot"], tail


def emulators(args):
    """name -> what gives its command and the serial line to read, for those chosen and installed."""
    table = {"kiln": (args.kiln, start_kiln), "bochs": ("bochs", start_bochs), "qemu": ("qemu-system-x86_64", start_qemu),
             "base": (args.base, start_base)}
    present = {}
    for name in args.only.split(",") + (["base"] if args.base else []):
        program, start = table[name]
        if shutil.which(program):
            present[name] = start
        else:
            print(f"{name}: left out, {program} is not installed")
    return present


def run_once(command, serial, count):
    """Seconds from process start to the shell and for each program, read off the serial line. `count` tells the
    instructions executed so far, or is None; then `boot rate` and `integer rate` are in instructions a second."""
    result, begun, text = {}, {}, ""
    start = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True, env={**os.environ, "TERM": "xterm"})
    try:
        while time.monotonic() - start < LIMIT:
            ended = process.poll() is not None
            time.sleep(0.002)
            now = time.monotonic()
            text += serial.read()
            while "\n" in text:
                line, text = text.split("\n", 1)
                if PROMPT in line:
                    result["boot"] = now - start
                    if count:
                        result["boot rate"] = count() / (now - start)
                m = re.search(r"KILN-BENCH (\w+) (begin|end)(?: (\w+))?", line)
                if m and m[2] == "begin":
                    begun[m[1]] = now
                    if count and m[1] == PROGRAMS[0]:
                        first = now, count()
                elif m:
                    if m[3] != "ok":
                        raise RuntimeError(f"{m[1]} gave a wrong result")
                    result[m[1]] = now - begun[m[1]]
                    if count and m[1] == PROGRAMS[-1]:
                        result["integer rate"] = (count() - first[1]) / (now - first[0])
                    if m[1] == PROGRAMS[-1]:
                        return result
            if ended:
                raise RuntimeError(f"ended early, exit status {process.returncode}")
        raise RuntimeError("took too long")
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def geometric_mean(values):
    return statistics.geometric_mean(values) if values else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kiln", default=os.path.join(ROOT, "build/kiln"))
    parser.add_argument("--base", help="an earlier kiln, to see whether this one is slower")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="kiln,bochs,qemu")
    parser.add_argument("--work", default=None)
    args = parser.parse_args()
    work = os.path.abspath(args.work or tempfile.mkdtemp(prefix="kiln-bench-"))
    os.makedirs(work, exist_ok=True)
    image = make_guest(work)
    chosen = emulators(args)
    samples = {name: {} for name in chosen}
    for n in range(args.rounds):
        for name, start in chosen.items():  # interleaved: all see the same noise
            print(f"round {n + 1}/{args.rounds}: {name} ...", end=" ", flush=True)
            try:
                count = (lambda: instructions(work)) if name == "kiln" else None
                command, serial = start(args, work, image)
                for key, seconds in run_once(command, serial, count).items():
                    samples[name].setdefault(key, []).append(seconds)
                print(f"boot {samples[name]['boot'][-1]:.1f} s")
            except RuntimeError as e:
                print(f"failed: {e}")
    median = {n: {k: statistics.median(v) for k, v in s.items()} for n, s in samples.items()}
    for m in median.values():
        if all(p in m for p in PROGRAMS):
            m["integer"] = geometric_mean([m[p] for p in PROGRAMS])
    rows = ["boot", *PROGRAMS, "integer"]
    names = list(chosen)
    print("\nmedian seconds" + "".join(f"{n:>12}" for n in names) + "".join(f"{n + '/kiln':>14}" for n in names if n != "kiln"))
    for row in rows:
        line = f"{row:14}" + "".join(f"{median[n].get(row, float('nan')):12.3f}" for n in names)
        base = median.get("kiln", {}).get(row)
        for n in names:
            if n != "kiln":
                line += f"{median[n][row] / base:14.2f}" if base and row in median[n] else f"{'-':>14}"
        print(line)
    for key in ("boot rate", "integer rate"):
        if key in median.get("kiln", {}):
            print(f"kiln, {key}: {median['kiln'][key] / 1e6:.0f} million guest instructions a second")
    print("\nA ratio above 1 means kiln is that many times as fast. boot: process start to the guest's shell.")


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Runs test386.asm's ROM in place of a BIOS and compares what it computed with the project's reference.

    run_test386.py --emulator build/kiln --reference test386-EE-reference.txt test386.bin

The ROM is assembled with POST_PORT and OUT_PORT both 0xE9, everything else as it comes (ROM128 may be 1). Its diagnostic codes and its
text share the port, but not the time: text comes between codes 0xEE and 0xFF. See docs/test-suites.md.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

DONE, TEXT = 0xFF, 0xEE


def run(args, rom, log):
    """The bytes the ROM sent: until the last code, or until nothing more came for a while."""
    command = [args.emulator, "-bios", rom, "-display", "none", "-vga", "none", "-m", "16", "-nodefaults"]
    if args.accel:
        command += ["-accel", args.accel]
    if args.qemu:
        command += ["-chardev", f"file,id=log,path={log}", "-device", "isa-debugcon,iobase=0xe9,chardev=log"]
    else:
        command += ["-debugcon", f"file:{log}"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    sent, last_change = b"", time.time()
    try:
        while time.time() - last_change < args.patience and process.poll() is None:
            time.sleep(0.2)
            now = open(log, "rb").read() if os.path.exists(log) else b""
            if len(now) != len(sent):
                sent, last_change = now, time.time()
            if sent.endswith(bytes([DONE])):
                break
    finally:
        process.kill()
        process.wait()
    return sent


def defined(line):
    """A line of results without OF of rotations by a constant: undefined but for 1, and here it is 7."""
    line = line.rstrip()
    if not re.match(r"C[01] (ROL|ROR|RCL|RCR) ", line):
        return line
    return re.sub(r"PS=([0-9A-F]{4})", lambda m: f"PS={int(m[1], 16) & ~0x800:04X}", line)


def judge(sent, reference):
    """What is wrong, or ''."""
    codes, _, rest = sent.partition(bytes([TEXT]))
    if not sent.endswith(bytes([DONE])):
        last = sent[-1] if TEXT not in sent else TEXT
        return f"stopped at diagnostic code {last:02X}" if sent else "said nothing"
    if reference is None:
        return ""
    mine = rest[:-1].decode("latin-1").split("\n")
    theirs = reference.decode("latin-1").replace("\r", "").split("\n")
    for number, (a, b) in enumerate(zip(mine, theirs), 1):
        if defined(a) != defined(b):
            return f"line {number} differs:\n  wanted {b}\n  got    {a}"
    mine, theirs = (len([line for line in lines if line.strip()]) for lines in (mine, theirs))
    return "" if mine == theirs else f"{mine} lines of results, wanted {theirs}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emulator", required=True)
    parser.add_argument("--accel", default="")
    parser.add_argument("--qemu", action="store_true", help="the emulator is QEMU, which names devices otherwise")
    parser.add_argument("--reference", help="test386-EE-reference.txt")
    parser.add_argument("--patience", type=float, default=20, help="seconds without a sign of life")
    parser.add_argument("roms", nargs="+")
    args = parser.parse_args()
    reference = open(args.reference, "rb").read() if args.reference else None
    failures = 0
    for rom in args.roms:
        with tempfile.TemporaryDirectory() as directory:
            begin = time.time()
            wrong = judge(run(args, rom, os.path.join(directory, "log")), reference)
        print(f"{'fail' if wrong else 'pass'}  {rom}  {time.time() - begin:.1f}s  {wrong}".rstrip())
        failures += bool(wrong)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Kills kiln at random moments while its guest writes to the disk, and checks what is in the image: everything the guest had
flushed before it said so, no torn sector, and nothing that was never written.
Usage: test_kill.py KILN ROM [ROUNDS]    (ROM: kill_writer.asm)"""
import os
import random
import struct
import subprocess
import sys
import tempfile
import time

SECTORS, SLOTS, FIRST = 4, 256, 64
SIZE = (FIRST + SECTORS * SLOTS) * 512
SLOWNESS = float(os.environ.get("KILN_TIME_FACTOR", "1"))
NOTHING = 0xFFFFFFFF


def one_round(kiln, rom, directory, lines, pause):
    """Returns the last number the guest reported and the image's bytes after a kill behind `lines` reports."""
    path = os.path.join(directory, "disk.img")
    with open(path, "wb") as f:
        f.write(b"\xff" * SIZE)
    command = [kiln, "-display", "none", "-monitor", "none", "-vga", "none", "-bios", rom, "-m", "4M", "-serial", "stdio",
               "-drive", "file=%s,format=raw" % path]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    log = b""
    deadline = time.monotonic() + 60 * SLOWNESS
    while log.count(b"\n") < lines:
        more = os.read(process.stdout.fileno(), 4096)
        if not more or time.monotonic() > deadline:
            break
        log += more
    time.sleep(pause)
    process.kill()
    log += process.stdout.read()
    process.wait()
    if log.count(b"\n") < lines or b"!" in log:
        sys.exit("FAILED: the guest did not write: %r" % log[-200:])
    with open(path, "rb") as f:
        return int(log.split(b"\n")[-2], 16), f.read()


def problems(last, image):
    """What a disk that lost its power could not have done."""
    if len(image) != SIZE:
        yield "the image has %d bytes" % len(image)
        return
    for lba in range(FIRST):
        if image[lba * 512:(lba + 1) * 512] != b"\xff" * 512:
            yield "sector %d was never written, but has changed" % lba
    for slot in range(SLOTS):
        # The last reported number that belongs here; one more group may be on its way or done.
        flushed = last - (last - slot) % SLOTS if last >= slot else None
        for k in range(SECTORS):
            lba = FIRST + slot * SECTORS + k
            words = set(struct.unpack("<128I", image[lba * 512:(lba + 1) * 512]))
            if len(words) != 1:
                yield "sector %d is torn: %s" % (lba, sorted(words)[:4])
                continue
            value = words.pop()
            allowed = {flushed if flushed is not None else NOTHING}
            allowed |= {n for n in (last + 1, last + 2) if n % SLOTS == slot}
            if value not in allowed:
                yield "sector %d holds %#x instead of %s; %#x was reported" % (lba, value, [hex(v) for v in allowed], last)


def main():
    kiln, rom = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 12
    seed = int(os.environ.get("KILN_KILL_SEED", random.randrange(1 << 30)))
    chance = random.Random(seed)
    reported = 0
    with tempfile.TemporaryDirectory(prefix="kiln-kill-") as directory:
        for n in range(rounds):
            last, image = one_round(kiln, rom, directory, chance.randrange(1, 400), chance.random() * 0.01)
            reported += last + 1
            found = list(problems(last, image))
            if found:
                print("FAILED in round %d (KILN_KILL_SEED=%d):\n  " % (n, seed) + "\n  ".join(found[:20]))
                return 1
    print("%d kills: %d flushed groups were all there" % (rounds, reported))
    return 0


sys.exit(main())

#!/usr/bin/env python3
"""Boots real guests and checks what they show: slow, and not part of the default tests.

    tests/guests/run_guests.py --kiln build/kiln --guests build/guest [--pictures DIR] [--full] [NAME...]

Images are searched in $KILN_GUESTS and in the directories given with --guests; a guest that is not there is skipped and named.
--full lets the memory tester finish its pass (some minutes). Exit status: 0, 1 when a guest failed, 77 when all were skipped."""
import argparse
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guest_driver import Guest, GuestError  # noqa: E402
from png_picture import Picture  # noqa: E402


class Missing(Exception):
    pass


def expect(condition, what):
    if not condition:
        raise GuestError(what)


class Suite:
    def __init__(self, options):
        self.kiln = options.kiln
        self.full = options.full
        self.pictures = options.pictures or tempfile.mkdtemp(prefix="kiln-pictures-")
        os.makedirs(self.pictures, exist_ok=True)
        self.places = [p for p in [os.environ.get("KILN_GUESTS")] + options.guests if p]

    def image(self, *names):
        """The first of the images that exists; absolute names are where Debian's packages put theirs."""
        for name in names:
            for place in self.places if not name.startswith("/") else [""]:
                path = os.path.join(place, name)
                if os.path.exists(path):
                    return path
        raise Missing("no " + " or ".join(names))

    def debug_file(self):
        return os.path.join(self.pictures, "debug-port")

    def picture(self, guest, name):
        path = os.path.join(self.pictures, name + ".png")
        guest.screendump(path)
        return path

    # -- the guests

    def demo(self):
        with Guest(self.kiln, ["-fda", self.image("demo.img"), "-snapshot", "-debugcon", "file:" + self.debug_file()]) as g:
            g.wait_for("graphics", 60)
            g.wait_for("[1-9]..", 60, lambda: "%d" % Picture(self.picture(g, "demo")).colours(), "picture of 100 colours")
            with open(self.debug_file(), encoding="latin-1") as log:
                expect("kiln demonstration guest" in log.read(), "no banner on the debug port")
            g.keys("ret")
            g.wait_for("SeaBIOS|Booting", 60)
        return "rings, and back to the firmware"

    def freedos(self):
        with Guest(self.kiln, ["-fda", self.image("freedos13-floppy.img"), "-snapshot"]) as g:
            g.wait_for("Selection=1", 60)
            g.keys("ret")
            g.wait_for(r"want to proceed \[Y,N\]", 120)
            g.type("n\n")
            g.wait_for(r"A:\\>$", 30)
            g.type("ver\n")
            g.wait_for("FreeCom version", 30)
            g.type("dir /w\n")
            g.wait_for(r"bytes free\nA:\\>", 30)
            self.picture(g, "freedos")
        return "A:\\>, ver, dir"

    def mikeos(self):
        with Guest(self.kiln, ["-fda", self.image("mikeos.flp"), "-snapshot"]) as g:
            g.wait_for("Thanks for trying out MikeOS", 60)
            g.keys("ret")
            g.wait_for("FISHER.BIN", 30)
            self.picture(g, "mikeos")
        return "file list"

    def elks(self):
        with Guest(self.kiln, ["-fda", self.image("elks-fd1440.img"), "-snapshot"]) as g:
            g.wait_for("(login:|^#) *$", 120)
            g.type("uname -a\n")
            g.wait_for("ELKS .*8086", 30)
            self.picture(g, "elks")
        return "#, uname -a"

    def kolibri(self):
        with Guest(self.kiln, ["-fda", self.image("kolibri.img"), "-snapshot"]) as g:
            deadline = time.monotonic() + 180
            g.wait_for("graphics|Press", 60)
            while True:
                time.sleep(3)
                g.keys("ret")
                desktop = Picture(self.picture(g, "kolibri"))
                if desktop.width >= 800 and desktop.colours() > 1500:
                    break
                expect(time.monotonic() < deadline, "no desktop")
            time.sleep(15)  # the programs of the autostart
            before = Picture(self.picture(g, "kolibri"))
            x, y = before.width // 2, before.height // 2
            g.monitor("mouse_move 20 10")
            time.sleep(2)
            after = Picture(self.picture(g, "kolibri-mouse"))
            changes = [(a, b) for a, b in before.differences(after) if b < before.height - 30]
            expect(changes, "the pointer does not move")
            expect(all(x - 5 <= a <= x + 120 and y - 5 <= b <= y + 90 for a, b in changes),
                   "the pointer moves elsewhere: changes in %s..%s" % (min(changes), max(changes)))
        return "desktop, pointer moves"

    def memtest(self):
        image = self.image("/usr/lib/memtest86+/memtest86+x64.iso", "memtest86+x64.iso")
        with Guest(self.kiln, ["-cdrom", image, "-m", "32M"]) as g:
            g.wait_for(r"Memtest86\+ v", 60)
            screen = g.wait_for(r"Test #[4-9]|Pass: +1", 300)
            self.picture(g, "memtest")
            if self.full:
                screen = g.wait_for("Pass: +1", 1200)
                self.picture(g, "memtest")
            expect("Errors: 0" in screen, "memory errors:\n" + screen)
        return "a pass without errors" if self.full else "tests run without errors"

    def grub(self):
        with Guest(self.kiln, ["-cdrom", self.image("grub.iso")], serial=True) as g:
            g.wait_for("GNU GRUB", 60)
            self.picture(g, "grub")
            g.keys("ret")
            g.wait_for("kiln guest: Linux", 300)
            g.wait_for(r"/ # *$", 60)
            g.type('uname -a; echo "a_B|c" | tr a-z A-Z\n')
            g.wait_for("x\n?86_64 GNU/Linux", 30)
            g.wait_for(r"^A_B.C", 30)
            self.picture(g, "grub-linux")
            g.type("echo from the keyboard >/dev/ttyS0\n")
            g.wait_serial("from the keyboard", 30)
        return "menu, shell on tty1 and ttyS0"

    def disk(self):
        kernel, initrd, cd = self.image("vmlinuz"), self.image("initrd-disk.gz"), self.image("grub.iso")
        with tempfile.NamedTemporaryFile() as disk:
            disk.truncate(64 << 20)
            with Guest(self.kiln, ["-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 kiln.run=sh%/modules/check",
                                   "-hda", disk.name, "-cdrom", cd, "-no-shutdown"], serial=True) as g:
                log = g.wait_serial("kiln guest: exit status", 400)
            expect("exit status 0" in log, "the check failed:\n" + log[-1500:])
            expect("disk: 24 MiB read back equal" in log, "no disk:\n" + log[-1500:])
            with open(kernel, "rb") as f:
                import hashlib
                expect("cdrom: kernel " + hashlib.md5(f.read()).hexdigest() in log, "the CD-ROM's kernel differs")
            if os.path.exists("/sbin/e2fsck"):
                check = subprocess.run(["/sbin/e2fsck", "-fn", disk.name], capture_output=True, text=True)
                expect(check.returncode == 0, "the file system is damaged:\n" + check.stdout)
        return "ext2 and ISO 9660 by DMA"

    def framebuffer(self):
        kernel, initrd = self.image("vmlinuz"), self.image("initrd.gz")
        with Guest(self.kiln, ["-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 console=tty0 vga=791"],
                   serial=True) as g:
            g.wait_serial("fb0: VESA VGA frame buffer device", 300)
            g.wait_serial("Run /init", 120)
            time.sleep(8)
            shown = Picture(self.picture(g, "framebuffer"))
        expect((shown.width, shown.height) == (1024, 768), "the picture is %dx%d" % (shown.width, shown.height))
        expect(shown.colours() > 1, "nothing is on the screen")
        return "1024x768, 16 bits"

    def headless(self):
        kernel, initrd = self.image("vmlinuz"), self.image("initrd.gz")
        with Guest(self.kiln, ["-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 kiln.run=uname", "-vga", "none",
                               "-no-shutdown"], serial=True) as g:
            g.wait_serial("kiln guest: exit status 0", 300)
        return "no display adapter"

    NAMES = ["demo", "freedos", "mikeos", "elks", "kolibri", "memtest", "grub", "disk", "framebuffer", "headless"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kiln", required=True)
    parser.add_argument("--guests", action="append", default=[])
    parser.add_argument("--pictures")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(Suite.NAMES))
    options = parser.parse_args()
    unknown = set(options.names) - set(Suite.NAMES)
    if unknown:
        parser.error("there is no guest " + ", ".join(sorted(unknown)))
    suite = Suite(options)
    results = []
    for name in options.names or Suite.NAMES:
        start, problem = time.monotonic(), ""
        try:
            result, text = "ok", getattr(suite, name)()
        except Missing as e:
            result, text = "skipped", str(e)
        except GuestError as e:
            result, (text, _, problem) = "FAILED", str(e).partition("\n")
        results.append(result)
        print("%-12s %-8s %5.0f s  %s" % (name, result, time.monotonic() - start, text), flush=True)
        if problem:
            print("    " + problem.replace("\n", "\n    "), flush=True)
    print("pictures in " + suite.pictures)
    sys.exit(1 if "FAILED" in results else 77 if set(results) == {"skipped"} else 0)


main()

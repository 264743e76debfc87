#!/usr/bin/env python3
"""Boots real guests and checks what they show: slow, and not part of the default tests.

    tests/guests/run_guests.py --kiln build/kiln --guests build/guest [--pictures DIR] [--full] [--accel ENGINE] [NAME...]

Images are searched in $KILN_GUESTS and in the directories given with --guests; a guest that is not there is skipped and named.
--full lets the memory tester finish its pass (some minutes). Exit status: 0, 1 when a guest failed, 77 when all were skipped."""
import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guest_driver import SLOWNESS, Guest, GuestError  # noqa: E402
from guest_table import GUESTS  # noqa: E402
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
        self.accel = ["-accel", options.accel] if options.accel else []
        self.places = [p for p in [os.environ.get("KILN_GUESTS")] + options.guests if p]

    def guest(self, arguments, **kind):
        return Guest(self.kiln, self.accel + arguments, **kind)

    def image(self, name):
        for place in self.places:
            path = os.path.join(place, name)
            if os.path.exists(path):
                return path
        raise Missing("no " + name)

    def debug_file(self):
        return os.path.join(self.pictures, "debug-port")

    def picture(self, guest, name):
        path = os.path.join(self.pictures, name + ".png")
        guest.screendump(path)
        return path

    def walk(self, name):
        """Leads a guest of the table along its walks, and takes a picture at the end of each."""
        result, walks = GUESTS[name]
        for number, walk in enumerate(walks):
            arguments = [self.image(word[1:]) if word.startswith("@") else word for word in shlex.split(walk.arguments)]
            with self.guest(["-snapshot", *arguments], serial=True) as g:
                for step in walk.steps:
                    self.take(g, step)
                if "-vga none" in walk.arguments:
                    continue
                time.sleep(1)  # the rest of the picture
                self.picture(g, name if number == 0 else "%s-%d" % (name, number + 1))
        return result

    @staticmethod
    def take(guest, step):
        look = guest.serial if step.on_serial else guest.screen
        pause = 0.5 if isinstance(step.meanwhile, tuple) else 8  # a line needs its answer's time
        next_time = time.monotonic() + pause / 2

        def look_and_ask():
            nonlocal next_time
            now = look()
            if step.meanwhile and time.monotonic() > next_time and not re.search(step.pattern, now, re.MULTILINE):
                guest.answer(step.meanwhile)
                next_time = time.monotonic() + pause
            return now

        guest.wait_for(step.pattern, step.within, look_and_ask)
        guest.answer(step.then)

    # -- the guests that need more than a walk

    def demo(self):
        with self.guest(["-fda", self.image("demo.img"), "-snapshot", "-debugcon", "file:" + self.debug_file()]) as g:
            g.wait_for("graphics", 60)
            g.wait_for("[1-9]..", 60, lambda: "%d" % Picture(self.picture(g, "demo")).colours(), "picture of 100 colours")
            with open(self.debug_file(), encoding="latin-1") as log:
                expect("kiln demonstration guest" in log.read(), "no banner on the debug port")
            g.keys("ret")
            g.wait_for("SeaBIOS|Booting", 60)
        return "rings, and back to the firmware"

    def kolibri(self):
        with self.guest(["-fda", self.image("kolibri.img"), "-snapshot"]) as g:
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

    def memtest(self, cpu="x64"):
        with self.guest(["-cdrom", self.image("memtest86+%s.iso" % cpu), "-m", "32M"]) as g:
            g.wait_for(r"Memtest86\+ v", 60)
            screen = g.wait_for(r"Test #[4-9]|Pass: +1", 300)
            if self.full:
                screen = g.wait_for("Pass: +1", 1200)
            self.picture(g, "memtest-" + cpu)
            expect("Errors: 0" in screen, "memory errors:\n" + screen)
        return "a pass without errors" if self.full else "tests run without errors"

    def memtest_32(self):
        return self.memtest("ia32")

    def disk(self):
        kernel, initrd, cd = self.image("vmlinuz"), self.image("initrd-disk.gz"), self.image("grub.iso")
        with tempfile.NamedTemporaryFile() as disk:
            disk.truncate(64 << 20)
            with self.guest(["-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 kiln.run=sh%/modules/check",
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
        with self.guest(["-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 console=tty0 vga=791"],
                   serial=True) as g:
            g.wait_serial("fb0: VESA VGA frame buffer device", 300)
            g.wait_serial("Run /init", 120)
            time.sleep(8)
            shown = Picture(self.picture(g, "framebuffer"))
        expect((shown.width, shown.height) == (1024, 768), "the picture is %dx%d" % (shown.width, shown.height))
        expect(shown.colours() > 1, "nothing is on the screen")
        return "1024x768, 16 bits"

    def installer(self, kind, colours):
        """On a framebuffer: done when the picture below where a banner would be has as much on it as the first question."""
        kernel, initrd = self.image("installer-%s.linux" % kind), self.image("installer-%s.initrd" % kind)
        with self.guest(["-m", "1G", "-kernel", kernel, "-initrd", initrd, "-append", "vga=788"]) as g:
            deadline = time.monotonic() + 900 * SLOWNESS
            while True:
                time.sleep(10)
                shown = Picture(self.picture(g, "installer-" + kind))
                if shown.colours() > colours and shown.height >= 600 and self.busy(shown) > 5000:
                    return "first question on a framebuffer"
                expect(time.monotonic() < deadline, "no first question")

    @staticmethod
    def busy(picture):
        """How many pixels below the banner differ from the one at the left edge of their line."""
        return sum(1 for y in range(150, picture.height, 2) for x in range(0, picture.width, 2)
                   if picture.pixel(x, y) != picture.pixel(0, y))

    def installer_fb_amd64(self):
        return self.installer("amd64-text", 4)

    def installer_gtk_amd64(self):
        return self.installer("amd64-gtk", 500)

    def installer_gtk_i386(self):
        return self.installer("i386-gtk", 500)

    # The guests that need more than a walk, and then those of the table.
    NAMES = ["demo", "kolibri", "memtest", "memtest_32", "disk", "framebuffer", "installer_fb_amd64", "installer_gtk_amd64",
             "installer_gtk_i386", *GUESTS]

    def run(self, name):
        if name in GUESTS:
            return self.walk(name)
        return getattr(self, name)()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kiln", required=True)
    parser.add_argument("--guests", action="append", default=[])
    parser.add_argument("--pictures")
    parser.add_argument("--accel", default="", help="options of kiln's -accel")
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
            result, text = "ok", suite.run(name)
        except Missing as e:
            result, text = "skipped", str(e)
        except GuestError as e:
            result, (text, _, problem) = "FAILED", str(e).partition("\n")
        results.append(result)
        print("%-19s %-8s %5.0f s  %s" % (name, result, time.monotonic() - start, text), flush=True)
        if problem:
            print("    " + problem.replace("\n", "\n    "), flush=True)
    print("pictures in " + suite.pictures)
    sys.exit(1 if "FAILED" in results else 77 if set(results) == {"skipped"} else 0)


main()

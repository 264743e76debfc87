#!/usr/bin/env python3
"""Boots real guests and checks what they show: slow, and not part of the default tests.

    tests/guests/run_guests.py --kiln build/kiln --guests build/guest [--pictures DIR] [--full] [NAME...]

Images are searched in $KILN_GUESTS and in the directories given with --guests; a guest that is not there is skipped and named.
--full lets the memory tester finish its pass (some minutes). Exit status: 0, 1 when a guest failed, 77 when all were skipped."""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guest_driver import SLOWNESS, Guest, GuestError  # noqa: E402
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

    # -- out of Debian's packages (make_debian_guests.py)

    def linux(self, kernel, initrd, machine):
        arguments = ["-kernel", self.image(kernel), "-initrd", self.image(initrd), "-append", "console=ttyS0 kiln.run=uname%-m",
                     "-no-shutdown"]
        with Guest(self.kiln, arguments, serial=True) as g:
            log = g.wait_serial("kiln guest: exit status 0", 400)
        expect(re.search("^%s\r?$" % machine, log, re.MULTILINE), "uname -m does not say " + machine)
        return "busybox's shell"

    def linux_cloud(self):
        return self.linux("vmlinuz-cloud", "initrd-amd64.gz", "x86_64")

    def linux_686(self):
        return self.linux("vmlinuz-686", "initrd-i386.gz", "i686")

    def linux_686_pae(self):
        return self.linux("vmlinuz-686-pae", "initrd-i386.gz", "i686")

    def linux_32_on_64(self):
        return self.linux("vmlinuz-cloud", "initrd-i386.gz", "x86_64")

    def installer_text(self, cpu):
        """On the serial line: its screens are drawn there with a terminal's sequences."""
        kernel, initrd = self.image("installer-%s-text.linux" % cpu), self.image("installer-%s-text.initrd" % cpu)
        with Guest(self.kiln, ["-m", "1G", "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0"], serial=True) as g:
            g.wait_serial("Select a language", 600)
        return "language menu"

    def installer_gtk(self, cpu):
        """In X: done when the picture of the first question has its colours and stands still."""
        kernel, initrd = self.image("installer-%s-gtk.linux" % cpu), self.image("installer-%s-gtk.initrd" % cpu)
        with Guest(self.kiln, ["-m", "1G", "-kernel", kernel, "-initrd", initrd, "-append", "vga=788"]) as g:
            deadline = time.monotonic() + 900 * SLOWNESS
            while True:
                time.sleep(10)
                shown = Picture(self.picture(g, "installer-" + cpu))
                # The banner alone, on a plain ground, has less than a thousand colours' worth of pixels below it.
                if shown.colours() > 500 and shown.height >= 600 and self.busy(shown) > 5000:
                    return "first question in X"
                expect(time.monotonic() < deadline, "no first question")

    @staticmethod
    def busy(picture):
        """How many pixels below the banner differ from the one at the left edge of their line."""
        return sum(1 for y in range(150, picture.height, 2) for x in range(0, picture.width, 2)
                   if picture.pixel(x, y) != picture.pixel(0, y))

    def installer_amd64(self):
        return self.installer_text("amd64")

    def installer_i386(self):
        return self.installer_text("i386")

    def installer_gtk_amd64(self):
        return self.installer_gtk("amd64")

    def installer_gtk_i386(self):
        return self.installer_gtk("i386")

    def memtest_kernel(self):
        for name in ("memtest86+x64.bin", "memtest86+ia32.bin"):
            with Guest(self.kiln, ["-kernel", self.image(name), "-m", "32M"]) as g:
                g.wait_for("to start testing", 120)
                g.keys("ret")
                screen = g.wait_for(r"Test #[2-9]|Pass: +1", 300)
                self.picture(g, name.split(".")[0])
                expect("Errors: 0" in screen, "memory errors:\n" + screen)
        return "64 and 32 bits, no errors"

    def grub_rescue(self):
        for option, name in (("-cdrom", "grub-rescue-cdrom.iso"), ("-fda", "grub-rescue-floppy.img")):
            with Guest(self.kiln, [option, self.image(name), "-snapshot"]) as g:
                g.wait_for("GNU GRUB", 120)
                g.keys("c")
                g.wait_for("grub> *$", 60)
                g.type("lspci\n")
                g.wait_for("8086:29c0", 60)
                self.picture(g, name.split(".")[0])
        return "menu and command line of CD-ROM and floppy"

    def isolinux(self):
        image = self.image("isolinux.iso")
        with Guest(self.kiln, ["-cdrom", image]) as g:
            g.wait_for("Hardware detection", 120)
            g.keys("down", "ret")
            g.wait_for("Main Menu", 120)
            self.picture(g, "isolinux-hdt")
        with Guest(self.kiln, ["-cdrom", image]) as g:
            g.wait_for("FreeDOS in a memdisk", 120)
            g.keys("ret")
            g.wait_for("Selection=1", 120)
            self.picture(g, "isolinux-memdisk")
        return "menu, hdt, FreeDOS in a memdisk"

    def ipxe(self):
        for arguments in (["-cdrom", self.image("ipxe.iso")], ["-kernel", self.image("ipxe.lkrn")]):
            with Guest(self.kiln, arguments) as g:
                g.wait_for("iPXE initialising", 120)
                deadline = time.monotonic() + 60 * SLOWNESS
                while "iPXE>" not in g.screen():  # Ctrl-B within the two seconds in which it is asked for
                    g.keys("ctrl-b")
                    expect(time.monotonic() < deadline, "no prompt:\n" + g.screen())
                g.type("show version\n")
                g.wait_for("version:string|builtin/version", 30)
                self.picture(g, "ipxe")
        return "prompt, from CD-ROM and as a kernel"

    def uboot(self):
        for name in ("u-boot-qemu-x86.rom", "u-boot-qemu-x86_64.rom"):
            with Guest(self.kiln, ["-bios", self.image(name)], serial=True) as g:
                g.wait_serial(r"=> *$", 200)
        return "prompt, 32 and 64 bits"

    def multiboot(self, entry, *events):
        """Starts an entry of GRUB's menu on the CD-ROM; `events` are waited for on the serial line."""
        with Guest(self.kiln, ["-m", "1G", "-cdrom", self.image("multiboot.iso")], serial=True) as g:
            g.wait_for("GNU GRUB", 120)
            g.keys(*["down"] * entry, "ret")
            for event in events:
                g.wait_serial(event, 600)
            self.picture(g, "multiboot-%d" % entry)
            return g

    def xen(self):
        self.multiboot(0, "Xen version 4.17", "Building a PV Dom0", "kiln guest: Linux")
        return "hypervisor, Linux as dom0 to its shell"

    def invaders(self):
        with Guest(self.kiln, ["-cdrom", self.image("multiboot.iso")]) as g:
            g.wait_for("GNU GRUB", 120)
            g.keys("down", "ret")
            g.wait_for(r"-\*-.*-\*-", 60)
            g.keys("spc")
            self.picture(g, "invaders")
        return "the invaders"

    def gnumach(self):
        self.multiboot(2, "GNU Mach 1.8", "No bootstrap code loaded")
        return "kernel up to its missing servers"

    def debian(self):
        with Guest(self.kiln, ["-m", "1G", "-hda", self.image("debian.img"), "-snapshot"], serial=True) as g:
            g.wait_serial("kiln login: *$", 900)
            g.wait_for("kiln login: *$", 60)
            g.type("root\n")
            g.wait_for(r"root@kiln:~# *$", 120)
            g.type("systemctl is-system-running; nproc\n")
            g.wait_for("^running|^starting|^degraded", 60)
            self.picture(g, "debian")
        return "systemd, login on tty1 and ttyS0"

    def debian_smp(self):
        with Guest(self.kiln, ["-m", "1G", "-smp", "2", "-hda", self.image("debian.img"), "-snapshot"], serial=True) as g:
            g.wait_serial("kiln login: *$", 1500)
            expect("Brought up 1 node, 2 CPUs" in g.serial(), "not two processors")
        return "login with two processors"

    NAMES = ["demo", "freedos", "mikeos", "elks", "kolibri", "memtest", "grub", "disk", "framebuffer", "headless",
             "linux_cloud", "linux_686", "linux_686_pae", "linux_32_on_64", "installer_amd64", "installer_i386",
             "installer_gtk_amd64", "installer_gtk_i386", "memtest_kernel", "grub_rescue", "isolinux", "ipxe", "uboot", "xen",
             "invaders", "gnumach", "debian", "debian_smp"]


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

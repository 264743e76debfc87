#!/usr/bin/env python3
"""Makes the guests that come out of Debian 12's packages, beside those of make_guest_images.py. Usage: make_debian_guests.py OUT
[NAME...]; without names everything.

Packages are downloaded by apt into OUT/packages with lists of its own there (both amd64 and i386), so the host's package system
stays as it is; nothing is installed. Wanted on the host: xorriso and grub-mkrescue (grub-pc-bin, mtools) for the CD-ROMs,
debootstrap, e2fsprogs and root for the disk. What can't be made is said and left out."""
import glob
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile

import bootable_disk
from debian_packages import MIRROR, CannotMake, Packages, need, run

HERE = os.path.dirname(os.path.abspath(__file__))
GRUB_MODULES = "/usr/lib/grub/i386-pc"
KERNELS = {"cloud": "linux-image-cloud-amd64", "686": "linux-image-686:i386", "686-pae": "linux-image-686-pae:i386"}
ISOLINUX_MENU = """default menu.c32
prompt 0
timeout 0
menu title kiln
label memdisk
  menu label FreeDOS in a memdisk
  kernel memdisk
  initrd freedos.img
label hdt
  menu label Hardware detection
  com32 hdt.c32
label ipxe
  menu label iPXE
  kernel ipxe.lkrn
"""
MULTIBOOT_MENU = """set timeout=60
menuentry "Xen with Linux as dom0" {
    multiboot2 /boot/xen.gz dom0_mem=256M com1=115200,8n1 console=com1,vga
    module2 /boot/vmlinuz console=hvc0
    module2 /boot/initrd.gz
}
menuentry "Invaders" {
    multiboot /boot/invaders.exec
}
menuentry "GNU Mach" {
    multiboot /boot/gnumach.gz
}
"""
EFI_MENU = """insmod all_video
set timeout=10
menuentry "Linux" {
    linux /boot/vmlinuz console=ttyS0 console=tty0
    initrd /boot/initrd.gz
}
menuentry "Memtest86+" {
    linux /boot/memtest.efi
}
"""
DISK_MENU = """set timeout=2
menuentry "Debian" {
    linux /vmlinuz root=/dev/sda2 console=tty0 console=ttyS0,115200
    initrd /initrd.img
}
"""


class Maker:
    def __init__(self, out):
        self.out = os.path.abspath(out)
        os.makedirs(self.out + "/packages", exist_ok=True)
        self.packages = Packages(self.out + "/packages")

    def path(self, name):
        return os.path.join(self.out, name)

    def copy(self, source, name):
        shutil.copy(source, self.path(name) + ".new")
        os.rename(self.path(name) + ".new", self.path(name))

    def initrd(self, name, busybox):
        """busybox with the tests' init, as make_linux_guest.sh builds it."""
        with tempfile.TemporaryDirectory() as root:
            for directory in ("bin", "dev", "proc", "sys", "tmp"):
                os.mkdir(root + "/" + directory)
            shutil.copy(busybox, root + "/bin/busybox")
            shutil.copy(os.path.join(HERE, "init"), root + "/init")
            os.chmod(root + "/init", 0o755)
            os.chmod(root + "/bin/busybox", 0o755)
            names = "\n".join(["bin", "bin/busybox", "dev", "init", "proc", "sys", "tmp"]).encode()
            archive = run("cpio", "--quiet", "-o", "-H", "newc", "--owner", "0:0", cwd=root, input=names)
        with open(self.path(name), "wb") as f:
            f.write(gzip.compress(archive, 6))

    # -- what there is to make

    def kernels(self):
        self.initrd("initrd-amd64.gz", self.packages.file("busybox-static", "bin/busybox"))
        self.initrd("initrd-i386.gz", self.packages.file("busybox-static:i386", "bin/busybox"))
        for name, package in KERNELS.items():
            self.copy(self.packages.kernel(package), "vmlinuz-" + name)

    def installer(self):
        for cpu in ("amd64", "i386"):
            package = "debian-installer-12-netboot-" + cpu
            for look in ("text", "gtk"):
                place = "usr/lib/debian-installer/images/12/%s/%s/debian-installer/%s/" % (cpu, look, cpu)
                self.copy(self.packages.file(package, place + "linux"), "installer-%s-%s.linux" % (cpu, look))
                self.copy(self.packages.file(package, place + "initrd.gz"), "installer-%s-%s.initrd" % (cpu, look))

    def firmware(self):
        """Images that packages hold as they are."""
        for name in ("memtest86+x64", "memtest86+ia32"):
            self.copy(self.packages.file("memtest86+", "boot/%s.bin" % name), name + ".bin")
            self.copy(self.packages.file("memtest86+", "usr/lib/memtest86+/%s.iso" % name), name + ".iso")
        for name in ("grub-rescue-cdrom.iso", "grub-rescue-floppy.img"):
            self.copy(self.packages.file("grub-rescue-pc", "usr/lib/grub-rescue/" + name), name)
        self.copy(self.packages.file("ipxe", "boot/ipxe.lkrn"), "ipxe.lkrn")
        self.copy(self.packages.file("ipxe", "usr/lib/ipxe/ipxe.iso"), "ipxe.iso")
        for board in ("qemu-x86", "qemu-x86_64"):
            self.copy(self.packages.file("u-boot-qemu", "usr/lib/u-boot/%s/u-boot.rom" % board), "u-boot-%s.rom" % board)
        self.copy(self.packages.file("ovmf", "usr/share/ovmf/OVMF.fd"), "OVMF.fd")
        self.copy(self.packages.file("qemu-system-data", "usr/share/qemu/qboot.rom"), "qboot.rom")

    def isolinux(self):
        need("xorriso")
        with tempfile.TemporaryDirectory() as root:
            place = root + "/isolinux/"
            os.mkdir(place)
            shutil.copy(self.packages.file("isolinux", "usr/lib/ISOLINUX/isolinux.bin"), place)
            syslinux = self.packages.unpacked("syslinux-common") + "/usr/lib/syslinux/"
            for file in glob.glob(syslinux + "modules/bios/*.c32") + [syslinux + "memdisk"]:
                shutil.copy(file, place)
            shutil.copy(self.packages.file("ipxe", "boot/ipxe.lkrn"), place)
            floppies = [p for p in (self.out, os.environ.get("KILN_GUESTS", "")) if os.path.exists(p + "/freedos13-floppy.img")]
            if floppies:
                shutil.copy(floppies[0] + "/freedos13-floppy.img", place + "freedos.img")
            with open(place + "isolinux.cfg", "w") as f:
                f.write(ISOLINUX_MENU)
            run("xorriso", "-as", "mkisofs", "-quiet", "-o", self.path("isolinux.iso"), "-b", "isolinux/isolinux.bin", "-c",
                "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", root)

    def multiboot(self):
        need("grub-mkrescue", "xorriso")
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(root + "/boot/grub")
            self.initrd("initrd-amd64.gz", self.packages.file("busybox-static", "bin/busybox"))
            for source, name in ((self.packages.file("xen-hypervisor-4.17-amd64", "boot/xen-*-amd64.gz"), "xen.gz"),
                                 (self.packages.kernel("linux-image-amd64"), "vmlinuz"),
                                 (self.path("initrd-amd64.gz"), "initrd.gz"),
                                 (self.packages.file("grub-invaders", "boot/invaders.exec"), "invaders.exec"),
                                 (self.packages.file("gnumach-image-1.8-486", "boot/gnumach-*.gz"), "gnumach.gz")):
                shutil.copy(source, root + "/boot/" + name)
            with open(root + "/boot/grub/grub.cfg", "w") as f:
                f.write(MULTIBOOT_MENU)
            run("grub-mkrescue", "-d", GRUB_MODULES, "-o", self.path("multiboot.iso"), root)

    def efi(self):
        """A CD-ROM that UEFI firmware starts GRUB from."""
        need("grub-mkrescue", "xorriso", "mformat")
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(root + "/boot/grub")
            self.initrd("initrd-amd64.gz", self.packages.file("busybox-static", "bin/busybox"))
            shutil.copy(self.packages.kernel("linux-image-amd64"), root + "/boot/vmlinuz")
            shutil.copy(self.path("initrd-amd64.gz"), root + "/boot/initrd.gz")
            shutil.copy(self.packages.file("memtest86+", "boot/memtest86+x64.efi"), root + "/boot/memtest.efi")
            with open(root + "/boot/grub/grub.cfg", "w") as f:
                f.write(EFI_MENU)
            run("grub-mkrescue", "-d", self.packages.file("grub-efi-amd64-bin", "usr/lib/grub/x86_64-efi"), "-o",
                self.path("efi.iso"), root)

    def disk(self):
        need("debootstrap", "mke2fs", "grub-mkimage")
        if os.getuid() != 0:
            raise CannotMake("debootstrap wants root")
        with tempfile.TemporaryDirectory(dir=self.out) as work:
            root = work + "/root"
            run("debootstrap", "--variant=minbase", "--include=systemd-sysv,linux-image-amd64,udev,dbus,kmod", "bookworm", root,
                MIRROR)
            run("chroot", root, "passwd", "-d", "root")
            run("chroot", root, "apt-get", "clean")
            os.makedirs(root + "/boot/grub", exist_ok=True)
            for name, text in (("boot/grub/grub.cfg", DISK_MENU), ("etc/hostname", "kiln\n"),
                               ("etc/fstab", "/dev/sda2 / ext4 defaults 0 1\n")):
                with open(root + "/" + name, "w") as f:
                    f.write(text)
            run("mke2fs", "-q", "-F", "-t", "ext4", "-d", root, work + "/root.ext4", "1200M",
                env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/sbin:/usr/sbin"})
            bootable_disk.make(self.path("debian.img.new"), work + "/root.ext4", GRUB_MODULES)
        os.rename(self.path("debian.img.new"), self.path("debian.img"))

    # What to make, and the last file it leaves.
    PARTS = {"kernels": "vmlinuz-686-pae", "installer": "installer-i386-gtk.initrd", "firmware": "qboot.rom",
             "isolinux": "isolinux.iso", "multiboot": "multiboot.iso", "efi": "efi.iso", "disk": "debian.img"}


def main():
    if len(sys.argv) < 2 or set(sys.argv[2:]) - set(Maker.PARTS):
        sys.exit("usage: make_debian_guests.py OUT [%s]..." % "|".join(Maker.PARTS))
    maker = Maker(sys.argv[1])
    for part in sys.argv[2:] or Maker.PARTS:
        if os.path.exists(maker.path(Maker.PARTS[part])):
            continue
        try:
            getattr(maker, part)()
            print(part + ": made", flush=True)
        except (CannotMake, OSError) as e:
            print("%s: can't be made: %s" % (part, e), flush=True)


main()

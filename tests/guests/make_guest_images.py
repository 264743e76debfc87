#!/usr/bin/env python3
"""Makes what the guest tests start besides the Linux guest itself, in build/guest: a CD-ROM with GRUB, and an initial RAM
disk with the kernel's drivers for disks. Usage: make_guest_images.py OUT

Needs vmlinuz and initrd.gz in OUT (make_linux_guest.sh), grub-mkrescue with xorriso and mtools, and apt for the modules. What
can't be made is said and left out."""
import glob
import gzip
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
# In the order they are to be loaded in.
MODULES = """crc64 crct10dif_common crct10dif_generic crc-t10dif crc64_rocksoft_generic crc64-rocksoft t10-pi crc32c_generic
libcrc32c crc16 scsi_common scsi_mod cdrom libata ata_piix sd_mod sr_mod mbcache jbd2 ext4 isofs""".split()
GRUB_MENU = """set timeout=5
menuentry "Linux on the screen" {
    linux /boot/vmlinuz console=ttyS0 console=tty0
    initrd /boot/initrd.gz
}
menuentry "Linux on the serial port" {
    linux /boot/vmlinuz console=tty0 console=ttyS0
    initrd /boot/initrd.gz
}
"""


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, **options).stdout


def release(vmlinuz):
    """The kernel's release, from its set-up header (boot.rst, kernel_version)."""
    with open(vmlinuz, "rb") as f:
        image = f.read(65536)
    at = 0x200 + int.from_bytes(image[0x20e:0x210], "little")
    return image[at:image.index(b"\0", at)].split()[0].decode()


def make_cd(out):
    if not shutil.which("grub-mkrescue") or not shutil.which("xorriso"):
        return "grub-mkrescue or xorriso is not installed"
    if not os.path.isdir("/usr/lib/grub/i386-pc"):
        return "grub-pc-bin is not installed"
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(root + "/boot/grub")
        for name in ("vmlinuz", "initrd.gz"):
            shutil.copy(os.path.join(out, name), root + "/boot/" + name)
        with open(root + "/boot/grub/grub.cfg", "w") as f:
            f.write(GRUB_MENU)
        run("grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", os.path.join(out, "grub.iso"), root)
    return None


def make_disk_initrd(out):
    kernel = release(os.path.join(out, "vmlinuz"))
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        modules = "/lib/modules/" + kernel
        if not os.path.isdir(modules):
            run("apt-get", "download", "-q", "linux-image-" + kernel, cwd=work)
            run("dpkg-deb", "-x", glob.glob(work + "/*.deb")[0], work + "/x")
            modules = work + "/x/lib/modules/" + kernel
        root = work + "/root"
        os.makedirs(root + "/modules")
        for name in MODULES:
            found = glob.glob(modules + "/kernel/**/" + name + ".ko", recursive=True)
            if found:
                shutil.copy(found[0], root + "/modules/")
        with open(root + "/modules/load", "w") as f:
            f.writelines("insmod /modules/%s.ko\n" % name for name in MODULES
                         if os.path.exists("%s/modules/%s.ko" % (root, name)))
        shutil.copy(os.path.join(HERE, "disk_check.sh"), root + "/modules/check")
        archive = run("cpio", "--quiet", "-o", "-H", "newc", "--owner", "0:0", cwd=root,
                      input=b"\n".join(p.encode() for p in ["modules"] + ["modules/" + n for n in os.listdir(root + "/modules")]))
    # The kernel unpacks concatenated archives one after the other.
    with open(os.path.join(out, "initrd.gz"), "rb") as base, open(os.path.join(out, "initrd-disk.gz"), "wb") as f:
        f.write(base.read() + gzip.compress(archive, 6))
    return None


def main():
    out = os.path.abspath(sys.argv[1])
    if not os.path.exists(os.path.join(out, "initrd.gz")):
        sys.exit("make_guest_images: there is no Linux guest in %s: run make_linux_guest.sh first" % out)
    for name, make in (("grub.iso", make_cd), ("initrd-disk.gz", make_disk_initrd)):
        if os.path.exists(os.path.join(out, name)):
            continue
        try:
            problem = make(out)
        except (OSError, subprocess.CalledProcessError) as e:
            problem = str(e) + " " + (getattr(e, "stderr", None) or b"").decode("utf-8", "replace").strip()[-300:]
        print("%s: %s" % (name, "made" if problem is None else "can't be made: " + problem), flush=True)


main()

"""The guests that only have to be walked to a place: how each is started, what it shows on the way, and what it is answered.

`see` waits for a regular expression on the text screen, `hear` for one on the serial line; `then` is typed when it has come (a string;
"\\n" is Enter) or pressed (a tuple of `sendkey` names); `meanwhile` is typed or pressed every few seconds until it comes.
In a start's arguments, @NAME stands for the path of an image."""
from dataclasses import dataclass


@dataclass
class Step:
    pattern: str
    then: object = ""
    within: int = 60  # seconds
    meanwhile: object = ""
    on_serial: bool = False


def see(pattern, then="", within=60, meanwhile=""):
    return Step(pattern, then, within, meanwhile)


def hear(pattern, then="", within=60, meanwhile=""):
    return Step(pattern, then, within, meanwhile, True)


@dataclass
class Walk:
    arguments: str
    steps: list


def linux(kernel, initrd, machine):
    return [Walk("-kernel @%s -initrd @%s -no-shutdown -append 'console=ttyS0 kiln.run=uname%%-m'" % (kernel, initrd),
                 [hear(r"^%s\s+kiln guest: exit status 0" % machine, within=400)])]


def installer(cpu):
    """On the serial line: its screens are drawn there with a terminal's sequences."""
    return [Walk("-m 1G -kernel @installer-%s-text.linux -initrd @installer-%s-text.initrd -append console=ttyS0" % (cpu, cpu),
                 [hear("Select a language", within=600)])]


def memtest_kernel(name):
    return Walk("-m 32M -kernel @%s.bin" % name,
                [see("to start testing", "\n", 120), see(r"Test #[2-9]|Pass: +1", within=300), see("Errors: 0")])


def grub_rescue(option, image):
    return Walk("%s @%s" % (option, image),
                [see("GNU GRUB", "c", 120), see("grub> *$", "lspci\n"), see("8086:29c0")])


def ipxe(start):
    # Ctrl-B within the two seconds in which it is asked for.
    return Walk(start, [see("iPXE initialising", within=120), see("iPXE>", "show version\n", meanwhile=("ctrl-b",)),
                        see("builtin/version:string")])


def multiboot(entry, *events):
    return [Walk("-m 1G -cdrom @multiboot.iso", [see("GNU GRUB", ("down",) * entry + ("ret",), 120), *events])]


def debian(processors):
    # tty1 is on a framebuffer by then, so what is typed there answers on the serial line.
    return [Walk("-m 1G -smp %d -hda @debian.img" % processors,
                 [hear("kiln login: *$", "root\n", 900),
                  hear("system is running with %d processors" % processors, within=300,
                       meanwhile='echo "system is $(systemctl is-system-running) with $(nproc) processors" >/dev/ttyS0\n')])]


# What is said of it when it has come to its end, and the walks.
GUESTS = {
    # floppies
    "freedos": ("A:\\>, ver, dir", [Walk("-fda @freedos13-floppy.img", [
        see("Selection=1", "\n"), see(r"want to proceed \[Y,N\]", "n\n", 120), see(r"A:\\>$", "ver\n"),
        see("FreeCom version", "dir /w\n"), see(r"bytes free\nA:\\>")])]),
    "mikeos": ("list of files", [Walk("-fda @mikeos.flp", [see("Thanks for trying out MikeOS", "\n"), see("FISHER.BIN")])]),
    "elks": ("#, uname -a", [Walk("-fda @elks-fd1440.img", [see("(login:|^#) *$", "uname -a\n", 120), see("ELKS .*8086")])]),
    "openbsd": ("installer, its shell", [Walk("-m 256M -fda @openbsd.img", [
        see("boot>", "\n"), see(r"\(S\)hell", "s\n", 300), see("^# *$", "sysctl hw.model\n"), see("hw.model=.")])]),
    # Linux from CD-ROM and without a display adapter
    "grub": ("menu, shell on tty1 and ttyS0", [Walk("-cdrom @grub.iso", [
        see("GNU GRUB", ("ret",)), see("kiln guest: Linux", within=300), see(r"/ # *$", 'uname -a; echo "a_B|c" | tr a-z A-Z\n'),
        see("x\n?86_64 GNU/Linux"), see(r"^A_B.C", "echo from the keyboard >/dev/ttyS0\n"), hear("from the keyboard")])]),
    "headless": ("no display adapter", [Walk(
        "-vga none -no-shutdown -kernel @vmlinuz -initrd @initrd.gz -append 'console=ttyS0 kiln.run=uname'",
        [hear("kiln guest: exit status 0", within=300)])]),
    # out of Debian's packages (make_debian_guests.py)
    "linux_cloud": ("busybox's shell", linux("vmlinuz-cloud", "initrd-amd64.gz", "x86_64")),
    "linux_686": ("busybox's shell", linux("vmlinuz-686", "initrd-i386.gz", "i686")),
    "linux_686_pae": ("busybox's shell", linux("vmlinuz-686-pae", "initrd-i386.gz", "i686")),
    "linux_32_on_64": ("busybox's shell, of 32 bits", linux("vmlinuz-cloud", "initrd-i386.gz", "x86_64")),
    "installer_amd64": ("language menu", installer("amd64")),
    "installer_i386": ("language menu", installer("i386")),
    "memtest_kernel": ("64 and 32 bits, no errors", [memtest_kernel("memtest86+x64"), memtest_kernel("memtest86+ia32")]),
    "grub_rescue": ("menu and command line of CD-ROM and floppy", [
        grub_rescue("-cdrom", "grub-rescue-cdrom.iso"), grub_rescue("-fda", "grub-rescue-floppy.img")]),
    "isolinux": ("menu, hdt, FreeDOS in a memdisk", [
        Walk("-cdrom @isolinux.iso", [see("Hardware detection", ("down", "ret"), 120), see("Main Menu", within=120)]),
        Walk("-cdrom @isolinux.iso", [see("FreeDOS in a memdisk", ("ret",), 120), see("Selection=1", within=120)])]),
    "ipxe": ("prompt, from CD-ROM and as a kernel", [ipxe("-cdrom @ipxe.iso"), ipxe("-kernel @ipxe.lkrn")]),
    "uboot": ("prompt, 32 and 64 bits", [
        Walk("-bios @u-boot-%s.rom" % board, [hear(r"=> *$", within=200)]) for board in ("qemu-x86", "qemu-x86_64")]),
    "ovmf": ("UEFI shell", [Walk("-bios @OVMF.fd", [hear("Shell> ", "ver\n", 300), hear(r"UEFI v2\.[0-9]+.*\s+.*Shell> ")])]),
    "ovmf_linux": ("GRUB for UEFI, Linux's shell with two processors", [Walk("-m 1G -smp 2 -bios @OVMF.fd -cdrom @efi.iso", [
        hear("The highlighted entry", "\n", 300), hear("efi: EFI v2", within=300), hear("Run /init as init", within=300),
        hear("2 processors on the screen", within=60, meanwhile='echo "$(nproc) processors on the screen" >/dev/ttyS0\n')])]),
    "qboot": ("loads Linux through fw_cfg", [Walk("-bios @qboot.rom -kernel @vmlinuz -initrd @initrd.gz -append console=ttyS0", [
        hear("kiln guest: Linux", within=300)])]),
    "xen": ("hypervisor, Linux as dom0 to its shell", multiboot(
        0, hear("Xen version 4.17", within=300), hear("Dom0 alloc", within=300), hear("kiln guest: Linux", within=600))),
    "invaders": ("the invaders", multiboot(1, see(r"-\*-.*-\*-", ("spc",)))),
    "gnumach": ("kernel up to its missing servers", multiboot(
        2, see("GNU Mach 1.8", within=120), see("No bootstrap code loaded"))),
    "debian": ("systemd, root logged in", debian(1)),
    "debian_smp": ("systemd with two processors, root logged in", debian(2)),
}

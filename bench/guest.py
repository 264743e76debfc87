"""Makes what is run: the tree with our programs, Debian's and their inputs, which the host enters by chroot; a Linux guest with the
same tree in its initial RAM disk; CD-ROMs of it; the Multiboot kernel; and a ROM for the time to the first instruction."""
import os
import random
import shutil
import subprocess
import sys

import catalog

HERE = os.path.dirname(os.path.abspath(__file__))
GUESTS = os.path.join(os.path.dirname(HERE), "tests/guests")
sys.path.insert(0, GUESTS)
from debian_packages import CannotMake, Packages  # noqa: E402

# The real programs' packages; what they depend on comes along.
PACKAGES = ["cpp-12", "binutils", "python3-minimal", "perl-base", "gawk", "sqlite3", "xz-utils", "zstd", "gzip", "p7zip-full",
            "openssl", "lame", "flac", "coreutils", "grep", "luajit"]
UNUSED = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian",
          "usr/lib/x86_64-linux-gnu/gconv"]
TREE_IN_GUEST = "kiln-bench"  # as `enter` has it
PROMPT = "kiln guest: Linux"  # as tests/guests/init prints it
DISK = 64 << 20  # bytes of the one that programs/traps.asm reads
COMMAND_LINE = 2047  # Linux's limit


def make(command, **options):
    """Runs a tool; one sentence when it fails."""
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
    except FileNotFoundError:
        raise CannotMake(f"{command[0]} is not installed")
    except subprocess.CalledProcessError as e:
        raise CannotMake(f"{os.path.basename(command[0])} failed: {e.stderr.decode(errors='replace').strip()[-300:]}")


class Guest:
    def __init__(self, work, rows, scale, append=""):
        self.work, self.scale, self.more = work, scale, append
        programs = [program for row in rows for program in row.programs]
        self.own = [p for p in programs if isinstance(p, catalog.Own)]
        self.real = [p for p in programs if isinstance(p, catalog.Real)]
        self.bare = [p for p in programs if isinstance(p, (catalog.Bare, catalog.Trap))]
        self.packages = Packages(self.path("packages"), "bookworm-backports")
        self.tree = self.path("tree")

    def path(self, name):
        return os.path.join(self.work, name)

    def build(self):
        make([os.path.join(GUESTS, "make_linux_guest.sh"), self.work])
        self.make_tree()
        self.make_initrd()
        if self.bare:
            for name in sorted({p.kernel for p in self.bare}):
                programs = os.path.join(HERE, "programs/")
                make(["nasm", "-f", "bin", "-I", programs, programs + name + ".asm", "-o", self.path(name + ".bin")])
        if any(p.disk for p in self.bare):
            self.make_disk()
        self.make_rom()

    def make_disk(self):
        with open(self.path("disk.img"), "wb") as f:
            f.write(random.Random(1).randbytes(DISK))

    def make_tree(self):
        shutil.rmtree(self.tree, ignore_errors=True)
        if self.real:
            packages = self.packages.together("real", PACKAGES)
            make(["cp", "-al", packages, self.tree])  # hard links: nothing in the tree is changed in place
            for name in UNUSED:
                shutil.rmtree(os.path.join(self.tree, name), ignore_errors=True)
        for name in ("bin", "dev", "proc", "tmp", "bench/bin", "bench/own", "bench/real", "bench/inputs"):
            os.makedirs(os.path.join(self.tree, name), exist_ok=True)
        shutil.copy(self.path("busybox"), os.path.join(self.tree, "bench/busybox"))
        os.chmod(os.path.join(self.tree, "bench/busybox"), 0o755)
        if not os.path.lexists(os.path.join(self.tree, "bin/sh")):
            os.symlink("/bench/busybox", os.path.join(self.tree, "bin/sh"))
        shutil.copy(os.path.join(HERE, "run"), os.path.join(self.tree, "bench/run"))
        for build in sorted({p.build for p in self.own}):
            source, options = catalog.BUILDS[build]
            make(["gcc", "-O2", "-static", "-fno-math-errno", "-ffp-contract=off", *options,
                  os.path.join(HERE, "programs", source), "-o", os.path.join(self.tree, "bench/bin", build)])
        for kind, programs in (("own", self.own), ("real", self.real)):
            for program in programs:
                command = program.command(self.scale) if kind == "own" else program.command
                with open(os.path.join(self.tree, "bench", kind, program.name), "w") as f:
                    f.write(command + "\n")
        for program in self.real:
            program.make(os.path.join(self.tree, "bench/inputs"), self.scale)

    def make_initrd(self):
        """The test guest's initrd, and behind it an archive with the tree that Linux unpacks over it."""
        root = self.path("overlay")
        shutil.rmtree(root, ignore_errors=True)
        os.makedirs(root)
        make(["cp", "-al", self.tree, os.path.join(root, TREE_IN_GUEST)])
        shutil.copy(os.path.join(HERE, "enter"), os.path.join(root, "enter"))
        os.chmod(os.path.join(root, "enter"), 0o755)
        shutil.copy(self.path("initrd.gz"), self.path("initrd"))
        with open(self.path("initrd"), "ab") as f:
            f.write(bytes(-f.tell() % 4))
            f.flush()
            # Not compressed: unpacking is not what is to be measured.
            names = subprocess.run(["find", "."], cwd=root, check=True, stdout=subprocess.PIPE).stdout
            subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "--owner", "0:0"], cwd=root, input=names, stdout=f, check=True)
        shutil.rmtree(root)

    def append(self, names):
        line = " ".join(["console=ttyS0 quiet", *self.more.split()])
        return f"{line} kiln.run={'%'.join(['/enter', *names])}" if names else line

    def portion(self, names):
        """As many of the names as one command line holds."""
        count = len(names)
        while len(self.append(names[:count])) > COMMAND_LINE:
            count -= 1
        return names[:count]

    def initrd(self, names):
        return self.path("initrd" if names else "initrd.gz")

    def cd(self, names):
        """A CD-ROM with GRUB that boots the guest to run the programs, or to its shell."""
        tree = self.path("cd")
        shutil.rmtree(tree, ignore_errors=True)
        os.makedirs(os.path.join(tree, "boot/grub"))
        os.link(self.path("vmlinuz"), os.path.join(tree, "boot/vmlinuz"))
        os.link(self.initrd(names), os.path.join(tree, "boot/initrd"))
        with open(os.path.join(tree, "boot/grub/grub.cfg"), "w") as f:
            f.write(f"set timeout=0\nmenuentry bench {{\n  linux /boot/vmlinuz {self.append(names)}\n  initrd /boot/initrd\n}}\n")
        image = self.path("bench.iso" if names else "boot.iso")
        make(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", image, tree])
        return image

    def make_rom(self):
        """The processor's first instructions write to the serial port and halt."""
        code = bytes.fromhex("BA F8 03"  # mov dx, COM1
                             "B0 4B EE"  # mov al, 'K'; out dx, al
                             "FA F4 EB FD")  # cli; hlt; jmp back
        with open(self.path("first.rom"), "wb") as f:
            f.write(bytes(0xFFF0) + code.ljust(16, b"\0"))

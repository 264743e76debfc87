"""Whom we measure: kiln in several builds and with several options, QEMU, Bochs, and the host itself. Each starts a process whose
serial line comes out of a file descriptor."""
import os
import re
import shlex
import shutil
import socket
import subprocess
import tty

from guest import CannotMake

MEMORY = 1024  # MiB


class Started:
    """A process and the file descriptor of its serial line: its standard output, or a terminal's master and slave."""
    def __init__(self, command, log, terminal=()):
        out = subprocess.DEVNULL if terminal else subprocess.PIPE
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=True,
                                            env={**os.environ, "TERM": "xterm"})
        self.line = terminal[0] if terminal else self.process.stdout.fileno()
        self.terminal = terminal

    def close(self):
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()
        for end in self.terminal:
            os.close(end)
        if not self.terminal:
            self.process.stdout.close()


class Machine:
    """One that has a PC's devices and QEMU's options."""
    direct = True  # takes -kernel and -bios
    ram = MEMORY << 20

    def __init__(self, name, command, work):
        self.name, self.command, self.work = name, command, work

    def version(self):
        text = subprocess.run([self.command[0], *self.version_options], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout.decode(errors="replace")
        return next((line.strip() for line in text.splitlines() if re.search(r"\d\.\d", line)), "")

    version_options = ["--version"]

    def start(self, *options):
        return Started([*self.command, "-m", f"{MEMORY}M", "-display", "none", *self.monitor(), "-serial", "stdio", "-no-reboot",
                        *options], self.log())

    def linux(self, guest, names):
        return self.start("-kernel", guest.path("vmlinuz"), "-initrd", guest.initrd(names), "-append", guest.append(names))

    def linux_from_cd(self, guest, names):
        return self.start("-cdrom", guest.cd(names), "-boot", "d")

    def multiboot(self, guest, program):
        disk = ["-hda", guest.path("disk.img"), *self.ide] if program.disk else []
        return self.start("-kernel", guest.path(program.kernel + ".bin"), "-append", program.append(guest.scale), *disk)

    ide = []  # options for a machine that has IDE

    def rom(self, guest):
        return self.start("-bios", guest.path("first.rom"))

    def log(self):
        return os.path.join(self.work, self.name + ".log")

    def monitor(self):
        return ["-monitor", "none"]

    def statistics(self):
        """What it tells about itself while it runs, name -> number."""
        return {}


class Kiln(Machine):
    def socket(self):
        return os.path.join(self.work, "kiln.monitor")

    def monitor(self):
        return ["-monitor", "unix:" + self.socket()]

    def statistics(self):
        """From the monitor. What else it comes to tell (code size, time of translation) is an entry more in the answer, and
        is printed."""
        answer = ""
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(5)
                s.connect(self.socket())
                s.sendall(b"info status\n")
                while not (found := re.search(r"(\d+) instructions", answer)):
                    more = s.recv(4096).decode(errors="replace")
                    if not more:
                        return {}
                    answer += more
        except OSError:
            return {}
        return {"instructions": int(found[1])}


class Qemu(Machine):
    ide = ["-M", "pc"]

    def __init__(self, name, command, work):
        super().__init__(name, command, work)
        self.command = [*command, "-accel", "tcg", "-cpu", "max", "-M", "q35", "-nic", "none"]


class Bochs(Machine):
    """Reads everything from a CD-ROM, and buffers what its serial port writes unless that is a terminal."""
    direct = False
    version_options = ["--help"]

    def linux(self, guest, names):
        return self.linux_from_cd(guest, names)

    def linux_from_cd(self, guest, names):
        master, slave = os.openpty()
        tty.setraw(slave)
        rc = self.configuration(guest.cd(names), os.ttyname(slave))
        # Its text display wants a terminal, too.
        return Started(["script", "-qfc", f"bochs -q -f {rc} -rc {rc}.commands", "/dev/null"], self.log(), (master, slave))

    def configuration(self, image, serial):
        rc = os.path.join(self.work, "bochsrc")
        with open(rc, "w") as f:
            f.write(f"""display_library: term
sound: waveoutdrv=dummy
megs: {MEMORY}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
ata0-master: type=cdrom, path="{image}", status=inserted
boot: cdrom
com1: enabled=1, mode=term, dev={serial}
cpu: model=core2_penryn_t9600, count=1, ips=100000000, reset_on_triple_fault=0
clock: sync=none
log: {self.work}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
""")
        with open(rc + ".commands", "w") as f:
            f.write("continue\n")  # Debian's Bochs stops in its debugger first
        return rc


class Native:
    """The host, on one of its processors, in the same tree."""
    direct = False
    name = "native"
    command = []

    def __init__(self, work):
        self.work = work

    def version(self):
        return "Linux " + os.uname().release

    def linux(self, guest, names):
        tree = shlex.quote(guest.tree)
        inside = (f"mount --bind /dev {tree}/dev && mount -t proc proc {tree}/proc; "
                  f"mount -t tmpfs -o size=400m tmpfs {tree}/tmp && "
                  f"exec chroot {tree} /bench/busybox sh /bench/run {' '.join(map(shlex.quote, names))}")
        user = [] if os.getuid() == 0 else ["--map-root-user"]
        processor = max(os.sched_getaffinity(0))
        return Started(["taskset", "-c", str(processor), "unshare", "--mount", *user, "sh", "-c", inside],
                       os.path.join(self.work, "native.log"))

    def statistics(self):
        return {}


def newest_qemu(guest, work):
    """bookworm-backports' QEMU in a directory of its own, or the installed one. Gives its command."""
    try:
        root = guest.packages.together("qemu", ["qemu-system-x86"], "bookworm-backports")
    except CannotMake as e:
        installed = shutil.which("qemu-system-x86_64")
        if not installed:
            raise CannotMake(f"QEMU can't be fetched ({e}), and none is installed: apt-get install qemu-system-x86")
        print(f"qemu: the installed one, because bookworm-backports' can't be had ({e})")
        return [installed]
    libraries = f"{root}/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu"
    script = os.path.join(work, "qemu-system-x86_64")
    with open(script, "w") as f:
        f.write(f"""#!/bin/sh
export QEMU_MODULE_DIR={root}/usr/lib/x86_64-linux-gnu/qemu
exec {root}/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path {libraries} \\
    {root}/usr/bin/qemu-system-x86_64 -L {root}/usr/share/qemu -L {root}/usr/share/seabios "$@"
""")
    os.chmod(script, 0o755)
    return [script]

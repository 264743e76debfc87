"""What is measured: the rows of the table in README.md and their programs. A program is one of ours (a function of a file in
programs/, built in some way and repeated so many times), a real one (a command of Debian's over made inputs), a Multiboot kernel
without Linux, or a boot. Repetitions and sizes make it last 0.1 to 0.5 s on the host at scale 1."""
import dataclasses

import inputs


@dataclasses.dataclass
class Own:
    """`function` of the binary `build`, `repeats` times."""
    name: str
    build: str
    function: str
    repeats: int

    def command(self, scale):
        return f"/bench/bin/{self.build} {self.function} {max(1, round(self.repeats * scale))}"


@dataclasses.dataclass
class Real:
    """A command run in the directory of its inputs; what it leaves in $OUT is the result."""
    name: str
    command: str
    inputs: dict  # file name -> (function of inputs.py, its size at scale 1)

    def make(self, directory, scale):
        for name, (maker, size) in self.inputs.items():
            with open(f"{directory}/{name}", "wb") as f:
                f.write(maker(max(1, round(size * scale))))


@dataclasses.dataclass
class Bare:
    """programs/switches.asm with so many address spaces and rounds, with or without process-context identifiers."""
    name: str
    spaces: int
    rounds: int
    pcid: bool
    kernel = "switches"
    disk = False

    def append(self, scale):
        return f"kiln={self.name},{self.spaces},{self.repeats(scale)},{int(self.pcid)}"

    def repeats(self, scale):
        return max(1, round(self.rounds * scale))

    def expected(self, scale):
        return f"{self.spaces * self.repeats(scale) * 64:016x}"  # each round touches 64 pages of each space


@dataclasses.dataclass
class Trap:
    """A loop of programs/traps.asm or traps32.asm, the `test`th of its table, so many times."""
    name: str
    test: int
    rounds: int
    result: object = None  # a function of the repetitions, where it is simple
    disk: bool = False     # reads the first IDE disk
    kernel: str = "traps"

    def append(self, scale):
        return f"kiln={self.name},{self.test},{self.repeats(scale)}"

    def repeats(self, scale):
        return max(1, round(self.rounds * scale))

    def expected(self, scale):
        """None: what the first machine gives."""
        return None if self.result is None else f"{self.result(self.repeats(scale)):016x}"


@dataclasses.dataclass
class Boot:
    """From the start of the process to the guest's shell."""
    name: str
    cd: bool = False  # by GRUB from a CD-ROM instead of -kernel


@dataclasses.dataclass
class Row:
    key: str
    title: str
    programs: list
    over_qemu: float = None  # how many times QEMU's speed kiln is to have at least
    against_native: float = None  # how many times the native time it may take at most


# How files of programs/ are built: name -> (file, options of gcc beside -O2 -static).
BUILDS = {
    "integer": ("integer.c", []),
    "integer32": ("integer.c", ["-m32"]),
    "double": ("floating.c", []),
    "single": ("floating.c", ["-DREAL=float"]),
    "x87-double": ("floating.c", ["-m32", "-mfpmath=387"]),
    "x87-extended": ("floating.c", ["-m32", "-DREAL=__float80"]),
    "x87": ("x87.c", ["-m32"]),
    "sse": ("packed.c", ["-DBYTES=16", "-msse4.2"]),
    "avx2": ("packed.c", ["-DBYTES=32", "-mavx2"]),
    "strings": ("strings.c", []),
    "codegen": ("codegen.c", []),
    "kernel": ("kernel.c", []),
    "switches": ("switches.c", []),
}


def own(build, suffix, **repeats):
    """Programs of one build; a name is the function's with the suffix, with - for _."""
    functions = {key.replace("_", "-"): count for key, count in repeats.items()}
    return [Own(name + suffix, build, name, count) for name, count in functions.items()]


# Whole paths, because the guest's shell prefers its own tools.
CC1 = "/usr/lib/gcc/x86_64-linux-gnu/12/cc1"
OPENSSL = "/usr/bin/openssl"
ENCRYPT = f"{OPENSSL} enc -aes-256-cbc -K {'0123456789abcdef' * 4} -iv {'0123456789abcdef' * 2}"
REAL = [
    Real("cc1", f"{CC1} -quiet -O2 cc1.i -o $OUT", {"cc1.i": (inputs.c_source, 8)}),
    Real("as", "/usr/bin/as as.s -o $OUT", {"as.s": (inputs.assembly, 200_000)}),
    Real("python3", "/usr/bin/python3 python3.py python3.txt >$OUT",
         {"python3.py": (inputs.python_script, 1), "python3.txt": (inputs.text, 1_400_000)}),
    Real("perl", "/usr/bin/perl perl.pl perl.txt >$OUT",
         {"perl.pl": (inputs.perl_script, 1), "perl.txt": (inputs.text, 2_400_000)}),
    Real("gawk", "/usr/bin/gawk -f gawk.awk gawk.txt >$OUT",
         {"gawk.awk": (inputs.awk_script, 1), "gawk.txt": (inputs.text, 2_000_000)}),
    Real("sqlite3", "/usr/bin/sqlite3 :memory: <sqlite3.sql >$OUT", {"sqlite3.sql": (inputs.sql_script, 30_000)}),
    Real("xz", "/usr/bin/xz -6 -T1 -c xz.txt >$OUT", {"xz.txt": (inputs.text, 500_000)}),
    Real("zstd", "/usr/bin/zstd -q -9 --single-thread -c zstd.txt >$OUT", {"zstd.txt": (inputs.text, 4_000_000)}),
    Real("gzip", "/bin/gzip -9 -n -c gzip.txt >$OUT", {"gzip.txt": (inputs.text, 3_000_000)}),
    Real("7z", "/usr/lib/p7zip/7z a -mmt1 -mx5 -mtm- -mtc- -mta- $OUT.7z 7z.txt && /bin/mv $OUT.7z $OUT",
         {"7z.txt": (inputs.text, 500_000)}),
    Real("openssl", f"{ENCRYPT} -in openssl.bin | {OPENSSL} dgst -sha512 >$OUT && {OPENSSL} dgst -md5 openssl.bin >>$OUT",
         {"openssl.bin": (inputs.noise, 30_000_000)}),
    Real("lame", "/usr/bin/lame --quiet --noreplaygain -b 128 lame.wav $OUT", {"lame.wav": (inputs.wave, 400_000)}),
    Real("flac", "/usr/bin/flac -s -8 --no-padding -o $OUT flac.wav", {"flac.wav": (inputs.wave, 900_000)}),
    Real("sort", "/usr/bin/sort --parallel=1 -S 256M sort.txt >$OUT", {"sort.txt": (inputs.lines, 500_000)}),
]

ROWS = [
    Row("integer", "integer programs", [
        *own("integer", "", sieve=30, quicksort=5, crc32=20, calls=300, hash=20, interpreter=45, rounds=130, queens=600,
             digits=180, pointers=30, bignum=100),
        *own("integer32", "-32", quicksort=4, calls=300, interpreter=30, rounds=130, pointers=40),
    ], 5, 2.5),
    Row("real", "real programs", REAL, 4, 3),
    Row("float", "scalar and packed floating point, SSE, AVX2", [
        *own("double", "-double", nbody=750, mandelbrot=450, linear=1500, fourier=7000, spectral=6000, plate=1500),
        *own("single", "-single", nbody=750, mandelbrot=450, linear=1500, fourier=7000),
        *own("sse", "-sse", saxpy=4000, matrix=3500, points=600, filter=2500, pixels=3000, quarters=8000),
        *own("avx2", "-avx2", saxpy=5000, matrix=2500, points=1000, filter=3500, pixels=5000, quarters=6000),
    ], 12, 2.5),
    Row("x87", "x87, and 32-bit programs on it", [
        *own("x87-double", "-x87", nbody=240, mandelbrot=300, linear=700, fourier=2500, spectral=4500, plate=300),
        *own("x87-extended", "-80", nbody=80, mandelbrot=300, linear=220, fourier=1300),
        *own("x87", "", trigonometry=900, powers=1200, conversions=370, horner=4000, roots=2400),
    ], 12, 4),
    Row("string", "string instructions of 4 KiB", own(
        "strings", "", **{"movsb-4k": 100, "movsb-4k-skewed": 100, "stosb-4k": 250, "stosb-4k-skewed": 200, "cmpsb-4k": 80,
                          "cmpsb-4k-skewed": 80}), 50, 2),
    Row("string-other", "string instructions of other sizes and kinds", own(
        "strings", "", **{"movsb-64": 100, "movsb-1m": 35, "movsb-overlap": 40, "movsq-4k": 120, "stosb-64": 250, "stosb-1m": 90,
                          "stosq-4k": 300, "cmpsb-64": 80, "scasb-64": 90, "scasb-4k": 80, "lodsb-4k": 45})),
    Row("codegen", "self-modifying and code-generating programs", [
        *own("codegen", "", fresh=40, hot=30, patch=30, ahead=40, beside=800, thunks=25, guarded=80, mapped=40),
        Real("luajit", "/usr/bin/luajit luajit.lua luajit.txt >$OUT",
             {"luajit.lua": (inputs.lua_script, 1), "luajit.txt": (inputs.text, 3_000_000)}),
        Real("grep-P", r"/bin/grep -nP '(\w)(\w)\2\1|\b(\w+) \3\b' grep.txt >$OUT", {"grep.txt": (inputs.text, 5_000_000)}),
    ], 10),
    Row("cr3", "CR3 switches re-touching 64 pages", [
        *own("switches", "", **{"pipe-2": 35, "pipe-8": 20, "futex": 35, "signal": 25, "socket": 25}),
        Bare("bare-2", 2, 400_000, False), Bare("bare-8", 8, 100_000, False), Bare("bare-64", 64, 12_000, False),
        Bare("bare-8-pcid", 8, 100_000, True),
    ], 20),
    Row("kernel", "kernel-heavy", own("kernel", "", faults=18, syscalls=40, signals=15, segfaults=15, pipes=45, forks=18,
                                      execs=16, files=35, messages=50, copies=16), 3, 3),
    Row("trap", "traps", [
        Trap("ports", 0, 6_000_000, lambda n: 510 * n),
        Trap("cpuid", 1, 12_000_000, lambda n: 2 * n),
        Trap("msr", 2, 6_000_000, lambda n: n * (n + 1) // 2 + 0x300 * n),
        Trap("apic", 3, 4_000_000, lambda n: sum(i & 0xf0 for i in range(1, n + 1))),
        Trap("hpet", 4, 5_000_000, lambda n: n),
        Trap("pm-timer", 5, 5_000_000, lambda n: n),
        Trap("uart", 6, 2_500_000, lambda n: 0),
        Trap("vga-fill", 7, 120), Trap("vga-fill-mov", 8, 120), Trap("vga-points", 9, 250),
        Trap("ide-pio", 10, 1024, disk=True), Trap("ide-pio-loop", 11, 1024, disk=True),
        Trap("self-ipi", 12, 800_000, lambda n: n), Trap("timer", 13, 100_000, lambda n: n),
        Trap("control", 14, 2_000_000, lambda n: n * (n + 1) // 2), Trap("flush", 15, 2_000_000, lambda n: 0x400000 * n),
        Trap("int", 16, 2_000_000, lambda n: n), Trap("fault", 17, 500_000, lambda n: 2 * n), Trap("vga-operations", 18, 100),
    ], 3),
    Row("trap32", "traps of 32-bit and virtual-8086 mode", [
        Trap(name, test, rounds, lambda n, k=k, more=more: k * n + more, kernel="traps32")
        for name, test, rounds, k, more in [("int-32", 0, 2_000_000, 1, 0), ("call-32", 1, 1_500_000, 1, 0),
                                            ("sysenter-32", 2, 8_000_000, 1, 0), ("divide-32", 3, 1_000_000, 1, 0),
                                            ("page-fault-32", 4, 1_000_000, 1, 0), ("v86", 5, 300_000, 4, 1)]
    ], 3),
    Row("boot", "Linux boot to shell", [Boot("boot"), Boot("boot-cd", cd=True)], 2),
]


def chosen(keys):
    unknown = set(keys) - {row.key for row in ROWS}
    if unknown:
        raise ValueError(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(row.key for row in ROWS)}")
    return [row for row in ROWS if not keys or row.key in keys]

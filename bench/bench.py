#!/usr/bin/env python3
"""Times programs in kiln beside Debian's QEMU (TCG) and the host itself: the same binaries, the same Debian kernel, one processor,
between marker lines on the serial port, every result compared with the host's. bench/README.md tells more.

  bench/bench.py --quick                              everything, short programs, one round
  bench/bench.py --rows integer,real --rounds 5
  bench/bench.py --kiln-args '-accel jit,tier1=20'
  bench/bench.py --kiln new=build/kiln --kiln 'old=../old/kiln -accel interp'
  bench/bench.py --only kiln,bochs,qemu --rows integer,boot --base OLDER_KILN
"""
import argparse
import os
import shlex
import shutil
import sys
import time

import catalog
import machines
import measure
import report
from guest import CannotMake, Guest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What is called, and the Debian packages that have it.
TOOLS = {"gcc": "gcc libc6-dev", "cpio": "cpio", "taskset": "util-linux", "nasm": "nasm", "apt-get": "apt", "dpkg-deb": "dpkg"}
MULTILIB = "/usr/include/x86_64-linux-gnu/gnu/stubs-32.h"
CD_TOOLS = {"grub-mkrescue": "grub-common grub-pc-bin", "xorriso": "xorriso", "mformat": "mtools"}
BOCHS_TOOLS = {"bochs": "bochs bochs-term bochsbios vgabios", "script": "bsdutils"}


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--kiln", action="append", metavar="[NAME=]PATH [ARGS]", help="a kiln, by default build/kiln; several are compared")
    add("--kiln-args", default="", metavar="ARGS", help="options for every kiln")
    add("--base", metavar="PATH", help="an earlier kiln, to see whether the first is slower")
    add("--qemu", metavar="PATH", help="a QEMU; by default bookworm-backports', fetched, or the installed one")
    add("--only", default="kiln,qemu,native", help="of kiln, qemu, native, bochs; default %(default)s")
    add("--rows", default="", metavar="ROWS", help="comma-separated, of " + ", ".join(r.key for r in catalog.ROWS))
    add("--programs", default="", metavar="NAMES", help="only these programs of the rows")
    add("--rounds", type=int, default=3)
    add("--scale", type=float, default=1.0, help="length of the programs; 1 is 0.1 to 0.5 s on the host")
    add("--quick", action="store_true", help="--scale 0.1 --rounds 1")
    add("--limit", type=int, default=600, help="seconds without a line before a run is given up")
    add("--append", default="", metavar="TEXT", help="more for Linux's command line, such as mitigations=off")
    add("--nice", type=int, default=0, help="priority of what is measured: negative as root, on a machine that has other work")
    add("--work", default=os.path.join(ROOT, "build/bench"), help="where things are made and kept; default build/bench")
    add("--json", metavar="FILE", help="write every sample there")
    args = parser.parse_args()
    if args.quick:
        args.scale, args.rounds = 0.1, 1
    args.only = args.only.split(",")
    unknown = set(args.only) - {"kiln", "qemu", "native", "bochs"}
    if unknown:
        raise CannotMake(f"--only: there is no {', '.join(sorted(unknown))}; there are kiln, qemu, native, bochs")
    if args.rounds < 1 or args.scale <= 0:
        raise CannotMake("--rounds and --scale must be above 0")
    return args


def selected(args):
    rows = catalog.chosen([key for key in args.rows.split(",") if key])
    names = {name for name in args.programs.split(",") if name}
    unknown = names - {p.name for row in rows for p in row.programs}
    if unknown:
        raise ValueError(f"no row chosen has a program {', '.join(sorted(unknown))}")
    for row in rows:
        row.programs = [p for p in row.programs if not names or p.name in names]
    return [row for row in rows if row.programs]


def need(rows, args):
    """One sentence that lists every missing package."""
    tools = dict(TOOLS)
    programs = [p for row in rows for p in row.programs]
    if "bochs" in args.only or any(getattr(p, "cd", False) for p in programs):
        tools.update(CD_TOOLS)
    if "bochs" in args.only:
        tools.update(BOCHS_TOOLS)
    missing = {package for tool, package in tools.items() if not shutil.which(tool)}
    if any("-m32" in catalog.BUILDS[p.build][1] for p in programs if isinstance(p, catalog.Own)) and not os.path.exists(MULTILIB):
        missing.add("gcc-multilib")
    if missing:
        raise CannotMake(f"missing on this machine: apt-get install {' '.join(sorted(missing))}")


def kilns(args, work):
    specifications = args.kiln or ["kiln=" + os.path.join(ROOT, "build/kiln")]
    if args.base:
        specifications = [*specifications, "base=" + args.base]
    found = []
    for text in specifications:
        words = shlex.split(text)
        name, equals, path = words[0].partition("=")
        if not equals:
            name, path = "kiln" if not found else f"kiln{len(found) + 1}", name
        if not shutil.which(path):
            raise CannotMake(f"{path} is not there: build it, or name another with --kiln")
        if name in {m.name for m in found} | {"qemu", "native", "bochs"}:
            raise CannotMake(f"two machines are called {name}: write --kiln NAME=PATH")
        found.append(machines.Kiln(name, [shutil.which(path), *words[1:], *shlex.split(args.kiln_args)], work))
    return found


def contestants(args, guest, work):
    chosen = kilns(args, work) if "kiln" in args.only else []
    if "qemu" in args.only:
        chosen.append(machines.Qemu("qemu", [args.qemu] if args.qemu else machines.newest_qemu(guest, work), work))
    if "bochs" in args.only:
        chosen.append(machines.Bochs("bochs", ["bochs"], work))
    if "native" in args.only:
        if os.uname().machine == "x86_64":
            chosen.append(machines.Native(work))
        else:
            say("native: left out, this host is no x86-64")
    return chosen


def say(text):
    print(text, file=sys.stderr, flush=True)


def take(samples, machine, run, reference):
    """A run's programs into the samples, their results compared with the reference's."""
    for name, result in run.results.items():
        if name in run.seconds and result == reference.setdefault(name, result):
            samples.add(machine.name, name, run.seconds[name])
        elif name in run.seconds:
            samples.fail(machine.name, name, "wrong result")
            say(f"{machine.name}: {name} gave {result} instead of {reference[name]}")
    for name, why in run.failures.items():
        samples.fail(machine.name, name, why)
        say(f"{machine.name}: {name} failed: {why}")
    for key, value in run.figures.items():
        samples.figure(machine.name, key, value)


def one_round(machine, guest, programs, samples, reference, limit):
    def attempt(name, measurement):
        try:
            return measurement()
        except measure.Failure as e:
            samples.fail(machine.name, name, str(e))
            say(f"{machine.name}: {name}: {e}")

    inside = [p.name for p in programs if isinstance(p, (catalog.Own, catalog.Real))]
    take(samples, machine, measure.programs(machine, guest, inside, limit, say), reference)
    if machine.name == "native":
        return
    for program in programs:
        if not machine.direct and not getattr(program, "cd", False):
            continue
        if isinstance(program, catalog.Boot):
            run = attempt(program.name, lambda: measure.boot(machine, guest, program.cd, limit))
            if run:
                samples.add(machine.name, program.name, run.seconds["shell"])
                take(samples, machine, run, reference)
        elif isinstance(program, (catalog.Bare, catalog.Trap)):
            run = attempt(program.name, lambda: measure.bare(machine, guest, program, limit))
            if run:
                take(samples, machine, run, reference)
    if machine.direct:
        samples.figure(machine.name, "first", attempt("first", lambda: measure.first_instruction(machine, guest, limit)))


def main():
    args = options()
    rows = selected(args)
    need(rows, args)
    work = os.path.abspath(args.work)
    os.makedirs(work, exist_ok=True)
    guest = Guest(work, rows, args.scale, args.append)
    guest.build()
    chosen = contestants(args, guest, work)
    programs = [p for row in rows for p in row.programs]
    samples = report.Samples()
    if args.nice:
        os.setpriority(os.PRIO_PROCESS, 0, args.nice)
    # The host's results are what counts; they come first.
    reference = {p.name: p.expected(args.scale) for p in programs
                 if isinstance(p, (catalog.Bare, catalog.Trap)) and p.expected(args.scale)}
    order = sorted(chosen, key=lambda machine: machine.name != "native")
    for n in range(args.rounds):  # interleaved: all see the same noise
        for machine in order:
            say(f"round {n + 1}/{args.rounds}: {machine.name}")
            one_round(machine, guest, programs, samples, reference, args.limit)
    load = os.getloadavg()[0]
    facts = {"date": time.strftime("%Y-%m-%d"), "scale": args.scale, "rounds": args.rounds}
    print(f"{facts['date']}, {report.host()['processor']}, scale {args.scale}, medians of {args.rounds}, load {load:.1f}")
    for machine in chosen:
        print(f"* {machine.name}: {machine.version()} {shlex.join(machine.command[1:])}".rstrip())
    print("\n" + report.row_table(samples, rows, chosen))
    print("\n" + report.program_table(samples, rows, chosen))
    print("\n" + "\n".join(report.figure_lines(samples)))
    if args.json:
        with open(args.json, "w") as f:
            f.write(report.as_json(samples, rows, chosen, facts) + "\n")
    return 1 if samples.wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CannotMake, ValueError, OSError) as e:
        sys.exit(f"bench: {e}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")

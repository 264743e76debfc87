"""Runs a machine and times the marker lines that come out of its serial line, as `programs/bench.h` and `run` print them."""
import dataclasses
import os
import re
import select
import time

import guest as guests

MARK = re.compile(r"KILN-BENCH (\S+) (begin|end|result|failed:) ?(.*)")


class Failure(Exception):
    pass


@dataclasses.dataclass
class Run:
    """What one start of a machine gave."""
    seconds: dict = dataclasses.field(default_factory=dict)   # program -> between its lines; "shell" -> from the process's start
    results: dict = dataclasses.field(default_factory=dict)   # program -> what it printed
    failures: dict = dataclasses.field(default_factory=dict)  # program -> why
    figures: dict = dataclasses.field(default_factory=dict)   # what else there is to tell; report.FIGURES names them


def lines(started, limit):
    """(time, line) as they come; a line's time is when its end was read."""
    text, last = "", time.monotonic()
    while True:
        ready, _, _ = select.select([started.line], [], [], 0.5)
        now = time.monotonic()
        if ready:
            data = os.read(started.line, 65536)
            if not data:
                raise Failure(f"ended early, exit status {started.process.wait()}")
            text, last = text + data.decode(errors="replace"), now
        elif started.process.poll() is not None:
            raise Failure(f"ended early, exit status {started.process.returncode}")
        elif now - last > limit:
            raise Failure(f"said nothing for {limit} s")
        *complete, text = text.split("\n")
        for line in complete:
            yield now, line.strip()


def memory_beside_ram(pid, ram, initrd):
    """Resident bytes of a process (those mapped twice count once) but for the guest's RAM, which is the mapping of that size that is not executable, and for the
    initial RAM disk, of which an emulator holds a copy to give it to the guest again after a reset."""
    total, counted = -initrd, False
    try:
        with open(f"/proc/{pid}/smaps") as f:
            for line in f:
                if head := re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line):
                    size = int(head[2], 16) - int(head[1], 16)
                    counted = size < ram or "x" in head[3]
                elif counted and line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    except OSError:
        return None
    return total


class Watch:
    """Follows one run's lines."""
    def __init__(self, machine, started, run, initrd):
        self.machine, self.started, self.run, self.initrd = machine, started, run, initrd
        self.begun = time.monotonic()
        self.current, self.since, self.first = None, None, None

    def instructions(self):
        return self.machine.statistics().get("instructions")

    def line(self, now, text):
        """Takes a line; says whether it was the last."""
        if guests.PROMPT in text:
            self.run.seconds["shell"] = now - self.begun
            if count := self.instructions():
                self.run.figures["boot"] = count / (now - self.begun)
        if text.endswith("KILN-BENCH all done"):
            self.finish()
            return True
        if not (mark := MARK.search(text)):
            return False
        name, what, rest = mark.groups()
        if what == "begin":
            self.current, self.since = name, now
            if not self.first and (count := self.instructions()):
                self.first = now, count
        elif what == "end" and name == self.current:
            self.run.seconds[name] = now - self.since
            self.current = None
        elif what == "result":
            self.run.results[name] = rest
        elif what == "failed:":
            self.run.failures[name] = rest
            self.current = None
        return False

    def finish(self):
        told = self.machine.statistics()
        if (count := told.pop("instructions", None)) and self.first:
            self.run.figures["programs"] = (count - self.first[1]) / (time.monotonic() - self.first[0])
        self.run.figures.update(told)
        if self.machine.direct:
            self.run.figures["beside"] = memory_beside_ram(self.started.process.pid, self.machine.ram, self.initrd)


def follow(machine, started, run, limit, last=lambda run: False, initrd=0):
    """Until all programs are done or `last` says so; raises Failure."""
    watch = Watch(machine, started, run, initrd)
    try:
        for now, text in lines(started, limit):
            if watch.line(now, text) or last(run):
                return
    except Failure:
        if watch.current:
            run.failures[watch.current] = "did not end"
            run.seconds.pop(watch.current, None)
        raise
    finally:
        started.close()


def programs(machine, guest, names, limit, say):
    """Runs the programs; one that takes the machine along is left out and the others go on in a new one."""
    run, left = Run(), list(names)
    while left:
        part = guest.portion(left)
        try:
            follow(machine, machine.linux(guest, part), run, limit, initrd=os.path.getsize(guest.initrd(part)))
        except Failure as e:
            say(f"{machine.name}: {e}")
            known = {*run.results, *run.failures}
            if not known.intersection(part):  # not even the first began
                run.failures.update({name: str(e) for name in left})
                break
            done = max(i for i, name in enumerate(part) if name in known)
            left = left[done + 1:]
            continue
        left = left[len(part):]
    return run


def boot(machine, guest, cd, limit):
    run = Run()
    started = machine.linux_from_cd(guest, []) if cd else machine.linux(guest, [])
    follow(machine, started, run, limit, lambda run: "shell" in run.seconds)
    return run


def bare(machine, guest, program, limit):
    run = Run()
    follow(machine, machine.multiboot(guest, program), run, limit, lambda run: program.name in run.results)
    return run


def first_instruction(machine, guest, limit):
    """Seconds from the start of the process to what the firmware's third instruction writes."""
    begun = time.monotonic()
    started = machine.rom(guest)
    try:
        ready, _, _ = select.select([started.line], [], [], limit)
        now = time.monotonic()
        if not ready or not os.read(started.line, 1):
            raise Failure("the firmware's first instruction did not come")
        return now - begun
    finally:
        started.close()

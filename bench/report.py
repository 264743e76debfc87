"""From samples to tables: medians, ratios by program, geometric means by row."""
import json
import os
import re
import statistics


class Samples:
    """machine -> program -> seconds of every round; what went wrong; and figures beside the programs."""
    def __init__(self):
        self.seconds, self.wrong, self.figures = {}, {}, {}

    def add(self, machine, program, seconds):
        self.seconds.setdefault(machine, {}).setdefault(program, []).append(seconds)

    def fail(self, machine, program, why):
        self.wrong.setdefault(machine, {})[program] = why

    def figure(self, machine, key, value):
        if value is not None:
            self.figures.setdefault(machine, {}).setdefault(key, []).append(value)

    def median(self, machine, program):
        """None where it did not run, or ever gave a wrong result."""
        values = self.seconds.get(machine, {}).get(program)
        return statistics.median(values) if values and program not in self.wrong.get(machine, {}) else None


def ratio(samples, row, above, below):
    """Geometric mean over the programs both ran, and how many those are."""
    pairs = [(samples.median(above, p.name), samples.median(below, p.name)) for p in row.programs]
    ratios = [a / b for a, b in pairs if a and b]
    return (statistics.geometric_mean(ratios) if ratios else None), len(ratios)


def times(value, count=None, of=None):
    if value is None:
        return "-"
    return f"{value:.2f}x" + (f" ({count} of {of})" if count != of else "")


def markdown(head, lines):
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(out + ["| " + " | ".join(line) + " |" for line in lines])


def row_table(samples, rows, machines):
    """Each machine but QEMU and the host beside those two, with the floors of the first one."""
    names = [m.name for m in machines]
    others = [n for n in names if n not in ("qemu", "native")]
    head = ["row", "programs"]
    head += [f"{n}'s speed over {'QEMU' if over == 'qemu' else over}" for over in ("qemu",) if over in names for n in others]
    head += ["floor"] if "qemu" in names else []
    head += [f"{n} against native" for n in others if "native" in names]
    head += ["ceiling", "QEMU against native"] if {"native", "qemu"} <= set(names) else ["ceiling"] if "native" in names else []
    head += [f"{n}'s time over {others[0]}'s" for n in others[1:]]
    lines = []
    for row in rows:
        total = len(row.programs)
        line = [row.title, str(total)]
        if "qemu" in names:
            line += [times(*ratio(samples, row, "qemu", n), total) for n in others]
            line += [f">= {row.over_qemu}x" if row.over_qemu else ""]
        if "native" in names:
            line += [times(*ratio(samples, row, n, "native"), total) for n in others]
            line += [f"<= {row.against_native}x" if row.against_native else ""]
            line += [times(*ratio(samples, row, "qemu", "native"), total)] if "qemu" in names else []
        line += [times(*ratio(samples, row, n, others[0]), total) for n in others[1:]]
        lines.append(line)
    return markdown(head, lines)


def program_table(samples, rows, machines):
    names = [m.name for m in machines]
    lines = []
    for row in rows:
        for program in row.programs:
            line = [row.key, program.name]
            for name in names:
                value = samples.median(name, program.name)
                line.append(samples.wrong.get(name, {}).get(program.name, "-") if value is None else f"{value:.4f}")
            lines.append(line)
    return markdown(["row", "program, seconds", *names], lines)


# Others are printed as the machine's statistics() names them.
FIGURES = {"first": ("start to the firmware's first instruction", 1e3, "ms"),
           "beside": ("memory beside the guest's RAM and initrd", 2**-20, "MiB"),
           "boot": ("boot", 1e-6, "million guest instructions a second"),
           "programs": ("programs", 1e-6, "million guest instructions a second")}


def figure_lines(samples):
    lines = []
    for machine, figures in samples.figures.items():
        for key, values in figures.items():
            title, factor, unit = FIGURES.get(key, (key, 1, ""))
            lines.append(f"* {machine}, {title}: {statistics.median(values) * factor:.0f} {unit}".rstrip())
    return lines


def host():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*: (.*)", f.read())
    return {"processor": model[1] if model else os.uname().machine, "processors": len(os.sched_getaffinity(0)),
            "kernel": os.uname().release, "load": os.getloadavg()}


def as_json(samples, rows, machines, facts):
    return json.dumps({
        **facts, "host": host(),
        "machines": {m.name: {"command": m.command, "version": m.version()} for m in machines},
        "seconds": samples.seconds, "wrong": samples.wrong, "figures": samples.figures,
        "rows": {row.key: {"title": row.title, "programs": [p.name for p in row.programs], "over_qemu": row.over_qemu,
                           "against_native": row.against_native,
                           "ratios": {a.name: {b.name: ratio(samples, row, a.name, b.name)[0] for b in machines if b is not a}
                                      for a in machines}} for row in rows},
    }, indent=1)

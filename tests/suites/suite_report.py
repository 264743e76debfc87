"""What the suite runners have in common: results as a table, and the committed lists of known failures.

A list of known failures (known_failures_*.txt) has a line for each test that is known not to pass: its name, `fail` or
`skip`, and why. A run fails when a test fails or is skipped that is not in the list, and when one in the list passes: then
its line has to go, so that lists only shrink.
"""
import re


class KnownFailures:
    def __init__(self, path):
        self.path = path
        self.entries = {}
        if not path:
            return
        with open(path, encoding="utf-8") as f:
            for line in f:
                line = line.split("#", 1)[0].strip()
                if not line:
                    continue
                match = re.fullmatch(r"(\S+)\s+(fail|skip)\s+(.+)", line)
                if not match:
                    raise SystemExit(f"{path}: can't understand the line: {line}")
                self.entries[match[1]] = (match[2], match[3])

    def judge(self, name, outcome):
        """'' when the outcome is as expected, else what is wrong."""
        known = self.entries.get(name, ("pass", ""))[0]
        if outcome == known:
            return ""
        if outcome == "pass":
            return f"passes now: take it off {self.path}"
        return "NEW" if known == "pass" else f"was {known}"

    def reason(self, name):
        return self.entries.get(name, ("", ""))[1]


class Report:
    """Collects results, prints them as they come, and says at the end whether the run is as it should be."""

    def __init__(self, known):
        self.known = known
        self.results = []
        self.wrong = []

    def add(self, name, outcome, seconds=0.0, detail=""):
        verdict = self.known.judge(name, outcome)
        self.results.append((name, outcome, detail))
        if verdict:
            self.wrong.append((name, outcome, verdict))
        note = verdict or self.known.reason(name)
        print(f"{outcome:5} {name:45} {seconds:6.1f}s  {detail:32} {note}".rstrip(), flush=True)

    def finish(self):
        counts = {}
        for _, outcome, _ in self.results:
            counts[outcome] = counts.get(outcome, 0) + 1
        print(", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items())) or "nothing ran")
        for name, outcome, verdict in self.wrong:
            print(f"UNEXPECTED: {name}: {outcome}, {verdict}")
        return 1 if self.wrong or not self.results else 0

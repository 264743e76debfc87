#!/usr/bin/env python3
"""Runs the x86 tests of a built kvm-unit-tests tree in kiln, or in any emulator with QEMU's command line.

    run_kvm_unit_tests.py --tests DIR --emulator build/kiln
    run_kvm_unit_tests.py --tests DIR --emulator qemu-system-x86_64 --accel tcg --known none

DIR is the tree (with x86/unittests.cfg and x86/*.flat). Each test's log goes to --logs. The exit status is 0 when every
result is as the list of known failures says. See docs/test-suites.md.
"""
import argparse
import fnmatch
import os
import re
import shlex
import subprocess
import sys
import time

from suite_report import KnownFailures, Report

HERE = os.path.dirname(os.path.abspath(__file__))
PASS, SKIP, ABORT = 1, 77, 127


def parse_config(path):
    """The sections of unittests.cfg: dictionaries of their keys, in order."""
    tests, lines = [], open(path, encoding="utf-8").read().splitlines()
    for line in lines:
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        section = re.fullmatch(r"\[(.+)\]", line)
        if section:
            tests.append({"name": section[1]})
        elif "=" in line and tests:
            key, value = (part.strip() for part in line.split("=", 1))
            tests[-1][key] = value
    return tests


def unquote(text):
    """test_args as a shell would see them; `date +%s` is the only command in use."""
    text = text.replace("`date +%s`", str(int(time.time())))
    return " ".join(shlex.split(text))


def without_kvm(parameters):
    """Emulators have no KVM: -enable-kvm goes, `host` is the best model they have, and nothing depends on the host."""
    out = [p for p in parameters if p != "-enable-kvm"]
    for i, p in enumerate(out):
        if out[i - 1] == "-cpu":
            out[i] = re.sub(r",(host-phys-bits|migratable|hv_passthrough)(=\w+)?", "", re.sub(r"^host\b", "max", p))
    return out


def command_for(test, args):
    image = os.path.join(args.tests, "x86", test["file"])
    command = [args.emulator, "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]
    command += ["-device", "pc-testdev", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"]
    if args.accel:
        command += ["-accel", args.accel]
    command += ["-smp", test.get("smp", "1")]
    parameters = without_kvm(shlex.split(test.get("qemu_params", "")))
    command += parameters
    if "-cpu" not in parameters and args.cpu:
        command += ["-cpu", args.cpu]
    if args.environ:
        command += ["-initrd", args.environ]
    command += ["-kernel", image]
    if test.get("test_args"):
        command += ["-append", unquote(test["test_args"])]
    return command + shlex.split(args.extra)


def run(command, timeout, log):
    begin = time.time()
    with open(log, "wb") as out:
        out.write((shlex.join(command) + "\n").encode())
        out.flush()
        try:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                    timeout=timeout, check=False).returncode
        except subprocess.TimeoutExpired:
            status = None
    return status, time.time() - begin


def outcome_of(status, log):
    text = open(log, encoding="utf-8", errors="replace").read()
    # An emulator that refuses its command line exits with 1, too.
    complaint = re.compile(r"[\w.-]*(kiln|qemu)[\w.-]*: ")
    guest = [line for line in text.splitlines()[1:] if line.strip() and not complaint.match(line)]
    if not guest:
        return "fail", "did not start: " + complaint.sub("", text.splitlines()[-1])[:60]
    summary = re.findall(r"^SUMMARY: (.*?)\r?$", text, re.M)
    detail = summary[-1] if summary else ""
    if status is None:
        return "fail", "timeout " + detail
    if status == PASS and (summary or "FAIL" not in text):
        return "pass", detail
    if status == SKIP:
        return "skip", detail or "skipped by the test itself"
    if status == ABORT:
        return "fail", "aborted " + detail
    if not summary:
        lines = [line.strip() for line in text.splitlines()[1:] if line.strip()]
        detail = f"status {status}: {lines[-1][:60]}" if lines else f"status {status}"
    return "fail", detail


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", required=True, help="a built kvm-unit-tests tree")
    parser.add_argument("--emulator", required=True)
    parser.add_argument("--arch", default="x86_64", choices=["x86_64", "i386"], help="what the tree was built for")
    parser.add_argument("--accel", default="")
    parser.add_argument("--cpu", default="", help="-cpu for tests that name none")
    parser.add_argument("--environ", default="", help="a file to pass as environment module")
    parser.add_argument("--extra", default="", help="further options for the emulator")
    parser.add_argument("--only", default="*", help="patterns of names, separated by commas")
    parser.add_argument("--skip", default="", help="patterns of names not to run")
    parser.add_argument("--timeout", type=float, default=90, help="seconds where unittests.cfg gives none")
    parser.add_argument("--scale", type=float, default=1, help="factor for all time limits")
    parser.add_argument("--logs", default="kvm-unit-tests-logs")
    parser.add_argument("--known", default="", help="list of known failures, or none")
    args = parser.parse_args()
    if args.known == "":
        args.known = os.path.join(HERE, f"known_failures_kvm_unit_tests_{args.arch}.txt")
    report = Report(KnownFailures("" if args.known == "none" else args.known))
    os.makedirs(args.logs, exist_ok=True)
    matches = lambda name, patterns: any(fnmatch.fnmatch(name, p) for p in patterns.split(",") if p)
    for test in parse_config(os.path.join(args.tests, "x86", "unittests.cfg")):
        name = test["name"]
        if not matches(name, args.only) or matches(name, args.skip):
            continue
        if test.get("arch", args.arch) != args.arch or "nodefault" in test.get("groups", "").split():
            continue
        if not os.path.exists(os.path.join(args.tests, "x86", test["file"])):
            report.add(name, "skip", 0, test["file"] + " was not built")
            continue
        log = os.path.join(args.logs, name + ".log")
        limit = float(test.get("timeout", args.timeout)) * args.scale
        status, seconds = run(command_for(test, args), limit, log)
        outcome, detail = outcome_of(status, log)
        report.add(name, outcome, seconds, detail)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())

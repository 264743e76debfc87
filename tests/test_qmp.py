#!/usr/bin/env python3
"""Drives kiln from outside by its monitors: QEMU's machine protocol as its specification has it, and the human monitor at a socket.
Usage: test_qmp.py KILN ROM    (ROM: machine_rom.asm)"""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

SLOWNESS = float(os.environ.get("KILN_TIME_FACTOR", "1"))
LIMIT = 60 * SLOWNESS
KILN, ROM = sys.argv[1:3]
THREE_RESETS, POWER_OFF, TEN_TICKS = 1, 2, 3  # programs of the ROM


def until(what, condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain for " + what
        time.sleep(0.01)


class Client:
    """One connection. Events are kept apart from answers."""

    def __init__(self, address):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(LIMIT)
        until("a listener at %s" % (address,), lambda: self.socket.connect_ex(address) == 0)
        self.file = self.socket.makefile("rb")
        self.events = []

    def send(self, text):
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def receive(self):
        """The next object that is no event; None at the end."""
        while True:
            line = self.file.readline()
            if not line:
                return None
            assert line.endswith(b"\r\n"), line
            message = json.loads(line)
            if "event" not in message:
                return message
            assert set(message["timestamp"]) == {"seconds", "microseconds"}, message
            self.events.append(message)

    def ask(self, command, **arguments):
        request = {"execute": command}
        if arguments:
            request["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.send(json.dumps(request))
        return self.receive()

    def call(self, command, **arguments):
        answer = self.ask(command, **arguments)
        assert answer and "return" in answer, (command, answer)
        return answer["return"]

    def refused(self, command, kind="GenericError", **arguments):
        answer = self.ask(command, **arguments)
        assert answer["error"]["class"] == kind and answer["error"]["desc"], answer

    def human(self, line):
        return self.call("human-monitor-command", command_line=line)

    def wait_for(self, name):
        """The next event of this name, and its data."""
        self.socket.settimeout(0.2)
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            for i, event in enumerate(self.events):
                if event["event"] == name:
                    del self.events[: i + 1]
                    self.socket.settimeout(LIMIT)
                    return event.get("data")
            self.socket.settimeout(LIMIT)
            line = self.file.readline()
            assert line, "the connection ended before " + name
            self.events.append(json.loads(line))
        raise AssertionError("no event " + name)

    def negotiate(self):
        greeting = self.receive()
        version = greeting["QMP"]["version"]["qemu"]
        assert set(version) == {"major", "minor", "micro"} and isinstance(greeting["QMP"]["capabilities"], list), greeting
        assert self.call("qmp_capabilities") == {}
        return self

    def close(self):
        self.file.close()
        self.socket.close()


class Kiln:
    """A machine, and its directory."""

    def __init__(self, *arguments, program=None, directory=None):
        self.scratch = None if directory else tempfile.TemporaryDirectory(prefix="kiln-qmp-")
        self.directory = directory or self.scratch.name
        self.path = os.path.join(self.directory, "qmp")
        command = [KILN, "-display", "none", "-m", "32M", "-serial", "none"]
        if program is not None:
            rom = os.path.join(self.directory, "rom")
            with open(ROM, "rb") as f:
                image = bytearray(f.read())
            image[0] = program
            with open(rom, "wb") as f:
                f.write(image)
            command += ["-bios", rom, "-vga", "none", "-device", "isa-debug-exit"]
        command += [a.replace("@", self.directory) for a in arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        if self.scratch:
            self.scratch.cleanup()

    def file(self, name):
        return os.path.join(self.directory, name)

    def client(self, name="qmp"):
        return Client(self.file(name))

    def ended(self, status=0):
        out, err = self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == status, (self.process.returncode, out, err)
        return out.decode() + err.decode()


QMP = ("-qmp", "unix:@/qmp,server=on,wait=off")


def test_protocol():
    """Negotiation, pieces, several commands in one write, what is no command, and going on after it."""
    with Kiln(*QMP) as kiln:
        c = kiln.client()
        c.receive()
        c.refused("query-status", "CommandNotFound")
        assert c.call("qmp_capabilities") == {}
        c.refused("qmp_capabilities", "CommandNotFound")
        for byte in b'{"execute": "query-status", "id": "one"}':
            c.send(bytes([byte]))
        answer = c.receive()
        assert answer["id"] == "one" and answer["return"]["status"] == "running", answer
        c.send('{"execute":"query-name","id":1}{"execute":"nonsense","id":2}\r\n{\'execute\':\'query-kvm\',\'id\':3}')
        answers = [c.receive() for _ in range(3)]
        assert [a["id"] for a in answers] == [1, 2, 3] and answers[1]["error"]["class"] == "CommandNotFound", answers
        for garbage in ('{"execute": ]\n', "\xff\xfe\n", "[1,2]", '"text"\n', "\0\n", '{"execute": "stop", "more": 1}',
                        "[" * 300 + "\n", '{"execute":"query-name","arguments":{"x":1}}'):
            c.send(garbage.encode("latin-1"))
            assert c.receive()["error"]["class"] == "GenericError", garbage
            assert c.call("query-kvm") == {"enabled": False, "present": False}
        c.send(b'{"execute":"' + b"x" * (2 << 20) + b'"}\n')
        assert "too long" in c.receive()["error"]["desc"]
        assert c.call("query-status")["running"]
        for i in range(2000):
            c.send('{"execute":"query-version","id":%d}' % i)
        for i in range(2000):
            assert c.receive()["id"] == i
        names = {entry["name"] for entry in c.call("query-commands")}
        assert {"query-status", "query-cpus-fast", "stop", "cont", "quit", "system_reset", "system_powerdown", "screendump",
                "human-monitor-command", "query-commands"} <= names
        for name in sorted(names):
            if name.startswith("query-"):
                c.call(name)
        assert c.call("quit") == {}
        assert c.wait_for("SHUTDOWN") == {"guest": False, "reason": "host-qmp-quit"}
        assert c.receive() is None
        kiln.ended()
        assert not os.path.exists(kiln.path), "the socket's file is still there"


def test_states():
    """-S, stop, cont, reset, the power button: states and events."""
    for more in (), ("-smp", "2", "-accel", "jit,thread=multi"):
        with Kiln("-S", *QMP, *more) as kiln:
            c = kiln.client().negotiate()
            state = lambda: c.call("query-status")["status"]
            assert state() == "prelaunch" and not c.call("query-status")["running"]
            c.call("cont")
            c.wait_for("RESUME")
            assert state() == "running"
            c.call("stop")
            c.wait_for("STOP")
            assert state() == "paused"
            before = c.human("info status")
            assert before.startswith("VM status: paused\n") and c.human("info status") == before, before
            c.call("system_reset")
            assert c.wait_for("RESET") == {"guest": False, "reason": "host-qmp-system-reset"}
            assert state() == "prelaunch"
            c.call("cont")
            c.wait_for("RESUME")
            c.call("system_powerdown")
            c.wait_for("POWERDOWN")
            cpus = c.call("query-cpus-fast")
            assert len(cpus) == (2 if more else 1) and all(cpu["thread-id"] > 0 for cpu in cpus), cpus
            kiln.process.send_signal(signal.SIGTERM)
            assert c.wait_for("SHUTDOWN") == {"guest": False, "reason": "host-signal"}
            assert "signal" in kiln.ended()


def test_guest_events():
    """What a guest does by itself: resets, and switching off."""
    with Kiln("-qmp", "unix:@/qmp,server,nowait", "-S", program=THREE_RESETS) as kiln:
        c = kiln.client().negotiate()
        c.call("cont")
        for _ in range(3):
            assert c.wait_for("RESET") == {"guest": True, "reason": "guest-reset"}
        assert c.wait_for("SHUTDOWN")["guest"]
        kiln.ended(7)
    with Kiln(*QMP, "-S", "-no-reboot", program=THREE_RESETS) as kiln:
        c = kiln.client().negotiate()
        c.call("cont")
        assert c.wait_for("SHUTDOWN") == {"guest": True, "reason": "guest-reset"}
        kiln.ended()
    with Kiln(*QMP, "-S", "-no-shutdown", program=POWER_OFF) as kiln:
        c = kiln.client().negotiate()
        c.call("cont")
        assert c.wait_for("SHUTDOWN") == {"guest": True, "reason": "guest-shutdown"}
        c.wait_for("STOP")
        assert c.call("query-status")["status"] == "shutdown"
        c.refused("cont")
        c.call("system_reset")
        c.wait_for("RESET")
        c.call("set-action", shutdown="poweroff")
        c.call("cont")
        assert c.wait_for("SHUTDOWN") == {"guest": True, "reason": "guest-shutdown"}
        kiln.ended()


def test_files():
    """Pictures and memory."""
    with Kiln(*QMP) as kiln:
        c = kiln.client().negotiate()
        until("the firmware", lambda: "SeaBIOS" in c.human("info screen"))
        c.call("screendump", filename=kiln.file("a"))
        c.call("screendump", filename=kiln.file("b"), format="png")
        c.human("screendump " + kiln.file("c.ppm"))
        c.human("screendump " + kiln.file("d.png"))
        starts = [open(kiln.file(name), "rb").read(4) for name in ("a", "b", "c.ppm", "d.png")]
        assert starts == [b"P6\n7", b"\x89PNG", b"P6\n7", b"\x89PNG"], starts
        with open(kiln.file("a"), "rb") as f:
            assert len(f.read()) == len(b"P6\n720 400\n255\n") + 720 * 400 * 3
        c.refused("screendump", filename="/nonexistent/x")
        c.refused("screendump", filename=kiln.file("e"), format="gif")
        c.call("pmemsave", val=0xFFFFFFF0, size=16, filename=kiln.file("m"))
        with open(kiln.file("m"), "rb") as f:
            assert f.read(1) == b"\xea", "the reset vector begins with a jump"
        c.refused("pmemsave", val=0x7000000000, size=16, filename=kiln.file("m"))


def test_looking():
    """Everything there is to look at, while the machine runs; what a look says of the firmware at work; a reset by a port."""
    for more in (), ("-smp", "2", "-accel", "jit,thread=multi"):
        with Kiln(*QMP, "-device", "edu", *more) as kiln:
            c = kiln.client().negotiate()
            until("the firmware's timer", lambda: "   08: " in c.human("info irq"))
            subjects = [line.split()[1] for line in c.human("help info").splitlines()]
            assert {"registers", "tlb", "mem", "pic", "lapic", "ioapic", "irq", "pci", "qtree", "jit"} <= set(subjects), subjects
            for subject in subjects:
                text = c.human("info " + subject)
                assert "unknown" not in text and (text == "" or text.endswith("\n")), (subject, text)
            assert "edu" in c.human("info qtree") and "edu" in c.human("info mtree") and "edu" in c.human("info pci")
            assert c.human("x/2i $pc").count("0x") >= 2
            assert c.human("x/1xh 0xffff0") == c.human("xp/1xh 0xffff0")
            assert c.human("o/b 0x70 0x40") == "" and c.human("o/b 0x71 0xa5") == ""
            c.human("o/b 0x70 0x40")
            assert c.human("i/b 0x71") == "portb[0x0071] = 0xa5\n"
            c.human("o/b 0xcf9 6")
            assert c.wait_for("RESET") == {"guest": True, "reason": "guest-reset"}
            c.call("quit")
            kiln.ended()


def test_clients():
    """One at a time, and the next one begins anew; who leaves in the middle disturbs nobody."""
    with Kiln(*QMP) as kiln:
        first = kiln.client().negotiate()
        second = kiln.client()
        second.socket.settimeout(0.3)
        try:
            second.file.readline()
            raise AssertionError("two clients at a time")
        except socket.timeout:
            pass
        second.file = second.socket.makefile("rb")
        second.socket.settimeout(LIMIT)
        first.send('{"execute":"query-commands"}' * 50 + '{"execute"')
        first.close()
        second.receive()
        second.refused("stop", "CommandNotFound")
        second.close()
        # One that reads nothing holds nobody up.
        deaf = kiln.client()
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.send('{"execute":"qmp_capabilities"}')
        deaf.socket.settimeout(0.5)
        try:
            for _ in range(1000):
                deaf.send('{"execute":"query-commands"}' * 20)
        except socket.timeout:
            pass
        deaf.close()
        # One that has said all it has to say still gets its answers.
        brief = kiln.client()
        brief.send('{"execute":"qmp_capabilities"}{"execute":"query-kvm"}')
        brief.socket.shutdown(socket.SHUT_WR)
        assert brief.receive()["QMP"] and brief.receive()["return"] == {}
        assert brief.receive()["return"] == {"enabled": False, "present": False}
        assert brief.receive() is None
        last = kiln.client().negotiate()
        last.call("quit")
        kiln.ended()


def test_socket_files():
    """A dead process's socket is replaced; a living one's, or another file, is not."""
    with Kiln(*QMP) as kiln:
        kiln.client().negotiate()
        with Kiln("-qmp", "unix:@/qmp,server=on,wait=off", directory=kiln.directory) as other:
            assert "can't listen" in other.ended(1)
        kiln.client  # the first one still listens
        kiln.process.kill()
        kiln.process.wait()
        assert os.path.exists(kiln.path)
        with Kiln(*QMP, directory=kiln.directory) as other:
            other.client().negotiate().call("quit")
            other.ended()
        assert not os.path.exists(kiln.path)
        open(kiln.path, "w").close()
        with Kiln(*QMP, directory=kiln.directory) as other:
            assert "can't listen" in other.ended(1)
        assert os.path.exists(kiln.path)


def test_waiting():
    """wait=on holds the machine until somebody comes, and a signal ends it."""
    with Kiln("-qmp", "unix:@/qmp,server=on", "-S", program=TEN_TICKS) as kiln:
        c = kiln.client().negotiate()
        assert c.call("query-status")["status"] == "prelaunch"
        c.call("quit")
        kiln.ended()
    with Kiln("-qmp", "unix:@/qmp,server", program=TEN_TICKS) as kiln:
        until("the socket", lambda: os.path.exists(kiln.path))
        time.sleep(0.5)
        assert kiln.process.poll() is None, "it did not wait"
        kiln.process.send_signal(signal.SIGTERM)
        kiln.ended()
        assert not os.path.exists(kiln.path)


def test_other_ways():
    """-chardev and -mon, TCP, the terminal, and the human monitor at a socket."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with Kiln("-chardev", "socket,id=c0,path=@/qmp,server=on,wait=off", "-mon", "chardev=c0,mode=control,pretty=off",
              "-chardev", "socket,id=c1,path=@/hmp,server=on,wait=off", "-mon", "chardev=c1,mode=readline",
              "-qmp", "tcp::%d,server=on,wait=off" % port, "-name", "several") as kiln:
        c = kiln.client().negotiate()
        tcp = Client(("127.0.0.1", port)).negotiate()
        assert tcp.call("query-name") == {"name": "several"}
        tcp.call("stop")
        c.wait_for("STOP")  # everybody is told
        assert {d["label"] for d in c.call("query-chardev")} >= {"c0", "c1"}
        people = kiln.client("hmp")
        people.send("info status\nhelp info\nnonsense\n")
        text = b""
        while text.count(b"(kiln) ") < 4:
            text += people.socket.recv(4096)
        assert b"VM status: paused" in text and b"info registers" in text and b"unknown command" in text, text
        people.send("quit\n")
        kiln.ended()
    with Kiln("-qmp", "stdio") as kiln:
        out, _ = kiln.process.communicate(b'{"execute":"qmp_capabilities"}{"execute":"quit","id":5}\n', timeout=LIMIT)
        lines = [json.loads(line) for line in out.splitlines()]
        assert "QMP" in lines[0] and lines[1] == {"return": {}} and lines[2] == {"return": {}, "id": 5}, lines
        assert lines[3]["event"] == "SHUTDOWN", lines


def main():
    failures = 0
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_")]
    for name, test in tests:
        try:
            test()
        except Exception:
            failures += 1
            print("FAILED: %s (%s)" % (name, test.__doc__))
            traceback.print_exc(file=sys.stdout)
    print("%d passed, %d failed" % (len(tests) - failures, failures))
    return failures != 0


sys.exit(main())

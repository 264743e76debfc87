"""Drives a kiln process by its monitor: what the guest tests have in common."""
import os
import re
import socket
import subprocess
import tempfile
import time

PROMPT = b"(kiln) "


# How much longer than usual things may take: a kiln that itself runs under an emulator.
SLOWNESS = float(os.environ.get("KILN_TIME_FACTOR", "1"))


class GuestError(Exception):
    """The guest did not do what was expected."""


class Guest:
    """A running kiln. Use it in a `with`: the process is ended, and its directory removed, at the end."""

    def __init__(self, kiln, arguments, serial=False, display="none"):
        self.directory = tempfile.TemporaryDirectory(prefix="kiln-guest-")
        self.serial_path = os.path.join(self.directory.name, "serial")
        self.socket_path = os.path.join(self.directory.name, "monitor")
        command = [kiln, "-display", display, "-monitor", "unix:" + self.socket_path, "-serial",
                   "file:" + self.serial_path if serial else "null", *arguments]
        self.output = open(os.path.join(self.directory.name, "output"), "w+")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output)
        self.socket = None
        try:
            self._connect()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.socket:
            self.socket.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.output.close()
        self.directory.cleanup()

    def _connect(self):
        deadline = time.monotonic() + 30 * SLOWNESS
        while not self.socket:
            connection = socket.socket(socket.AF_UNIX)
            try:  # the socket is there a moment before it listens
                connection.connect(self.socket_path)
                self.socket = connection
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                self._alive()
                if time.monotonic() > deadline:
                    raise GuestError("kiln does not open its monitor")
                time.sleep(0.05)
        self.socket.settimeout(120 * SLOWNESS)
        self._reply()

    def _alive(self):
        if self.process.poll() is not None:
            self.output.seek(0)
            raise GuestError("kiln ended with status %d: %s" % (self.process.returncode, self.output.read()[-400:].strip()))

    def _reply(self):
        data = b""
        while not data.endswith(PROMPT):
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionResetError("it closed the connection")
            data += more
        return data[:-len(PROMPT)].decode("utf-8", "replace")

    def monitor(self, line):
        """Runs a monitor command and returns what it printed."""
        try:
            self.socket.sendall(line.encode() + b"\n")
            return self._reply()
        except OSError as e:
            self.process.wait(30)
            self._alive()
            raise GuestError("the monitor does not answer: %s" % e)

    def screen(self):
        """The characters of a text screen."""
        return self.monitor("info screen")

    def serial(self):
        try:
            with open(self.serial_path, "rb") as f:
                return f.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def screendump(self, path):
        error = self.monitor("screendump " + path).strip()
        if error:
            raise GuestError(error)

    def wait_for(self, pattern, seconds, text=None, what=None):
        """Waits until the regular expression is found in the screen's text (or what `text` returns)."""
        text = text or self.screen
        deadline = time.monotonic() + seconds * SLOWNESS
        while True:
            now = text()
            if re.search(pattern, now, re.MULTILINE):
                return now
            if time.monotonic() > deadline:
                raise GuestError("no %s within %d s; last seen:\n%s" % (what or repr(pattern), seconds, now.strip()[-1500:]))
            self._alive()
            time.sleep(0.5)

    def wait_serial(self, pattern, seconds):
        return self.wait_for(pattern, seconds, self.serial)

    def type(self, text):
        """Types on the keyboard; "\\n" is Enter."""
        error = self.monitor("type " + text.replace("\\", "\\\\").replace("\n", "\\n")).strip()
        if error:
            raise GuestError(error)

    def answer(self, what):
        """Types a string, presses a tuple of keys."""
        if isinstance(what, tuple):
            self.keys(*what)
        elif what:
            self.type(what)

    def keys(self, *chords):
        for chord in chords:
            error = self.monitor("sendkey " + chord).strip()
            if error:
                raise GuestError(error)
            time.sleep(0.15)

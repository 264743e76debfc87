"""Debian 12's packages without installing them: downloaded by apt with lists of its own in a directory, and unpacked there. For the
guests and the benchmark."""
import glob
import os
import re
import shutil
import subprocess
import tempfile

MIRROR = os.environ.get("KILN_DEBIAN_MIRROR", "http://deb.debian.org/debian")


class CannotMake(Exception):
    pass


def run(*command, **options):
    try:
        return subprocess.run(command, check=True, capture_output=True, **options).stdout
    except subprocess.CalledProcessError as e:
        raise CannotMake("%s: %s" % (command[0], e.stderr.decode("utf-8", "replace").strip()[-300:]))


def need(*programs):
    for program in programs:
        if not shutil.which(program, path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin"):
            raise CannotMake(program + " is not installed")


class Packages:
    """Debian packages, unpacked; apt with its lists and cache in a directory of its own."""

    def __init__(self, directory, *suites):
        self.directory = os.path.abspath(directory)
        self.suites = ("bookworm", *suites)
        self.apt_options = None

    def apt(self, program, *arguments, cwd=None):
        if not self.apt_options:
            state = self.directory + "/apt"
            for part in ("lists/partial", "cache/archives/partial"):
                os.makedirs(state + "/" + part, exist_ok=True)
            open(state + "/status", "a").close()
            with open(state + "/sources.list", "w") as f:
                for suite in self.suites:
                    f.write("deb %s %s main\n" % (MIRROR, suite))
            settings = {"Dir::State": state, "Dir::State::Lists": state + "/lists", "Dir::State::status": state + "/status",
                        "Dir::Cache": state + "/cache", "Dir::Etc::SourceList": state + "/sources.list",
                        "Dir::Etc::SourceParts": "-", "APT::Architecture": "amd64", "APT::Sandbox::User": "root"}
            self.apt_options = [x for key, value in settings.items() for x in ("-o", key + "=" + value)]
            self.apt_options += ["-o", "APT::Architectures::=amd64", "-o", "APT::Architectures::=i386"]
            run("apt-get", *self.apt_options, "-q", "update")
        return run(program, *self.apt_options, *arguments, cwd=cwd or self.directory)

    def unpacked(self, package):
        """The directory with a package's files."""
        place = os.path.join(self.directory, package.replace(":", "_"))
        if not os.path.isdir(place):
            with tempfile.TemporaryDirectory(dir=self.directory) as work:
                self.apt("apt-get", "-q", "-o", "Dir::Cache::Archives=" + work, "download", package)
                name = package.split(":")[0]
                deb = max(glob.glob("%s/%s_*.deb" % (self.directory, name)), key=os.path.getmtime)
                run("dpkg-deb", "-x", deb, place + ".new")
                os.unlink(deb)
                os.rename(place + ".new", place)
        return place

    def file(self, package, pattern):
        found = sorted(glob.glob(os.path.join(self.unpacked(package), pattern)))
        if not found:
            raise CannotMake("%s has no %s" % (package, pattern))
        return found[-1]

    def kernel(self, package):
        """The kernel behind a package that only depends on the newest one."""
        depends = self.apt("apt-cache", "depends", package).decode().split()
        newest = next((d for d in depends if re.match(r"linux-image-\d+\.", d)), None)
        if not newest:
            raise CannotMake("apt does not know what %s depends on" % package)
        suffix = ":i386" if package.endswith(":i386") and ":" not in newest else ""
        return self.file(newest + suffix, "boot/vmlinuz-*")

    def together(self, name, packages, suite="bookworm"):
        """A directory with these packages and everything they depend on, as if installed but for their scripts."""
        place = os.path.join(self.directory, name)
        if not os.path.isdir(place):
            os.makedirs(self.directory, exist_ok=True)
            plan = self.apt("apt-get", "-s", "-q", "--no-install-recommends", "-t", suite, "install", *packages).decode()
            wanted = ["%s=%s" % found for found in re.findall(r"^Inst (\S+) \((\S+)", plan, re.M)]
            with tempfile.TemporaryDirectory(dir=self.directory) as work:
                self.apt("apt-get", "-q", "download", *wanted, cwd=work)
                for deb in sorted(glob.glob(work + "/*.deb")):
                    run("dpkg-deb", "-x", deb, place + ".new")
            os.rename(place + ".new", place)
        return place

"""Where and as whom everything runs, and what is timed."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

HERE = Path(__file__).resolve().parent.parent
USER = "lstore-bench"
CGROUP2 = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; "


class Skipped(Exception):
    """A contender cannot take part, and why."""


@dataclass
class Contender:
    """Something to time: a command, and what comes before and after it, neither of them timed."""

    name: str
    words: list
    kind: str = "peer"  # or "ours", "floor"
    before: Optional[Callable] = None
    after: Optional[Callable] = None
    hybrid: bool = False
    every: int = 1  # takes part in each n-th round: what takes longest need not be run most
    times: list = field(default_factory=list)
    memory: int = 0
    reason: Optional[str] = None


class User:
    """Who everything runs as: the caller, or for root a user of its own with subordinate ids."""

    def __init__(self, name):
        self.drops = os.geteuid() == 0
        if self.drops:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                subprocess.run(["useradd", "--create-home", name], check=True)
                entry = pwd.getpwnam(name)
        else:
            entry = pwd.getpwuid(os.getuid())
        self.name, self.uid, self.gid, self.home = entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir

    def range(self):
        """The first range of subordinate ids, as FIRST:COUNT, or None."""
        try:
            lines = Path("/etc/subuid").read_text().splitlines()
        except OSError:
            return None
        entries = (line.split(":", 1) for line in lines if ":" in line)
        return next((rest for owner, rest in entries if owner in (self.name, str(self.uid))), None)

    def drop(self):
        """Arguments for Popen that make a child this user's."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.drops else {}


class Bench:
    """The machine, the user and the room to measure in."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.user = User(arguments.user)
        self.room = self.make_room(arguments.tmpdir)
        self.runtime = self.room / "run"
        self.environment = {
            "PATH": f"{self.room}:{arguments.peers}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": self.user.home,
            "USER": self.user.name,
            "XDG_RUNTIME_DIR": str(self.runtime),
            "CONTAINERS_REGISTRIES_CONF": str(self.room / "registries.conf"),
        }
        self.run(["mkdir", "-m", "700", self.runtime])
        (self.room / "registries.conf").write_text(f'[[registry]]\nlocation = "{arguments.registry}"\ninsecure = true\n')
        for program in ("lstore", "lrun"):
            shutil.copy(binaries() / program, self.room / program)
        self.compile("stopwatch")
        # podman, crun and runc refuse a hierarchy of cgroups v1, beside v2 or not.
        self.has_hybrid = not Path("/sys/fs/cgroup/cgroup.controllers").exists()
        self.store = self.room / "store"
        self.image = self.name(arguments.image)
        self.said = ""

    def make_room(self, parent):
        """A folder of the user's."""
        room = Path(tempfile.mkdtemp(prefix="lstore-bench-", dir=parent))
        room.chmod(0o755)
        if self.user.drops:
            os.chown(room, self.user.uid, self.user.gid)
        return room

    def name(self, image):
        """An image's name with its registry."""
        return f"{self.arguments.registry}/{image}"

    def rounds(self, full, quick):
        """How many rounds, as --quick has it."""
        return quick if self.arguments.quick else full

    def compile(self, name):
        """Compiles one of the programs in C into the room."""
        self.need("cc")
        words = ["cc", "-std=gnu11", "-O2", "-static", "-o", self.room / name, HERE / f"{name}.c"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Skipped(f"{name}.c cannot be compiled statically")

    def need(self, *programs):
        """Raises Skipped where a program is missing."""
        for program in programs:
            if shutil.which(program, path=self.environment["PATH"]) is None:
                raise Skipped(f"{program} is not installed")

    def run(self, words, hybrid=False, cwd=None):
        """Runs a command as the user; what it prints stays in `said`. Raises Skipped with what it said when it fails."""
        words, drop = [str(word) for word in words], self.user.drop()
        if hybrid and self.has_hybrid:
            if not self.user.drops:
                raise Skipped("needs cgroup v2 alone; this host has v1, and only root can hide it")
            ids = [f"--reuid={self.user.uid}", f"--regid={self.user.gid}", "--clear-groups"]
            words, drop = ["unshare", "-m", "sh", "-c", CGROUP2 + 'exec setpriv "$@"', "sh", *ids, *words], {}
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            # Files and not pipes: what stays in the background keeps a pipe open.
            done = subprocess.run(
                words, env=self.environment, cwd=cwd or self.room, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                check=False, **drop,
            )
            out.seek(0), err.seek(0)
            self.said, said = out.read(), err.read().strip()
        if done.returncode != 0:
            last = (said or self.said.strip()).splitlines() or ["nothing was said"]
            raise Skipped(f"status {done.returncode}: {last[-1][:200]}")

    def watch(self, words, count=1, workers=1, hybrid=False):
        """Times a command with the stopwatch, which starts within the wrapper that hides cgroup v1: pairs of seconds and
        peak KiB."""
        self.run(["stopwatch", count, workers, *words], hybrid)
        lines = (line.split() for line in self.said.splitlines())
        return [(int(taken) / 1e9, int(memory)) for taken, memory in lines]

    def lstore(self, *words, store=None):
        """Runs lstore."""
        self.run(["lstore", "--root", store or self.store, "--quiet", *words])

    def pull(self, image, store=None):
        """Pulls an image of the registry."""
        self.lstore("pull", "--tls-verify=false", self.name(image), store=store)

    def lrun(self, *words):
        """The words of lrun on the store."""
        return ["lrun", "--root", self.store, *words]

    def remove(self, *paths):
        """Removes trees whose files belong to several ids."""
        for path in paths:
            if self.user.drops:
                subprocess.run(["rm", "-rf", path], check=True)
            else:
                self.run(["lstore", "--root", self.room / "unshare", "unshare", "rm", "-rf", path])

    def compare(self, contenders, rounds, is_tried=True):
        """Tries each once, unless that takes too long, then measures those that work, in turn."""
        for number in range(0 if is_tried else 1, rounds + 1):
            for contender in contenders:
                if contender.reason or number % contender.every != 0:
                    continue
                try:
                    if contender.before:
                        contender.before()
                    (taken, memory), *_ = self.watch(contender.words, hybrid=contender.hybrid)
                    if contender.after:
                        contender.after()
                except (Skipped, OSError, ValueError, subprocess.CalledProcessError) as error:
                    contender.reason, contender.times = str(error), []
                    continue
                if number > 0:
                    contender.times.append(taken)
                    contender.memory = max(contender.memory, memory)
                # What goes on in the background of one is not on the next one's time.
                time.sleep(0.005)
        for contender in contenders:
            if not contender.times and not contender.reason:
                contender.reason = "too few rounds for it"
        return contenders

    def collect(self, makers):
        """Contenders, those that cannot be made included with the reason."""
        contenders = []
        for name, kind, make in makers:
            try:
                contenders.append(make())
            except (Skipped, OSError, ValueError, subprocess.CalledProcessError) as error:
                contenders.append(Contender(name, [], kind, reason=str(error)))
        return contenders

    def close(self):
        """Ends what is in the background, and removes the room."""
        (self.runtime / "lrun/holder").unlink(missing_ok=True)
        for file in self.runtime.glob("**/pause.pid"):
            try:
                os.kill(int(file.read_text()), 9)
            except (OSError, ValueError):
                pass
        for _ in range(5):
            time.sleep(0.5)
            try:
                return self.remove(self.room)
            except (Skipped, subprocess.CalledProcessError):
                continue
        return print(f"left behind: {self.room}", file=sys.stderr)


def binaries():
    """The directory of the release binaries."""
    if "LSTORE_BIN_DIR" in os.environ:
        return Path(os.environ["LSTORE_BIN_DIR"])
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
    for found in [*sorted(target.glob("*-unknown-linux-*/release")), target / "release"]:
        if (found / "lstore").exists() and (found / "lrun").exists():
            return found
    sys.exit("table: no release binaries: run 'cargo build --release --bins', or set LSTORE_BIN_DIR")

"""Containers that run: a further command in one, and what one holds while it is idle."""

import json
import os
import time
from pathlib import Path

from . import peers
from .bench import Contender, Skipped
from .report import Row
from .start import prepare

IDLE = 4


def background(bench, name):
    """Starts a container that waits."""
    bench.run(bench.lrun("run", "--detach", "--rm", "--name", name, bench.image, "sleep", "1000"))


def exec_(bench):
    """A further command in a running container, by lrun and by util-linux."""
    prepare(bench)
    background(bench, "bench-exec")
    state = json.loads((bench.store / "containers/bench-exec/state").read_text())

    def nsenter():
        bench.need("nsenter")
        words = ["nsenter", "-t", state["run"]["first"]["id"], "-U", "-m", "-u", "-i", "-n", "-p", "-C"]
        return Contender("nsenter", [*words, "--preserve-credentials", "true"], "floor")

    row = Row("exec", "`lrun exec` in a running container", "≤ 2 × nsenter")
    ours = ("lrun exec", "ours", lambda: Contender("lrun exec", bench.lrun("exec", "bench-exec", "true"), "ours"))
    try:
        row.contenders = bench.compare(bench.collect([ours, ("nsenter", "floor", nsenter)]), bench.rounds(200, 10))
    finally:
        bench.run(bench.lrun("rm", "--force", "bench-exec"))
    row.ratio("nsenter", *row.contenders, 2)
    return [row]


def private(process):
    """MiB that a process shares with no other."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except PermissionError as error:
        raise Skipped("only root may read the memory of processes that hide it") from error
    fields = (line.split() for line in text.splitlines())
    return sum(int(words[1]) for words in fields if words[0] in ("Private_Clean:", "Private_Dirty:")) / 1024


def own_processes(bench):
    """Processes of lrun by what they are: the holder, and all others."""
    found = {"holder": [], "other": []}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(folder / "exe")) == bench.room / "lrun":
                kind = "holder" if (folder / "comm").read_text().strip() == "lrun-holder" else "other"
                found[kind].append(int(folder.name))
        except OSError:
            continue
    return found


def memory(bench):
    """Private memory of all processes that stay beside an idle container."""
    prepare(bench)
    row = Row("memory", "private memory per idle detached container", "≤ 0.5 MiB", unit="MiB")
    names = [f"bench-idle-{number}" for number in range(IDLE)]

    def ours():
        try:
            for name in names:
                background(bench, name)
            time.sleep(1)
            found = own_processes(bench)
            if not found["other"]:
                raise Skipped("no process of lrun was found")
            each = sum(map(private, found["other"])) / IDLE
            processes = len(found["other"]) / IDLE
            holder = sum(map(private, found["holder"]))
            return each, processes, holder
        finally:
            for name in names:
                try:
                    bench.run(bench.lrun("rm", "--force", name))
                except Skipped:
                    pass

    try:
        each, processes, holder = ours()
        row.contenders.append(Contender(f"monitor and keeper ({processes:g} processes)", [], "ours", times=[each]))
        row.contenders.append(Contender("holder, one a login", [], "ours", times=[holder]))
        row.judge("MiB", each, 0.5)
    except (Skipped, OSError) as error:
        row.contenders.append(Contender("lrun", [], "ours", reason=str(error)))
    try:
        # podman's storage is there when `start` has run; else this pulls.
        peers.podman_start(bench)
        conmon = Contender("conmon", [], times=[peers.memory_of_conmon(bench, private)])
    except (Skipped, OSError) as error:
        conmon = Contender("conmon", [], reason=str(error))
    row.contenders.append(conmon)
    row.ratio("conmon / ours", row.contenders[0], conmon, at_least=True)
    return [row]

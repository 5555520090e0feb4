"""Checkouts, and what all of it takes on disk."""

import subprocess
import sys

from . import peers
from .bench import Contender, Skipped
from .report import Row, median

COUNT = """
import hashlib, os, stat, sys
seen = {}
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(folder, name)
        info = os.lstat(path)
        if stat.S_ISREG(info.st_mode):
            with open(path, 'rb') as file:
                seen[hashlib.file_digest(file, 'sha256').digest()] = info.st_size
print(sum(seen.values()), sum(-(-size // 4096) * 4096 for size in seen.values()))
"""


def materialise(bench):
    """A checkout of a large image, each time anew."""
    image = bench.arguments.update[0]
    bench.pull(image)
    row = Row("materialise", f"materialising {image}", "24,000 files, as app-py:1 has: ≤ 0.5 s stub, ≤ 0.25 s hardlink")

    def make(placement):
        words = ["lstore", "--root", bench.store, "--quiet", "--placement", placement, "prepare", bench.name(image)]
        return Contender(placement, words, "ours", before=lambda: bench.lstore("gc", "--checkouts"))

    makers = [(placement, "ours", lambda placement=placement: make(placement)) for placement in ("stub", "hardlink")]
    row.contenders = bench.compare(bench.collect(makers), bench.rounds(10, 2))
    for contender, limit in zip(row.contenders, (0.5, 0.25)):
        if contender.times:
            row.judge(f"s, {contender.name}", median(contender), limit)
    return [row]


def used(bench, path):
    """Bytes that a tree takes, each inode once."""
    words = ["du", "-s", "--block-size=1", str(path)]
    if bench.user.drops:
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[0])
    bench.run(["lstore", "--root", bench.room / "unshare", "unshare", *words])
    return int(bench.said.split()[0])


def disk(bench):
    """The store with all images, against the bytes of the distinct contents."""
    # A room of its own: what a file takes is up to the file system, and the fastest one is seldom the usual one.
    room = bench.make_room(bench.arguments.disk_tmpdir)
    try:
        return count(bench, room)
    finally:
        bench.remove(room)


def count(bench, room):
    """The row, measured in a room."""
    images = bench.arguments.disk[: bench.rounds(None, 2)]
    store = room / "disk"
    row = Row("disk", f"disk: {', '.join(images)}", "≤ 1.03 × distinct contents", unit="MiB")
    placements = ["lstore", "--root", store, "--quiet"]
    for image in images:
        bench.pull(image, store)
        bench.run([*placements, "prepare", bench.name(image)])

    def size(name, kind, path):
        value = used(bench, path)
        row.contenders.append(Contender(name, [], kind, times=[value / 2**20]))
        return value

    pulled = size("as pulled, with checkouts", "ours", store)
    # Counted in independent files, not taken from the store's own account.
    out = room / "contents"
    bench.run(["mkdir", out])
    for number, image in enumerate(images):
        bench.lstore("checkout", bench.name(image), out / str(number), store=store)
    if bench.user.drops:
        words = [sys.executable, "-c", COUNT, str(out)]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    else:
        bench.run(["lstore", "--root", store, "unshare", sys.executable, "-c", COUNT, out])
        said = bench.said
    distinct, rounded = map(int, said.split())
    bench.remove(out)
    row.contenders.append(Contender("distinct contents", [], "floor", times=[distinct / 2**20]))
    row.contenders.append(Contender("in blocks of 4096", [], "floor", times=[rounded / 2**20]))
    row.judge("as pulled", pulled / distinct, 1.03)
    for name, options in (("after gc --checkouts", ["--checkouts"]), ("after gc --cold", ["--cold"])):
        try:
            bench.lstore("gc", *options, store=store)
            row.judge(name, size(name, "ours", store) / distinct)
        except Skipped as error:
            row.contenders.append(Contender(name, [], "ours", reason=str(error)))
    bench.remove(store)
    try:
        base = peers.podman_words(bench, "podman-disk")
        base[base.index("--root") + 1] = room / "podman-disk"
        for image in images:
            bench.run([*base, "pull", "--quiet", "--tls-verify=false", bench.name(image)], hybrid=True)
        row.judge("podman", size("podman", "peer", room / "podman-disk") / distinct)
    except (Skipped, subprocess.CalledProcessError) as error:
        row.contenders.append(Contender("podman", [], reason=str(error)))
    return [row]

"""Starts: alone, first of a login, over images of any size, many at once, many in a row."""

import time

from . import images, peers
from .bench import Contender, Skipped
from .report import Row, median, quantile


class Floors:
    """The floor, over the tree that lrun made of an image."""

    def __init__(self, bench):
        bench.compile("floor")
        self.bench = bench
        self.folder = bench.room / "floor-containers"
        bench.run(["mkdir", "-p", self.folder])
        tree = next(iter(sorted((bench.store / "trees").glob("*/root"))), None)
        if tree is None:
            raise Skipped("the store has no tree")
        objects = bench.store / "objects"
        self.folders = [tree, objects, self.folder]
        self.range = bench.user.range()
        try:
            bench.run(["floor", *self.ids(), *self.folders])
        except Skipped:
            # Without stubs there is no layer of data.
            self.folders = [tree, "-", self.folder]
            bench.run(["floor", *self.ids(), *self.folders])

    def ids(self):
        """The way in which a warm start has its ids mapped."""
        if self.range is None:
            return ["--single"]
        record = self.bench.runtime / "lrun/holder"
        if not record.exists():
            self.bench.run(default(self.bench))
        return ["--range", self.range, "--holder", record.read_text().split("\n")[1]]

    def warm(self, *options):
        """The words of the floor of a warm start."""
        return ["floor", *self.ids(), *options, *self.folders]


def default(bench, image=None, *options):
    """The words of a default start."""
    return bench.lrun("run", "--rm", *options, image or bench.image, "true")


def prepare(bench):
    """Image and holder."""
    bench.pull(bench.arguments.image)
    bench.run(default(bench))
    bench.run(default(bench))


def start(bench):
    """A default start against the floor and the peers."""
    prepare(bench)
    rootfs = bench.room / "rootfs"
    if not rootfs.exists():
        bench.lstore("checkout", bench.image, rootfs)
    row = Row("start", f"`lrun run --rm {bench.arguments.image} true`",
              "≤ 1.25 × floor, p99 ≤ 2 ×; faster than bwrap, ≥ 3 × crun, ≥ 30 × podman", p99=True)

    def floor(name, *options):
        return lambda: Contender(name, Floors(bench).warm(*options), "floor")

    def floor_by_helpers():
        floors = Floors(bench)
        if floors.range is None:
            raise Skipped("the user has no range of ids")
        return Contender("ids by newuidmap", ["floor", "--range", floors.range, *floors.folders], "floor")

    def floor_single():
        return Contender("one id", ["floor", "--single", *Floors(bench).folders], "floor")

    makers = [
        ("lrun", "ours", lambda: Contender("lrun", default(bench), "ours")),
        ("floor", "floor", floor("floor")),
        ("lrun --network host", "ours", lambda: Contender("--network host", default(bench, None, "--network", "host"), "ours")),
        ("floor --host-net", "floor", floor("--host-net", "--host-net")),
        ("one id", "floor", floor_single),
        ("ids by newuidmap", "floor", floor_by_helpers),
        ("bwrap --unshare-all", "peer", lambda: peers.bwrap(bench, rootfs)),
    ]
    for name in ("crun", "runc", "youki"):
        makers.append((f"{name} run", "peer", lambda name=name: peers.runtime(bench, name, rootfs)))
    makers.append(("podman run", "peer", lambda: peers.podman_start(bench)))
    row.contenders = bench.compare(bench.collect(makers), bench.rounds(300, 10))
    ours, floor_, ours_host, floor_host, *_ = row.contenders
    row.ratio("floor", ours, floor_, 1.25)
    if median(floor_) and median(ours):
        row.judge("p99 by floor's median", quantile(ours, 0.99) / median(floor_), 2)
        row.judge("p99 by floor's p99", quantile(ours, 0.99) / quantile(floor_, 0.99))
    row.ratio("with the host's network", ours_host, floor_host)
    row.against({"bwrap": 1, "crun": 3, "podman": 30})
    return [row]


def first(bench):
    """The first start of a login, which has to make the holder."""
    prepare(bench)
    row = Row("first", "first start after login", "≤ 1.25 × floor + the pair of id helpers")
    if bench.user.range() is None:
        row.contenders = [Contender("lrun", [], "ours", reason="the user has no range of ids, so there is no holder")]
        return [row]
    record = bench.runtime / "lrun/holder"

    def forget():
        record.unlink(missing_ok=True)
        time.sleep(0.05)

    floors = Floors(bench)
    floor = Contender("floor", floors.warm(), "floor")

    def refresh():
        floor.words = floors.warm()

    floor.before = refresh
    row.contenders = [
        Contender("lrun", default(bench), "ours", before=forget),
        floor,
        Contender("id helpers", ["floor", "--ids", floors.range], "floor"),
    ]
    ours, floor, helpers = bench.compare(row.contenders, bench.rounds(60, 5))
    if all(c.times for c in row.contenders):
        row.judge("1.25 × floor + helpers", median(ours) / (1.25 * median(floor) + median(helpers)), 1)
    return [row]


def sizes(bench):
    """The same start over small and large images."""
    many = bench.rounds(500_000, 50_000)
    row = Row("sizes", f"the same for 1 and 60 layers, 100 and {many:,} files", "within 10 % of each other")
    bench.need("cc")
    for layers, files in ((1, 100), (60, 100), (1, many)):
        name = f"bench-{layers}-{files}"
        folder = bench.room / name
        folder.mkdir()
        images.make(bench, folder, layers, files)
        bench.lstore("import", folder, f"localhost/{name}:1")
        bench.remove(folder)
        words = default(bench, f"localhost/{name}:1")
        bench.run(words)
        time.sleep(0.2)
        bench.run(words)
        row.contenders.append(Contender(f"{layers} layers, {files:,} files", words, "ours"))
    bench.compare(row.contenders, bench.rounds(100, 10))
    medians = [median(contender) for contender in row.contenders if contender.times]
    if len(medians) == 3:
        row.judge("slowest by fastest", max(medians) / min(medians), 1.1)
    return [row]


def at_once(bench):
    """A hundred starts by sixteen processes."""
    prepare(bench)
    row = Row("at-once", "100 starts by 16 processes", "≤ 1.5 × 100 floors")
    ours = Contender("lrun", default(bench), "ours")
    floor = Contender("floor", Floors(bench).warm(), "floor")
    row.contenders = [ours, floor]
    for number in range(bench.rounds(10, 2) + 1):
        for contender in row.contenders:
            if contender.reason:
                continue
            try:
                taken = bench.watch(contender.words, 100, 16)[-1][0]
            except Skipped as error:
                contender.reason, contender.times = str(error), []
                continue
            if number > 0:
                contender.times.append(taken)
            time.sleep(0.3)
    row.ratio("floor", ours, floor, 1.5)
    return [row]


def in_a_row(bench):
    """A thousand starts one after another: the store must not remember them."""
    prepare(bench)
    count = bench.rounds(1000, 300)
    row = Row("in-a-row", f"{count:,} starts one after another", "last hundred as fast as the first (within 5 %)")
    makers = (("lrun", "ours", default(bench)), ("floor", "floor", Floors(bench).warm()))
    for name, kind, words in makers:
        runs = [taken for taken, _ in bench.watch(words, count)]
        early = Contender(f"{name}, first 100", words, kind, times=runs[:100])
        late = Contender(f"{name}, last 100", words, kind, times=runs[-100:])
        row.contenders += [early, late]
        row.ratio(f"{name}, last by first", late, early, 1.05 if kind == "ours" else None)
    return [row]



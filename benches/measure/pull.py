"""Pulls: cold, of an update, and of what is there."""

import http.client
import http.server
import json
import os
import shlex
import threading
import urllib.request

from . import peers
from .bench import Contender, Skipped
from .report import Row, median

KINDS = ("oci.image.index.v1", "oci.image.manifest.v1", "docker.distribution.manifest.list.v2", "docker.distribution.manifest.v2")
MANIFESTS = ", ".join(f"application/vnd.{kind}+json" for kind in KINDS)
# As one id, tar cannot give files away: --no-same-owner spares it from trying.
UNTAR = "tar -x --no-same-owner --delay-directory-restore --exclude=dev/*"


def get(url):
    """Fetches JSON from the registry."""
    request = urllib.request.Request(url, headers={"Accept": MANIFESTS})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def layers(bench, image):
    """Addresses of an image's layers."""
    name, _, tag = image.rpartition(":")
    base = f"http://{bench.arguments.registry}/v2/{name}"
    manifest = get(f"{base}/manifests/{tag}")
    if "manifests" in manifest:
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
        fits = [entry for entry in manifest["manifests"] if entry.get("platform", {}).get("architecture") == machine]
        manifest = get(f"{base}/manifests/{fits[0]['digest']}")
    return [f"{base}/blobs/{layer['digest']}" for layer in manifest["layers"]]


def pipe(bench, image, name, end, programs, base=None):
    """The floor: layers two at a time, each into a folder of its own, so that none waits for another. With `base` only
    what that does not have."""
    bench.need("curl", "xargs", *programs)
    target = bench.room / "untarred"
    known = layers(bench, base) if base else []
    digest = lambda url: url.rpartition("/")[2]  # noqa: E731
    urls = [url for url in layers(bench, image) if digest(url) not in map(digest, known)]
    each = f'mkdir -p "${{0##*:}}" && cd "${{0##*:}}" && curl -sSf "$0" | {end}'
    line = f"mkdir -p {target} && cd {target} && printf '%s\\n' {' '.join(map(shlex.quote, urls))}"
    line += f" | xargs -P 2 -n 1 bash -o pipefail -c {shlex.quote(each)}"
    return Contender(name, ["bash", "-o", "pipefail", "-c", line], "floor", after=lambda: bench.remove(target))


def floors(bench, image, base=None):
    """Both floors."""
    untar, inflate = "curl | igzip -d | tar -x", "curl | igzip -d"
    return [
        (untar, "floor", lambda: pipe(bench, image, untar, f"igzip -dc | {UNTAR}", ["igzip", "tar"], base)),
        (inflate, "floor", lambda: pipe(bench, image, inflate, "igzip -dc > /dev/null", ["igzip"], base)),
    ]


def pullers(bench, image, base=None, is_kept=False):
    """Everything that pulls. With `base` that image is there already; with `is_kept` nothing is removed between."""

    def around(pull, clean):
        if is_kept:
            pull(image)
            return {}
        return {"before": (lambda: pull(base)) if base else None, "after": clean}

    def lstore():
        store = bench.room / "pulled"
        words = ["lstore", "--root", store, "--quiet", "pull", "--tls-verify=false"]
        return Contender("lstore", [*words, bench.name(image)], "ours",
                         **around(lambda name: bench.run([*words, bench.name(name)]), lambda: bench.remove(store)))

    def podman():
        base_words = peers.podman_words(bench, "podman-kept" if is_kept else "podman-pull")
        words = [*base_words, "pull", "--quiet", "--tls-verify=false"]

        def clean():
            bench.run([*base_words, "rmi", "--all", "--force"], hybrid=True)

        pull = around(lambda name: bench.run([*words, bench.name(name)], hybrid=True), clean)
        return Contender("podman", [*words, bench.name(image)], hybrid=True, **pull)

    def skopeo():
        if is_kept:
            raise Skipped("umoci unpacks the image anew each time")
        words, made = peers.skopeo_umoci(bench, image)

        def pull(name):
            # Fetched, not unpacked: umoci unpacks each image as a whole.
            bench.run(["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{bench.name(name)}", f"oci:{made[0]}:image"])

        return Contender("skopeo + umoci", words, **around(pull, lambda: bench.remove(*made)))

    def cfsctl():
        words, repository = peers.cfsctl_words(bench, image)
        # Its repository is a folder that has to be there.
        bench.run(["mkdir", "-p", repository])
        init = [word for word in words[: words.index("oci")]]

        def pull(name):
            bench.run(["mkdir", "-p", repository])
            if not is_kept or not (repository / "meta.json").exists():
                try:
                    bench.run([*init, "init"])
                except Skipped:
                    pass  # older ones have no such command
            if name:
                bench.run(peers.cfsctl_words(bench, name)[0])

        made = around(pull, lambda: bench.remove(repository))
        if not is_kept and not base:
            made["before"] = lambda: pull(None)
        return Contender("cfsctl oci pull", words, **made)

    makers = [("lstore", "ours", lstore)]
    if not is_kept:
        makers += floors(bench, image, base)
    return [*makers, ("podman", "peer", podman), ("skopeo + umoci", "peer", skopeo), ("cfsctl oci pull", "peer", cfsctl)]


def cold(bench):
    """Into an empty store; a row for each image, and one for memory."""
    rows = []
    memory = Row("pull-memory", "peak memory of these pulls", "≤ 150 MiB", unit="MiB")
    for image in bench.arguments.cold[: bench.rounds(None, 1)]:
        row = Row("pull-cold", f"`lstore pull` cold, {image}", "≤ 1.5 × floor with tar, ≥ 5 × podman")
        row.contenders = bench.compare(bench.collect(pullers(bench, image)), bench.rounds(3, 1), is_tried=False)
        ours, untar, inflate, *others = row.contenders
        row.ratio("curl | igzip -d | tar -x", ours, untar, 1.5)
        row.ratio("curl | igzip -d", ours, inflate)
        row.against({"podman": 5})
        rows.append(row)
        if ours.times:
            memory.contenders.append(Contender(f"lstore, {image}", [], "ours", times=[ours.memory / 1024]))
            memory.judge(f"MiB, {image}", ours.memory / 1024, 150)
        for peer in others:
            if peer.times:
                memory.contenders.append(Contender(f"{peer.name}, {image}", [], times=[peer.memory / 1024]))
    return [*rows, memory]


def update(bench):
    """The next version of an image."""
    old, new = bench.arguments.update
    row = Row("pull-update", f"pull of {new} after {old}", "≥ 5 × podman")
    row.contenders = bench.compare(bench.collect(pullers(bench, new, old)), bench.rounds(3, 1), is_tried=False)
    ours, untar, *_ = row.contenders
    row.ratio("curl | igzip -d | tar -x of the changed layers", ours, untar)
    row.against({"podman": 5})
    return [row]


def no_op(bench):
    """What is all there, by time and by requests."""
    row = Row("pull-no-op", "pull of an image that is all there", "≤ 20 ms, ≤ 2 round trips")
    image = bench.arguments.image
    row.contenders = bench.compare(bench.collect(pullers(bench, image, is_kept=True)), bench.rounds(50, 3))
    ours = row.contenders[0]
    if ours.times:
        row.judge("ms", median(ours) * 1000, 20)
    try:
        row.judge("requests", requests(bench, image), 2)
    except (Skipped, OSError) as error:
        row.contenders.append(Contender("requests", [], "ours", reason=str(error)))
    row.against({})
    bench.remove(bench.room / "pulled", bench.room / "cfs")
    return [row]


def requests(bench, image):
    """How many requests a registry sees of such a pull."""
    seen, registry = [], bench.arguments.registry

    class Forward(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            seen.append(self.path)
            connection = http.client.HTTPConnection(registry, timeout=30)
            connection.request(self.command, self.path, headers=dict(self.headers))
            reply = connection.getresponse()
            body = reply.read()
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                    self.send_header(name, value)
            self.send_header("Content-Length", reply.getheader("Content-Length") or str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = answer

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    store, name = bench.room / "counted", f"127.0.0.1:{server.server_port}/{image}"
    try:
        bench.lstore("pull", "--tls-verify=false", name, store=store)
        seen.clear()
        bench.lstore("pull", "--tls-verify=false", name, store=store)
        return len(seen)
    finally:
        server.shutdown()
        server.server_close()
        bench.remove(store)

"""Other programs, each made to do the same with as little as it needs."""

import json
import shutil

from .bench import Contender, Skipped


def podman_words(bench, name):
    """podman with a storage of its own. By default Debian's takes the driver vfs where no storage was configured, which
    copies the image for each container; the kernel's overlay works for users as well, without fuse-overlayfs."""
    bench.need("podman")
    words = ["podman", "--root", bench.room / name, "--runroot", bench.runtime / name, "--storage-driver", "overlay"]
    return [*words, "--cgroup-manager=cgroupfs", "--events-backend=none"]


def podman_start(bench):
    """podman run; conmon and a runtime are part of it."""
    base = podman_words(bench, "podman-start")
    bench.run([*base, "pull", "--quiet", "--tls-verify=false", bench.image], hybrid=True)
    run = [*base, "run", "--rm", "--cgroups=disabled", "--network=none", bench.image, "true"]
    return Contender("podman run", run, hybrid=True, every=bench.rounds(10, 1))


def bwrap(bench, rootfs):
    """bubblewrap, with one id and without an overlay."""
    bench.need("bwrap")
    words = ["bwrap", "--unshare-all", "--bind", rootfs, "/", "--proc", "/proc", "--dev", "/dev", "true"]
    return Contender("bwrap --unshare-all", words)


def runtime(bench, name, rootfs):
    """crun, runc or youki: one id, no overlay, a rootless bundle without cgroup limits."""
    bench.need(name, "crun" if name == "crun" else "runc")
    bundle = bench.room / f"bundle-{name}"
    bench.run(["mkdir", bundle])
    # Each from its own template; youki takes that of runc.
    bench.run(["crun" if name == "crun" else "runc", "spec", "--rootless"], cwd=bundle)
    config = json.loads((bundle / "config.json").read_text())
    config["root"] = {"path": str(rootfs), "readonly": True}
    config["process"]["terminal"] = False
    config["process"]["args"] = ["true"]
    # Delegated cgroups come from systemd, which is not everywhere.
    config.get("linux", {}).pop("resources", None)
    (bundle / "config.json").write_text(json.dumps(config))
    words = [name, "--root", bench.runtime / name]
    if name == "crun":
        words += ["--cgroup-manager", "disabled"]
    words += ["run", "--bundle", bundle, f"bench-{name}"]
    return Contender(f"{name} run", words, hybrid=True, every=bench.rounds(2, 1))


def skopeo_umoci(bench, image):
    """Fetched by skopeo into a layout, unpacked by umoci; the same layout again is an update."""
    bench.need("skopeo", "umoci")
    layout, bundle = bench.room / "skopeo-layout", bench.room / "umoci-bundle"
    line = 'skopeo copy --quiet --src-tls-verify=false "docker://$0" "oci:$1:image"'
    line += ' && umoci unpack --rootless --image "$1:image" "$2"'
    return ["sh", "-c", line, bench.name(image), layout, bundle], [layout, bundle]


def cfsctl_words(bench, image):
    """composefs-ctl; without fs-verity, which few file systems have. It fetches by skopeo, and cannot be told that a registry
    has no TLS: a skopeo in front of the real one says so."""
    bench.need("cfsctl", "skopeo")
    front, repository = bench.room / "front", bench.room / "cfs"
    if not front.exists():
        front.mkdir()
        front.chmod(0o755)
        script = front / "skopeo"
        real = shutil.which("skopeo", path=bench.environment["PATH"])
        script.write_text(f'#!/bin/sh\nverb=$1\nshift\nexec {real} "$verb" --tls-verify=false "$@"\n')
        script.chmod(0o755)
    path = f"PATH={front}:{bench.environment['PATH']}"
    words = ["env", path, "cfsctl", "--insecure", "--repo", repository, "oci", "pull", f"docker://{bench.name(image)}", "image"]
    return words, repository


def memory_of_conmon(bench, private):
    """The memory of the conmon of an idle container, in MiB."""
    base = podman_words(bench, "podman-start")
    words = [*base, "run", "--detach", "--name", "idle", "--cgroups=disabled", "--network=none", bench.image]
    bench.run([*words, "sleep", "1000"], hybrid=True)
    try:
        bench.run([*base, "inspect", "--format", "{{.State.ConmonPid}}", "idle"], hybrid=True)
        return private(int(bench.said))
    except ValueError as error:
        raise Skipped("podman does not tell the id of conmon") from error
    finally:
        bench.run([*base, "rm", "--force", "--time", "0", "idle"], hybrid=True)

"""Images of any number of layers and files, as OCI layouts."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile


def make(bench, folder, layers, files):
    """Writes a layout whose layers share the files, with a static `true`."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    true = folder / "true"
    source = "int main(void) { return 0; }"
    subprocess.run(["cc", "-x", "c", "-O2", "-static", "-o", true, "-"], input=source, text=True, check=True)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    diffs, descriptors = [], []

    def blob(data):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    for layer in range(layers):
        tar = layer_tar(layer, range(layer * files // layers, (layer + 1) * files // layers), true.read_bytes())
        diffs.append("sha256:" + hashlib.sha256(tar).hexdigest())
        kind = "application/vnd.oci.image.layer.v1.tar+gzip"
        descriptors.append({"mediaType": kind, **blob(gzip.compress(tar, 1, mtime=0))})
    config = {"architecture": machine, "os": "linux", "config": {"Cmd": ["true"], "Env": ["PATH=/bin"]}}
    config = blob(json.dumps({**config, "rootfs": {"type": "layers", "diff_ids": diffs}}).encode())
    config["mediaType"] = "application/vnd.oci.image.config.v1+json"
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": descriptors}
    manifest = {"mediaType": kind, **blob(json.dumps(manifest).encode())}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    true.unlink()


def layer_tar(number, files, true):
    """One layer: directories of a thousand files, which have one of a hundred contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:

        def add(name, content=None, mode=0o644):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.mtime = mode, 1_700_000_000
            if content is None:
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))

        if number == 0:
            for name in ("bin", "etc", "run", "proc", "sys", "dev", "tmp", "files"):
                add(name, mode=0o755)
            add("etc/passwd", b"root:x:0:0:root:/:/bin/true\n")
            add("bin/true", true, 0o755)
        folder = None
        for file in files:
            if file // 1000 != folder:
                folder = file // 1000
                add(f"files/{folder}", mode=0o755)
            add(f"files/{folder}/{file % 1000}", b"%d\n" % (file % 100))
    return buffer.getvalue()

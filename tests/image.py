"""A container image of busybox, made here so that no registry is needed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

NAME = "localhost/busybox:pinned"
# The first process of a namespace ignores SIGTERM unless it says otherwise; this one ends at once.
PAUSE = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_OCI = "application/vnd.oci.image"


def write(path: Path) -> None:
    """The image as an OCI archive.  The same busybox gives the same bytes."""
    blobs: dict[str, bytes] = {}

    def blob(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    layer = blob(f"{_OCI}.layer.v1.tar", _layer())
    config = blob(f"{_OCI}.config.v1+json", _json(_config(layer["digest"])))
    manifest = blob(
        f"{_OCI}.manifest.v1+json",
        _json(
            {
                "schemaVersion": 2,
                "mediaType": f"{_OCI}.manifest.v1+json",
                "config": config,
                "layers": [layer],
            }
        ),
    )
    manifest["annotations"] = {"io.containerd.image.name": NAME}
    path.write_bytes(
        _tar(
            {
                "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
                "index.json": _json({"schemaVersion": 2, "manifests": [manifest]}),
                **blobs,
            }
        )
    )


def _config(layer: str) -> dict[str, Any]:
    machine = platform.machine()
    return {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": list(PAUSE)},
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    }


@cache
def _layer() -> bytes:
    busybox = shutil.which("busybox")
    assert busybox, "busybox is not installed: run `make setup`"
    done = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    with open(busybox, "rb") as file:
        content = file.read()
    links = [each for each in done.stdout.split() if each != "busybox"]
    return _tar(
        {
            "etc/passwd": b"root:x:0:0:root:/:/bin/sh\n",
            "bin/busybox": content,
            "tmp/": b"",
        },
        {f"bin/{each}": "busybox" for each in links},
    )


def _tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    """A name that ends in a slash is a directory; those that files are in are made first."""
    packed = io.BytesIO()
    directories = sorted({f"{os.path.dirname(name)}/" for name in files if "/" in name})
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in {**dict.fromkeys(directories, b""), **files}.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            entry.mode, entry.size = 0o755, len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return packed.getvalue()


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True).encode()

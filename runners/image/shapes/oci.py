"""An image as one file that engines load: an OCI layout in a tar, which is a docker-archive, too.

An image of one layer is three JSON texts and a tar (OCI image specification: image-layout.md, manifest.md, config.md).
``manifest.json`` beside them says the same in the older words of ``docker save``, for a docker before its version 25.
So ``podman load``, ``ctr images import``, ``docker load`` and ``skopeo`` read the one file.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

from tare.runners.base import Image, RunnerError

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"

#: ``uname -m`` -> the word of the specification, which is Go's GOARCH.
ARCHITECTURES = {
    "x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "ppc64le": "ppc64le", "s390x": "s390x",
    "riscv64": "riscv64",
}  # fmt: skip


def architecture() -> str:
    """The architecture of this host in the words of the specification."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def write(image: Image, reference: str, layer: Path, target: Path) -> None:
    """Write *image*, whose files are in the tar *layer*, to the new file *target* as *reference*. Raises OSError."""
    with layer.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    config = _text(_config(image, content))
    manifest = _text(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, config),
            "layers": [{"mediaType": LAYER, "digest": f"sha256:{content}", "size": layer.stat().st_size}],
        }
    )
    # containerd and podman take the name from the first annotation, other tools from the one of the specification.
    names = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
    entry = {**_descriptor(MANIFEST, manifest), "annotations": names}
    older = [{"Config": _blob(config), "RepoTags": [reference], "Layers": [f"blobs/sha256/{content}"]}]
    texts = {
        "oci-layout": _text({"imageLayoutVersion": "1.0.0"}),
        "index.json": _text({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}),
        "manifest.json": _text(older),
        _blob(config): config,
        _blob(manifest): manifest,
    }
    with tarfile.open(target, "x", format=tarfile.PAX_FORMAT) as archive:
        for folder in ("blobs", "blobs/sha256"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        for name, text in texts.items():
            archive.addfile(_file(name, len(text)), io.BytesIO(text))
        with layer.open("rb") as stream:
            archive.addfile(_file(f"blobs/sha256/{content}", layer.stat().st_size), stream)


def _config(image: Image, layer: str) -> dict[str, Any]:
    """The image's configuration; it has no date, so that the same image gives the same bytes."""
    said = image.config
    if platform.machine() not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise RunnerError(
            f"the image {image.source} cannot be made an OCI image", f"the machine {platform.machine()} is not known",
            f"known: {known}",
        )  # fmt: skip
    return {
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Cmd": list(said.command),
            "Env": [f"{key}={value}" for key, value in said.env],
            "User": said.user,
            "WorkingDir": said.cwd,
            "ExposedPorts": {f"{port}/tcp": {} for port in said.ports},
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
    }


def _text(content: object) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _blob(text: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(text).hexdigest()}"


def _descriptor(kind: str, text: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(text).hexdigest()}", "size": len(text)}


def _file(name: str, size_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size_bytes, 0o644
    return member

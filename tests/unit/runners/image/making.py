"""Archives for tests: members of any kind, OCI layouts of them, and archives as docker writes them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tare.runners.image.shapes.oci import architecture

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, content: bytes = b"", mode: int = 0o644, **more: Any) -> Member:
    return member(name, tarfile.REGTYPE, content, mode=mode, **more)


def folder(name: str, mode: int = 0o755, **more: Any) -> Member:
    return member(name, tarfile.DIRTYPE, mode=mode, **more)


def link(name: str, target: str) -> Member:
    return member(name, tarfile.SYMTYPE, linkname=target, mode=0o777)


def hard(name: str, target: str) -> Member:
    return member(name, tarfile.LNKTYPE, linkname=target)


def member(name: str, kind: bytes, content: bytes = b"", **more: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(content), 0o644
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def tar(members: Sequence[Member]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def write(path: Path, members: Sequence[Member]) -> Path:
    path.write_bytes(tar(members))
    return path


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def layout(
    path: Path,
    layers: Sequence[bytes],
    config: Mapping[str, Any] | None = None,
    *,
    packed: Sequence[bytes] = (),
    **more: Any,
) -> Path:
    """An OCI layout at *path* with *layers*, which *packed* are in the layout if they are packed."""
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        (blobs / sha(content)).write_bytes(content)
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": f"sha256:{sha(content)}",
            "size": len(content),
        }

    text = {
        "architecture": architecture(), "os": "linux", "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha(layer)}" for layer in layers]}, **more,
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2,
        "config": blob(json.dumps(text).encode(), "config.v1+json"),
        "layers": [blob(layer, "layer.v1.tar") for layer in packed or layers],
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    old = json.loads((path / "index.json").read_text())["manifests"] if (path / "index.json").exists() else []
    entry["annotations"] = {"org.opencontainers.image.ref.name": f"tag{len(old)}"}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [*old, entry]}))
    return path


def docker_archive(path: Path, layers: Sequence[bytes], config: Mapping[str, Any] | None = None) -> Path:
    """What ``docker save`` wrote before version 25: a directory a layer, and a link where a layer is there twice."""
    text = json.dumps(
        {
            "architecture": architecture(), "os": "linux", "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha(layer)}" for layer in layers]},
        }
    ).encode()  # fmt: skip
    members: list[Member] = [file(f"{sha(text)}.json", text)]
    names: list[str] = []
    for number, layer in enumerate(layers):
        name = f"layer{number}/layer.tar"
        first = layers.index(layer)
        members.append(file(name, layer) if first == number else link(name, f"../layer{first}/layer.tar"))
        names.append(name)
    manifest = [{"Config": f"{sha(text)}.json", "RepoTags": ["mine:latest"], "Layers": names}]
    return write(path, [*members, file("manifest.json", json.dumps(manifest).encode())])

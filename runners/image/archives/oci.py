"""Images of layers: which layers, in which order, and what the image says of its workload.

OCI image specification (image-layout.md, image-index.md, manifest.md, config.md); ``manifest.json`` of a
docker-archive says the same in older words. What is read is judged by types, and every layer by its digests.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from tare.runners.base import ImageConfig
from tare.runners.image.archives import blobs as texts
from tare.runners.image.archives.blobs import Blobs, Place
from tare.runners.image.archives.stream import Budget, ImageRefused, Stream
from tare.runners.image.archives.unpack import Unpacker
from tare.runners.image.shapes.oci import architecture

_Kind = TypeVar("_Kind")
_DIGEST = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")
_MOST_LAYERS = 1000
_MOST_INDEXES = 4
_NAME = "org.opencontainers.image.ref.name"


class _Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    annotations: Mapping[str, str] | None = None
    platform: _Platform | None = None


class _Index(msgspec.Struct, frozen=True):
    manifests: tuple[_Descriptor, ...] = ()


class _Manifest(msgspec.Struct, frozen=True):
    config: _Descriptor
    layers: tuple[_Descriptor, ...]


class _Older(msgspec.Struct, frozen=True, rename="pascal"):
    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] | None = None


class _Workload(msgspec.Struct, frozen=True, rename="pascal"):
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    user: str = ""
    working_dir: str = ""
    exposed_ports: Mapping[str, object] | None = None


class _Layers(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...]


class _Config(msgspec.Struct, frozen=True):
    rootfs: _Layers
    architecture: str = ""
    os: str = "linux"
    config: _Workload | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: where it is, its own digest (empty where nobody says it), and that of it unpacked."""

    place: Place
    digest: str
    unpacked: str


@dataclass(frozen=True, slots=True)
class Layered:
    """An image of layers, the lowest first, and what it says of its workload. ``identity`` is a digest of all of it."""

    identity: str
    layers: tuple[Layer, ...]
    config: ImageConfig

    def unpack(self, root: str, origin: str, note: Callable[[int], object]) -> int:
        """Fill the directory *root*; how many devices were left out. Raises ImageRefused, OSError."""
        budget = Budget(origin, sum(layer.place.size_bytes for layer in self.layers), note)
        unpacker = Unpacker(root, budget)
        for layer in self.layers:
            algorithm, _, wanted = layer.digest.partition(":")
            packed = layer.place.opened(algorithm or "sha256")
            try:
                stream = Stream(packed, budget)
                unpacker.add(stream, layer=True)
                if f"sha256:{stream.digest()}" != layer.unpacked or (wanted and packed.digest() != wanted):
                    raise stream.damaged(f"its layer {layer.digest or layer.unpacked} has another digest")
            finally:
                packed.close()
        unpacker.ensure(self.config.cwd)
        unpacker.finish()
        return unpacker.left_out


def layout(blobs: Blobs, tag: str = "") -> Layered:
    """The image *tag* of an OCI layout; without a tag the only one for this host. Raises ImageRefused."""
    _typed(blobs, "oci-layout", dict[str, object])
    found = _chosen(blobs, _typed(blobs, "index.json", _Index).manifests, tag)
    content = _blob(blobs, found)
    for _ in range(_MOST_INDEXES):  # an image for several machines is an index in the index
        inner = _decoded(blobs, found.digest, content, _Index).manifests
        if not inner:
            break
        found = _chosen(blobs, inner, "")
        content = _blob(blobs, found)
    manifest = _decoded(blobs, found.digest, content, _Manifest)
    return _layered(
        blobs,
        found.digest,
        _decoded(blobs, manifest.config.digest, _blob(blobs, manifest.config), _Config),
        [(_path(blobs, layer), layer.digest) for layer in manifest.layers if _known(blobs, layer)],
    )


def docker_archive(blobs: Blobs, tag: str = "") -> Layered:
    """The image *tag* of what ``docker save`` wrote; without a tag the only one. Raises ImageRefused."""
    images = _typed(blobs, "manifest.json", tuple[_Older, ...])
    fitting = [one for one in images if not tag or any(_is(name, tag) for name in one.repo_tags or ())]
    if len(fitting) != 1:
        raise _several(blobs, tag, [name for one in images for name in one.repo_tags or ()])
    (image,) = fitting
    content = texts.text(blobs, image.config)
    identity = f"sha256:{hashlib.sha256(content).hexdigest()}"
    config = _decoded(blobs, image.config, content, _Config)
    return _layered(blobs, identity, config, [(name, "") for name in image.layers])


def _layered(blobs: Blobs, identity: str, config: _Config, layers: Iterable[tuple[str, str]]) -> Layered:
    named = list(layers)
    unpacked = config.rootfs.diff_ids
    if len(unpacked) != len(named) or len(named) > _MOST_LAYERS:
        raise texts.incomplete(blobs, f"it has {len(named)} layers, and its configuration {len(unpacked)}")
    if (config.os, config.architecture) not in (("linux", architecture()), ("linux", "")):
        raise ImageRefused(
            f"the image {blobs.origin} cannot run here",
            f"it is for {config.os}/{config.architecture}, and this host is linux/{architecture()}",
            f"take the image for linux/{architecture()}",
        )
    found: list[Layer] = []
    for (name, digest), wanted in zip(named, unpacked, strict=True):
        place = blobs.find(name)
        if place is None:
            raise texts.incomplete(blobs, f"its layer {name} is not in it")
        found.append(Layer(place, digest, wanted))
    return Layered(identity, tuple(found), _said(blobs, config.config or _Workload()))


def _said(blobs: Blobs, said: _Workload) -> ImageConfig:
    ports = []
    for name in said.exposed_ports or ():
        number, _, protocol = name.partition("/")
        if protocol in ("", "tcp") and re.fullmatch(r"[0-9]{1,5}", number) and 1 <= int(number) <= 65535:
            ports.append(int(number))
    for line in said.env or ():
        if not line.partition("=")[0] or "\0" in line:
            raise texts.incomplete(blobs, f"its configuration has the environment variable {line!r}")
    return ImageConfig(
        command=(*(said.entrypoint or ()), *(said.cmd or ())),
        env=tuple((name, value) for name, _, value in (line.partition("=") for line in said.env or ())),
        cwd=f"/{said.working_dir.lstrip('/')}",
        user=said.user,
        ports=tuple(sorted(ports)),
    )


def _chosen(blobs: Blobs, manifests: tuple[_Descriptor, ...], tag: str) -> _Descriptor:
    fitting = [one for one in manifests if not tag or _is(_name(one), tag)]
    if not tag and len(fitting) > 1:  # an image for several machines
        here = _Platform(architecture=architecture(), os="linux")
        fitting = [one for one in fitting if one.platform == here]
    if not tag and len(manifests) > 1 and not fitting and all(one.platform for one in manifests):
        offered = ", ".join(f"{one.platform.os}/{one.platform.architecture}" for one in manifests if one.platform)
        raise ImageRefused(
            f"the image {blobs.origin} cannot run here", f"it is for {offered}; this host is linux/{architecture()}",
            f"take the image for linux/{architecture()}",
        )  # fmt: skip
    if len(fitting) != 1:
        raise _several(blobs, tag, [_name(one) for one in manifests])
    return fitting[0]


def _name(one: _Descriptor) -> str:
    return (one.annotations or {}).get(_NAME, "")


def _is(name: str, tag: str) -> bool:
    """Whether *tag* means the image *name*: all of it, or what is behind its last colon."""
    return name == tag or ("/" not in tag and name.rpartition(":")[2] == tag)


def _several(blobs: Blobs, tag: str, names: list[str]) -> ImageRefused:
    why = f"it has no image '{tag}'" if tag else f"it has {len(names)} images" if names else "it has no image"
    known = ", ".join(sorted(filter(None, names)))
    fix = f"name one after a colon: {known}" if known else "make it again with one image"
    return ImageRefused(f"{blobs.origin} does not say which image", why, fix)


def _known(blobs: Blobs, layer: _Descriptor) -> bool:
    """True; raises ImageRefused for a layer whose type says that it is no tar."""
    if layer.media_type and not re.search(r"\.tar(\.gzip|\+gzip|\+zstd|\.zstd)?$", layer.media_type):
        raise texts.incomplete(blobs, f"it has a layer of the type {layer.media_type}")
    return True


def _path(blobs: Blobs, one: _Descriptor) -> str:
    found = _DIGEST.fullmatch(one.digest)
    if found is None:
        raise texts.incomplete(blobs, f"it has the digest {one.digest[:100]!r}, and sha256 and sha512 are known")
    return f"blobs/{one.digest.replace(':', '/')}"


def _blob(blobs: Blobs, one: _Descriptor) -> bytes:
    content = texts.text(blobs, _path(blobs, one))
    algorithm, _, wanted = one.digest.partition(":")
    if hashlib.new(algorithm, content).hexdigest() != wanted:
        raise texts.incomplete(blobs, f"its {one.digest} has another digest: it is damaged")
    return content


def _typed(blobs: Blobs, name: str, kind: type[_Kind]) -> _Kind:
    return _decoded(blobs, name, texts.text(blobs, name), kind)


def _decoded(blobs: Blobs, name: str, content: bytes, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise texts.incomplete(blobs, f"its {name} is not what it should be: {error}") from error

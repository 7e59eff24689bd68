"""Verbs about images: made before a run, kept, looked at, removed. What they are is told in :mod:`runners.image`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tare.reports.cli import arguments, streams
from tare.verbs.options import as_json

if TYPE_CHECKING:
    from tare.runners.image.kept import Kept


@click.group(cls=arguments.Verbs)
def image() -> None:
    """Make, keep, check and remove images: what a workload finds below its root.

    A scenario names an image by its source, and a run makes what is missing. These verbs do it before, and tell what
    there is.

    \b
    Example:
      tare image build debian:bookworm+nginx
      tare image list
    """


@image.command()
@click.argument("source")
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="SHAPE",
    help="Also make it one file: tar, oci-archive, docker-archive, initramfs or ext4; print its path (repeatable).",
)
@click.option("--again", is_flag=True, help="Make it anew where it is kept: a Debian suite has newer packages today.")
@as_json
def build(source: str, *, shapes: tuple[str, ...], again: bool, as_json: bool) -> None:
    """Make the image of a SOURCE, as a scenario names it, and keep it. Prints what it is.

    \b
    Example:
      tare image build debian:bookworm+nginx
      tare image build busybox --shape oci-archive
    """
    from tare.reports.terminal import consoles
    from tare.runners.image import kept, sources
    from tare.runners.image.cache import cache_dir

    with _input(), consoles.progress() as note, kept.in_use(cache_dir(), alone=again):
        wanted = sources.absolute(source, Path.cwd())
        if again:
            _remove([one for one in kept.every(cache_dir()) if one.record.source == wanted])
        made = sources.find(wanted, cache_dir(), note)
        files = []
        for shape in shapes:
            note(f"making the shape {shape}", 0)
            files.append(str(made.shape(shape)))
    found = {"source": made.source, "digest": made.digest, "directory": str(made.directory)}
    if as_json:
        streams.json({**found, "shapes": dict(zip(shapes, files, strict=True))})
    else:
        streams.out("".join(f"{line}\n" for line in (f"{made.source}\t{made.digest}\t{made.directory}", *files)))


@image.command("import")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.argument("name")
@as_json
def import_(path: Path, name: str, *, as_json: bool) -> None:
    """Copy an image into the cache under a NAME: a directory, a tar, an OCI layout, or what docker save writes.

    A scenario names it image:NAME; what it was made from may go away.

    \b
    Example:
      tare image import rootfs.tar.zst mine
    """
    from tare.reports.terminal import consoles
    from tare.runners.image import kept
    from tare.runners.image.cache import cache_dir
    from tare.runners.image.sources import imported

    with _input(), consoles.progress() as note, kept.in_use(cache_dir()):
        made = imported.bring(path.absolute(), name, cache_dir(), note)
    if as_json:
        streams.json({"source": made.source, "digest": made.digest, "directory": str(made.directory)})
    else:
        streams.out(f"{made.source}\t{made.digest}\t{made.directory}\n")


@image.command("list")
@as_json
def list_(*, as_json: bool) -> None:
    """List the images that are kept, with their sizes.

    \b
    Example:
      tare image list --json | jq '.[].digest'
    """
    from tare.reports.terminal import listings
    from tare.runners.image import kept
    from tare.runners.image.cache import cache_dir

    found = kept.every(cache_dir())
    if as_json:
        streams.json([_data(one) for one in found])
    else:
        listings.images(found)


@image.command()
@click.argument("source")
@as_json
def show(source: str, *, as_json: bool) -> None:
    """Show what is known of the kept images of a SOURCE, or of the one with this digest.

    \b
    Example:
      tare image show busybox
    """
    from tare.reports.terminal import listings

    found = _named([source])
    if as_json:
        streams.json([_data(one) for one in found])
    else:
        listings.image(found)


@image.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@as_json
def verify(sources: tuple[str, ...], *, as_json: bool) -> None:
    """Read kept images again, all or these, and compare their digests: were they changed? If one was, exit code 1.

    \b
    Example:
      tare image verify busybox
    """
    from tare.bench.errors import TareError
    from tare.reports.terminal import consoles
    from tare.runners.image import kept
    from tare.runners.image.cache import cache_dir

    found = _named(sources) if sources else kept.every(cache_dir())
    rows: list[dict[str, Any]] = []
    with consoles.progress() as note:
        for one in found:
            note(f"reading {one.record.source}", 0)
            rows.append({"source": one.record.source, "directory": str(one.directory), "sound": one.sound()})
    if as_json:
        streams.json(rows)
    else:
        streams.out("".join(f"{'sound' if row['sound'] else 'CHANGED'}\t{row['source']}\n" for row in rows))
    changed = [row["source"] for row in rows if not row["sound"]]
    if changed:
        what = f"{len(changed)} of {len(rows)} images changed since they were made"
        raise TareError(what, ", ".join(changed), f"tare image rm {' '.join(changed)}, and make them again")


@image.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--all", "every", is_flag=True, help="Remove all images, and what an interrupted build left.")
@as_json
def rm(sources: tuple[str, ...], *, every: bool, as_json: bool) -> None:
    """Remove kept images, by their sources or digests, with their further shapes. Not while a run or a build uses one.

    \b
    Example:
      tare image rm debian:bookworm+nginx
    """
    from tare.runners.image import kept
    from tare.runners.image.cache import cache_dir

    if bool(sources) == every:
        raise click.UsageError("give a SOURCE, or --all")
    with _input(), kept.in_use(cache_dir(), alone=True):
        names = kept.clear(cache_dir()) if every else _remove(_named(sources))
    if as_json:
        streams.json({"removed": names})
    else:
        streams.out("".join(f"{name}\n" for name in names))
        streams.say(f"{len(names)} removed\n" if names else "there is nothing to remove\n")


@contextmanager
def _input() -> Iterator[None]:
    """What is refused was the user's input: exit code 2."""
    from tare.bench.errors import UsageError
    from tare.runners.image.archives.stream import ImageRefused

    try:
        yield
    except ImageRefused as refused:
        raise UsageError(refused.what, refused.why, refused.fix) from None


def _named(names: tuple[str, ...] | list[str]) -> list[Kept]:
    """The kept images of these sources or digests. Raises UsageError for a name that none has."""
    from tare.bench.errors import UsageError
    from tare.runners.image import kept
    from tare.runners.image.cache import cache_dir

    known = kept.every(cache_dir())
    found: dict[Path, Kept] = {}
    for name in names:
        fitting = [one for one in known if one.is_called(name, Path.cwd())]
        if not fitting:
            raise UsageError(
                f"there is no image {name} in the cache", f"{len(known)} are kept there", "tare image list names them"
            )
        found.update((one.path, one) for one in fitting)
    return list(found.values())


def _remove(found: list[Kept]) -> list[str]:
    """Remove these images, and say their names. Raises HostError."""
    from tare.bench.errors import HostError
    from tare.runners.image import kept
    from tare.runners.image.cache import cache_dir

    for one in found:
        others = [other for other in kept.every(cache_dir()) if other.record.digest == one.record.digest]
        try:
            kept.remove(one, shapes=len(others) == 1)
        except OSError as error:
            what = f"cannot remove the image {one.record.source}"
            raise HostError(what, str(error), f"rm -r {one.path}, as the user who made it") from error
    return [one.record.source for one in found]


def _data(one: Kept) -> dict[str, Any]:
    """*one* as data for scripts."""
    import msgspec

    record: dict[str, Any] = msgspec.to_builtins(one.record)
    shapes = [str(path) for path in one.shapes]
    return {**record, "directory": str(one.directory), "disk_bytes": one.disk_bytes, "shapes": shapes}

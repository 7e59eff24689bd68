"""What exactly an instance of a subject is: what a scenario says of its workload, completed by its image."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tare.bench.records.resolved import Subject, Workload
from tare.runners.base import Image, RunnerError, Spec, User
from tare.runners.image import elf
from tare.runners.image.shapes.oci import architecture

#: What a program finds where nobody says otherwise (docker's default).
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_LINKS = 40


def of(subject: Subject, image: Image) -> Spec:
    """The specification of *subject*. Raises RunnerError where its command or its user is not in the image."""
    grant = {"memory_bytes": subject.memory_bytes, "cpus": subject.cpus, "image": image}
    work = subject.workload
    if work is None:
        return Spec(argv=subject.argv, **grant)  # type: ignore[arg-type]
    said = image.config
    as_user = work.user or said.user
    env = {"PATH": _PATH, "HOME": _home(as_user, image), **dict(said.env), **work.env}
    if said.machine:
        return _machine(work, grant)
    command = work.command or said.command
    if not command:
        raise RunnerError(
            f"there is nothing to run in the image {image.source}", "neither it nor the scenario names a command",
            "give the workload a command",
        )  # fmt: skip
    return Spec(
        argv=(_program(command[0], env["PATH"], image), *command[1:]),
        env=tuple(env.items()),
        cwd=_directory(work.cwd or said.cwd or "/", image),
        user=user(as_user, image),
        ports=work.ports or said.ports or _port(work),
        custom=True,
        **grant,  # type: ignore[arg-type]
    )


def _machine(work: Workload, grant: dict[str, object]) -> Spec:
    """The specification of a whole machine, which starts by itself. Raises RunnerError where it is told a command."""
    told = next((key for key in ("command", "env", "cwd", "user") if getattr(work, key)), "")
    if told:
        why = "it is a disk, into which nobody looks but its own system"
        raise RunnerError(f"{told} cannot be said of the image {work.image}", why, f"leave {told} out")
    return Spec(argv=(), ports=work.ports or _port(work), custom=True, **grant)  # type: ignore[arg-type]


def _port(work: Workload) -> tuple[int, ...]:
    """The port that its readiness is about, if it is about one."""
    port = getattr(work.ready, "port", None)
    return () if port is None else (port,)


def _program(name: str, path: str, image: Image) -> str:
    """The absolute path of the program *name* in *image*. Raises RunnerError where it holds none."""
    places = [name] if "/" in name else [f"{folder.rstrip('/')}/{name}" for folder in path.split(":") if folder]
    for place in places:
        found = inside(image.directory, place if place.startswith("/") else f"/{place}")
        if found is not None and stat.S_ISREG(found.stat().st_mode) and found.stat().st_mode & 0o111:
            _same_machine(found, place, image)
            return place if place.startswith("/") else f"/{place}"
    where = "it is not an executable file there" if "/" in name else f"it is in none of {path}"
    raise RunnerError(
        f"the image {image.source} has no program {name}", where, "correct the command, or take another image"
    )


def _same_machine(file: Path, place: str, image: Image) -> None:
    """Raise RunnerError where the program *file* is for another machine than this host."""
    found, here = elf.machine(file), architecture()
    if not elf.runs_on(found, here):
        why = f"its program {place} is for {found}, and this host is {here}"
        raise RunnerError(f"the image {image.source} cannot run here", why, f"take the image for {here}")


def _directory(path: str, image: Image) -> str:
    """*path*, which is a directory in *image*. Raises RunnerError where it is none."""
    found = inside(image.directory, path)
    if not path.startswith("/") or found is None or not found.is_dir():
        why = "it is a relative path" if not path.startswith("/") else "there is none in it"
        raise RunnerError(f"the image {image.source} has no directory {path}", why, "correct cwd, or make it there")
    return path


def inside(root: Path, path: str) -> Path | None:
    """What *path* names for a process whose root is *root*: links are followed as they are there. None for nothing."""
    parts, at, links = path.strip("/").split("/")[::-1], root, 0
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = at.parent if at != root else at
            continue
        try:
            status = (at / part).lstat()
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MOST_LINKS:
                    return None
                target = os.readlink(at / part)  # noqa: PTH115 - Path would tidy the text
                at = root if target.startswith("/") else at
                parts += target.split("/")[::-1]
                continue
        except OSError:
            return None
        at /= part
    return at


def _home(said: str, image: Image) -> str:
    """The home directory of a user, as container engines put it into HOME: that of passwd(5), else ``/``."""
    name = said.partition(":")[0] or "0"
    entries = list(_entries(image, "/etc/passwd", 6))
    return next((entry[5] for entry in entries if name in (entry[0], entry[2])), "") or "/"


def user(said: str, image: Image) -> User:
    """The numbers of ``NAME``, ``UID``, ``NAME:GROUP`` or ``UID:GID`` in *image*. Raises RunnerError."""
    if not said:
        return User()
    name, _, group = said.partition(":")
    known = {entry[0]: entry for entry in _entries(image, "/etc/passwd", 4)}
    groups = {entry[0]: entry for entry in _entries(image, "/etc/group", 4)}
    entry = known.get(name) or next((one for one in known.values() if one[2] == name), None)
    if entry is None and not name.isdigit():
        raise _unknown("user", name, image)
    uid = int(entry[2]) if entry else int(name)
    if group:
        found = groups.get(group)
        if found is None and not group.isdigit():
            raise _unknown("group", group, image)
        return User(uid=uid, gid=int(found[2]) if found else int(group))
    member = entry[0] if entry else name
    further = tuple(int(one[2]) for one in groups.values() if member in one[3].split(","))
    return User(uid=uid, gid=int(entry[3]) if entry else 0, groups=further)


def _entries(image: Image, path: str, fields: int) -> Iterator[list[str]]:
    """The lines of a file as passwd(5) and group(5), those that are whole."""
    file = inside(image.directory, path)
    if file is None:
        return
    for line in file.read_text("utf-8", "replace").splitlines():
        parts = line.split(":")
        if len(parts) >= fields and parts[2].isdigit():
            yield parts


def _unknown(what: str, name: str, image: Image) -> RunnerError:
    why = "it is not in its /etc/passwd" if what == "user" else "it is not in its /etc/group"
    return RunnerError(f"the image {image.source} has no {what} '{name}'", why, f"give a number, or another {what}")

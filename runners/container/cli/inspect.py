"""The verbs that change no container: state, list, ps, features, spec."""

from __future__ import annotations

import os

from ..errors import OciError
from ..lifecycle import claim_cgroup
from ..light import json
from .main import SPEC, say_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..lifecycle.state import State
    from .main import Call


def state(call: Call) -> int:
    """Print the state as JSON."""
    known = call.store.read(call.name())
    say_lines(json.dumps(_report(known, call.store.status(known, claim_cgroup.is_frozen)), indent=2))
    return 0


def _report(known: State, status: str) -> dict[str, object]:
    """The keys of runc, in its order: callers in Go need pid even where the specification allows to omit it."""
    report = known.report(status)
    return {
        "ociVersion": known.oci_version,
        "id": known.name,
        "pid": report.get("pid", 0),
        "status": status,
        "bundle": known.bundle,
        "rootfs": known.rootfs,
        "created": known.created,
        "annotations": known.annotations,
        "owner": _owner(known.owner_uid),
    }


def _owner(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def list_all(call: Call) -> int:
    """Print all containers."""
    if call.options.words:
        raise OciError(f"unexpected argument {call.options.words[0]!r}")
    reports = []
    for name in call.store.names():
        try:
            known = call.store.read(name)
        except OciError as error:
            call.log.warning(str(error))
            continue
        reports.append(_report(known, call.store.status(known, claim_cgroup.is_frozen)))
    if call.options.on("quiet"):
        for report in reports:
            say_lines(str(report["id"]))
    elif _form(call) == "json":
        say_lines(json.dumps(reports))
    else:
        columns = ("id", "pid", "status", "bundle", "created", "owner")
        _table([[name.upper() for name in columns], *([str(each[name]) for name in columns] for each in reports)])
    return 0


def _form(call: Call) -> str:
    form = call.options.text("format", "table")
    if form not in ("table", "json"):
        raise OciError("--format", f"{form!r} is neither table nor json", "use table or json")
    return form


def _table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say_lines("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())


def ps(call: Call) -> int:
    """List the processes of a container."""
    name = call.name(more=True)
    known = call.store.read(name)
    group = claim_cgroup.group_of(known)
    if group is None:
        raise OciError(f"cannot list the processes of {name}", "it has no cgroup to find them in")
    pids = sorted(group.pids())
    if _form(call) == "json":
        say_lines(json.dumps(pids))
        return 0
    import subprocess

    words = call.options.words[1:] or ["-ef"]
    try:
        said = subprocess.run(["ps", *words], stdout=subprocess.PIPE, text=True, check=False).stdout
    except FileNotFoundError:
        raise OciError("cannot list processes as a table", "there is no ps(1) on PATH", "use --format json") from None
    heading, *lines = said.splitlines() or [""]
    if "PID" not in heading.split():
        raise OciError(f"ps {' '.join(words)}", "shows no column PID", "ask ps for one")
    column = heading.split().index("PID")
    say_lines(heading)
    wanted = set(map(str, pids))
    for line in lines:
        fields = line.split()
        if len(fields) > column and fields[column] in wanted:
            say_lines(line)
    return 0


def features(call: Call) -> int:
    """Print the features structure of the OCI specification (features.md)."""
    from .features import structure

    if call.options.words:
        raise OciError(f"unexpected argument {call.options.words[0]!r}")
    say_lines(json.dumps(structure(SPEC), indent=2))
    return 0


def spec(call: Call) -> int:
    """Write a config.json to start from."""
    from ..config.template import specimen

    directory = call.options.text("bundle") or "."
    path = os.path.join(directory, "config.json")
    text = json.dumps(specimen(rootless=call.options.on("rootless")), indent=2)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise OciError(f"cannot write {path}", "it is there already", "move it away first") from None
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)
    return 0

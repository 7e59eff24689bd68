"""Scenarios of one command line: ``tare weigh`` turns its words into the text of a scenario file."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tomli_w

from tare.bench.errors import UsageError

_SUBJECT = re.compile(r"(?:(?P<label>[^=,]+)=)?(?P<runner>[a-z0-9-]+)(?:,(?P<options>.*))?", re.DOTALL)
_FEW = 4
_READY = "mark, line:REGEX, tcp:PORT, http://:PORT/PATH, exec:COMMAND, exit or exit:STATUS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a command line asks for. *subjects* are as they were written: ``[LABEL=]RUNNER[,OPTION=VALUE...]``."""

    command: Sequence[str]
    subjects: Sequence[str]
    ready: str = "exit"
    image: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    user: str = ""
    grant: Mapping[str, int] = field(default_factory=dict)
    run: Mapping[str, object] = field(default_factory=dict)


def scenario(wish: Wish) -> str:
    """The text of a scenario file that asks for the same. Raises UsageError."""
    tables = [subject(text) for text in wish.subjects]
    labels = [table["label"] for table in tables]
    work = {
        "command": list(wish.command),
        "env": dict(wish.env),
        "cwd": wish.cwd,
        "user": wish.user,
        "image": wish.image,
    }
    document: dict[str, Any] = {
        "schema": 1,
        "question": question(wish),
        "reference": _reference(tables),
        "pairs": _pairs(labels),
        "run": dict(wish.run),
        "grant": dict(wish.grant),
        "workload": {key: value for key, value in work.items() if value} | {"ready": ready(wish.ready)},
        "subjects": tables,
    }
    return tomli_w.dumps({key: value for key, value in document.items() if value not in ({}, [])})


def question(wish: Wish) -> str:
    """What a report of it answers."""
    what = shlex.join(wish.command) or f"the command of the image {wish.image}"
    what = what if len(what) <= 80 else f"{what[:79]}…"
    if wish.ready.startswith("exit"):
        return f"How long does this take: {what}"
    return f"How long until this is ready: {what}"


def _reference(tables: Sequence[Mapping[str, Any]]) -> str:
    """The bare process, where there is one; else the first subject."""
    return str(next((one["label"] for one in tables if one["runner"] == "process"), tables[0]["label"]))


def _pairs(labels: Sequence[str]) -> list[list[str]]:
    """Of a few, each with the next: the reference is compared with all anyway."""
    return [list(pair) for pair in itertools.pairwise(labels)] if 2 < len(labels) <= _FEW else []


def subject(text: str) -> dict[str, Any]:
    """``old=crun,binary=/opt/crun`` as a table of ``[[subjects]]``. Raises UsageError."""
    found = _SUBJECT.fullmatch(text)
    options = found["options"].split(",") if found and found["options"] else []
    if found is None or not all("=" in option for option in options):
        raise UsageError(
            f"-i {text} cannot be used", "it is not [LABEL=]RUNNER[,OPTION=VALUE...]",
            "write such as: -i container, -i old=crun,binary=/opt/crun",
        )  # fmt: skip
    table: dict[str, Any] = {"label": found["label"] or found["runner"], "runner": found["runner"]}
    if options:
        table["options"] = dict(option.split("=", 1) for option in options)
    return table


def ready(text: str) -> str | dict[str, Any]:
    """``tcp:8000`` as the value of ``ready`` in ``[workload]``. Raises UsageError."""
    word, colon, rest = text.partition(":")
    if text == "mark":
        return "mark"
    if word == "http" and rest.startswith("//"):
        return {"http": text}
    if word == "line" and rest:
        return {"line": rest}
    if word == "exec" and rest:
        return {"exec": shlex.split(rest)}
    number = rest if colon else "0"
    if word in ("tcp", "exit") and number.isascii() and number.isdigit() and (colon or word == "exit"):
        return {word: int(number)}
    raise UsageError(f"--ready {text} cannot be used", "there is no such contract", f"one of: {_READY}")

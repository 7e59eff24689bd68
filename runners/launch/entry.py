"""A program that becomes another one somewhere else: below a root of its own, or beside a process that runs.

``entry.c`` does it: a static program, compiled once, since a start of Python would take ten times as long as what it
does. A workload with another user or another root begins through it, and so does a command beside a workload where the
runner's engine has none of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from tare.runners import payload
from tare.runners.base import Spec
from tare.runners.container.config.defaults import DOCKER_CAPABILITIES
from tare.runners.container.linux.capabilities import CAPABILITIES
from tare.runners.container.reader import Reader
from tare.runners.container.seccomp import filters
from tare.runners.container.warm.root_layer import overlay_options

_SOURCE = Path(__file__).with_name("entry.c")
#: How :attr:`runners.base.Support.enters` says that a command gets in by this.
ENTERS = "setns(2), by a small program of tare's"
#: What the containers grant, as a mask.
_CAPABILITIES = sum(1 << CAPABILITIES.index(name.removeprefix("CAP_")) for name in DOCKER_CAPABILITIES)


def binary(cache: Path) -> Path:
    """The compiled program; see :func:`runners.payload.compiled`."""
    return payload.compiled(_SOURCE, cache)


def own_user(spec: Spec) -> bool:
    """Whether the workload has the rights that this process has: also root's, where this user could give no others."""
    user = spec.user
    return (user.uid, user.gid) in ((0, 0), (os.geteuid(), os.getegid())) and not user.groups


def becoming(spec: Spec) -> list[str]:
    """The words for the directory, the user and the environment of *spec*."""
    words = [f"directory={spec.cwd}", *(f"env={name}={value}" for name, value in spec.env)]
    return words if own_user(spec) else [*words, *user(spec)]


def user(spec: Spec) -> list[str]:
    """The words for the user of *spec* alone."""
    words = [f"user={spec.user.uid}", f"group={spec.user.gid}"]
    return [*words, f"groups={','.join(map(str, spec.user.groups))}"] if spec.user.groups else words


def below(image: str, base: str) -> list[str]:
    """The words for a root of its own: an overlay of *image*, made on a tmpfs at the directory *base*."""
    return [f"base={base}", f"overlay={overlay_options(image, 'u', 'w')}"]


def filter_of(config: Mapping[str, object]) -> bytes:
    """The compiled filter of system calls of an OCI configuration; empty if it has none."""
    profile = cast("Mapping[str, object]", config["linux"]).get("seccomp")
    return filters.compile(filters.parse(Reader(profile, "linux.seccomp"))) if profile else b""


def beside(
    program: Path, pid: int, spec: Spec, *, cgroups: Iterable[str] = (), filtered: Path | None = None
) -> tuple[str, ...]:
    """The beginning of a command line: what follows runs beside process *pid*, in a container, with its rights.

    *cgroups* are the files by which one enters its cgroup; *filtered* is a file with its compiled filter.
    """
    words = [os.fspath(program), f"beside={pid}", *becoming(spec), *(f"cgroup={file}" for file in cgroups)]
    words += [f"capabilities={_CAPABILITIES:x}"]
    words += [f"filter={filtered}"] if filtered is not None else []
    return (*words, "--")

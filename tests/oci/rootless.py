"""An ordinary user who runs containers: who it is, what it may run, and which further ids it is granted."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import require
from tests.oci.harness import OURS, Box, Runtime

PACKAGE = Path(__file__).parents[2] / "runners" / "container"
#: Any user: it need not be in /etc/passwd.
USER = 61234
NAME = "tare-user"


def require_namespaces() -> None:
    most = Path("/proc/sys/user/max_user_namespaces").read_text().strip()
    require("userns", most != "0", "user.max_user_namespaces is 0")


def readable(directory: Path) -> Runtime:
    """A copy of ours, in *directory*, that the user may run: a checkout and its environment are often root's alone."""
    shutil.copytree(PACKAGE, directory / "container", ignore=shutil.ignore_patterns("__pycache__"))
    for python in (sys.executable, "/usr/bin/python3"):
        check = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        with suppress(OSError):
            if subprocess.run(check, user=USER, group=USER, capture_output=True, check=False).returncode == 0:
                break
    else:
        pytest.skip("no Python 3.11 that an ordinary user may run: apt-get install python3")
    program = directory / OURS
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(python)} -I -S "${{0%/*}}/container/__main__.py" "$@"\n')
    program.chmod(0o755)
    return Runtime(name=OURS, binary=os.fspath(program))


def give(directory: Path) -> None:
    """Make *directory* and all in it the user's."""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)


def granted(directory: Path, uids: Sequence[str], gids: Sequence[str] | None = None) -> tuple[str, ...]:
    """The command that runs another as the user, with a name, a home, and these ranges of further ids.

    A range is FIRST:COUNT; *gids* are as *uids* if not given. The files that say so are seen by that command alone: the
    host's own are not touched.
    """
    for program in ("newuidmap", "newgidmap"):
        require("userns", shutil.which(program), f"no {program} on PATH: install uidmap")
    home = directory / "home"
    home.mkdir(exist_ok=True)
    os.chown(home, USER, USER)
    files = {
        "passwd": f"root:x:0:0::/root:/bin/sh\n{NAME}:x:{USER}:{USER}::{home}:/bin/sh\n",
        "group": f"root:x:0:\n{NAME}:x:{USER}:\n",
        "subuid": "".join(f"{NAME}:{each}\n" for each in uids),
        "subgid": "".join(f"{NAME}:{each}\n" for each in (uids if gids is None else gids)),
    }
    script = []
    for name, text in files.items():
        (directory / name).write_text(text)
        script.append(f"mount --bind {directory / name} /etc/{name}")
    script.append(f'exec setpriv --reuid {USER} --regid {USER} --clear-groups -- "$@"')
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", " && ".join(script), "sh")


def belongs(box: Box) -> Box:
    """Make *box* the user's, who calls the runtime; one id is mapped: its own."""
    require_namespaces()
    if box.runtime.ours:
        box.runtime = readable(box.directory / "program")
    box.linux["namespaces"].append({"type": "user"})
    box.linux["uidMappings"] = [{"containerID": 0, "hostID": USER, "size": 1}]
    box.linux["gidMappings"] = [{"containerID": 0, "hostID": USER, "size": 1}]
    box.linux.pop("resources")
    box.linux.pop("cgroupsPath")
    for mount in box.config["mounts"]:
        mount["options"] = [word for word in mount["options"] if not word.startswith("gid=")]
    box.uid = USER
    runtime_directory = box.directory / "run"
    runtime_directory.mkdir(mode=0o700)
    box.environment |= {"XDG_RUNTIME_DIR": os.fspath(runtime_directory), "HOME": os.fspath(box.directory)}
    give(box.directory)
    return box

"""What is on a machine's disks: its system, and the kit with what starts, stops and removes containers in it.

The kit is one read-only disk: a bundle (OCI runtime specification) for each place for a container, scripts for the
shell, and our runtime.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from tare import runners
from tare.runners.base import Image, RunnerError, Spec
from tare.runners.image.shapes import disk
from tare.runners.launch import frame
from tare.runners.nested import podman
from tare.runners.nested.options import PACKAGES, Runtime

INSIDE = Path(__file__).with_name("inside")
KIT = "/run/kit"
_OURS = f"{KIT}/container"
_RUNTIME_WORD = "@RUNTIME@"
#: What the scripts call a runtime's run and removal of the container $1.
_RUN, _DELETE = "@RUN@", "@DELETE@"
#: Where a system has programs, in the order in which its shell looks for them.
_PLACES = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
PATH = ":".join(f"/{place}" for place in _PLACES)
_PACK_S = 60
#: Times on the kit's disk are whole seconds (mke2fs), and a pack of byte code knows the times of its sources.
_TIME_S = 1_000_000_000


def words(runtime: Runtime) -> tuple[str, ...]:
    """How a machine calls *runtime*."""
    if runtime == "podman":
        return podman.WORDS
    if runtime != "tare-oci":
        return (runtime,)
    return ("python3", "-I", "-S", "-X", "utf8", f"{_OURS}/__main__.py")


def place(number: int) -> str:
    """The name of place *number*, from 1 on: in the machine, it is that of the container in it, and of its cgroup."""
    return f"c{number}"


def check(system: Image, runtime: Runtime) -> None:
    """Raise RunnerError where the files of *system* lack what *runtime* needs."""
    lacking = [name for name in ("sh", "mount", words(runtime)[0]) if not _has(system.directory, name)]
    if lacking:
        packages = "+".join(PACKAGES[runtime])
        raise RunnerError(
            f"no container can be started in a machine of {system.source}",
            f"there is no {lacking[0]} in it, which runtime = {runtime} needs",
            f'give the option system an image that has these packages: "debian:SUITE+{packages}"',
        )


def _has(root: Path, program: str) -> bool:
    return any(os.path.lexists(root / place / program) for place in _PLACES)


def configuration(spec: Spec, where: str) -> dict[str, object]:
    """The configuration of the container of *spec* in the place *where*."""
    return frame.config(spec, rootfs=f"/run/containers/{where}/rootfs", cgroup=where)


def script(name: str, runtime: Runtime) -> str:
    """The text of one of the scripts."""
    run = f'{_RUNTIME_WORD} run --bundle "{KIT}/bundles/$1" --pid-file "$own/pid" "$1"'
    delete = f'{_RUNTIME_WORD} delete --force "$1"'
    if runtime == "podman":
        run = f'/bin/sh "{KIT}/bundles/$1/run"'
        delete = f'{_RUNTIME_WORD} rm --force --time 0 --ignore "$1"'
    text = (INSIDE / f"{name}.sh").read_text().replace(_RUN, run).replace(_DELETE, delete)
    return text.replace(_RUNTIME_WORD, " ".join(words(runtime)))


def entering(runtime: Runtime, spec: Spec) -> tuple[str, ...]:
    """How a machine runs a further command in a container of *spec*, without the container's name and the command."""
    directory = "--workdir" if runtime == "podman" else "--cwd"
    return (*words(runtime), "exec", directory, spec.cwd, "--user", f"{spec.user.uid}:{spec.user.gid}")


def write_kit(target: Path, spec: Spec, system: Image, runtime: Runtime, containers: int) -> None:
    """Write the new disk *target*, beside which there is room to work. Raises RunnerError."""
    tree = target.with_suffix(".d")
    try:
        for number in range(1, containers + 1):
            bundle = tree / "bundles" / place(number)
            bundle.mkdir(parents=True)
            if runtime == "podman":
                (bundle / "run").write_text(f"exec {shlex.join(podman.run(spec, place(number)))}\n")
            else:
                (bundle / "config.json").write_text(json.dumps(configuration(spec, place(number))))
        for name in ("start", "stop", "remove"):
            (tree / name).write_text(script(name, runtime))
        if runtime == "tare-oci":
            _add_ours(tree / "container", system.directory)
        disk.write(tree, target)
    except OSError as error:
        raise RunnerError(f"the disk {target} cannot be made", str(error), "make room there") from error
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def _add_ours(directory: Path, system: Path) -> None:
    """Our runtime, and its byte code in one file, made by the system's own Python: a machine cannot write to the disk.

    Where that Python does not run here, each start in a machine compiles what it imports.
    """
    source = Path(next(iter(runners.__path__))) / "container"
    shutil.copytree(source, directory, ignore=shutil.ignore_patterns("__pycache__"))
    for file in directory.rglob("*"):
        os.utime(file, (_TIME_S, _TIME_S))
    loader = next(system.glob("usr/lib*/*/ld-linux-x86-64.so.2"), None)
    python = next(iter(sorted((system / "usr/bin").glob("python3.*[0-9]"))), None)
    if loader is None or python is None:
        return
    libraries = ":".join(str(path) for path in (loader.parent, system / "usr/lib"))
    command: list[str | Path] = [
        loader,
        "--library-path",
        libraries,
        python,
        "-S",
        "-s",
        "-B",
        "-X",
        "utf8",
        directory / "__main__.py",
    ]
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [*command, "--version"], env={"PYTHONHOME": str(system / "usr")}, stdin=subprocess.DEVNULL,
            capture_output=True, check=False, timeout=_PACK_S,
        )  # fmt: skip

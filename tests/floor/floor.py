"""The kernel's floor as a subject: builds floor.c, writes its recipe, and starts and stops its containers.

The recipe is made from the configuration that the runtimes get
(:func:`runners.container.config.defaults.default_config`), by code of its own: what ``runners/container`` decides is
not asked, but for the bytes of the seccomp filter and the rules for devices, which both hand to the kernel as they are.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from tare.runners.base import Spec
from tare.runners.container.cgroup import cgroups, devices
from tare.runners.container.config.defaults import PIDS_LIMIT, default_config

SOURCE = Path(__file__).with_name("floor.c")
FLAGS = ("-static", "-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11")

#: mount(2), clone(2), capabilities(7): what the words of a configuration mean.
MOUNT_FLAGS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1 << 10, "relatime": 1 << 21}
MOUNT_FLAGS["strictatime"] = 1 << 24
NAMESPACES = {"mount": 1 << 17, "uts": 1 << 26, "ipc": 1 << 27, "pid": 1 << 29, "network": 1 << 30}
#: The cgroup namespace comes after joining, by unshare(2): clone would make the caller's cgroup its root.
LATER = {"cgroup"}
CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7}
CAPABILITIES |= {"SETPCAP": 8, "NET_BIND_SERVICE": 10, "NET_RAW": 13, "SYS_CHROOT": 18, "MKNOD": 27}
CAPABILITIES |= {"AUDIT_WRITE": 29, "SETFCAP": 31}
#: config-linux.md, "Default Devices" and "Symbolic links" (config.md, "Default Filesystems").
DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
LINKS = {name: f"/proc/self/fd/{number}" for number, name in enumerate(("stdin", "stdout", "stderr"))}
LINKS |= {"fd": "/proc/self/fd", "ptmx": "pts/ptmx"}


def binary(cache: Path) -> Path:
    """The compiled floor below *cache*; built if this source was never built there. Raises CalledProcessError."""
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    target = cache / f"floor-{digest}"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            built = Path(scratch, "floor")
            subprocess.run(["cc", *FLAGS, "-o", built, SOURCE], check=True)
            os.replace(built, target)
    return target


def recipe(
    config: Mapping[str, Any], *, base: Path, groups: Sequence[tuple[str, ...]], seccomp: tuple[str, int] | None
) -> str:
    """The recipe for *config*. *groups* are its lines about cgroups; *seccomp* is a file of BPF, and flags."""
    process, linux = config["process"], config["linux"]
    capabilities = sum(1 << CAPABILITIES[name.removeprefix("CAP_")] for name in process["capabilities"]["bounding"])
    kinds = {each["type"] for each in linux["namespaces"]}
    lines: list[tuple[object, ...]] = [
        ("lower", config["root"]["path"]),
        ("base", base),
        ("hostname", config["hostname"]),
        ("cwd", process["cwd"]),
        *(("argv", word) for word in process["args"]),
        *(("env", word) for word in process["env"]),
        ("capabilities", f"{capabilities:x}"),
        ("namespaces", f"{sum(NAMESPACES[kind] for kind in kinds - LATER):x}"),
        *groups,
    ]
    if seccomp is not None:
        lines.append(("seccomp", *seccomp))
    for mount in config["mounts"]:
        flags = sum(MOUNT_FLAGS.get(word, 0) for word in mount["options"])
        data = ",".join(word for word in mount["options"] if word not in MOUNT_FLAGS)
        lines.append(("directory", mount["destination"]))
        lines.append(("mount", mount["type"], mount["source"], mount["destination"], flags, data))
        if mount["destination"] == "/dev":
            lines += [("device", f"/dev/{name}", major, minor) for name, major, minor in DEVICES]
            lines += [("link", target, f"/dev/{name}") for name, target in LINKS.items()]
    lines += [
        ("mask-directory" if Path(path).is_dir() else "mask-file", path)
        for path in linux["maskedPaths"]
        if Path(path).exists()
    ]
    readonly = sum(MOUNT_FLAGS[word] for word in ("ro", "nosuid", "nodev", "noexec"))
    lines += [("readonly", path, readonly) for path in linux["readonlyPaths"] if Path(path).exists()]
    rows = ["\t".join(map(str, line)) for line in lines]
    if any("\n" in row or row.count("\t") != len(line) - 1 for row, line in zip(rows, lines, strict=True)):
        raise ValueError("a tab or a newline in the configuration: the floor's recipe cannot hold it")
    return "\n".join(rows) + "\n"


class Floor:
    """A running floor; names of instances are those of their cgroups."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def ask(self, command: str) -> int:
        """Send *command*; return the nanoseconds that it took, as the floor measured them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        word, _, rest = self._process.stdout.readline().partition(" ")
        if word != "ok":
            raise RuntimeError(f"floor: {command}: {rest.strip() or 'it is gone; see its standard error'}")
        return int(rest)

    def start(self, name: str) -> int:
        """One container, up to its payload's "ready"; nanoseconds."""
        return self.ask(f"start {name}")

    def stop(self, name: str) -> int:
        """Its end and removal; nanoseconds."""
        return self.ask(f"stop {name}")


@contextmanager
def opened(spec: Spec, *, cgroup: str, place: Path, cache: Path) -> Iterator[Floor]:
    """A floor that starts *spec* in cgroups below *cgroup*; *place* is an empty directory."""
    config = default_config(
        argv=spec.argv,
        env=spec.env,
        rootfs=str(spec.rootfs.resolve()),
        cgroup=cgroup,
        memory_bytes=spec.memory_bytes,
        cpus=spec.cpus,
        count_swap=cgroups.counts_swap(),
    )
    base, file = place / "layer", place / "recipe"
    with ExitStack() as stack:
        base.mkdir()
        stack.callback(base.rmdir)
        parent = cgroups.at(cgroup)
        parent.create()
        groups = _groups(parent, spec, stack, place.name)
        seccomp = _seccomp(cast("Mapping[str, Any]", config["linux"]), place)
        file.write_text(recipe(config, base=base, groups=groups, seccomp=seccomp))
        stack.callback(file.unlink)
        command = [binary(cache), file]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={})
        stack.callback(_close, process)
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the floor did not start: see its standard error")
        yield Floor(process)


def _close(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    process.wait()


def _groups(parent: cgroups.Cgroup, spec: Spec, stack: ExitStack, label: str) -> list[tuple[str, ...]]:
    """Where instances get cgroups, and what is written there."""
    limits = parent.child("NAME").limits(memory_bytes=spec.memory_bytes, pids=PIDS_LIMIT, cpus=spec.cpus)
    lines: list[tuple[str, ...]] = [
        ("unified" if isinstance(parent, cgroups.V2) else "cgroup", os.fspath(path)) for path in parent.paths()
    ]
    lines += [("limit", str(Path(file).parent.parent), Path(file).name, text) for file, text in limits]
    if isinstance(parent, cgroups.V1) and devices.enforceable(parent.layout):
        rules = stack.enter_context(devices.RulesV1(parent, f"{label}-floor-rules"))
        lines += [("cgroup", str(path)) for path in rules.group.paths()]
    return lines


def _seccomp(linux: Mapping[str, Any], place: Path) -> tuple[str, int] | None:
    if not linux.get("seccomp"):
        return None
    from tare.runners.container.reader import Reader
    from tare.runners.container.seccomp import filters

    compiled = filters.compile(filters.parse(Reader(linux["seccomp"], "linux.seccomp")))
    file = place / "seccomp.bpf"
    file.write_bytes(compiled)
    return os.fspath(file), 0

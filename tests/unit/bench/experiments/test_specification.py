"""A workload and its image become a specification: where it begins, who it is, what it finds in its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tare.bench.experiments import specification
from tare.bench.records.readiness import Exit, Ready, Tcp
from tare.bench.records.resolved import Subject, Workload
from tare.runners.base import RunnerError, Spec, User
from tare.runners.image import sources
from tare.runners.image.tree import plain


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("bin", "etc", "home/one"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bin" / "program").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "program").chmod(0o755)
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\none:x:1001:1002::/home/one:/bin/sh\n")
    (tmp_path / "etc" / "group").write_text("one:x:1002:\nmore:x:1003:root,one\n")
    return tmp_path


def made(root: Path, *, ready: Ready | None = None, **about: Any) -> Spec:
    work = Workload(command=("program",), ready=ready or Exit(), **about)
    subject = Subject(label="x", runner="process", workload=work, memory_bytes=1 << 26, cpus=1)
    return specification.of(subject, plain(root))


def test_without_a_word_it_is_root_at_the_root(root: Path) -> None:
    spec = made(root)
    assert (spec.argv, spec.cwd, spec.user) == (("/bin/program",), "/", User())
    assert dict(spec.env)["HOME"] == "/root"
    assert "/bin" in dict(spec.env)["PATH"].split(":")


@pytest.mark.parametrize(
    ("user", "wanted", "home"),
    [
        ("one", User(uid=1001, gid=1002, groups=(1003,)), "/home/one"),
        ("1001", User(uid=1001, gid=1002, groups=(1003,)), "/home/one"),
        ("one:more", User(uid=1001, gid=1003), "/home/one"),
        ("7:8", User(uid=7, gid=8), "/"),
    ],
)
def test_a_user_is_looked_up_in_the_image(root: Path, user: str, wanted: User, home: str) -> None:
    spec = made(root, user=user)
    assert spec.user == wanted
    assert dict(spec.env)["HOME"] == home
    assert dict(made(root, user=user, env={"HOME": "/mine"}).env)["HOME"] == "/mine"


@pytest.mark.parametrize("cwd", ["/none", "bin", "/bin/program"])
def test_a_directory_must_be_there(root: Path, cwd: str) -> None:
    with pytest.raises(RunnerError, match=f"has no directory {cwd}"):
        made(root, cwd=cwd)
    assert made(root, cwd="/etc").cwd == "/etc"


def test_the_port_of_its_readiness_is_one_of_its_ports(root: Path) -> None:
    assert made(root, ready=Tcp(port=80)).ports == (80,)
    assert made(root, ready=Tcp(port=80), ports=(80, 443)).ports == (80, 443)


def test_a_whole_machine_starts_by_itself_and_is_told_nothing(tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    image = sources.find(f"disk:{tmp_path}/disk", tmp_path / "cache")

    def of(**about: Any) -> Spec:
        work = Workload(image=image.source, **about)
        subject = Subject(label="x", runner="vm", workload=work, memory_bytes=1 << 26, cpus=1)
        return specification.of(subject, image)

    spec = of(ready=Tcp(port=22))
    assert (spec.argv, spec.ports, spec.custom) == ((), (22,), True)
    for said in ({"command": ("/bin/sh",)}, {"env": {"A": "b"}}, {"cwd": "/srv"}, {"user": "one"}):
        with pytest.raises(RunnerError, match="cannot be said"):
            of(ready=Tcp(port=22), **said)

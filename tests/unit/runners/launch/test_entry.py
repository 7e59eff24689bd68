"""The words of an entry, and what an entry does that needs no privilege."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tare.runners.base import Spec, User
from tare.runners.image.cache import cache_dir
from tare.runners.image.tree import plain
from tare.runners.launch import entry, host_root


def spec(**about: object) -> Spec:
    return Spec(argv=("/x",), image=plain(Path("/")), memory_bytes=0, cpus=1, **about)  # type: ignore[arg-type]


def entered(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [entry.binary(cache_dir()), *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_the_callers_own_rights_are_left_alone() -> None:
    mine = User(uid=os.geteuid(), gid=os.getegid())
    assert not any(word.startswith("user=") for word in entry.becoming(spec(user=mine)))
    assert not any(word.startswith("user=") for word in entry.becoming(spec()))
    words = entry.becoming(spec(user=User(uid=7, gid=8, groups=(9, 10)), cwd="/etc", env=(("A", "b=c"),)))
    assert words == ["directory=/etc", "env=A=b=c", "user=7", "group=8", "groups=9,10"]


def test_an_image_with_a_strange_name_is_quoted_for_the_mount() -> None:
    assert entry.below("/a,b:c", "/base") == ["base=/base", r"overlay=lowerdir=/a\,b\:c,upperdir=u,workdir=w"]


@pytest.mark.compiler
def test_the_program_begins_in_its_directory_with_its_environment_alone() -> None:
    done = entered("directory=/usr", "env=A=b c", "env=PATH=/nowhere:/usr/bin:/bin", "--", "sh", "-c", "pwd; env")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "/usr"
    assert set(lines[1:]) - {"PWD=/usr", "_=/usr/bin/env", "OLDPWD=/usr"} == {"A=b c", "PATH=/nowhere:/usr/bin:/bin"}


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--", "no-such-program"), "cannot execute no-such-program: No such file or directory"),
        (("--", "/etc/passwd"), "cannot execute /etc/passwd: Permission denied"),
        (("directory=/none", "--", "true"), "cannot change to the directory /none: No such file or directory"),
        (("beside=0", "--", "true"), "cannot open /proc/0/root: No such file or directory"),
        (("cgroup=/none/tasks", "--", "true"), "cannot open /none/tasks: No such file or directory"),
    ],
)
def test_what_fails_is_said(words: tuple[str, ...], said: str) -> None:
    done = entered("env=PATH=/usr/bin:/bin", *words)
    assert (done.returncode, done.stderr.strip()) == (127, said)


@pytest.mark.compiler
def test_a_script_without_its_first_line_is_no_program(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo run by a shell\n")
    script.chmod(0o755)
    done = entered("--", str(script))
    assert (done.returncode, done.stdout) == (127, "")
    assert "Exec format error" in done.stderr


@pytest.mark.compiler
def test_the_status_is_that_of_the_program() -> None:
    assert entered("--", "/bin/sh", "-c", "exit 7").returncode == 7
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_path_is_on_the_file_system_that_is_nearest_above_it() -> None:
    points = ["/", "/srv", "/srv/deep", "/proc"]
    assert host_root.mount_point("/usr/bin/env", points) == "/"
    assert host_root.mount_point("/srv", points) == "/srv"
    assert host_root.mount_point("/srv/deeper/x", points) == "/srv"
    assert host_root.mount_point("/srv/deep/x", points) == "/srv/deep"

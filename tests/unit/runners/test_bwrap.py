"""bubblewrap's command line, and what its absence is called; nothing is started."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from tare.runners import bwrap
from tare.runners.base import RunnerError, Scratch, Spec
from tare.runners.container.config.defaults import DOCKER_CAPABILITIES
from tare.runners.container.warm import leftovers
from tare.runners.image.tree import plain
from tare.runners.launch import monitored


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    root = tmp_path / "root"
    for name in ("usr", "proc", "dev", "sys"):
        (root / name).mkdir(parents=True)
    (root / "payload").write_text("")
    (root / "bin").symlink_to("usr/bin")
    return Spec(argv=("/payload", "a b"), image=plain(root), memory_bytes=1 << 26, cpus=1, env=(("NAME", "va=lue"),))


def pairs(words: tuple[str, ...], option: str, arity: int = 1) -> list[tuple[str, ...]]:
    return [words[at + 1 : at + 1 + arity] for at, word in enumerate(words) if word == option]


def test_the_program_comes_last_with_its_words_as_they_are(spec: Spec) -> None:
    words = bwrap.arguments("bwrap", spec, overlay=False, filtered=True)
    assert words[words.index("--") + 1 :] == spec.argv
    assert pairs(words, "--setenv", 2) == [("NAME", "va=lue")]


def test_without_overlay_each_entry_is_bound_read_only_and_links_stay_links(spec: Spec) -> None:
    words = bwrap.arguments("bwrap", spec, overlay=False, filtered=False)
    bound = pairs(words, "--ro-bind", 2)
    assert (str(spec.rootfs / "payload"), "/payload") in bound
    assert (str(spec.rootfs / "usr"), "/usr") in bound
    assert ("usr/bin", "/bin") in pairs(words, "--symlink", 2)
    assert not {"/proc", "/dev", "/sys"} & {target for _, target in bound}, "these are mounted"


def test_with_overlay_the_root_filesystem_is_its_lower_layer(spec: Spec) -> None:
    words = bwrap.arguments("bwrap", spec, overlay=True, filtered=False)
    assert pairs(words, "--overlay-src") == [(str(spec.rootfs),)]
    assert pairs(words, "--tmp-overlay") == [("/",)]
    assert "/payload" not in [target for _, target in pairs(words, "--ro-bind", 2)]


def test_all_capabilities_are_dropped_before_dockers_are_given_back(spec: Spec) -> None:
    words = bwrap.arguments("bwrap", spec, overlay=False, filtered=False)
    assert words.index("--cap-drop") < words.index("--cap-add")
    assert [name for (name,) in pairs(words, "--cap-add")] == list(DOCKER_CAPABILITIES)


def test_a_filter_is_named_only_where_there_is_one(spec: Spec) -> None:
    assert "--seccomp" in bwrap.arguments("bwrap", spec, overlay=False, filtered=True)
    assert "--seccomp" not in bwrap.arguments("bwrap", spec, overlay=False, filtered=False)


def test_a_missing_program_is_a_reason_with_a_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    support = bwrap.probe({}, tmp_path)
    assert not support.ok
    assert "bwrap" in support.why
    assert support.fix == "install bubblewrap"


def test_a_program_that_closes_its_streams_and_runs_on_is_ended(
    tmp_path: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitored, "_STOP_S", 0.5)
    fake, script = tmp_path / "fake", tmp_path / "fake.py"
    # No "#!" line with the path of this Python, which may have a space.
    fake.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {script} "$@"\n')
    script.write_text(
        "import os, sys, time\n"
        "if sys.argv[1] in ('--help', '--version'): sys.exit()\n"
        f"open('{tmp_path}/pid', 'w').write(str(os.getpid()))\n"
        "os.closerange(0, 256)\ntime.sleep(600)\n"
    )
    fake.chmod(0o755)
    directory = tmp_path / "scratch"
    directory.mkdir()
    scratch = Scratch(directory=directory, cache=tmp_path, cgroup=None, prefix="tare-test")
    with bwrap.prepare(spec, {"binary": str(fake)}, scratch) as prepared:
        with pytest.raises(RunnerError, match="did not end within"), prepared.launch("one", lambda phase: None):
            pass
    assert not leftovers.alive(int((tmp_path / "pid").read_text()))


def test_a_program_that_starts_nothing_is_quoted(tmp_path: Path, spec: Spec) -> None:
    fake = tmp_path / "fake"
    fake.write_text('#!/bin/sh\ncase $1 in --help | --version) exit 0 ;; esac\necho "no such luck" >&2\nexit 3\n')
    fake.chmod(0o755)
    directory = tmp_path / "scratch"
    directory.mkdir()
    scratch = Scratch(directory=directory, cache=tmp_path, cgroup=None, prefix="tare-test")
    with bwrap.prepare(spec, {"binary": str(fake)}, scratch) as prepared:
        with pytest.raises(RunnerError) as caught, prepared.launch("one", lambda phase: None):
            pass
    assert "no such luck" in caught.value.why
    assert "status 3" in caught.value.why
    assert list(directory.iterdir()) == []

"""The cache: where it is, and that nothing half made is ever in it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tare import runners
from tare.bench.host import doctor
from tare.runners.base import RunnerError
from tare.runners.image import cache


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TARE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.cache_dir() == tmp_path / ".cache" / "tare"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.cache_dir() == tmp_path / ".cache" / "tare"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.cache_dir() == Path("/xdg/tare")
    monkeypatch.setenv("TARE_CACHE", "/mine")
    assert cache.cache_dir() == Path("/mine")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("TARE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(RunnerError, match="no directory for the cache") as caught:
        cache.cache_dir()
    assert "TARE_CACHE" in caught.value.fix


@pytest.mark.parametrize(
    ("number", "fix"), [(errno.ENOSPC, "make room"), (errno.EDQUOT, "make room"), (errno.EROFS, "set TARE_CACHE")]
)
def test_a_cache_that_takes_nothing_more_is_said(tmp_path: Path, number: int, fix: str) -> None:
    def build(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    with pytest.raises(RunnerError, match=f"cannot be used.*{os.strerror(number)}") as caught:
        cache.keep(tmp_path, "thing", build)
    assert caught.value.fix.startswith(fix)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(set(runners.REGISTRY) - {"null", "oci"}))
@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/below", "/proc/nope"])
def test_a_subject_is_skipped_where_the_cache_cannot_be_used(name: str, place: str) -> None:
    support = doctor.probe(runners.load(name), {}, Path(place))
    assert not support.ok
    if "executable file" not in support.why and "root" not in support.fix:  # what is not installed needs no cache
        assert f"the cache {place} cannot be used" in support.why
        assert "TARE_CACHE" in support.fix


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def build(path: Path) -> None:
        path.mkdir()
        (path / "half").touch()
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        cache.keep(tmp_path, "thing", build)
    assert list(tmp_path.iterdir()) == []


def test_a_faster_run_s_directory_wins(tmp_path: Path) -> None:
    def build(path: Path) -> None:
        path.mkdir()
        (path / "ours").touch()
        (tmp_path / "thing").mkdir()
        (tmp_path / "thing" / "theirs").touch()

    assert [path.name for path in cache.keep(tmp_path, "thing", build).iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_a_cache_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunnerError, match="cannot be used") as caught:
        cache.keep(tmp_path / "file", "thing", Path.touch)
    assert "TARE_CACHE" in caught.value.fix

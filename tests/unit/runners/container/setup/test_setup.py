"""The parent's part while the first process sets itself up: what it waits for, and for how long."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tare.runners.container.setup import child, parent

HOOKS = {"createContainer": ("one",)}


@pytest.fixture
def pipes() -> Iterator[tuple[int, int, int]]:
    """What the parent reads from, what the first process writes to, and what the parent answers on."""
    up, up_in = os.pipe()
    down_out, down = os.pipe()
    yield up, up_in, down
    for fd in (up, up_in, down_out, down):
        os.close(fd)


def attend(pipes: tuple[int, int, int], hooks: dict[str, Any], frozen: Any) -> tuple[str, ...]:
    bundle: Any = SimpleNamespace(hooks=hooks)
    made = parent.Created(pid=1, pidfd=-1)
    cgroup: Any = SimpleNamespace(frozen_by=frozen)
    up, _, down = pipes
    awaited = child.CREATED + child.HOOKS + child.READY
    return parent._attend(bundle, made, cgroup, up, down, lambda *_: None, awaited)


@pytest.mark.parametrize("hooks", [{}, HOOKS], ids=["no hooks", "hooks"])
def test_a_frozen_cgroup_is_not_waited_for(
    pipes: tuple[int, int, int], hooks: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "_SET_UP_MS", 1)
    with pytest.raises(TimeoutError, match="its cgroup /above is frozen"):
        attend(pipes, hooks, lambda: "/above")


def test_nor_is_anything_else_without_hooks(pipes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "_SET_UP_MS", 1)
    with pytest.raises(TimeoutError, match="see what it waits for"):
        attend(pipes, {}, lambda: "")


def test_hooks_have_limits_of_their_own(pipes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "_SET_UP_MS", 1)
    looks = []

    def frozen() -> str:
        looks.append(1)
        if len(looks) == 3:
            child.tell(pipes[1], child.READY, "a warning")
        return ""

    assert attend(pipes, HOOKS, frozen) == ("a warning",)
    assert len(looks) == 3

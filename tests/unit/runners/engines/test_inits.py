"""What may be booted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tare.runners.base import RunnerError, Spec, User
from tare.runners.engines.common import inits
from tare.runners.image.tree import plain


def spec(program: str, user: User = User()) -> Spec:  # noqa: B008 - frozen
    return Spec(argv=(program,), image=plain(Path("/srv/root")), memory_bytes=1 << 26, cpus=1, user=user)


@pytest.mark.parametrize("program", ["/sbin/init", "/lib/systemd/systemd", "/usr/sbin/openrc-init"])
def test_an_init_may(program: str) -> None:
    inits.check(spec(program))


def test_another_program_may_not() -> None:
    with pytest.raises(RunnerError, match="cannot boot the image dir:/srv/root with /payload") as caught:
        inits.check(spec("/payload"))
    assert "/sbin/init" in caught.value.fix


def test_none_but_root_may_be_an_init() -> None:
    with pytest.raises(RunnerError, match="as user 33"):
        inits.check(spec("/sbin/init", User(uid=33)))


def test_only_yes_is_a_wish_to_boot() -> None:
    assert [inits.wanted(options) for options in ({}, {"boot": "no"}, {"boot": "yes"})] == [False, False, True]

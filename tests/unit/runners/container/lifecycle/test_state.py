"""What is stored about containers, hooks that run, values that are frozen: without privilege."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tare.runners.container.config import hooks
from tare.runners.container.errors import OciError
from tare.runners.container.lifecycle import hooks as running
from tare.runners.container.lifecycle import state
from tare.runners.container.lifecycle.checkpoint import NAMES, checkpoint
from tare.runners.container.lifecycle.state import FIFO, State, Store
from tare.runners.container.light.dataclasses import fields, record, replace
from tare.runners.container.linux import pty
from tare.runners.container.reader import BundleError, Reader


def known(**changes: Any) -> State:
    made = State(
        name="c1",
        oci_version="1.2.0",
        bundle="/b",
        rootfs="/b/rootfs",
        cgroup="tare/c1",
        annotations={"a": "b"},
        created="2026-01-01T00:00:00Z",
        owner_uid=0,
    )
    return replace(made, **changes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(os.fspath(tmp_path / "root"))


def test_a_state_comes_back_as_it_was_stored(store: Store) -> None:
    os.close(store.add("c1"))
    store.write(known())
    assert store.read("c1") == known()
    assert store.update(known(), pid=7, pid_start=9) == store.read("c1") == known(pid=7, pid_start=9)
    assert list(store.names()) == ["c1"]
    store.remove("c1")
    assert list(store.names()) == []
    store.remove("c1")


def test_a_name_is_taken_once(store: Store) -> None:
    os.close(store.add("c1"))
    with pytest.raises(OciError, match="exists already"):
        store.add("c1")


@pytest.mark.parametrize("name", ["", ".", "..", "@seccomp", "a/b", "a b", "a\0b", "ä", "a" * 300])
def test_impossible_names(store: Store, name: str) -> None:
    with pytest.raises(OciError):
        store.add(name)


def test_a_creation_that_was_killed_is_said_to_be_one(store: Store) -> None:
    os.close(store.add("c1"))
    with pytest.raises(OciError, match="delete --force c1"):
        store.read("c1")


WRONG = {name: getattr(known(), name) for name in fields(known())}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "\ufeff{}", "[" * 100_000, '{"name": 1}', '{"name": "x", "more": 1}'),
        *(json.dumps(WRONG | {key: value}) for key, value in (("pid", "1"), ("pid", True), ("bundle", 1))),
        *(json.dumps(WRONG | {key: None}) for key in WRONG),
    ],
)
def test_a_broken_state_names_its_file(store: Store, text: str) -> None:
    os.close(store.add("c1"))
    Path(store.file("c1", state.STATE)).write_text(text)
    with pytest.raises(OciError, match=r"c1/state\.json"):
        store.read("c1")


def test_a_lock_is_waited_for_and_its_removal_noticed(store: Store) -> None:
    """The lock is a process's, so the other side is one."""
    os.close(store.add("c1"))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tare.runners.container.lifecycle.state import Store\n"
        "store = Store(sys.argv[2]); lock = store.lock('c1'); print('locked', flush=True)\n"
        "sys.stdin.read(); store.remove('c1')\n"
    )
    root = Path(__file__).parents[5]
    with subprocess.Popen(
        [sys.executable, "-c", code, os.fspath(root), store.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        outcome: list[object] = []

        def wait() -> None:
            try:
                outcome.append(store.lock("c1"))
            except OciError as error:
                outcome.append(str(error))

        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not outcome
        other.stdin.close()
        waiter.join()
    assert "does not exist" in str(outcome[0])


def test_status_follows_process_and_fifo(store: Store) -> None:
    os.close(store.add("c1"))
    assert store.status(known()) == "creating"
    me = os.getpid()
    start = state.start_time(me)
    assert start
    mine = known(pid=me, pid_start=start)
    assert store.status(mine) == "running"
    assert store.status(mine, lambda _: True) == "paused"
    os.mkfifo(store.file("c1", FIFO))
    assert store.status(mine) == "created"
    assert store.status(replace(mine, pid_start=start - 1)) == "stopped"


def test_a_number_that_was_used_again_is_nobody(store: Store) -> None:
    me = os.getpid()
    start = state.start_time(me)
    assert start
    assert state.open_process(known(pid=me, pid_start=start - 1)) is None
    assert state.open_process(known()) is None
    found = state.open_process(known(pid=me, pid_start=start))
    assert found is not None
    os.close(found)


def test_a_zombie_has_no_start() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert state.start_time(child.pid) is None
    child.wait()


def test_the_report_has_a_pid_unless_stopped() -> None:
    report = known(pid=5).report("created")
    assert report == {
        "ociVersion": "1.2.0",
        "id": "c1",
        "status": "created",
        "pid": 5,
        "bundle": "/b",
        "annotations": {"a": "b"},
    }
    assert "pid" not in known(pid=5).report("stopped")


def test_a_file_is_placed_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    state.place_file(os.fspath(path), "one")
    state.place_file(os.fspath(path), "two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


def hook(path: str, *args: str, env: tuple[str, ...] | None = (), timeout_s: int | None = None) -> hooks.Hook:
    return hooks.Hook(path=path, args=(path, *args), env=env, timeout_s=timeout_s)


def test_hooks_get_the_state_their_arguments_and_their_environment_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    large = json.dumps({"annotations": {"a": "x" * 200_000}})
    script = f'cat > {out}; echo "$0 $1 $A ${{HOME-none}}" >> {out}'
    running.run([hook("/bin/sh", "-c", script, "name", "one", env=("A=b=c",))], large, kind="prestart")
    assert out.read_text() == f"{large}name one b=c none\n"


def test_hooks_run_in_order_until_one_fails(tmp_path: Path) -> None:
    out = tmp_path / "out"
    row = [hook("/bin/sh", "-c", f"echo {n} >> {out}; echo oops >&2; exit {n - 1}") for n in (1, 2, 3)]
    with pytest.raises(OSError, match="hook poststart /bin/sh: it exited with 1: oops"):
        running.run(row, "{}", kind="poststart")
    assert out.read_text() == "1\n2\n"


def test_hooks_that_are_excused_do_not_stop_the_next(tmp_path: Path) -> None:
    out = tmp_path / "out"
    row = [hook("/bin/sh", "-c", f"echo {n} >> {out}; exit {n}") for n in (1, 0, 2)]
    said: list[str] = []
    running.run([*row, hook("/nowhere/hook")], "{}", kind="poststop", excuse=said.append)
    assert out.read_text() == "1\n0\n2\n"
    assert len(said) == 3
    assert "/nowhere/hook" in said[2]


def test_a_hook_without_an_environment_gets_the_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_CALLER", "1")
    out = tmp_path / "out"
    script = f"echo ${{OF_THE_CALLER-}}${{OTHER-}} >> {out}"
    running.run([hook("/bin/sh", "-c", script, env=None)], "{}", kind="prestart")
    running.run([hook("/bin/sh", "-c", script, env=None)], "{}", kind="startContainer", env={"OTHER": "2"})
    running.run([hook("/bin/sh", "-c", script, env=())], "{}", kind="prestart")
    assert out.read_text() == "1\n2\n\n"


def test_what_a_hook_writes_reaches_nobody_but_its_error(capfd: pytest.CaptureFixture[str]) -> None:
    running.run([hook("/bin/sh", "-c", "echo out; echo err >&2")], "{}", kind="prestart")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(OSError, match="out\nerr"):
        running.run([hook("/bin/sh", "-c", "echo out; echo err >&2; false")], "{}", kind="prestart")


def test_a_hook_that_is_no_program_says_so(tmp_path: Path) -> None:
    for name, mode, text in (("text", 0o755, "no program"), ("plain", 0o644, "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
        with pytest.raises(OSError, match=f"hook prestart {tmp_path / name}: it .*cannot be run"):
            running.run([hook(os.fspath(tmp_path / name))], "{}", kind="prestart")
    with pytest.raises(OSError, match="cannot be run"):
        running.run([hook(os.fspath(tmp_path))], "{}", kind="prestart")


def test_a_hook_that_is_killed_or_missing_says_so() -> None:
    with pytest.raises(OSError, match="died of signal 9"):
        running.run([hook("/bin/sh", "-c", "kill -9 $$")], "{}", kind="prestart")
    with pytest.raises(OSError, match="/nowhere/hook"):
        running.run([hook("/nowhere/hook")], "{}", kind="prestart")


def test_a_hook_has_its_time() -> None:
    with pytest.raises(OSError, match="longer than 1 s"):
        running.run([hook("/bin/sleep", "100", timeout_s=1)], "{}", kind="prestart")


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({}, "path"),
        ({"path": "relative"}, "path"),
        ({"path": "/x", "timeout": -1}, "timeout"),
        ({"path": "/x", "args": "no list"}, "args"),
        ({"path": "/x", "timeout": 1.0}, "timeout"),
        ({"path": "/x\0"}, "path"),
        ({"path": "/x", "env": ["A\0=1"]}, "env[0]"),
        ({"path": "/x", "env": {"A": "1"}}, "env"),
    ],
)
def test_bad_hooks_are_refused_by_name(entry: dict[str, object], where: str) -> None:
    with pytest.raises(BundleError) as caught:
        hooks.parse(Reader({"createRuntime": [entry]}, "hooks"))
    assert caught.value.where == f"hooks.createRuntime[0].{where}"


def test_hooks_are_parsed() -> None:
    found = hooks.parse(
        Reader({"poststop": [{"path": "/x", "args": ["x", "y"], "env": ["A=1"], "timeout": 3}]}, "hooks")
    )
    assert found == {"poststop": (hooks.Hook(path="/x", args=("x", "y"), env=("A=1",), timeout_s=3),)}


def test_a_descriptor_travels_over_a_socket() -> None:
    ours, theirs = pty.pair()
    read_end, write_end = os.pipe()
    pty.send(theirs, write_end, "/dev/pts/0")
    got = pty.receive(ours)
    os.write(got, b"through")
    assert os.read(read_end, 20) == b"through"
    os.close(theirs)
    with pytest.raises(OciError, match="no terminal"):
        pty.receive(ours)
    for fd in (ours, got, read_end, write_end):
        os.close(fd)


def test_a_console_socket_may_have_a_long_path(tmp_path: Path) -> None:
    import socket

    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        directory = os.open(deep, os.O_PATH)
        server.bind(f"/proc/self/fd/{directory}/s")
        os.close(directory)
        server.listen()
        os.close(pty.connect(os.fspath(deep / "s")))
    with pytest.raises(OciError, match="console socket"):
        pty.connect(os.fspath(deep / "nobody"))


@record
class Point:
    x: int
    y: int = 2

    def sum(self) -> int:
        return self.x + self.y


@record(kw_only=True)
class Named(Point):
    name: str = ""


def test_a_record_is_a_frozen_value() -> None:
    point = Point(1)
    assert (point.sum(), point, hash(point)) == (3, Point(1, 2), hash(Point(x=1)))
    assert point != Point(1, 3)
    assert repr(point) == "Point(x=1, y=2)"
    assert replace(point, y=5) == Point(1, 5)
    assert fields(Named) == ("x", "y", "name")
    assert Named(x=1, name="n").sum() == 3
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 2  # type: ignore[misc]


@pytest.mark.parametrize(("values", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 2})])
def test_a_record_takes_its_fields_alone(values: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        Point(*values, **named)
    with pytest.raises(TypeError):
        Named(1, name="by position")


def test_a_checkpoint_is_for_tests_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TARE_OCI_CRASH", NAMES[0])
    monkeypatch.delenv("TARE_OCI_TEST", raising=False)
    checkpoint(NAMES[0])  # we are alive
    child = os.fork()
    if child == 0:
        os.environ["TARE_OCI_TEST"] = "1"
        checkpoint(NAMES[0])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9

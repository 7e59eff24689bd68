"""What the caller has done to itself: it must neither harm the runtime nor reach the container, or be handed on."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tare.runners.container.linux.exec_stub import unnamed_file
from tests.conftest import wait_until
from tests.oci.harness import DEADLINE_S, READY, Box

#: Run the rest of the command line with signals as the words say: "block" or "ignore", and numbers.
WITH = """
import os, signal, sys
how, numbers, *command = sys.argv[1:]
numbers = [int(each) for each in numbers.split(",")]
if how == "block":
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
else:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
os.execvp(command[0], command)
"""
ALL = [number for number in range(1, 65) if number not in (9, 19, 32, 33)]


def caller(how: str, *numbers: int) -> Sequence[str]:
    return [sys.executable, "-I", "-S", "-c", WITH, how, ",".join(map(str, numbers))]


@pytest.mark.parametrize("how", ["block", "ignore"])
@pytest.mark.parametrize("numbers", [[signal.SIGCHLD], ALL], ids=["child", "all"])
def test_signals_that_the_caller_does_not_take(box: Box, how: str, numbers: list[int]) -> None:
    """The foreground ends with the container, and the container starts with every signal as it is by default."""
    prefix = caller(how, *numbers)
    script = "grep -E '^Sig(Blk|Ign)' /proc/self/status; (exit 3); echo $?; exit 5"
    done = box.sh(script, prefix=prefix)
    if not box.runtime.ours and numbers != [signal.SIGCHLD]:
        pytest.xfail("crun and runc hand on what the caller has blocked or ignored")
    assert done.status == 5, done.err
    assert done.lines[-1] == "3", "it learns of its own children's ends"
    if box.runtime.ours:
        for line in done.lines[:-1]:
            assert int(line.split()[1], 16) == 0, line


@pytest.mark.parametrize("how", ["block", "ignore"])
def test_the_same_for_the_other_verbs(our_box: Box, how: str) -> None:
    prefix = caller(how, *ALL)
    our_box.create("/bin/sh", "-c", f"echo '{READY}'; exec sleep 1000", prefix=prefix)
    our_box.call("start", our_box.name, prefix=prefix).ok()
    done = our_box.exec("/bin/sh", "-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status; exit 6", prefix=prefix)
    assert done.status == 6, done.err
    assert all(int(line.split()[1], 16) == 0 for line in done.lines)
    our_box.call("delete", "--force", our_box.name, prefix=prefix).ok()


def test_blocked_signals_reach_the_container(our_box: Box) -> None:
    our_box.process["args"] = ["/bin/sh", "-c", f"trap 'exit 9' TERM; echo '{READY}'; while :; do sleep 0.05; done"]
    our_box.save()
    words = ("run", "--bundle", os.fspath(our_box.bundle), our_box.name)
    running = our_box.begin(*words, prefix=caller("block", signal.SIGTERM, signal.SIGCHLD))
    running.until(READY)
    running.child.send_signal(signal.SIGTERM)
    assert running.wait().status == 9


def handed(*files: Any) -> dict[str, Any]:
    """Hand the descriptors of *files* to the command as 3 and so on."""
    fds = [each.fileno() for each in files]

    def place() -> None:
        moved = [os.dup(fd) for fd in fds]
        for number, fd in enumerate(moved, 3):
            os.dup2(fd, number)

    return {"preexec_fn": place, "pass_fds": tuple(range(3, 3 + len(files)))}


def inodes(text: str) -> dict[int, int]:
    """Number -> inode, of what ``inside descriptors`` prints."""
    rows = [line.split() for line in text.splitlines()]
    return {int(row[0]): int(row[2]) for row in rows}


@pytest.mark.deviates("crun", "1.8 leaves LISTEN_FDS to the configuration", only=["False"])
@pytest.mark.parametrize("more", [False, True])
def test_sockets_of_a_service_manager(box: Box, more: bool) -> None:
    """They come first, then those of --preserve-fds; LISTEN_PID is the program's own number (sd_listen_fds(3))."""
    files = [(box.directory / name).open("w+b") for name in ("one", "two", "three")]
    numbers = [os.fstat(each.fileno()).st_ino for each in files]
    options = ("--preserve-fds", "1") if more else ()
    # systemd names the process; a wrapper that executes another keeps its number.
    shell = ["/bin/sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=2 exec "$@"', "sh"]
    script = 'echo "$LISTEN_FDS $LISTEN_PID"; exec /bin/inside descriptors'
    done = box.sh(script, options=options, prefix=shell, **handed(*files)).ok()
    first, rest = done.out.split("\n", 1)
    assert first == "2 1"
    found = inodes(rest)
    assert [found.get(number) for number in (3, 4)] == numbers[:2]
    assert (found.get(5) == numbers[2]) == more
    for each in files:
        each.close()


def test_sockets_for_another_process_are_not_handed_on(our_box: Box) -> None:
    our_box.environment |= {"LISTEN_FDS": "2", "LISTEN_PID": "1"}
    done = our_box.sh('echo "${LISTEN_FDS-none}"; exec /bin/inside descriptors').ok()
    assert done.lines[0] == "none"


def test_sockets_without_a_number_are_for_us(our_box: Box) -> None:
    """An engine that hands them on makes the environment for us alone; so crun has it, too."""
    our_box.environment["LISTEN_FDS"] = "1"
    with (our_box.directory / "one").open("w+b") as file:
        done = our_box.sh('echo "$LISTEN_FDS $LISTEN_PID"', **handed(file)).ok()
    assert done.out == "1 1\n"


def test_sockets_for_a_program_that_enters(our_box: Box) -> None:
    our_box.live()
    our_box.environment["LISTEN_FDS"] = "1"
    with (our_box.directory / "one").open("w+b") as file:
        done = our_box.exec("/bin/sh", "-c", 'echo "$LISTEN_FDS $LISTEN_PID $$"', **handed(file)).ok()
    count, whose, own = done.out.split()
    assert (count, whose) == ("1", own)


def test_many_descriptors(our_box: Box) -> None:
    """More than a byte could name."""
    script = "import os, sys; [os.dup2(0, fd) for fd in range(3, 403)]; os.execvp(sys.argv[1], sys.argv[1:])"
    prefix = [sys.executable, "-I", "-S", "-c", script]
    # dup2 makes a copy that is handed on.
    done = our_box.run("/bin/inside", "descriptors", options=("--preserve-fds", "400"), prefix=prefix).ok()
    assert sorted(inodes(done.out)) == list(range(403))


class Manager:
    """A service manager's socket, and what was said to it."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path if path[0] == "/" else f"\0{path[1:]}")
        self.socket.settimeout(DEADLINE_S)

    def said(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, our_box: Box) -> Iterator[Manager]:
    path = os.fspath(our_box.directory / "manager") if request.param == "path" else f"@{our_box.name}"
    our_box.environment["NOTIFY_SOCKET"] = path
    made = Manager(path)
    with made.socket:
        yield made


#: busybox has nc, which speaks no datagrams of unix sockets: inside says it.
TELL = "/bin/inside notify"


def test_a_manager_is_told_by_a_detached_start(our_box: Box, manager: Manager) -> None:
    our_box.create("/bin/sh", "-c", f"sleep 0.2; {TELL} 'STATUS=here' READY=1; exec sleep 1000")
    our_box.call("start", our_box.name).ok()
    lines = manager.said()
    assert set(lines) >= {"READY=1", f"MAINPID={our_box.state()['pid']}"}


def test_a_manager_is_told_by_a_detached_run(our_box: Box, manager: Manager) -> None:
    our_box.process["args"] = ["/bin/sh", "-c", f"{TELL} READY=1; exec sleep 1000"]
    our_box.save()
    our_box.call("run", "-d", "--bundle", os.fspath(our_box.bundle), our_box.name).ok()
    assert f"MAINPID={our_box.state()['pid']}" in manager.said()


def test_a_manager_is_told_by_a_run_in_front(our_box: Box, manager: Manager) -> None:
    """The main process is the runtime then; other things that a service says are passed on, but no numbers."""
    our_box.sh(f"{TELL} READY=1 STATUS=well; {TELL} MAINPID=1 FDSTORE=1; {TELL} STOPPING=1; sleep 0.2").ok()
    assert manager.said() == ["READY=1", "STATUS=well"]
    assert manager.said() == ["STOPPING=1"]


def test_a_start_does_not_wait_for_the_dead(our_box: Box, manager: Manager) -> None:
    our_box.create("/bin/true")
    our_box.call("start", our_box.name).ok()
    assert manager.socket.getsockname()


def test_without_a_manager_there_is_no_socket(our_box: Box) -> None:
    assert our_box.sh("echo ${NOTIFY_SOCKET-none}; ls /run 2>/dev/null || :").ok().out == "none\n"


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_terminal_into_a_pipe_has_plain_lines(our_box: Box, verb: str) -> None:
    """What comes out of it goes into a file or a pipe: the line ends are the program's."""
    if verb == "exec":
        our_box.live()
        done = our_box.exec("/bin/sh", "-c", "tty; echo one; echo two", options=("--tty",))
    else:
        our_box.process["terminal"] = True
        done = our_box.sh("tty; echo one; echo two")
    assert done.ok().out.split("\n")[1:] == ["one", "two", ""]
    assert "\r" not in Path(our_box.directory / f"{our_box.count}.out").read_bytes().decode()


def test_a_host_without_executable_memory(our_box: Box) -> None:
    """The sysctl vm.memfd_noexec, of a pid namespace, at 2: memfd_create(2) refuses a file to be executed."""
    script = 'mount -t proc proc /proc && echo 2 > /proc/sys/vm/memfd_noexec && exec "$@"'
    prefix = ["unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c", script, "sh"]
    done = our_box.run("/bin/sh", "-c", "echo here; readlink /proc/self/exe; exit 4", prefix=prefix)
    assert (done.status, done.lines[0]) == (4, "here"), done.err


def test_what_executes_the_program_cannot_be_written() -> None:
    """Not where it lies in memory, nor where it lies on a file system of its own: even by root (CVE-2019-5736)."""
    for made, refusal in ((unnamed_file._in_memory, errno.EPERM), (unnamed_file._on_tmpfs, errno.EROFS)):
        fd = made(b"#!/bin/sh\nexit 0\n")
        with pytest.raises(OSError, match=os.strerror(refusal)):
            os.write(os.open(f"/proc/self/fd/{fd}", os.O_RDWR), b"x")
        os.close(fd)


@pytest.mark.deviates("runc", "1.1 has none at all")
def test_exec_has_the_personality(box: Box) -> None:
    box.linux["personality"] = {"domain": "LINUX32"}
    box.live()
    assert box.exec("/bin/cat", "/proc/self/personality").ok().out == "00000008\n"


@pytest.mark.deviates("runc", "1.1.2 took the inheritable set away, and so the ambient one")
def test_a_capability_of_exec_reaches_users(box: Box) -> None:
    box.live()
    script = "grep -E '^Cap(Eff|Amb)' /proc/self/status"
    options = ("--user", "1000:1000", "--cap", "CAP_KILL")
    for line in box.exec("/bin/sh", "-c", script, options=options).ok().lines:
        assert int(line.split()[1], 16) >> 5 & 1, line


def test_a_lock_that_is_held_for_long_says_who_holds_it(our_box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    from tare.runners.container.errors import OciError
    from tare.runners.container.lifecycle import state

    our_box.create("/bin/sleep", "1000")
    monkeypatch.setattr(state, "_LOCK_S", 0.1)
    store = state.Store(os.fspath(our_box.state_directory))
    pid = os.fork()
    if not pid:
        store.lock(our_box.name)
        (our_box.directory / "locked").touch()
        signal.pause()
    try:
        wait_until((our_box.directory / "locked").exists, DEADLINE_S)
        with pytest.raises(OciError, match=f"process {pid} "):
            store.lock(our_box.name)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.close(store.lock(our_box.name))


@pytest.mark.parametrize("count", ["1", "4", "9" * 30])
def test_sockets_that_are_not_there(box: Box, count: str) -> None:
    """The variable came down from somebody who handed them to another: nothing is handed on."""
    box.environment["LISTEN_FDS"] = count
    script = 'echo "${LISTEN_FDS-none}"'
    found = [box.sh(script).ok().out]
    box.live()
    found.append(box.exec("/bin/sh", "-c", script).ok().out)
    assert found == ["none\n"] * 2 or not box.runtime.ours


def test_sockets_for_us_that_are_not_there_are_refused(our_box: Box) -> None:
    shell = ["/bin/sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=2 exec "$@"', "sh"]
    assert "descriptor 3 is not open" in our_box.run("/bin/true", prefix=shell).refused().err
    our_box.live()
    assert "descriptor 3 is not open" in our_box.exec("/bin/true", prefix=shell).refused().err

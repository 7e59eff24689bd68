"""The standard streams where they do not block, as ssh and node leave them: all is written, and nothing spins."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time

import pytest

from tests import cli

TEXT = "".join(f"{number}\n" for number in range(60_000))
WRITES = {
    "out": "streams.out(text)",
    "twice": "streams.out(text[:7]); streams.out(text[7:])",
    "say": "streams.say(text)",
}


def narrow() -> tuple[int, int]:
    """A pipe of one page whose writing end does not block."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    return reader, writer


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("stream", "writes"), [("stdout", "out"), ("stdout", "twice"), ("stderr", "say")])
def test_all_is_written_to_what_does_not_block(unbuffered: str, stream: str, writes: str) -> None:
    code = (
        "import sys; from tare.reports.cli import streams; streams.prepare()\n"
        "text = ''.join(f'{number}\\n' for number in range(60_000))\n"
        f"{WRITES[writes]}\nstreams.finish()\n"
    )
    reader, writer = narrow()
    other = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=writer if stream == "stdout" else other,
        stderr=writer if stream == "stderr" else other,
        env=cli.environment(PYTHONUNBUFFERED=unbuffered),
        cwd=cli.ROOT,
        text=True,
    ) as program:
        os.close(writer)
        assert os.read(reader, 1) == b"0"
        os.set_blocking(reader, True)
        parts = [b"0"]
        while part := os.read(reader, 1000):
            parts.append(part)
        left = program.communicate()
    os.close(reader)
    assert (program.returncode, [text for text in left if text]) == (0, [])
    got = b"".join(parts)
    assert (len(got), hashlib.sha256(got).digest()) == (len(TEXT), hashlib.sha256(TEXT.encode()).digest())


def test_who_waits_for_room_uses_no_processor() -> None:
    """Nobody reads: it comes to sleep in poll(2), and does not try again and again."""
    code = "from tare.reports.cli import streams; streams.prepare(); streams.out('x' * 100_000)"
    for unbuffered in ("", "1"):
        reader, writer = narrow()
        env = cli.environment(PYTHONUNBUFFERED=unbuffered)
        with subprocess.Popen([sys.executable, "-c", code], stdout=writer, env=env, cwd=cli.ROOT) as program:
            os.close(writer)
            os.read(reader, 1)
            looks = 0
            while not polls(program.pid):
                time.sleep(0.01)
                looks += 1
                assert looks < 2000
            os.close(reader)  # it is told that there is no reader, and ends
            assert program.wait() != 0


def polls(pid: int) -> bool:
    """Whether the process sleeps in poll(2) (proc_pid_syscall(5))."""
    with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
        return file.read().split()[0] in POLL


POLL = {"7", "271", "73"}  # poll and ppoll of x86-64, ppoll of arm64

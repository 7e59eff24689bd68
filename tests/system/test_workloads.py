"""A workload of one's own in every runner that is here, and all that can go wrong with it.

Whatever goes wrong is an outcome with a reason and a log; the run goes on, and nothing is left.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tare import runners
from tare.runners import payload
from tare.runners.image.cache import cache_dir
from tests import cli
from tests.conftest import require
from tests.workloads import Measured, measure, scenario

#: Those that share nothing but the host's root, and those that run as a program of their own.
RUNNERS = ("process", "container", "bwrap")
ALL = (*RUNNERS, "container-cold", "crun", "runc")
SERVER = (
    "import socket, sys, time\n"
    "listener = socket.create_server((sys.argv[2], int(sys.argv[1])),"
    " family=socket.AF_INET6 if ':' in sys.argv[2] else socket.AF_INET)\n"
    "print('listening', flush=True)\n"
    "while True:\n"
    "    client, _ = listener.accept()\n"
    "    client.close()\n"
)


@pytest.fixture(scope="session")
def usable() -> dict[str, str]:
    """Those of ALL that work here; crun may refuse a hybrid layout of cgroups."""
    require("root", os.geteuid() == 0, "this is not root")
    found = {name: name for name in ALL if runners.load(name).probe({}, cache_dir()).ok}
    for name in ("bwrap", "runc"):
        require(name, name in found, f"{name} does not work here")
    return found


@pytest.fixture
def three(usable: dict[str, str]) -> dict[str, str]:
    return {name: name for name in RUNNERS}


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Path]:
    """A place for programs that containers of the host's root see, too: on the file system of /."""
    place = Path(f"/var/tmp/tare-test-{os.getpid()}")
    place.mkdir()
    yield place
    for file in place.iterdir():
        file.unlink()
    place.rmdir()


def all_failed(measured: Measured, subject: str, *said: str, status: str = "failed") -> None:
    """Both rounds of *subject* are such an outcome, with all of *said* in its reason, and a log."""
    found = measured.outcomes(subject)
    assert [one.status for one in found] == [status] * 2, found
    for one in found:
        for words in said:
            assert words in one.reason, one.reason
        assert one.reason in measured.log(one)
    assert measured.done.returncode == 1


# What a scenario says of a workload holds in every runner.


IDENTITY = (
    "import os\n"
    "print('cwd', os.getcwd())\n"
    "print('ids', os.getresuid(), os.getresgid(), sorted(os.getgroups()))\n"
    "print('env', sorted(set(os.environ) - {'LC_CTYPE', 'PWD'}), os.environ['COLOUR'], os.environ['HOME'])\n"
    "lines = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
    "print('caps', lines['CapEff'].strip(), lines['CapPrm'].strip())\n"
)


@pytest.mark.parametrize("user", ["", "daemon", "1234:2345"])
def test_directory_user_and_environment_are_the_same_in_all(usable: dict[str, str], tmp_path: Path, user: str) -> None:
    about = f'image = "host"\ncwd = "/usr/lib"\nenv = {{ COLOUR = "blue" }}\nuser = "{user}"'
    text = scenario(["python3", "-c", IDENTITY], "{ exit = 0 }", usable, workload=about, rounds=1)
    measured = measure(tmp_path, text)
    assert measured.done.returncode == 0, measured.done.stderr
    said = {
        subject: dict(line.strip().split(" ", 1) for line in output(measured, subject) if " " in line.strip())
        for subject in usable
    }
    first = said["process"]
    assert first["cwd"] == "/usr/lib"
    ids = {
        "": "(0, 0, 0) (0, 0, 0)",
        "daemon": "(1, 1, 1) (1, 1, 1)",
        "1234:2345": "(1234, 1234, 1234) (2345, 2345, 2345)",
    }
    assert first["ids"].startswith(ids[user])
    assert "blue" in first["env"]
    for subject, words in said.items():
        assert {key: words[key] for key in ("cwd", "ids", "env")} == {key: first[key] for key in ("cwd", "ids", "env")}
        if user:
            assert words["caps"] == f"{0:016x} {0:016x}", subject
        elif subject != "process":
            assert words["caps"] == said["container"]["caps"] != first["caps"], subject


def output(measured: Measured, subject: str) -> list[str]:
    """The lines in the log of what the instances of *subject* said."""
    return (measured.run.path / "subjects" / subject / "output.log").read_text().splitlines()[1:]


def test_nothing_of_the_host_is_written(usable: dict[str, str], tmp_path: Path, script: Path) -> None:
    names = [f"{place}/tare-test-{os.getpid()}-w" for place in ("/etc", "/var/tmp", "/usr/lib")]
    text = scenario(
        ["python3", "-c", "import sys; [open(name, 'w').write('x') for name in sys.argv[1:]]", *names],
        "{ exit = 0 }",
        {**usable, "process": '"process"\n[subjects.workload]\ncommand = ["true"]\nready = { exit = 0 }'},
        workload='image = "host"',
    )
    measured = measure(tmp_path, text)
    assert measured.done.returncode == 0, measured.done.stderr
    assert not [name for name in names if Path(name).exists()]


def test_a_process_of_another_image_has_a_root_of_its_own(usable: dict[str, str], tmp_path: Path) -> None:
    image = tmp_path / "image"
    (image / "bin").mkdir(parents=True)
    (image / "etc").mkdir()
    (image / "etc" / "passwd").write_text("one:x:1001:1002::/home:/bin/sh\n")
    (image / "bin" / "payload").write_bytes(payload.binary(cache_dir()).read_bytes())
    (image / "bin" / "payload").chmod(0o755)
    text = scenario(
        ["payload", "then=pause"], '"mark"', usable, workload=f'image = "{image}"\nuser = "one"\ncwd = "/etc"'
    )
    measured = measure(tmp_path, text)
    assert measured.done.returncode == 0, [one.reason for one in measured.run.outcomes]
    record = next(one for one in measured.run.header.subjects if one.label == "process")
    assert record.walls == ("mount namespace", "root directory of its own (chroot)")
    assert sorted(entry.name for entry in image.iterdir()) == ["bin", "etc"]
    assert [stat.S_IMODE(entry.stat().st_mode) for entry in image.iterdir()]


def test_a_command_beside_it_is_in_its_root_with_its_rights(
    usable: dict[str, str], tmp_path: Path, script: Path
) -> None:
    """The workload writes a file of its own user's, and the command reads it there: it is nowhere else."""
    code = (
        "import os, time\n"
        "open('/var/tmp/inside', 'w').write(' '.join(map(str, (os.getuid(), os.readlink('/proc/self/ns/net'),"
        " os.readlink('/proc/self/ns/ipc'), os.getcwd(), os.environ['COLOUR']))))\n"
        "time.sleep(600)"
    )
    check = (
        "import os; assert open('/var/tmp/inside').read() == ' '.join(map(str, (os.getuid(),"
        " os.readlink('/proc/self/ns/net'), os.readlink('/proc/self/ns/ipc'), os.getcwd(), os.environ['COLOUR'])))"
    )
    about = 'image = "host"\ncwd = "/usr"\nuser = "daemon"\nenv = { COLOUR = "blue" }'
    ready = f"{{ exec = {json.dumps(['python3', '-c', check])} }}"
    try:
        measured = measure(tmp_path, scenario(["python3", "-c", code], ready, usable, workload=about))
    finally:
        Path("/var/tmp/inside").unlink(missing_ok=True)  # of the bare process
    assert measured.done.returncode == 0, [one.reason for one in measured.run.outcomes]
    assert [one.by for one in measured.run.header.attempts] == ["exec"]


def test_a_workload_that_ends_has_a_time_and_no_memory(usable: dict[str, str], tmp_path: Path) -> None:
    text = scenario(["sh", "-c", "exit 3"], "{ exit = 3 }", usable)
    measured = measure(tmp_path, text)
    assert measured.done.returncode == 0, [one.reason for one in measured.run.outcomes]
    for subject in usable:
        assert len(measured.values(subject, "ready_seconds")) == 2
        assert all(value > 0 for value in measured.values(subject, "cpu_seconds"))
        assert measured.values(subject, "pss_bytes") == []
        assert measured.values(subject, "stopped_seconds") == []


# Faults.


def test_a_port_that_is_taken_is_named(three: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        text = scenario(["python3", "-c", SERVER, str(number), "127.0.0.1"], f"{{ tcp = {number} }}", three)
        measured = measure(tmp_path, text)
    all_failed(measured, "process", f"port {number} of this host is taken")
    for name in ("container", "bwrap"):
        assert [one.status for one in measured.outcomes(name)] == ["ok"] * 2, "they have a network of their own"


def test_a_workload_that_exits_at_once(three: dict[str, str], tmp_path: Path, port: int) -> None:
    command = ["python3", "-c", "import sys; sys.exit('no configuration found')"]
    measured = measure(tmp_path, scenario(command, f"{{ tcp = {port} }}", three))
    for name in three:
        all_failed(measured, name, "it ended before it was ready", "status 1", "no configuration found")


@pytest.mark.parametrize("quiet", [True, False])
def test_a_workload_that_goes_into_the_background(
    three: dict[str, str], tmp_path: Path, port: int, quiet: bool
) -> None:
    code = (
        "import os, sys\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        f"if {quiet}: os.closerange(0, 3); os.open('/dev/null', os.O_RDWR); os.dup(0); os.dup(0)\n" + SERVER
    )
    measured = measure(
        tmp_path, scenario(["python3", "-c", code, str(port), "127.0.0.1"], f"{{ tcp = {port} }}", three)
    )
    for name in three:
        all_failed(measured, name, "it ended before it was ready", "status 0")
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0, "it was left behind"


def test_a_workload_that_never_listens(three: dict[str, str], tmp_path: Path, port: int) -> None:
    command = ["python3", "-c", "print('thinking', flush=True); import time; time.sleep(600)"]
    measured = measure(tmp_path, scenario(command, f"{{ tcp = {port} }}", three, timeout_s=0.5))
    for name in three:
        all_failed(measured, name, f"port {port} accepted no connection within 0.5 s", "thinking", status="timeout")


def test_a_workload_that_listens_on_ipv6_alone(three: dict[str, str], tmp_path: Path, port: int) -> None:
    command = ["python3", "-c", SERVER, str(port), "::1"]
    measured = measure(tmp_path, scenario(command, f"{{ tcp = {port} }}", three, timeout_s=1))
    for name in three:
        all_failed(measured, name, f"listens on port {port} of IPv6 alone", status="timeout")


def test_a_workload_that_listens_elsewhere_is_told_where(usable: dict[str, str], tmp_path: Path, port: int) -> None:
    command = ["python3", "-c", SERVER, str(port), "0.0.0.0"]
    measured = measure(tmp_path, scenario(command, "{ tcp = 81 }", {"container": "container"}, timeout_s=1))
    all_failed(measured, "container", f"it listens on port {port}", status="timeout")


@pytest.mark.parametrize("lines", [True, False])
def test_a_workload_that_prints_a_gigabyte(three: dict[str, str], tmp_path: Path, lines: bool) -> None:
    code = (
        f"import os, time\nchunk = (b'x' * 99 + bytes([{10 if lines else 120}])) * 10000\n"
        "left = 1 << 30\n"
        "while left > 0: left -= os.write(1, chunk)\n"
        "os.write(1, b'\\nthe end\\n')\ntime.sleep(600)"
    )
    text = scenario(["python3", "-c", code], '{ line = "^the end$" }', three, rounds=1, timeout_s=60)
    measured = measure(tmp_path, text, limit_s=300)
    assert measured.done.returncode == 0, [one.reason for one in measured.run.outcomes]
    assert len(measured.done.stdout + measured.done.stderr) < 20_000
    assert sum(file.stat().st_size for file in measured.run.path.rglob("*") if file.is_file()) < 4 << 20


def test_a_workload_that_ignores_the_signal_to_end(three: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import signal, time, subprocess\n"
        "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print('deaf', flush=True)\ntime.sleep(600)"
    )
    measured = measure(tmp_path, scenario(["python3", "-c", code], '{ line = "deaf" }', three))
    assert measured.done.returncode == 0, [one.reason for one in measured.run.outcomes]
    for name in three:
        assert max(measured.values(name, "stopped_seconds")) < 10


def test_a_command_that_is_not_in_the_image_is_said_before_anything_starts(
    three: dict[str, str], tmp_path: Path
) -> None:
    text = scenario(["no-such-program"], "{ exit = 0 }", three)
    file = tmp_path / "workload.toml"
    file.write_text(text)
    done = cli.tare("run", file, "--results", tmp_path / "runs")
    assert done.returncode == 3, done.stderr
    assert "the image host has no program no-such-program" in done.stderr


def test_a_program_that_the_kernel_cannot_execute(three: dict[str, str], tmp_path: Path, script: Path) -> None:
    program = script / "spoilt"
    program.write_bytes(Path("/bin/true").read_bytes()[:64])  # for this machine, and without its segments
    program.chmod(0o755)
    measured = measure(tmp_path, scenario([str(program)], "{ exit = 0 }", three))
    for name in ("process", "container"):
        all_failed(measured, name, "Exec format error")
    all_failed(measured, "bwrap", "spoilt")  # it hands to a shell what is no program


def test_a_process_that_starts_others_leaves_none(usable: dict[str, str], tmp_path: Path) -> None:
    code = "sleep 613 & setsid sleep 613 & (setsid sleep 613 &) ; echo up; wait"
    measured = measure(tmp_path, scenario(["sh", "-c", code], '{ line = "up" }', {"process": "process"}))
    assert measured.done.returncode == 0, [one.reason for one in measured.run.outcomes]
    left = [entry for entry in Path("/proc").glob("[0-9]*/cmdline") if b"sleep\x00613" in _read(entry)]
    assert left == []


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""

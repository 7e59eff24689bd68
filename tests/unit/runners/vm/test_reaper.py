"""The reaper: an orphan named in a pid file is adopted and reaped, and a start without a process ends the watch."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

from tare.runners.vm.reaper import adopting, reaping
from tests.conftest import wait_until


def test_an_orphan_is_adopted_and_reaped(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    # As libvirt daemonizes: a child starts the process, writes its id, and ends.
    script = f'(read -r _ <{gate}; exit 7) & echo $! >"{tmp_path}/x.pid"'
    with reaping(tmp_path / "x.pid") as status:
        with adopting():
            subprocess.run(["sh", "-c", script], check=True)
        pid = int((tmp_path / "x.pid").read_text())
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid())
        assert status == []
        gate.write_text("go\n")
        wait_until(lambda: status, 10)
        assert os.waitstatus_to_exitcode(status[0]) == 7
        assert not Path(f"/proc/{pid}").exists()


def test_nothing_to_reap_ends_the_watch(tmp_path: Path) -> None:
    threads = threading.active_count()
    with reaping(tmp_path / "x.pid") as status:
        (tmp_path / "other").write_text("1\n")
    assert status == []
    assert threading.active_count() == threads

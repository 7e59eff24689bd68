"""Ready by a command that is run beside the workload, and ends with status 0: a first command inside has answered."""

from __future__ import annotations

import subprocess

from tare.bench.readiness.base import Waited
from tare.bench.readiness.prober import probe
from tare.bench.records.readiness import Exec

PERIOD_S = 0.001
_SAID_CHARS = 200


def wait(asked: Exec, start: Waited) -> bool:
    """Run the command again and again, until it succeeds."""
    words = list(start.instance.command(asked.argv))

    def attempt(left_s: float) -> str | None:
        with subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0
        ) as command:
            try:
                _, said = command.communicate(timeout=left_s)
            except subprocess.TimeoutExpired:
                command.kill()
                raise TimeoutError("the command did not end") from None
        if command.returncode == 0:
            return None
        words_of_it = said.decode("utf-8", "replace").strip()[-_SAID_CHARS:]
        return f"the command ended with status {command.returncode}: {words_of_it}"

    return probe(start, attempt, address=None, period_s=PERIOD_S)

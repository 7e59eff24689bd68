"""Sample reports: one run of each scenario, kept small, and their pages, made when the site is built.

``docs/samples/NAME.zip`` is a packed run. Its page is made by the code of the day, so that it is never older than the
documentation around it. To measure anew (as root, on a quiet machine; some twenty minutes): ``nox -s samples``, or
``nox -s samples -- quick memory``. A sample has fewer rounds and instances than its scenario asks for, and no
name of the machine that made it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tare import reports
from tare.bench.records import choice, packed, store
from tare.bench.scenario import resolve

HERE = Path(__file__).parent / "samples"
MADE = HERE / "made"
#: Scenario -> rounds, and the largest number of instances of a container or process, and of a virtual machine.
SMALLER: dict[str, tuple[int, int, int]] = {
    "quick": (8, 0, 0), "startup": (8, 0, 0), "runtime": (8, 0, 0), "calibration": (8, 0, 0), "least-memory": (1, 0, 0),
    "memory": (2, 50, 3), "density": (1, 50, 3), "busy": (1, 12, 12), "give-back": (2, 2, 2), "granularity": (2, 10, 3),
}  # fmt: skip


def smaller(text: str, most: int, machines: int) -> str:
    """The scenario *text* with counts of at most so many instances, the last number for tables of virtual machines."""
    tables = re.split(r"(?m)^(?=\[)", text)
    return "".join(_cut(table, machines if 'runner = "vm"' in table else most) for table in tables)


def _cut(table: str, most: int) -> str:
    if not most:
        return table

    def counts(found: re.Match[str]) -> str:
        kept = [count for count in found[1].split(",") if int(count) <= most]
        return f"counts = [{','.join(kept).strip()}]"

    table = re.sub(r"counts = \[([\d, ]+)\]", counts, table)
    return re.sub(r"(?m)^most = (\d+)", lambda found: f"most = {min(int(found[1]), most)}", table)


def measure(name: str) -> Path:
    """Run the scenario *name*, and pack what it recorded. Raises CalledProcessError where it cannot run."""
    rounds, most, machines = SMALLER[name]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / f"{name}.toml"
        file.write_text(smaller(resolve.shipped()[name].read_text("utf-8"), most, machines), encoding="utf-8")
        words = [sys.executable, "-m", "tare", "run", str(file), "--rounds", str(rounds), "--results", directory]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode not in (0, 1):  # 1: some trials failed, which is a result
            raise subprocess.CalledProcessError(done.returncode, words)
        run = next(path for path in Path(directory).iterdir() if path.is_dir())
        for path in run.rglob("*.*"):
            path.write_text(_nameless(path.read_text("utf-8", "replace"), directory), encoding="utf-8")
        header = json.loads((run / "run.json").read_text("utf-8"))
        header["host"] |= {"machine_id": "a-sample", "boot_id": "a-boot"}
        header["host"]["facts"].pop("kernel command line", None)
        (run / "run.json").write_text(json.dumps(header), encoding="utf-8")
        target = HERE / f"{name}.zip"
        target.write_bytes(packed.pack(run))
    return target


def _nameless(text: str, directory: str) -> str:
    """*text* without paths of this machine."""
    checkout = Path(__file__).resolve().parents[1]
    python = Path(sys.prefix)
    for own, shown in (
        (python, "/srv/tare/.venv"),
        (checkout, "/srv/tare"),
        (Path.home(), "/home/you"),
        (Path(directory), "/srv/results"),
    ):
        text = text.replace(f"{own}/", f"{shown}/")
    return text


def pages() -> None:
    """The page of each sample, and a table with the answers, below ``docs/samples/made/``."""
    target = MADE / "pages" / "samples"  # what is in pages/ is copied to the top of the site
    target.mkdir(parents=True, exist_ok=True)
    lines = ["| scenario | question | answer |", "| --- | --- | --- |"]
    for name in resolve.shipped():
        if (HERE / f"{name}.zip").exists():
            with choice.opened(str(HERE / f"{name}.zip"), HERE) as found:
                analysed = reports.analyse(store.load(found.path))
                (target / f"{name}.html").write_text(reports.html(analysed), encoding="utf-8", errors="replace")
            report = analysed.report
            lines.append(f'| <a href="{name}.html">{name}</a> | {report.question} | {report.lead.sentence} |')
    (MADE / "answers.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for each in sys.argv[1:] or SMALLER:
        sys.stdout.write(f"{measure(each)}\n")

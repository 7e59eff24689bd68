"""Verbs about this host: what can run on it, and what killed runs left."""

from __future__ import annotations

import sys

from tare.reports.cli import streams
from tare.verbs.options import as_json, verb


@verb()
@as_json
def doctor(*, as_json: bool) -> None:
    """Check this host: what can run, what disturbs, how to fix it.

    \b
    Example:
      tare doctor --json | jq '.runners'
    """
    from tare.bench.host import doctor as doctors
    from tare.reports.terminal import consoles
    from tare.runners.image.cache import cache_dir

    with consoles.status("testing every runner"):
        diagnosis = doctors.examine(cache_dir())
    if as_json:
        streams.json(diagnosis)
    else:
        consoles.show(consoles.diagnosis(diagnosis, consoles.width(sys.stdout)))
    if not diagnosis.fit:
        from tare.bench.errors import HostError

        raise HostError("this host is not fit to measure on", diagnosis.why, "follow the fixes above")


@verb()
@as_json
def clean(*, as_json: bool) -> None:
    """Remove what killed runs left on this host. Touches only names that begin with tare-.

    \b
    Example:
      tare clean
    """
    from tare.bench.host.clean import remove_leftovers

    removed: list[str] = []
    remove_leftovers(removed.append)
    if as_json:
        streams.json({"removed": removed})
        return
    streams.out("".join(f"{name}\n" for name in removed))
    streams.say(f"{len(removed)} removed\n" if removed else "there is nothing to remove\n")

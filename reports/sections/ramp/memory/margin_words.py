"""What one more instance consists of, and whether it stays the same, in sentences that its numbers make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from tare.reports import words
from tare.reports.sections.ramp.memory import ledger, slopes
from tare.reports.sections.ramp.memory.model import Constancy, Moved

#: Parts that one sentence names, and the least part of the whole that is worth a name.
_NAMED = 4
_LEAST_SHARE = 0.1

#: Where less than a change by so much cannot be seen, no margins are named.
_BLIND = 0.5

#: What the kernel does that moves a part's margin: (when it grows, when it falls). Sources: mm/slub.c, mm/shrinker.c
#: (shrinker_info), mm/percpu.c, Documentation/mm/. It is how such a change comes about as a rule; no counter of this
#: run proves it.
_WHY: Mapping[str, tuple[str, str]] = {
    "slab_unreclaimable": (
        (
            "the first instances find room in slabs that earlier work left half empty, and later ones need new"
            " pages; also, each memory cgroup has an entry for every filesystem on the host, so its size grows with "
            "their number"
        ),
        "slabs that the first instances opened have room for the next ones",
    ),
    "slab_reclaimable": (
        "directory entries and inodes of each instance stay until memory is short",
        "directory entries and inodes that the first ones left are used again",
    ),
    "percpu": (
        "per-processor memory grows by whole chunks, and the first ones found room in an open one",
        "per-processor memory grows by whole chunks, and the first ones opened some",
    ),
    "page_tables": (
        "the tables of programs that serve all grow with what they hold",
        "tables that the first ones made cover the next ones, too",
    ),
}


def told(found: Constancy, whole: Mapping[str, float], first: Mapping[str, float] | None) -> Constancy:
    """*found* with its sentences; *whole* is the margin from the first number to the last, *first* what one took."""
    return msgspec.structs.replace(
        found,
        consists=_consists(found, whole),
        stays=_stays(found),
        why=_why(found) if found.verdict == "changes" else "",
        rule=_rule(found) if found.verdict == "changes" else "",
        first=f"The first instance alone took {words.size(first[slopes.KEPT])}: {_largest(first)}." if first else "",
    )


def detail(found: Constancy) -> str:
    """What the claim rests on, without the rule."""
    unseen = _unseen(found) if found.verdict == "not seen" else ""
    return " ".join(filter(None, (f"{unseen[2:3].upper()}{unseen[3:]}." if unseen else "", found.consists, found.why)))


def rules(all_found: Iterable[Constancy]) -> tuple[str, ...]:
    """The rules of all, each once."""
    return tuple(dict.fromkeys(found.rule for found in all_found if found.rule))


def lead(found: Constancy) -> str:
    """The claim: the same to the last, not the same, or no change shown; the last is not the first."""
    if found.verdict == "same":
        return f"One more {found.subject} costs the same from the first to the last: {_between(found)}"
    if found.verdict == "changes":
        return f"One more {found.subject} does not always cost the same: {_between(found)}"
    if found.unseen_fraction is None or found.unseen_fraction > _BLIND:
        return f"No claim whether one more {found.subject} costs the same from first to last: too small to be seen"
    return f"No change shown in what one more {found.subject} costs: {_between(found)}"


def _consists(found: Constancy, whole: Mapping[str, float]) -> str:
    between = f"between {found.start} and {found.end} alive"
    mark = f" ({words.EMULATED})" if found.emulated else ""
    took = f"One more {found.subject} took {words.size(whole[slopes.KEPT])} {between}{mark}: {_largest(whole)}"
    return f"{took}; page cache changed by {words.size(whole['page_cache'])}."


def _stays(found: Constancy) -> str:
    if found.verdict != "not seen":
        return f"{lead(found)}."
    return f"{lead(found)}{_unseen(found)}."


def _unseen(found: Constancy) -> str:
    share = found.unseen_fraction
    if share is None or share > _BLIND:
        return ""
    return f"; a change below {share * 100:.0f} % could not have been seen"


def _between(found: Constancy) -> str:
    change = f" ({words.percent(found.change_fraction)})" if found.change_fraction is not None else ""
    was, became = words.size(found.early_bytes), words.size(found.late_bytes)
    return f"{was} up to {found.split} alive, {became} from there to {found.end}{change}"


def _why(found: Constancy) -> str:
    named = _named(found)
    if not named:
        return ""
    title = _most(named).title
    return f"Of its parts, {'; '.join(map(_turn, named))}. {title[:1].upper()}{title[1:]} explains most of the change."


def _rule(found: Constancy) -> str:
    """How such a change of the part that explains most comes about."""
    named = _named(found)
    if not named or (most := _most(named)).part not in _WHY:
        return ""
    grows, falls = _WHY[most.part]
    return f"The usual reason for {most.title}: {grows if most.late_bytes > most.early_bytes else falls}."


def _named(found: Constancy) -> list[Moved]:
    """The parts that explain a tenth of the change or more."""
    return [one for one in found.moved if one.share is not None and abs(one.share) >= _LEAST_SHARE][:_NAMED]


def _most(named: list[Moved]) -> Moved:
    return max(named, key=lambda one: one.share or 0.0)


def _turn(one: Moved) -> str:
    verb = "goes" if one.early_bytes * one.late_bytes < 0 else "grows" if one.late_bytes > one.early_bytes else "falls"
    share = f"{(one.share or 0.0) * 100:.0f} % of the change".replace("-", "−")
    return f"{one.title} {verb} from {words.size(one.early_bytes)} to {words.size(one.late_bytes)} ({share})"


def _largest(row: Mapping[str, float]) -> str:
    """The largest few parts of a row by name, and the rest as one."""
    parts = {
        part: value for part, value in row.items() if ledger.is_part(part) and part not in (ledger.OTHERS, "page_cache")
    }
    named = sorted(parts.items(), key=lambda one: -abs(one[1]))[:_NAMED]
    rest = row[slopes.KEPT] - sum(value for _, value in named)
    said = [f"{ledger.title(part)} {words.size(value)}" for part, value in named if abs(value) >= 1]
    return ", ".join([*said, *([f"all else {words.size(rest)}"] if abs(rest) >= 1 else [])])

"""Headers of older runs, made into those of today: a run that was recorded once stays readable.

A step for each schema that was left behind, from its number to the next. What a step does not find as it was written is
left alone: the header is judged afterwards, as every header is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tare.runners import layers

Raw = dict[str, Any]

#: What the payload was told by a word ``KEY=NUMBER``, and the field of :class:`runners.payload.Payload` that says it.
_NUMBERS = {
    "delay-ms": "delay_ms",
    "touch-mib": "touch_mib",
    "busy-percent": "busy_percent",
    "out-kib": "out_kib",
    "err-kib": "err_kib",
}
_WORDS: Mapping[str, Raw] = {
    "then=release": {"release": True},
    "then=release-lazily": {"release": "lazily"},
    "then=flood": {"floods": True},
    "tell=memory": {"tell": "memory"},
    "input=empty": {"reads": True},
}


def upgraded(header: Raw, schema: int) -> Raw:
    """*header*, which was written with *schema*, as this tare would have written it."""
    for step in _STEPS[max(schema, 1) - 1 :]:
        header = step(header)
    return header


def _from_1(header: Raw) -> Raw:
    """Subjects had a ``kind``, one of four, and what the payload was told stood in their argv alone."""
    for subject in _tables(header.get("subjects")):
        kind = subject.pop("kind", None)
        if isinstance(kind, str):
            subject["layers"] = layers.of_kind(kind)
        subject["payload"] = payload(subject.get("argv"))
    scenario = header.get("scenario")
    for subject in _tables(scenario.get("subjects") if isinstance(scenario, dict) else None):
        subject["payload"] = payload(subject.pop("argv", None))
    return {**header, "schema": 2}


def payload(argv: object) -> Raw:
    """What a payload was told with *argv*, as the fields of :class:`runners.payload.Payload`."""
    found: Raw = {}
    for word in argv if isinstance(argv, list) else ():
        if not isinstance(word, str):
            continue
        key, _, value = word.partition("=")
        if key in _NUMBERS and value.isascii() and value.isdigit():
            found[_NUMBERS[key]] = int(value)
        elif word.startswith("then=exit:") and word[10:].isascii() and word[10:].isdigit():
            found["exit_code"] = int(word[10:])
        else:
            found |= _WORDS.get(word, {})
    return found


def _tables(found: object) -> Iterator[Raw]:
    entries: Iterable[object] = found if isinstance(found, list) else ()
    return (entry for entry in entries if isinstance(entry, dict))


_STEPS: tuple[Callable[[Raw], Raw], ...] = (_from_1,)

"""Parses the command line: options in GNU's form. Replaces ``argparse``, which saves 5.6 ms."""

from __future__ import annotations

from ..errors import OciError
from .dataclasses import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: How a switch's value may be spelled: as Go's strconv.ParseBool, so as runc.
_TRUE, _FALSE = ("true", "True", "TRUE", "t", "T", "1"), ("false", "False", "FALSE", "f", "F", "0")


@record
class Option:
    """``--name`` and perhaps ``-short``. *value* names what follows; empty for a switch. *many* may be repeated."""

    name: str
    value: str = ""
    short: str = ""
    help: str = ""
    many: bool = False


class Parsed:
    """The options and words that were given."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self.words: list[str] = []

    def add(self, name: str, value: str) -> None:
        """Add one occurrence."""
        self._values.setdefault(name, []).append(value)

    def on(self, name: str) -> bool:
        """Whether the switch *name* was given, and not as ``--name=false``. Raises OciError for another value."""
        text = self._values.get(name, ["false"])[-1]
        if text not in _TRUE and text not in _FALSE:
            raise OciError(f"--{name}", f"{text!r} is neither true nor false", f"write --{name} or --{name}=false")
        return text in _TRUE

    def text(self, name: str, default: str = "") -> str:
        """The last value of *name*."""
        return self._values.get(name, [default])[-1]

    def texts(self, name: str) -> list[str]:
        """All values of *name*."""
        return self._values.get(name, [])

    def number(self, name: str, default: int = 0) -> int:
        """The last value of *name*, which must be a number that is not negative."""
        text = self.text(name, str(default))
        if not text.isdecimal() or not text.isascii():
            raise OciError(f"--{name}", f"{text!r} is not a number", "give a whole number")
        if len(text) > _DIGITS:
            raise OciError(f"--{name}", f"{text[:_DIGITS]}... is too large", "give a smaller number")
        return int(text)


#: No count here is larger, and Python refuses to convert thousands of digits.
_DIGITS = 9


def parse(
    words: Sequence[str],
    known: Iterable[Option],
    *,
    what: str,
    in_order: bool = False,
    elsewhere: Iterable[Option] = (),
) -> Parsed:
    """Take the options out of *words*, up to ``--``; with *in_order*, up to the first word that is not an option.

    Long options may have one dash, as in runc, and short switches may be joined, as in crun. *what* names the command
    in messages; *elsewhere* are options that stand before it. Raises OciError.
    """
    table = {f"--{option.name}": option for option in known}
    table.update({f"-{option.short}": option for option in table.values() if option.short})
    parsed, at = Parsed(), 0
    while at < len(words):
        word = words[at]
        if word == "--":
            at += 1
            break
        if not word.startswith("-") or word == "-":
            if in_order:
                break
            parsed.words.append(word)
            at += 1
            continue
        at += 1
        name, equals, value = word.partition("=")
        option = table.get(name) or table.get(f"-{name}")
        if option is None and not word.startswith("--"):
            option, value, equals = _joined(word, table, parsed)
        if option is None:
            fix = f"see: {what} --help"
            if any(name == f"--{other.name}" for other in elsewhere):
                fix = f"write it before the command: tare-oci {word} {what.rsplit(maxsplit=1)[-1]}"
            raise OciError(f"{what}: unknown option {name}", "", fix)
        if option.value and not equals:
            if at == len(words):
                raise OciError(f"{what}: {name} needs a value", "", f"write {name} {option.value}")
            value = words[at]
            at += 1
        parsed.add(option.name, value if option.value else (value if equals else "true"))
    parsed.words += words[at:]
    return parsed


def _joined(word: str, table: dict[str, Option], parsed: Parsed) -> tuple[Option | None, str, str]:
    """Of ``-dtVALUE``: add the switches but the last to *parsed*; the last option, its value, and "=" if it has one."""
    for at in range(1, len(word)):
        option, rest = table.get(f"-{word[at]}"), word[at + 1 :]
        if option is None or option.value or not rest:
            return option, rest, "=" if rest else ""
        if rest.startswith("="):
            return option, rest[1:], "="
        parsed.add(option.name, "true")
    return None, "", ""


def usage(verb: str, arguments: str, meaning: str, known: Iterable[Option]) -> str:
    """The help text of one verb."""
    lines = [f"usage: tare-oci {verb} [options] {arguments}".rstrip(), "", meaning, ""]
    for option in known:
        left = f"--{option.name}" + (f" {option.value}" if option.value else "")
        if option.short:
            left = f"-{option.short}, {left}"
        lines.append(f"  {left:34} {option.help}".rstrip())
    return "\n".join(lines) + "\n"

"""The command line's words, taken apart: options as GNU writes them, in a hundredth of argparse's import time."""

from __future__ import annotations

from .failure import OciError
from .record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@record
class Option:
    """``--name`` and perhaps ``-short``. *value* names what follows; empty for a switch. *many* may be repeated."""

    name: str
    value: str = ""
    short: str = ""
    help: str = ""
    many: bool = False


class Parsed:
    """What was given."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self.words: list[str] = []

    def add(self, name: str, value: str) -> None:
        """Note one occurrence."""
        self._values.setdefault(name, []).append(value)

    def on(self, name: str) -> bool:
        """Whether the switch *name* was given, and not as ``--name=false``."""
        return self._values.get(name, ["false"])[-1] != "false"

    def text(self, name: str, default: str = "") -> str:
        """The last value of *name*."""
        return self._values.get(name, [default])[-1]

    def texts(self, name: str) -> list[str]:
        """All values of *name*."""
        return self._values.get(name, [])

    def number(self, name: str, default: int = 0) -> int:
        """The last value of *name*, which must be a number that is not negative."""
        text = self.text(name, str(default))
        if not text.isdecimal():
            raise OciError(f"--{name}", f"{text!r} is not a number", "give a whole number")
        return int(text)


def parse(words: Sequence[str], known: Iterable[Option], *, what: str, in_order: bool = False) -> Parsed:
    """Take the options out of *words*, up to ``--``; with *in_order*, up to the first word that is no option.

    *what* names the command in messages. Raises OciError.
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
        option = table.get(name)
        if option is None and not word.startswith("--") and len(word) > 2:
            option, value, equals = table.get(word[:2]), word[2:], "="
            if option is not None and not option.value:
                option = None  # -dt: joined switches are not understood, and saying so beats guessing
        if option is None:
            raise OciError(f"{what}: unknown option {name}", "", f"see: {what} --help")
        if option.value and not equals:
            if at == len(words):
                raise OciError(f"{what}: {name} needs a value", "", f"write {name} {option.value}")
            value = words[at]
            at += 1
        parsed.add(option.name, value if option.value else (value if equals else "true"))
    parsed.words += words[at:]
    return parsed


def usage(verb: str, arguments: str, meaning: str, known: Iterable[Option]) -> str:
    """The help text of one verb."""
    lines = [f"usage: tare-oci {verb} [options] {arguments}".rstrip(), "", meaning, ""]
    for option in known:
        left = f"--{option.name}" + (f" {option.value}" if option.value else "")
        if option.short:
            left = f"-{option.short}, {left}"
        lines.append(f"  {left:34} {option.help}".rstrip())
    return "\n".join(lines) + "\n"

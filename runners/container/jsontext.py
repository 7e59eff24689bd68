"""JSON in and out, without the two milliseconds of ``re`` that importing :mod:`json` costs before every start.

The scanner is the C half of :mod:`json` itself; where an interpreter lacks it, :mod:`json` is used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BLANK = " \t\n\r"


class _Context:
    """What the C scanner asks for: plain dicts, ints and floats, nothing that JSON does not have."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}  # noqa: RUF012 - the Python scanner shares it between calls, too

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"{name} is not JSON")


def loads(data: bytes | str) -> object:
    """The value of a JSON text (UTF-8). Raises ValueError that says where it is wrong."""
    text = data if isinstance(data, str) else data.decode("utf-8")  # UnicodeDecodeError is a ValueError
    scan = _scanner()
    try:
        start = len(text) - len(text.lstrip(_BLANK))
        value, end = scan(text, start)
    except SystemError:
        # It looks for json's own exception among the modules that are loaded, and finds none.
        from json import loads as slowly

        slowly(text)
        raise
    except StopIteration as stop:
        raise ValueError(_where(text, stop.value, "a value is expected")) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    rest = text[end:].lstrip(_BLANK)
    if rest:
        raise ValueError(_where(text, len(text) - len(rest), "more text after the end"))
    return value


def _where(text: str, at: int, why: str) -> str:
    return f"{why}: line {text.count(chr(10), 0, at) + 1} column {at - text.rfind(chr(10), 0, at)}"


def _scanner() -> Callable[[str, int], tuple[object, int]]:
    try:
        from _json import make_scanner
    except ImportError:
        from json.scanner import py_make_scanner as make_scanner  # type: ignore[attr-defined, no-redef]
    scan: Callable[[str, int], tuple[object, int]] = make_scanner(_Context)  # type: ignore[arg-type]
    return scan


def dumps(value: object, *, indent: int | None = None, level: int = 0) -> str:
    """*value* as JSON, ASCII only; with *indent*, one item a line. Raises TypeError for what JSON lacks."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        parts = [f"{_quote(str(k))}: {dumps(v, indent=indent, level=level + 1)}" for k, v in value.items()]
        return _wrapped("{", parts, "}", indent, level)
    if isinstance(value, (list, tuple, frozenset)):
        parts = [dumps(each, indent=indent, level=level + 1) for each in value]
        return _wrapped("[", parts, "]", indent, level)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _wrapped(left: str, parts: list[str], right: str, indent: int | None, level: int) -> str:
    if indent is None or not parts:
        return f"{left}{', '.join(parts)}{right}"
    pad = "\n" + " " * (indent * (level + 1))
    return f"{left}{pad}{f',{pad}'.join(parts)}\n{' ' * (indent * level)}{right}"


def _quote(text: str) -> str:
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        from json.encoder import encode_basestring_ascii
    quoted: str = encode_basestring_ascii(text)
    return quoted

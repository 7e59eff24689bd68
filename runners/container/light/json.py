"""Reads and writes JSON. Replaces ``json``, which saves 6 ms: 4 of them for ``re``, which ``json`` imports.

The scanner is the C half of :mod:`json` itself; where an interpreter lacks it, :mod:`json` is used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


def loads(data: bytes | str, twice: list[str] | None = None, *, ours: bool = False) -> object:
    """The value of a JSON text (UTF-8). Raises ValueError, which says where the text is wrong.

    If a name is twice in one object, the last counts, as in runc and crun; *twice* gets the name. A text of *ours* may
    hold a path that is not UTF-8, as :func:`dumps` wrote it.
    """
    text = data if isinstance(data, str) else _decoded(data)
    if text.startswith("\ufeff"):
        raise ValueError("it starts with a byte order mark, which is not JSON")
    scan = _scanner(twice)
    try:
        start = len(text) - len(text.lstrip(_BLANK))
        value, end = scan(text, start)
        if not ours and ("\\ud" in text or "\\uD" in text):
            _whole(value)
    except SystemError:
        # it looks for the exception of json among the loaded modules, and finds none
        from json import loads as slowly

        slowly(text)
        raise
    except StopIteration as stop:
        raise ValueError(_where(text, stop.value, "a value is expected")) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        if "int_max_str_digits" in str(error):
            raise ValueError("a number has thousands of digits") from None
        raise
    rest = text[end:].lstrip(_BLANK)
    if rest:
        raise ValueError(_where(text, len(text) - len(rest), "more text after the end"))
    return value


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: byte {data[error.start]:#04x} at offset {error.start}") from None


def _whole(value: object) -> None:
    """Refuse half a surrogate pair, which cannot be passed to the kernel. Raises ValueError."""
    for text in _texts(value):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{dumps(text)[:80]} is no Unicode text: half of a surrogate pair") from None


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _where(text: str, at: int, why: str) -> str:
    return f"{why}: line {text.count(chr(10), 0, at) + 1} column {at - text.rfind(chr(10), 0, at)}"


def _scanner(twice: list[str] | None) -> Callable[[str, int], tuple[object, int]]:
    context: type[_Context] = _Context
    if twice is not None:

        def noting(pairs: list[tuple[str, object]]) -> dict[str, object]:
            made = dict(pairs)
            if len(made) < len(pairs):
                names = [name for name, _ in pairs]
                twice.extend(name for name in made if names.count(name) > 1)
            return made

        context = type("_Noting", (_Context,), {"object_pairs_hook": staticmethod(noting)})
    try:
        from _json import make_scanner
    except ImportError:
        from json.scanner import py_make_scanner as make_scanner  # type: ignore[attr-defined, no-redef]
    scan: Callable[[str, int], tuple[object, int]] = make_scanner(context)  # type: ignore[arg-type]
    return scan


def dumps(value: object, *, indent: int | None = None, level: int = 0) -> str:
    """*value* as JSON, ASCII only; with *indent*, one item a line, without, no blanks, as runc writes it.

    Raises TypeError for what JSON lacks.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        colon = ":" if indent is None else ": "
        parts = [f"{_quote(str(k))}{colon}{dumps(v, indent=indent, level=level + 1)}" for k, v in value.items()]
        return _wrapped("{", parts, "}", indent, level)
    if isinstance(value, (list, tuple, frozenset)):
        parts = [dumps(each, indent=indent, level=level + 1) for each in value]
        return _wrapped("[", parts, "]", indent, level)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _wrapped(left: str, parts: list[str], right: str, indent: int | None, level: int) -> str:
    if indent is None or not parts:
        return f"{left}{','.join(parts)}{right}"
    pad = "\n" + " " * (indent * (level + 1))
    return f"{left}{pad}{f',{pad}'.join(parts)}\n{' ' * (indent * level)}{right}"


def _quote(text: str) -> str:
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        from json.encoder import encode_basestring_ascii
    quoted: str = encode_basestring_ascii(text)
    return quoted

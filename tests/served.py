"""An image with one program: a server that does what its words say (``tests/conformance/server.c``)."""

from __future__ import annotations

from pathlib import Path

from tare.runners import payload
from tare.runners.image.cache import cache_dir

PROGRAM = "/bin/server"
_SOURCE = Path(__file__).with_name("conformance") / "server.c"
_DIRECTORIES = ("bin", "dev", "etc", "proc", "run", "sys", "tmp", "var", "work")


def image(place: Path) -> Path:
    """Make it at *place*, a new directory. Its user ``one`` has the numbers 1001 and 1002, and is in the group 1003."""
    place.mkdir()
    for name in _DIRECTORIES:
        (place / name).mkdir()
        (place / name).chmod(0o1777 if name in ("tmp", "work") else 0o755)
    program = place / PROGRAM[1:]
    program.write_bytes(payload.compiled(_SOURCE, cache_dir()).read_bytes())
    program.chmod(0o755)
    (place / "etc" / "passwd").write_text("root:x:0:0::/:/bin/server\none:x:1001:1002::/work:/bin/server\n")
    (place / "etc" / "group").write_text("root:x:0:\none:x:1002:\nmore:x:1003:one\n")
    return place

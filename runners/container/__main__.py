"""``python3 -m container`` with runners/ on the path, or this file itself as a script: as ``tare-oci``.

As a script it needs neither ``site`` nor an installation: ``python3 -I -S .../container/__main__.py``.
"""

from __future__ import annotations

import gc
import os
import sys

if sys.getfilesystemencoding() != "utf-8":
    # JSON is UTF-8, and so are the names in it, whatever the caller's locale makes of letters.
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
gc.disable()  # what a start makes lives until its end: looking for garbage in it costs a millisecond
if __package__:
    from .cli.main import main
else:
    # The parent of this directory only: the package above it loads the whole table of runners, some 25 ms.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, os.path.dirname(here))
    from container.light.one_file import install  # type: ignore[import-not-found]

    install("container", here)
    from container.cli.main import main  # type: ignore[import-not-found, no-redef]

if __name__ == "__main__":
    # No teardown of the interpreter: nothing is buffered, and the kernel closes what is open.
    os._exit(main())

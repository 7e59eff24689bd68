"""The command ``tare-oci``: run as ``python3 -m container`` with runners/ on the path, or as a script.

As a script it needs neither ``site`` nor an installation: ``python3 -I -S .../container/__main__.py``.
"""

from __future__ import annotations

import gc
import os
import sys

if sys.getfilesystemencoding() != "utf-8":
    # JSON is UTF-8, and so are the names in it, whatever the caller's locale is.
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
gc.disable()  # what a start makes is used until its end: to look for garbage takes a millisecond
if __package__:
    from .cli.main import main
else:
    here = os.path.dirname(os.path.abspath(__file__))
    # For one import: by its full name, the files of two packages would be looked for and read first, some 0.3 ms.
    sys.path.insert(0, f"{here}/light")
    from one_file import install  # type: ignore[import-not-found]

    # Only the parent of this directory: to import the package above it would load all runners, some 25 ms.
    sys.path[0] = os.path.dirname(here)
    install("container", here)
    from container.cli.main import main  # type: ignore[import-not-found, no-redef]

if __name__ == "__main__":
    # Without the interpreter's own end: nothing is buffered, and the kernel closes all files.
    os._exit(main())

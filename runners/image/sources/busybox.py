"""The smallest image with a shell: this host's static busybox, with a link for each of its commands."""

from __future__ import annotations

import shutil
from pathlib import Path

from tare.runners.base import ImageConfig, RunnerError
from tare.runners.image import elf, kept
from tare.runners.image.kept import Filled
from tare.runners.image.sources.base import Note, Source, hash_of, run
from tare.runners.image.tree import Tree

_INSTALL = "apt-get install busybox-static"
_DIRECTORIES = {"dev": 0o755, "etc": 0o755, "proc": 0o755, "root": 0o700, "run": 0o755, "sys": 0o755, "tmp": 0o1777}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}


def _make(_rest: str, cache: Path, note: Note) -> Tree:
    found = shutil.which("busybox")
    if found is None:
        raise RunnerError("cannot make the image busybox", "there is no program busybox", _INSTALL)
    program = Path(found).resolve()
    if not elf.is_static(program):
        why = f"{program} is linked with libraries, which would have to be in the image, too"
        raise RunnerError("cannot make the image busybox", why, _INSTALL)

    def fill(root: Path, _scratch: Path) -> Filled:
        root.chmod(0o755)
        for name, mode in _DIRECTORIES.items():
            (root / name).mkdir()
            (root / name).chmod(mode)
        for name, text in _FILES.items():
            (root / name).write_text(text)
            (root / name).chmod(0o644)
        applets = run([str(program), "--list-full"], "cannot make the image busybox", _INSTALL, 10).split()
        for applet in ("bin/busybox", *applets):
            path = root / applet
            for folder in reversed(path.relative_to(root).parents[:-1]):
                (root / folder).mkdir(exist_ok=True)
                (root / folder).chmod(0o755)
            if applet == "bin/busybox":
                shutil.copyfile(program, path)
                path.chmod(0o755)
            elif not path.exists() and not path.is_symlink():
                path.symlink_to("/bin/busybox")
        return Filled(ImageConfig(command=("/bin/sh",)))

    return kept.make(cache, f"busybox-{hash_of(program, note)}", "busybox", fill)


SOURCE = Source(form="busybox", meaning="this host's static busybox, with its commands as links", make=_make)

"""Members of an archive become files below one directory, and nowhere else, whoever made the archive.

The rules, by which what a stranger made is refused or does no harm:

- A name is taken below the root of the image, also with a ``/`` before it. A name with ``..`` is refused.
- A link may lead anywhere: it is followed as a process in the image would, whose root is the root of the image. So is
  a parent that is a link; what stands at the end of a name is never followed, but replaced.
- A hard link must lead to a file of the image. A name below a file is refused.
- Devices are left out: every runner makes a /dev of its own.
- Modes are kept, setuid and setgid among them, because su, sudo and ping of an image need them. The directory of kept
  images is closed to other users, so that nobody on the host can run one of these files (:mod:`runners.image.kept`).
- Owners are kept where root unpacks; else all belongs to the user. Of extended attributes file capabilities are kept
  where root unpacks: ``trusted.overlay`` of a stranger would say what the layer of a container hides.
- Names of different bytes are different names, also where Unicode calls them equal. Of two members of one name the
  later is kept, whatever both are.
- There is a limit to sizes (:mod:`runners.image.archives.stream`), to the number of members, and to their depth.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator

from tare.runners.image.archives.stream import Budget, ImageRefused, Stream

MOST_MEMBERS = 2_000_000
MOST_DEEP = 128
_MOST_LINKS = 40
_PIECE = 256 << 10
_CAPABILITY = "SCHILY.xattr.security.capability"
#: Layers say with names what they hide of the layers below: see layer.md of the OCI image specification.
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
#: What the kernel says of a member that cannot be, and not of the host.
_IMPOSSIBLE = {errno.ENAMETOOLONG, errno.EMLINK, errno.ELOOP, errno.EINVAL, errno.EILSEQ, errno.EPERM}
#: What tarfile says of headers that are wrong.
_WRONG = (tarfile.TarError, ValueError, OverflowError, LookupError, RecursionError)


class Unpacker:
    """Fills the directory *root* from one archive after another, and then :meth:`finish`. Raises ImageRefused, OSError.

    The directory is this process's alone meanwhile.
    """

    def __init__(self, root: str, budget: Budget) -> None:
        self.left_out = 0  #: how many devices were left out
        self._root = root
        self._budget = budget
        self._members = 0
        self._privileged = os.geteuid() == 0
        self._directories: dict[str, tarfile.TarInfo | None] = {"": None}
        self._added: set[str] = set()
        self._known: tuple[tuple[str, ...], str] | None = None
        self._hides = False

    def add(self, stream: Stream, *, layer: bool = False) -> None:
        """Unpack all members of the tar *stream*. Those of a *layer* may hide what layers before had."""
        self._hides, self._added, self._known = layer, set(), None
        for archive, member in members(stream):
            self._members += 1
            if self._members > MOST_MEMBERS:
                raise self._refused(member.name, f"it has more than {MOST_MEMBERS} members")
            try:
                self._add(archive, member, stream)
            except OSError as error:
                if error.errno in _IMPOSSIBLE:
                    raise self._refused(member.name, error.strerror or str(error)) from error
                raise

    def ensure(self, directory: str) -> None:
        """Make *directory* where there is none: engines do so for a working directory that no layer has."""
        member = tarfile.TarInfo(directory)
        self._resolve(self._parts(directory, member), member)

    def finish(self) -> None:
        """Give directories their owners, modes and times: only now, since files were made in them."""
        for path, _, _ in os.walk(self._root, topdown=False):
            member = self._directories.get(os.path.relpath(path, self._root) if path != self._root else "")
            if member is None:
                os.chmod(path, 0o755)
                os.utime(path, (0, 0))
            else:
                self._dress(path, member)

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo, stream: Stream) -> None:
        parts = self._parts(member.name, member)
        if not parts:
            if not member.isdir():
                raise self._refused(member.name, "the root of an image is a directory")
            self._directories[""] = member
            return
        if member.ischr() or member.isblk():
            self.left_out += 1
            return
        *above, name = parts
        if self._hides and name.startswith(_WHITEOUT):
            self._hide_by(above, name, member)
            return
        parent = self._resolve(above, member)
        inside = f"{parent}/{name}" if parent else name
        if inside.count("/") >= MOST_DEEP:
            raise self._refused(member.name, f"it is more than {MOST_DEEP} directories deep")
        if member.isdir():
            self._make_directory(inside, member)
        else:
            self._make(archive, member, inside, stream)
        while inside and inside not in self._added:
            self._added.add(inside)
            inside = inside.rpartition("/")[0]

    def _make_directory(self, inside: str, member: tarfile.TarInfo) -> None:
        path = self._path(inside)
        try:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                self._remove(path)
                os.mkdir(path, 0o700)
        except FileNotFoundError:
            os.mkdir(path, 0o700)
        self._directories[inside] = member

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, inside: str, stream: Stream) -> None:
        path = self._path(inside)
        if member.islnk():
            self._make_link(path, member)
            return
        self._remove(path)
        if member.isreg():
            self._make_file(archive, member, path, stream)
        elif member.issym():
            if not member.linkname or "\0" in member.linkname:
                raise self._refused(member.name, "it is a link to nowhere")
            os.symlink(member.linkname, path)
            self._known = None
        elif member.isfifo():
            os.mkfifo(path, 0o600)
        else:
            raise self._refused(member.name, f"nobody knows its type {member.type!r}")
        self._dress(path, member)

    def _make_link(self, path: str, member: tarfile.TarInfo) -> None:
        target = self._parts(member.linkname, member)
        parent = self._find(target[:-1], member) if target else None
        source = None if parent is None else self._path(f"{parent}/{target[-1]}" if parent else target[-1])
        if source == path:
            return
        try:
            if source is None or stat.S_ISDIR(os.lstat(source).st_mode):
                raise FileNotFoundError
            self._remove(path)
            os.link(source, path, follow_symlinks=False)
            self._known = None  # a link may have two names
        except FileNotFoundError:
            why = f"it is a hard link to {member.linkname}, which is no file of this image"
            raise self._refused(member.name, why) from None

    def _make_file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, stream: Stream) -> None:
        sparse = member.issparse()
        if sparse:
            self._budget.make_hole(member.size)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb", buffering=0) as file:
            left = member.size
            content = archive.extractfile(member) if sparse else None
            if content is None:
                stream.seek(member.offset_data)
            while left > 0:
                try:
                    data = (content or stream).read(min(left, _PIECE))
                except _WRONG as error:  # of a map of holes
                    raise stream.damaged(error) from error
                if not data:
                    raise stream.damaged(f"it ends in the middle of {member.name}")
                left -= len(data)
                if sparse and not data.strip(b"\0"):
                    file.seek(len(data), os.SEEK_CUR)
                else:
                    _write(fd, data)
            if sparse:
                file.truncate(member.size)

    def _dress(self, path: str, member: tarfile.TarInfo) -> None:
        """Owner, then mode, which a change of the owner takes bits from, then capabilities, then time."""
        mode = member.mode & 0o7777
        if self._privileged:
            for owner in (member.uid, member.gid):
                if not 0 <= owner < 0xFFFFFFFF:
                    raise self._refused(member.name, f"its owner is {owner}, which no user can be")
            os.chown(path, member.uid, member.gid, follow_symlinks=False)
        else:
            mode |= 0o700 if member.isdir() else 0o400  # whoever unpacks it must be able to read it
        if not member.issym():
            os.chmod(path, mode)
            held = member.pax_headers.get(_CAPABILITY)
            if held and self._privileged and member.isreg():
                os.setxattr(path, "security.capability", held.encode("utf-8", "surrogateescape"))
        try:
            time_s = min(max(int(member.mtime), 0), 1 << 33)
        except (ValueError, OverflowError):  # nan, inf
            time_s = 0
        os.utime(path, (time_s, time_s), follow_symlinks=False)

    # ---- names ---------------------------------------------------------------------------------------------------

    def _parts(self, name: str, member: tarfile.TarInfo) -> list[str]:
        """*name* in parts, without those that mean nothing. Raises ImageRefused for one that leads up."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._refused(member.name, f"{name} leads out of a directory by '..'")
        if "\0" in name:
            raise self._refused(member.name, "there is a NUL in its name")
        return parts

    def _path(self, inside: str) -> str:
        return f"{self._root}/{inside}" if inside else self._root

    def _resolve(self, parts: list[str], member: tarfile.TarInfo) -> str:
        """The directory that *parts* lead to, made where it is missing."""
        if self._known is None or self._known[0] != tuple(parts):
            found = self._find(parts, member, make=True)
            if found is None:
                raise self._refused(member.name, "it lies below something that is no directory")
            self._known = (tuple(parts), found)
        return self._known[1]

    def _find(self, parts: list[str], member: tarfile.TarInfo, *, make: bool = False) -> str | None:
        """The directory that *parts* lead to for a process whose root is the image's; None where there is none.

        Nothing but this process changes the tree, so what was no link a moment ago is none now.
        """
        at: list[str] = []
        todo, links = parts[::-1], 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":  # of a link: the archive's names have none
                del at[-1:]
                continue
            inside = "/".join((*at, part))
            path = self._path(inside)
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                if not make:
                    return None
                if len(at) >= MOST_DEEP:
                    raise self._refused(member.name, f"it is more than {MOST_DEEP} directories deep") from None
                os.mkdir(path, 0o755)
                self._directories[inside] = None
                at.append(part)
                continue
            if stat.S_ISLNK(mode):
                links += 1
                if links > _MOST_LINKS:
                    raise self._refused(member.name, "its links lead in a circle")
                target = os.readlink(path)
                at = [] if target.startswith("/") else at
                todo += target.split("/")[::-1]
            elif stat.S_ISDIR(mode):
                at.append(part)
            else:
                return None
        return "/".join(at)

    # ---- what goes away ------------------------------------------------------------------------------------------

    def _remove(self, path: str) -> None:
        """Remove what is at *path*, if anything; a link itself, and not where it leads."""
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            self._known = None
        if stat.S_ISDIR(mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    def _hide_by(self, above: list[str], name: str, member: tarfile.TarInfo) -> None:
        """Remove what the whiteout *name* in the directory *above* hides of the layers before this one."""
        hidden = name.removeprefix(_WHITEOUT)
        if name != _OPAQUE and hidden in ("", ".", ".."):
            raise self._refused(member.name, f"it hides '{hidden}', which is no name of a file")
        parent = self._find(above, member)
        if parent is None:
            return
        if name == _OPAQUE:
            for child in os.listdir(self._path(parent)):
                self._hide(f"{parent}/{child}" if parent else child)
        elif not hidden.startswith(_WHITEOUT):  # else a mark of aufs for itself
            self._hide(f"{parent}/{hidden}" if parent else hidden)

    def _hide(self, inside: str) -> None:
        path = self._path(inside)
        if inside not in self._added:
            self._remove(path)
        elif os.path.isdir(path) and not os.path.islink(path):
            for child in os.listdir(path):
                self._hide(f"{inside}/{child}")

    def _refused(self, name: str, why: str) -> ImageRefused:
        return ImageRefused(
            f"the archive {self._budget.origin} is not unpacked", f"its member {name[:200]!r}: {why}",
            "take an archive that you trust, or make it again without this member",
        )  # fmt: skip


def members(stream: Stream) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of the tar *stream*. Raises ImageRefused where it is damaged, which tarfile may take for its end."""
    archive: tarfile.TarFile | None = None
    while True:
        try:
            if archive is None:
                archive = tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
            member = archive.next()
        except _WRONG as error:
            raise stream.damaged(error if archive else f"it is no tar, packed or not: {error}") from error
        if member is None:
            if len(stream.last) != tarfile.BLOCKSIZE or stream.last.strip(b"\0"):
                raise stream.damaged("it ends without the end that a tar has")
            return
        if member.size < 0:
            raise stream.damaged(f"its member {member.name!r} has {member.size} bytes")
        yield archive, member
        archive.members.clear()  # type: ignore[attr-defined] # it would keep all of them


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]

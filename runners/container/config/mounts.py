"""The list ``mounts`` of a configuration: options of mount(8) become flags of the kernel's two mount interfaces."""

from __future__ import annotations

import posixpath

from ..light.dataclasses import record, replace
from ..linux import mount_calls as k
from ..reader import SEE, BundleError, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from ..linux.idmap import Range

_ATIME = 0x70  # MOUNT_ATTR__ATIME: the three below exclude each other

#: word -> (MS_* to set, MS_* to clear, MOUNT_ATTR_* to set, MOUNT_ATTR_* to clear)
_WORDS = {
    "ro": (k.MS_RDONLY, 0, k.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, k.MS_RDONLY, 0, k.MOUNT_ATTR_RDONLY),
    "nosuid": (k.MS_NOSUID, 0, k.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, k.MS_NOSUID, 0, k.MOUNT_ATTR_NOSUID),
    "nodev": (k.MS_NODEV, 0, k.MOUNT_ATTR_NODEV, 0),
    "dev": (0, k.MS_NODEV, 0, k.MOUNT_ATTR_NODEV),
    "noexec": (k.MS_NOEXEC, 0, k.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, k.MS_NOEXEC, 0, k.MOUNT_ATTR_NOEXEC),
    "noatime": (k.MS_NOATIME, k.MS_STRICTATIME, k.MOUNT_ATTR_NOATIME, _ATIME),
    "atime": (0, k.MS_NOATIME, k.MOUNT_ATTR_RELATIME, _ATIME),
    "relatime": (k.MS_RELATIME, k.MS_STRICTATIME | k.MS_NOATIME, k.MOUNT_ATTR_RELATIME, _ATIME),
    "norelatime": (0, k.MS_RELATIME, k.MOUNT_ATTR_RELATIME, _ATIME),
    "strictatime": (k.MS_STRICTATIME, k.MS_RELATIME | k.MS_NOATIME, k.MOUNT_ATTR_STRICTATIME, _ATIME),
    "nostrictatime": (0, k.MS_STRICTATIME, k.MOUNT_ATTR_RELATIME, _ATIME),
    "nodiratime": (k.MS_NODIRATIME, 0, k.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, k.MS_NODIRATIME, 0, k.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (k.MS_NOSYMFOLLOW, 0, k.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, k.MS_NOSYMFOLLOW, 0, k.MOUNT_ATTR_NOSYMFOLLOW),
}
#: Options of a file system, not of a mount (word -> MS_* to set, MS_* to clear); a bind ignores them.
_OF_FILE_SYSTEM = {
    "sync": (k.MS_SYNCHRONOUS, 0),
    "async": (0, k.MS_SYNCHRONOUS),
    "dirsync": (k.MS_DIRSYNC, 0),
    "mand": (k.MS_MANDLOCK, 0),
    "nomand": (0, k.MS_MANDLOCK),
    "lazytime": (k.MS_LAZYTIME, 0),
    "nolazytime": (0, k.MS_LAZYTIME),
    "silent": (k.MS_SILENT, 0),
    "loud": (0, k.MS_SILENT),
    "iversion": (k.MS_I_VERSION, 0),
    "noiversion": (0, k.MS_I_VERSION),
}
_ALL_OF_FILE_SYSTEM = sum(on for on, _ in _OF_FILE_SYSTEM.values())
#: Options for programs that read fstab(5): mount(8) does not pass them to the kernel. Those that let ordinary users
#: mount imply others.
_SECURE = ("nosuid", "nodev", "noexec")
_OF_FSTAB: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("defaults", "auto", "noauto", "nouser", "nousers", "noowner", "nogroup", "nofail", "_netdev"), ()),
    **dict.fromkeys(("user", "users"), _SECURE),
    **dict.fromkeys(("owner", "group"), _SECURE[:2]),
}
_PROPAGATION = {
    "private": k.MS_PRIVATE,
    "shared": k.MS_SHARED,
    "slave": k.MS_SLAVE,
    "unbindable": k.MS_UNBINDABLE,
}
PROPAGATION = _PROPAGATION | {f"r{word}": flag | k.MS_REC for word, flag in _PROPAGATION.items()}


@record(kw_only=True)
class Mount:
    """One mount of the configuration.

    A file system of *kind*: *flags* as in mount(2), *data* for it. Or, with *bind*, of what is at *source* on the host;
    with *recursive*, of what is mounted below it, too. *attributes* of mount_setattr(2) are (set, clear) for the mount,
    *attributes_below* for all below, too. *propagation* are flags of mount(2), set one after another.

    With *remount*, nothing new is mounted: what is mounted there changes; with *bind* only the mount, else its file
    system, too, which loses the flags *cleared* of mount(2).

    With *idmap*, owners are mapped by *identity*, uid and gid ranges; if None, by the container's own user namespace.
    """

    source: str
    target: str
    kind: str
    flags: int = 0
    data: str = ""
    bind: bool = False
    recursive: bool = False
    attributes: tuple[int, int] = (0, 0)
    attributes_below: tuple[int, int] = (0, 0)
    propagation: tuple[int, ...] = ()
    remount: bool = False
    cleared: int = 0
    copy_up: bool = False
    idmap: bool = False
    identity: tuple[tuple[Range, ...], tuple[Range, ...]] | None = None
    identity_below: bool = False


def parse(item: Reader, *, directory: str) -> Mount:
    """One :class:`Mount`; a relative source of a bind is below *directory*. Raises :class:`BundleError`."""
    target = _target(item)
    kind, source, options = item.take("type", str, ""), item.take("source", str, ""), item.texts("options")
    if "\0" in source or "\0" in kind:
        raise BundleError(item.at("source"), "must be a path", SEE)
    words = _Words(item, bind=kind == "bind" or "bind" in options or "rbind" in options)
    for word in options:
        words.add(word)
    _check(item, words, kind, source)
    identity = _identity(item)
    item.done()
    if (identity is not None or words.idmap) and (not words.bind or words.remount):
        raise BundleError(item.at("options"), "idmap is for binds alone", SEE)
    if words.bind and source:
        source = posixpath.join(directory, source)
    return Mount(
        source=source or kind,
        target=target,
        kind="" if words.bind else kind,
        flags=words.flags,
        data=",".join(words.data),
        bind=words.bind,
        recursive="rbind" in options,
        attributes=(words.set, words.clear),
        attributes_below=(words.set_below, words.clear_below),
        propagation=tuple(words.propagation),
        remount=words.remount,
        cleared=words.cleared,
        copy_up=words.copy_up,
        idmap=identity is not None or bool(words.idmap),
        identity=identity,
        identity_below=words.idmap == "ridmap",
    )


def _target(item: Reader) -> str:
    target = item.take("destination", str)
    if not target or "\0" in target:
        raise BundleError(item.at("destination"), "must be a path", SEE)
    if not target.startswith("/"):
        item.warn("destination", f"{target!r} is relative, which is deprecated: taken from /")
    return from_root(target)


def from_root(path: str) -> str:
    """*path* from the root of the container, normalized, except ".." after a name that may be a link."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    while parts[:1] == [".."]:
        del parts[0]
    found = "/" + "/".join(parts)
    return "/" if posixpath.normpath(found) == "/" else found


def _check(item: Reader, words: _Words, kind: str, source: str) -> None:
    """Refuse a mount that is impossible as configured. Raises BundleError."""
    if words.copy_up and (words.bind or words.remount or kind != "tmpfs"):
        raise BundleError(item.at("options"), "tmpcopyup is for tmpfs alone", SEE)
    if words.remount:
        return
    if words.bind and not source:
        raise BundleError(item.at("source"), "is missing", SEE)
    if not words.bind and not kind:
        raise BundleError(item.at("type"), "is missing, and the options have no bind", SEE)


#: File systems that belong to a namespace: only in a new one they differ from the host's. "" is never new.
_SHARED = {"proc": "pid", "mqueue": "ipc", "sysfs": "network", "cgroup": "", "cgroup2": ""}


def settled(mounts: tuple[Mount, ...], namespaces: Mapping[str, str], top: Reader) -> tuple[Mount, ...]:
    """*mounts*, in which no remount changes a file system that the host uses, too; *top* warns of what is left out."""
    found = list(mounts)
    for number, mount in enumerate(mounts):
        if mount.remount and not mount.bind and not _is_own(mounts[:number], mount.target, namespaces):
            if mount.data or mount.flags & _ALL_OF_FILE_SYSTEM:
                where = f"mounts[{number}].options"
                top.warn(where, f"the file system at {mount.target} is the host's, too: only its mount here is changed")
            found[number] = replace(mount, bind=True)
    return tuple(found)


def _is_own(before: tuple[Mount, ...], target: str, namespaces: Mapping[str, str]) -> bool:
    """Whether what the mounts *before* put on *target* is a file system that only the container uses."""
    last = next((mount for mount in reversed(before) if not mount.remount and below(target, mount.target)), None)
    if last is None or last.bind or last.target != target:
        return False
    return last.kind not in _SHARED or namespaces.get(_SHARED[last.kind]) == ""


def below(path: str, top: str) -> bool:
    """Whether *path* is *top* or lies below it."""
    return path == top or path.startswith(f"{top.rstrip('/')}/")


def check(mounts: Iterable[Mount], namespaces: Container[str]) -> None:
    """Refuse mounts that need a namespace which the container does not have. Raises BundleError."""
    for number, mount in enumerate(mounts):
        if mount.idmap and mount.identity is None and "user" not in namespaces:
            raise BundleError(
                f"mounts[{number}].options",
                "idmap needs uidMappings and gidMappings of the mount, or a user namespace that has some",
                "add them",
            )


def _identity(item: Reader) -> tuple[tuple[Range, ...], tuple[Range, ...]] | None:
    if item.lacks("uidMappings") and item.lacks("gidMappings"):
        return None
    from ..linux import idmap

    uids, gids = idmap.parse(item, "uidMappings"), idmap.parse(item, "gidMappings")
    if bool(uids) != bool(gids):
        raise BundleError(item.at("gidMappings" if uids else "uidMappings"), "is missing", SEE)
    return (uids, gids) if uids else None


class _Words:
    """The options of one mount, read in order: of two that contradict each other, the later counts."""

    def __init__(self, item: Reader, *, bind: bool) -> None:
        self.item = item
        self.bind = bind
        self.flags = self.cleared = self.set = self.clear = self.set_below = self.clear_below = 0
        self.propagation: list[int] = []
        self.remount = self.copy_up = False
        self.idmap = ""
        self.data: list[str] = []

    def add(self, word: str) -> None:
        if word in _WORDS:
            on, off, add, take = _WORDS[word]
            self._flag(on, off)
            self.set, self.clear = (self.set & ~take) | add, (self.clear & ~add) | take
        elif word[:1] == "r" and word[1:] in _WORDS:
            _, _, add, take = _WORDS[word[1:]]
            self.set_below, self.clear_below = (self.set_below & ~take) | add, (self.clear_below & ~add) | take
        elif word in _OF_FILE_SYSTEM:
            self._flag(*((0, 0) if self.bind else _OF_FILE_SYSTEM[word]))
        elif word in PROPAGATION:
            self.propagation.append(PROPAGATION[word])
        elif word in _OF_FSTAB:
            for implied in _OF_FSTAB[word]:
                self.add(implied)
        elif word == "remount":
            self.remount = True
        elif word == "tmpcopyup":
            self.copy_up = True
        elif word in ("idmap", "ridmap"):
            self.idmap = word
        elif word not in ("bind", "rbind") and not word.startswith(("x-", "X-", "comment=")):
            self._other(word)

    def _flag(self, on: int, off: int) -> None:
        self.flags = (self.flags & ~off) | on
        self.cleared = (self.cleared & ~on) | off

    def _other(self, word: str) -> None:
        """Take an option for a file system. A bind ignores it, and so would the kernel."""
        if self.bind:
            self.item.warn("options", f"{word!r} has no effect on a bind: ignored")
        else:
            self.data.append(word)


def words() -> list[str]:
    """Every option that a mount may have, sorted; others are passed to its file system."""
    below = (f"r{word}" for word in _WORDS)
    rest = ("bind", "rbind", "remount", "defaults", "tmpcopyup", "idmap", "ridmap")
    return sorted({*_WORDS, *below, *PROPAGATION, *_OF_FILE_SYSTEM, *rest})

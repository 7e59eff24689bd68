"""The list ``mounts`` of a configuration: words of mount(8) become flags of the kernel's two mount interfaces."""

from __future__ import annotations

import posixpath

from . import syscalls as k
from .reader import SEE, BundleError, Reader
from .record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .idmap import Range

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
    "noatime": (k.MS_NOATIME, 0, k.MOUNT_ATTR_NOATIME, _ATIME),
    "atime": (0, k.MS_NOATIME, k.MOUNT_ATTR_RELATIME, _ATIME),
    "relatime": (k.MS_RELATIME, 0, k.MOUNT_ATTR_RELATIME, _ATIME),
    "norelatime": (0, k.MS_RELATIME, k.MOUNT_ATTR_STRICTATIME, _ATIME),
    "strictatime": (k.MS_STRICTATIME, 0, k.MOUNT_ATTR_STRICTATIME, _ATIME),
    "nostrictatime": (0, k.MS_STRICTATIME, k.MOUNT_ATTR_RELATIME, _ATIME),
    "nodiratime": (k.MS_NODIRATIME, 0, k.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, k.MS_NODIRATIME, 0, k.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (k.MS_NOSYMFOLLOW, 0, k.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, k.MS_NOSYMFOLLOW, 0, k.MOUNT_ATTR_NOSYMFOLLOW),
}
#: Of a file system, not of a mount: they mean nothing to a bind.
_OF_FILE_SYSTEM = {
    "sync": k.MS_SYNCHRONOUS,
    "dirsync": k.MS_DIRSYNC,
    "mand": k.MS_MANDLOCK,
    "lazytime": k.MS_LAZYTIME,
    "silent": k.MS_SILENT,
    "iversion": k.MS_I_VERSION,
}
_NOTHING = ("defaults", "async", "nomand", "nolazytime", "loud", "noiversion")
_PROPAGATION = {
    "private": k.MS_PRIVATE,
    "shared": k.MS_SHARED,
    "slave": k.MS_SLAVE,
    "unbindable": k.MS_UNBINDABLE,
}
PROPAGATION = _PROPAGATION | {f"r{word}": flag | k.MS_REC for word, flag in _PROPAGATION.items()}
#: File systems of filesystems(5) that a container may have mounted; each refuses what it does not know.
KINDS = tuple(
    "proc tmpfs devpts mqueue sysfs cgroup cgroup2 overlay ramfs fuse debugfs tracefs securityfs bpf pstore configfs"
    " efivarfs binfmt_misc hugetlbfs ext2 ext3 ext4 xfs btrfs nfs nfs4 cifs 9p virtiofs erofs squashfs"
    " iso9660 vfat".split()
)


@record(kw_only=True)
class Mount:
    """One mount of the configuration.

    A file system of *kind*: *flags* as in mount(2), *data* for it. Or, with *bind*, of what is at *source* on the host;
    with *recursive*, of what is mounted below it, too. *attributes* of mount_setattr(2) are (set, clear) for the mount,
    *attributes_below* for all below, too. *propagation* is 0 or flags of mount(2). *identity* are uid and gid ranges.
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
    propagation: int = 0
    copy_up: bool = False
    identity: tuple[tuple[Range, ...], tuple[Range, ...]] | None = None
    identity_below: bool = False


def parse(item: Reader, *, directory: str) -> Mount:
    """One :class:`Mount`; a relative source of a bind stands below *directory*. Raises :class:`BundleError`."""
    target, kind = item.take("destination", str), item.take("type", str, "")
    if not target.startswith("/") or "\0" in target:
        raise BundleError(item.at("destination"), "must be an absolute path", SEE)
    target = posixpath.normpath(target)
    if target.strip("/") == "":
        raise BundleError(item.at("destination"), "would cover the root filesystem", "use root.path")
    options = item.texts("options")
    bind = kind == "bind" or "bind" in options or "rbind" in options
    source = item.take("source", str, "")
    if "\0" in source or "\0" in kind:
        raise BundleError(item.at("source"), "must be a path", SEE)
    if bind:
        if not source:
            raise BundleError(item.at("source"), "is missing", SEE)
        source = posixpath.join(directory, source)
    elif kind not in KINDS:
        raise BundleError(
            item.at("type"), f"{kind!r} is no file system type known here", f"use one of {', '.join(KINDS)}"
        )
    words = _Words(item.at("options"), bind=bind)
    for word in options:
        words.add(word)
    identity = _identity(item)
    item.done()
    if words.idmap and identity is None:
        raise BundleError(item.at("options"), "idmap needs uidMappings and gidMappings of the mount", "add them")
    if (identity is not None or words.copy_up) and (bind if words.copy_up else not bind):
        raise BundleError(item.at("options"), "idmap is for binds and tmpcopyup for tmpfs", SEE)
    return Mount(
        source=source or kind,
        target="/" + target.lstrip("/"),
        kind="" if bind else kind,
        flags=words.flags,
        data=",".join(words.data),
        bind=bind,
        recursive="rbind" in options,
        attributes=(words.set, words.clear),
        attributes_below=(words.set_below, words.clear_below),
        propagation=words.propagation,
        copy_up=words.copy_up,
        identity=identity,
        identity_below=words.idmap == "ridmap",
    )


def _identity(item: Reader) -> tuple[tuple[Range, ...], tuple[Range, ...]] | None:
    from . import idmap

    uids, gids = idmap.parse(item, "uidMappings"), idmap.parse(item, "gidMappings")
    if bool(uids) != bool(gids):
        raise BundleError(item.at("gidMappings" if uids else "uidMappings"), "is missing", SEE)
    return (uids, gids) if uids else None


class _Words:
    """The options of one mount, read one after another: of two that contradict each other, the later counts."""

    def __init__(self, where: str, *, bind: bool) -> None:
        self.where = where
        self.bind = bind
        self.flags = self.set = self.clear = self.set_below = self.clear_below = self.propagation = 0
        self.copy_up = False
        self.idmap = ""
        self.data: list[str] = []

    def add(self, word: str) -> None:
        if word in _WORDS:
            on, off, add, take = _WORDS[word]
            self.flags = (self.flags & ~off) | on
            self.set, self.clear = (self.set & ~take) | add, (self.clear & ~add) | take
        elif word[:1] == "r" and word[1:] in _WORDS:
            _, _, add, take = _WORDS[word[1:]]
            self.set_below, self.clear_below = (self.set_below & ~take) | add, (self.clear_below & ~add) | take
        elif word in PROPAGATION:
            self.propagation = PROPAGATION[word]
        elif word in ("bind", "rbind", *_NOTHING):
            pass
        elif word == "tmpcopyup":
            self.copy_up = True
        elif word in ("idmap", "ridmap"):
            self.idmap = word
        elif word == "remount":
            raise BundleError(self.where, "'remount' is not supported", "give the flags of the mount itself")
        elif not self.bind and word in _OF_FILE_SYSTEM:
            self.flags |= _OF_FILE_SYSTEM[word]
        elif self.bind:
            raise BundleError(self.where, f"{word!r} means nothing to a bind mount", SEE)
        else:
            self.data.append(word)


def words() -> list[str]:
    """Every option that a mount may have, sorted; others are handed to its file system."""
    below = (f"r{word}" for word in _WORDS)
    rest = ("bind", "rbind", "tmpcopyup", "idmap", "ridmap")
    return sorted({*_WORDS, *below, *PROPAGATION, *_OF_FILE_SYSTEM, *_NOTHING, *rest})

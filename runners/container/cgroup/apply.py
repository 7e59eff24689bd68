"""Writes :class:`resources.Resources` to a cgroup, in an order that the kernel accepts whatever was set before.

Some limits are pairs, which the kernel checks against each other at every write: memory and memory with swap, quota and
period, weight and idle. Which of the two must be written first depends on their present values, and on the limits of
the cgroups above and below. So one order is tried: if the kernel refuses it by EINVAL, nothing has changed, and the
other is tried.

Sources: mm/memcontrol-v1.c (mem_cgroup_resize_max), kernel/sched/core.c (tg_set_cfs_bandwidth, tg_cfs_schedulable_down)
and kernel/sched/rt.c (tg_rt_schedulable).
"""

from __future__ import annotations

import errno
import os

from ..linux.files import read, write
from ..reader import BundleError
from . import devices, limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .cgroups import V1, V2
    from .limits import Pair, Write
    from .resources import Memory, Resources


def apply(resources: Resources, group: V1 | V2, warn: Callable[[str], None]) -> None:
    """Put *group*, which exists, under *resources*, device rules last. *warn* gets a line for what is ignored.

    The order is: create the cgroup, apply the limits, let the child join, and only then let it do anything.
    Raises BundleError and OSError (with the file).
    """
    for part in _parts(resources, group, warn):
        _put_part(part)
    devices.apply(resources.devices, group, warn)


def update(resources: Resources, group: V1 | V2, warn: Callable[[str], None]) -> None:
    """As :func:`apply`, for a running container: its device rules stay as they are, as in runc.

    A limit that contradicts one in force is refused before anything is written. If the kernel refuses a write, the ones
    before it are undone.
    """
    memory = resources.memory
    if memory.check_before_update and 0 < memory.limit_bytes < _used(group):
        raise BundleError("linux.resources.memory.limit", "is below what is in use", "stop the container first")
    if group.version == 1 and memory.limit_bytes > 0 and not memory.swap_bytes:
        _not_above_both(memory, group)
    if resources.devices:
        warn("linux.resources.devices: ignored, as runc does: rules are set once, when the container is made")
    done: list[Write | Pair] = []
    try:
        for part in _parts(resources, group, warn):
            before = _before(part)
            done += (before,) if before else ()
            _put_part(part)
    except (BundleError, OSError):
        for part in reversed(done):
            try:
                _put_part(part)
            except OSError:
                pass  # the first error is the one to report
        raise


def _parts(resources: Resources, group: V1 | V2, warn: Callable[[str], None]) -> tuple[Write | Pair, ...]:
    if resources.memory.swap_bytes > 0 and not resources.memory.limit_bytes:
        _not_below_memory(resources.memory, group)
    return limits.writes(resources, group, warn)


def _used(group: V1 | V2) -> int:
    return int(read(group.file("memory", "memory.current" if group.version == 2 else "memory.usage_in_bytes")))


def _not_below_memory(memory: Memory, group: V1 | V2) -> None:
    """Refuse a limit of memory and swap that contradicts the limit of memory that is in force."""
    now = limits.present(group, "memory.max" if group.version == 2 else "memory.limit_in_bytes")
    if now < 0:
        why, fix = "limits memory and swap together, so memory needs a limit", "set limit"
    elif memory.swap_bytes < now:
        why, fix = f"is memory and swap together: not below the limit of memory, {now}", "lower limit, too"
    else:
        return
    raise BundleError("linux.resources.memory.swap", why, fix)


def _not_above_both(memory: Memory, group: V1 | V2) -> None:
    try:
        now = limits.present(group, "memory.memsw.limit_in_bytes")
    except FileNotFoundError:  # this kernel counts no swap
        return
    if 0 <= now < memory.limit_bytes:
        why = f"is above the limit of memory and swap together, {now}"
        raise BundleError("linux.resources.memory.limit", why, "raise swap, too")


def _put_part(part: Write | Pair) -> None:
    if isinstance(part, limits.Pair):
        pair(part)
    else:
        put(part)


def pair(both: Pair) -> None:
    """Write both, in the order that the kernel accepts. Raises as :func:`put`; then one of the two may be in force."""
    orders: list[tuple[Write, ...]] = [(both.first, both.second), (both.second, both.first)]
    if both.reset:
        orders.append((*both.reset, both.first, both.second))
    for number, order in enumerate(orders, 1):
        try:
            for each in order:
                put(each)
        except OSError as error:
            if error.errno != errno.EINVAL or number == len(orders):
                raise
        else:
            return


def _before(part: Write | Pair) -> Write | Pair | None:
    """The write that undoes *part*; None if a file does not accept the text that it shows."""
    if not isinstance(part, limits.Pair):
        return _same(part)
    first, second = _same(part.first), _same(part.second)
    return limits.Pair(first, second, part.reset) if first and second else first or second


def _same(each: Write) -> Write | None:
    try:
        text = read(each.path).strip()
    except OSError:  # the write itself says why
        return None
    # not files with a line for each device
    return limits.Write(each.where, each.path, text) if text and not set(text) & {"\n", ":"} else None


def put(each: Write) -> None:
    """One write. Raises BundleError where there is no such file, and OSError."""
    try:
        write(each.path, each.text)
    except FileNotFoundError:
        raise BundleError(
            each.where, f"cannot be done: there is no {each.path} here", "leave it out, or enable the controller"
        ) from None
    except OSError as error:
        raise OSError(error.errno, f"{each.where}: {error.strerror}{_hint(each, error)}", each.path) from None


def _hint(each: Write, error: OSError) -> str:
    """What the error number alone does not say."""
    directory, name = os.path.split(each.path)
    if error.errno == errno.EBUSY and name == "memory.limit_in_bytes":
        return f" (in use: {read(f'{directory}/memory.usage_in_bytes').strip()} bytes, which cannot be swapped out)"
    if error.errno == errno.EINVAL and name.startswith(("cpu.cfs_", "cpu.rt_", "cpu.max")):
        return " (out of range, or more than a cgroup above allows, or less than one below has)"
    return ""

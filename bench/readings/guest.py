"""The view from inside: what the payload found in the /proc/meminfo that it sees, where it stands.

In a container that is the host's; in a virtual machine it is the guest kernel's, which has taken its own share before.
The payload writes one line an entry, ``tare inside NAME N`` with N in KiB, or ``tare inside: why not``
(``runners/payload/payload.c``). Source: proc_meminfo(5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: How such a line begins, after the mark that all lines of the payload have.
WORD = "inside"
#: Field of /proc/meminfo -> our metric.
FIELDS: Mapping[str, str] = {
    "MemTotal": "inside_total_bytes",
    "MemFree": "inside_free_bytes",
    "MemAvailable": "inside_available_bytes",
    "Cached": "inside_cached_bytes",
    "Slab": "inside_slab_bytes",
    "PageTables": "inside_page_tables_bytes",
    "KernelStack": "inside_kernel_stack_bytes",
    "AnonPages": "inside_anon_bytes",
    "Percpu": "inside_percpu_bytes",
}


def parse(lines: Iterable[str]) -> dict[str, float]:
    """The metrics in lines such as ``inside MemTotal 123456``, in bytes; what is no such line is left out."""
    found: dict[str, float] = {}
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[0] == WORD and words[1] in FIELDS and words[2].isdecimal():
            found[FIELDS[words[1]]] = float(int(words[2]) * 1024)
    return found


def refusal(lines: Iterable[str]) -> str:
    """Why the payload could not look, in its own words; empty when it could, or was not asked."""
    start = f"{WORD}: "
    return next((line.removeprefix(start) for line in lines if line.startswith(start)), "")

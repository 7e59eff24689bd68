"""Layers of isolation: what lies between the host and a workload, and the questions that are asked about it.

A runner names its layers, outermost first: ``()`` for a bare process, ``("container",)``, ``("vm", "container")`` for a
container in a virtual machine. The list of words is open: a new one needs no change here, and is shown under its own
name. Other modules call these functions, and never compare the words.
"""

from __future__ import annotations

from collections.abc import Mapping

from tare.runners.base import Layers

#: The runner of the null baseline: it starts nothing, so its figures are the instrument's own part.
NULL = "null"

CONTAINER, SANDBOX, VM = "container", "sandbox", "vm"
#: Words that have a colour and a picture of their own.
WORDS = (CONTAINER, SANDBOX, VM)
_BARE = "process"
#: The finding (:attr:`runners.base.Support.facts`) of how many containers share a machine.
PLACES = "containers in a machine"


def is_null(runner: str) -> bool:
    """Whether the runner of that name is the null baseline, which measures only the instrument."""
    return runner == NULL


def isolated(layers: Layers) -> bool:
    """Whether there is anything between the host and the workload."""
    return bool(layers)


def own_kernel(layers: Layers) -> bool:
    """Whether the workload runs on a kernel of a guest, with memory that was given to that guest."""
    return VM in layers


def whole_guest(layers: Layers) -> bool:
    """Whether its grant is all of a guest's memory: nothing but the guest's kernel is around the workload."""
    return layers[-1:] == (VM,)


def places(facts: Mapping[str, str]) -> int:
    """How many instances share a machine, by what their runner found; 1 where each has its own, or there is none."""
    return int(facts.get(PLACES, "1"))


def walled_on_host_kernel(layers: Layers) -> bool:
    """Whether it is isolated and runs on the host's kernel: what a virtual machine is compared with."""
    return isolated(layers) and not own_kernel(layers)


def outermost(runner: str, layers: Layers) -> str:
    """The word by which a subject is coloured: ``null``, ``process``, or the first layer that the host sees."""
    return NULL if is_null(runner) else next(iter(layers), _BARE)


def family(runner: str, layers: Layers) -> str:
    """The name of the colour of a subject: its outermost layer; ``other`` for a layer that has none."""
    word = outermost(runner, layers)
    return word if word in (NULL, _BARE, *WORDS) else "other"


def name(layers: Layers) -> str:
    """All layers as one word: ``process``, ``container``, ``vm+container``."""
    return "+".join(layers) or _BARE


def kind(runner: str, layers: Layers) -> str:
    """The field ``kind`` of the JSON output, for scripts from before there were layers."""
    return NULL if is_null(runner) else name(layers)


def of_kind(kind: str) -> Layers:
    """The layers of a subject in a run that was recorded with a ``kind``: null, process, container or vm."""
    return () if kind in (NULL, _BARE) else (kind,)

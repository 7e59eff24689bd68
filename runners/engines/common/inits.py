"""System containers: those whose first process is the init of an operating system in the image."""

from __future__ import annotations

from tare.runners.base import Option, Options, RunnerError, Spec

#: The option of a runner that can do both.
OPTION = Option(
    "yes: boot the image: the workload's command is its init, in a system container; no (default): run a program",
    choices=("no", "yes"),
)
#: What is an init, wherever it lies.
_NAMES = frozenset({"init", "systemd", "openrc-init", "runit-init"})


def wanted(options: Options) -> bool:
    """Whether the image is to be booted."""
    return options.get("boot") == "yes"


def check(spec: Spec) -> None:
    """Raise RunnerError unless *spec* runs an init, as root: to boot is to run that, and nothing beside it."""
    program = spec.argv[0]
    if program.rpartition("/")[2] not in _NAMES:
        raise RunnerError(
            f"cannot boot the image {spec.image.source} with {program}",
            'with boot = "yes" the workload\'s command is the init of the image',
            'command = ["/sbin/init"], and a readiness that says when the system is up',
        )
    if spec.user.uid:
        raise RunnerError(
            f"cannot boot the image {spec.image.source} as user {spec.user.uid}",
            "an init must be root in its container",
            "leave the workload's user out",
        )

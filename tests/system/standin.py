#!/usr/bin/env python3
"""In the place of Firecracker or Cloud Hypervisor: it is told the same, and emulates the machine by QEMU.

Of the real ones it has what the runners rely on. Firecracker ends when its guest restarts, and that has no way to
switch itself off. Cloud Hypervisor ends when its guest switches itself off; when that restarts, it says so on the
descriptor for its events, and boots it again. The serial line is the standard output, and QEMU dies with this process.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    if "--version" in sys.argv:
        sys.stdout.write("stand-in v1.0\n")
        return 0
    parser = argparse.ArgumentParser(allow_abbrev=False)
    firecracker = "--no-api" in sys.argv
    if firecracker:
        parser.add_argument("--no-api", action="store_true", required=True)
        for word in ("--config-file", "--log-path", "--level"):
            parser.add_argument(word, required=True)
        told = parser.parse_args()
        config = json.loads(Path(told.config_file).read_text())
        source, machine = config["boot-source"], config["machine-config"]
        boot = (source["kernel_image_path"], source["initrd_path"], source["boot_args"])
        return run(boot, machine["vcpu_count"], machine["mem_size_mib"], events=None)
    for word in ("cpus", "memory", "kernel", "initramfs", "cmdline", "serial", "console", "event-monitor", "log-file"):
        parser.add_argument(f"--{word}", required=True)
    told = parser.parse_args()
    assert (told.serial, told.console) == ("tty", "off")
    cpus = int(told.cpus.removeprefix("boot="))
    memory_mib = int(told.memory.removeprefix("size=").removesuffix("M"))
    events = int(told.event_monitor.removeprefix("fd="))
    return run((told.kernel, told.initramfs, told.cmdline), cpus, memory_mib, events=events)


def run(boot: tuple[str, str, str], cpus: int, memory_mib: int, *, events: int | None) -> int:
    control, its = socket.socketpair()
    words = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", "tcg,tb-size=16"]
    # Without ACPI a guest cannot switch itself off.
    words += ["-machine", "q35,acpi=off", "-no-shutdown"] if events is None else ["-machine", "q35"]
    words += ["-cpu", "max", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"]
    words += ["-chardev", f"socket,id=control,fd={its.fileno()}", "-mon", "chardev=control,mode=control"]
    words += ["-smp", str(cpus), "-m", f"{memory_mib}M", "-kernel", boot[0], "-initrd", boot[1], "-append", boot[2]]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=(its.fileno(),)) as machine:
        its.close()
        for line in control.makefile("r"):
            said: dict[str, Any] = json.loads(line)
            if "QMP" in said:
                control.sendall(b'{"execute": "qmp_capabilities"}\n')
            if said.get("event") == "RESET" and said["data"]["guest"]:
                if events is None:
                    machine.kill()
                    return 0
                event: dict[str, Any] = {"timestamp": {}, "source": "vm", "event": "rebooting", "properties": None}
                os.write(events, json.dumps(event, indent=2).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Filters of system calls: from the configuration to the kernel's program."""

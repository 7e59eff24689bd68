"""A small program in machine code, which the container's process runs last before its own program."""

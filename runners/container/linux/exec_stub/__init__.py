"""A small program in machine code that is the container's process last before its own program."""

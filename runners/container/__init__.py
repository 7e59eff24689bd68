"""Our container runtime: the Python standard library alone, no import of anything above it."""

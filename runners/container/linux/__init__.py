"""The kernel's interfaces that Python lacks, and no policy."""

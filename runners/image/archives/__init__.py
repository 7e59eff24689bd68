"""What is read from archives, which may come from a stranger: bytes, members of a tar, layers, configuration."""

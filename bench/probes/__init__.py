"""Probes: each reads one aspect of an instance or of the host, once, when asked."""

"""The kernel's counters: one source each, read once, when asked."""

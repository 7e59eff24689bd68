"""What a workload finds below its root: where it comes from, how it is kept, and its shapes; the kernel of a guest."""

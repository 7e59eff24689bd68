"""What a guest has besides its kernel and the workload, for all kinds of machine: its first process, its network."""

"""A container's life, stage by stage, as its state directory records it."""

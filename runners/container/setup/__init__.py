"""What makes a process a container: the steps, their order, and both sides of doing them."""

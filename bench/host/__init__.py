"""This machine, left as it was found: what it is, what a run makes on it, and what of that must go again."""

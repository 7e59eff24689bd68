"""A file becomes a plan: its format, what it resolves to, and the trials in their order."""

"""The instrument: scenarios become plans, plans become records. See docs/architecture.md."""

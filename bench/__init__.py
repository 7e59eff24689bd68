"""The instrument: scenarios become plans, plans become records. See docs/explanation/architecture.md."""

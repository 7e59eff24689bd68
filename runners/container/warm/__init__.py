"""The fork server: everything is ready, and containers are made out of its children."""

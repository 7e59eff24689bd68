"""Reads ``config.json`` into a Bundle, and writes configurations of our own."""

"""Engines that people install, as they run them: one module each."""

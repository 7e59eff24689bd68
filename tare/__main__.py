"""``python -m tare``."""

from __future__ import annotations

from tare.command import main

main()

"""Finding an object by a text ``module:object``, so that a table can name what nobody has imported yet."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def find(where: str) -> Any:
    """The object that ``module:object`` names, or the module itself where there is no colon. Imports the module."""
    module, _, name = where.partition(":")
    found = import_module(module)
    return getattr(found, name) if name else found

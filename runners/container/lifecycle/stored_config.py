"""The configuration of a container: read from its bundle when it is made, from its state directory afterwards."""

from __future__ import annotations

import os

from ..errors import OciError, reason
from ..light import json
from ..reader import BundleError
from . import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config.bundle import Bundle
    from .state import State, Store


def load(directory: str, *, network: str = "") -> tuple[Bundle, bytes]:
    """The configuration in *directory*, read and checked, and its text; *network* is a mode or "". Raises OciError."""
    path = f"{directory}/config.json"
    try:
        text = state.read_bytes(path, os.O_NONBLOCK)
    except OSError as error:
        raise OciError("cannot read the configuration", reason(error), "name its directory by --bundle") from None
    if network:
        text = _with_network(text, network, path)
    return judge(text, directory, path), text


def _with_network(text: bytes, mode: str, path: str) -> bytes:
    from ..network import bridge

    if mode not in bridge.MODES:
        raise OciError("--network", f"{mode!r} is unknown", f"use one of {', '.join(bridge.MODES)}")
    try:
        config = json.loads(text)
        if not isinstance(config, dict):
            raise ValueError("is not a JSON object")
        return json.dumps(bridge.configure(config, mode)).encode()
    except (ValueError, TypeError, AttributeError) as error:
        raise OciError(path, str(error), "correct it") from None


def judge(text: bytes, directory: str, path: str) -> Bundle:
    """The configuration in *text*, of the bundle in *directory*. Raises OciError with *path* in it."""
    from ..config import bundle

    twice: list[str] = []
    try:
        config = json.loads(text, twice)
        return bundle.parse(config, directory=directory, twice=twice)
    except BundleError as error:
        raise OciError(f"{path}: {error.where}", error.why, error.fix) from None
    except ValueError as error:
        raise OciError(f"{path} is not JSON", str(error), "correct it") from None
    except RecursionError:
        raise OciError(path, "is nested too deeply", "correct it") from None


def stored(store: Store, known: State) -> Bundle:
    """The configuration from which the container was made. Raises OciError."""
    path = store.file(known.name, state.CONFIG)
    try:
        return judge(state.read_bytes(path), known.bundle, path)
    except OSError as error:
        raise OciError("cannot read the container's configuration", reason(error)) from None

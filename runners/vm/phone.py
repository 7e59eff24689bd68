"""Hears a guest that says by an HTTP request that it is done, as cloud-init's module ``phone_home`` does."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from tare.runners.base import RunnerError
from tare.runners.container.linux.syscalls import CLONE_NEWNET, setns
from tare.runners.guest import network

PORT = 80
_MOST_BYTES = 1 << 16
#: One that says nothing more is let go.
_PATIENCE_S = 5


@contextmanager
def listening(pid: int, heard: Callable[[], object]) -> Iterator[None]:
    """Call *heard* at each POST to the host's end of the network of process *pid*. Raises RunnerError."""

    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE_S

        def do_POST(self) -> None:
            self.rfile.read(min(int(self.headers.get("Content-Length") or 0), _MOST_BYTES))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            heard()

        def log_message(self, *_words: object) -> None:
            """Say nothing: standard error is not ours."""

    def bound() -> HTTPServer:
        handle = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(handle, CLONE_NEWNET)
        finally:
            os.close(handle)
        return HTTPServer((network.HOST, PORT), Handler)

    try:
        with ThreadPoolExecutor(max_workers=1) as pool:  # a socket belongs to the namespace it was made in
            server = pool.submit(bound).result()
    except OSError as error:
        raise RunnerError("nobody can hear a guest's call", str(error), "network = none needs no call") from error
    over = os.eventfd(0, os.EFD_CLOEXEC)

    def serve() -> None:
        poll = select.poll()
        for each in (server.fileno(), over):
            poll.register(each, select.POLLIN)
        while over not in dict(poll.poll()):
            server.handle_request()

    thread = threading.Thread(target=serve, name="phone", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.eventfd_write(over, 1)
        thread.join()
        server.server_close()
        os.close(over)

"""What a connection asks of its event loop, which must not be what keeps the connection."""

from __future__ import annotations

import asyncio
import socket
import weakref
from typing import Any, Callable, Optional


def running_loop() -> Optional[asyncio.AbstractEventLoop]:
    """Give the loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def weakly(connection: Any, name: str) -> Callable[[], None]:
    """Give what calls a method of a connection as long as that is there."""
    found = weakref.ref(connection)

    def call() -> None:
        alive = found()
        if alive is not None:
            getattr(alive, name)()

    return call


def close_socket(loop: asyncio.AbstractEventLoop, found: socket.socket) -> None:
    """Close a socket that the loop may still wait for. Again does nothing."""
    if found.fileno() >= 0:
        loop.remove_reader(found)
        loop.remove_writer(found)
        found.close()

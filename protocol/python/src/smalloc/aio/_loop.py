"""What connections ask of their event loop, which must not be what keeps them, and of tasks."""

from __future__ import annotations

import asyncio
import socket
import weakref
from typing import Any, Callable, List, Optional


def running_loop() -> Optional[asyncio.AbstractEventLoop]:
    """Give the loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def settled(awaited: Any, is_cancelled: Optional[List[bool]] = None) -> Any:
    """Await what goes on when this task is cancelled; that is told when it has ended.

    `is_cancelled` holds one truth, which becomes True as soon as the task is cancelled.
    """
    told = False
    while True:
        try:
            result = await asyncio.shield(awaited)
            break
        except asyncio.CancelledError:
            if awaited.cancelled():
                raise
            # The reply is near, or the connection's end: `timeout` bounds it.
            told = True
            if is_cancelled is not None:
                is_cancelled[0] = True
    if told:
        raise asyncio.CancelledError
    return result


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

"""Waits until a socket has something to be received, or room for something to be sent."""

from __future__ import annotations

import select
import socket
import time
from typing import Optional


class Readiness:
    """Waits on one socket.

    For `busy_poll` seconds it asks again and again before it sleeps. To be woken takes longer than
    most answers do, above all in a virtual machine; the price is a processor that does nothing
    else, and the other threads of this process get the interpreter less often.
    """

    __slots__ = ("_poll", "_socket", "_events", "_busy_poll")

    def __init__(self, socket: socket.socket, busy_poll: float) -> None:
        self._poll = select.poll()
        self._socket = socket
        self._events = 0
        self._busy_poll = busy_poll

    def wait(self, sends: bool, timeout: Optional[float]) -> int:
        """Give what the socket is ready for, as poll does; 0 where `timeout` seconds have gone."""
        events = select.POLLIN | select.POLLOUT if sends else select.POLLIN
        if events != self._events:
            self._poll.register(self._socket, events)
            self._events = events
        if self._busy_poll > 0:
            busy = self._busy_poll if timeout is None else min(self._busy_poll, timeout)
            end = time.perf_counter() + busy
            while time.perf_counter() < end:
                found = self._poll.poll(0)
                if found:
                    return found[0][1]
        found = self._poll.poll(None if timeout is None else max(0, round(timeout * 1000)))
        return found[0][1] if found else 0

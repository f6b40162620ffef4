"""Descriptors that come over a Unix socket with the replies to map; spec section 7.18."""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from typing import Deque, Optional

from ._errors import ConnectionLostError, Status
from ._state import StateMemory
from ._wire import FrameError, Reply, decode_mapped

# A reply to map has 2 descriptors at most, and one message of the system 253.
_PER_REPLY = 2
_PER_MESSAGE_MAX = 253


class Descriptor:
    """An open file of this process. It is closed with the object."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        """Close it. Again does nothing."""
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    def __del__(self) -> None:
        self.close()


class Descriptors:
    """Those that have come and that no reply has taken, in the order of the stream.

    `awaited` is how many replies to map are under way. `state` is the state memory, whose
    descriptor comes with the first reply that has bytes: one for all mappings of a connection.
    """

    def __init__(self) -> None:
        self.awaited = 0
        self.state: Optional[StateMemory] = None
        self._queue: Deque[Descriptor] = deque()

    def receive(self, source: socket.socket, into: memoryview) -> int:
        """Receive bytes and the descriptors that are attached to them; give how many bytes.

        Raises OSError, and ConnectionLostError where the system has dropped descriptors.
        """
        room = socket.CMSG_SPACE(4 * min(_PER_REPLY * self.awaited, _PER_MESSAGE_MAX))
        count, messages, flags, _ = source.recvmsg_into((into,), room, socket.MSG_CMSG_CLOEXEC)
        for level, type, data in messages:
            if level == socket.SOL_SOCKET and type == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(data[: len(data) // numbers.itemsize * numbers.itemsize])
                self._queue.extend(Descriptor(number) for number in numbers)
        if flags & socket.MSG_CTRUNC:
            # Which of them are missing nothing tells.
            raise ConnectionLostError(
                Status.CONNECTION_LOST,
                "a descriptor of the daemon's memory was lost: this process may open no more of "
                "them (ulimit -n), or the daemon sent more than it may",
            )
        return count

    def take(self, reply: Reply) -> Reply:
        """Give a reply to map its allocation's descriptor. Raises FrameError."""
        told = decode_mapped(reply.payload)
        if reply.header.size == 0:
            expected = 0
        else:
            expected = 1 if self.state is not None else _PER_REPLY
        if told.descriptors != expected or len(self._queue) < expected:
            raise FrameError(
                "a reply to map tells %d descriptors, %d came and %d belong to it"
                % (told.descriptors, len(self._queue), expected)
            )
        if expected == 0:
            return reply
        memory = self._queue.popleft()
        if self.state is None:
            state = self._queue.popleft()
            self.state = StateMemory(state.number)
            state.close()
        return reply._replace(descriptor=memory)

    def settle(self) -> None:
        """Note that a reply to map has come. Raises FrameError for descriptors left over."""
        self.awaited -= 1
        if self.awaited == 0 and self._queue:
            self.clear()
            raise FrameError("descriptors came that belong to no reply")

    def clear(self) -> None:
        """Close what no reply has taken."""
        self.awaited = 0
        self._queue.clear()

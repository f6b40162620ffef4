"""Requests on their way: handles, what a call is, what it came to, what waits."""

from __future__ import annotations

import os
from typing import Deque, NamedTuple, Optional, Protocol, Union

from ._descriptors import Descriptor, Descriptors
from ._errors import LimitError, SmallocError, Status
from ._wire import Reply, Request


class Owner(Protocol):
    """What a handle and a mapping ask of their connection, be it one that blocks or of asyncio."""

    # Handles whose last reference has gone. Appending needs no lock.
    abandoned: Deque[int]
    descriptors: Descriptors

    @property
    def is_live(self) -> bool: ...

    def check_live(self) -> None: ...

    def call(
        self, request: Request, handle: Optional[Handle] = None, dest: Optional[Handle] = None
    ) -> Reply: ...

    def call_closing(self, request: Request, handle: Handle) -> None: ...

    def wait(self, request: Request, handle: Optional[Handle] = None) -> Reply: ...


class Handle:
    """A handle that is open on a connection. `number` is 0 once it is closed.

    It closes itself when the last reference to it goes: with the next request of its connection,
    since no request may be sent from within the collector.
    """

    __slots__ = ("number", "connection", "label", "__weakref__")

    def __init__(self, number: int, connection: Owner, label: str) -> None:
        self.number = number
        self.connection = connection
        # What errors call its allocation.
        self.label = label

    def __del__(self) -> None:
        if self.number:
            self.connection.abandoned.append(self.number)


Outcome = Union[Reply, SmallocError]


class Pending:
    """A request that has no reply yet: its place in the list of outcomes, -1 for nobody's."""

    __slots__ = ("index", "request", "label", "cookie")

    def __init__(self, index: int, request: Request, label: Optional[str]) -> None:
        self.index = index
        self.request = request
        self.label = label
        # 0 until it has one.
        self.cookie = 0


class Waiting(Pending):
    """A request that waits, and the thread that sleeps until it is over.

    The thread polls `woken`, the end of a pipe, beside the connection's socket, since another
    thread may receive its reply. All but the polling is done under the connection's lock. One that
    is given up has no thread any more, and may still have a reply.
    """

    __slots__ = ("outcome", "is_given_up", "woken", "_waker")

    def __init__(self, request: Request, label: Optional[str]) -> None:
        """Raises LimitError where this process may open no more descriptors."""
        super().__init__(-1, request, label)
        self.outcome: Optional[Outcome] = None
        self.is_given_up = False
        try:
            woken, waker = os.pipe()
        except OSError as error:
            why = "this process can't wait: %s (ulimit -n)" % error.strerror
            raise LimitError(Status.WAIT_LIMIT, why, label) from error
        self.woken, self._waker = Descriptor(woken), Descriptor(waker)

    def wake(self) -> None:
        """Wake the thread; nothing once it has gone on."""
        if self._waker.number >= 0:
            os.write(self._waker.number, b"\0")

    def close(self) -> None:
        """Note that the thread has gone on."""
        self._waker.close()
        self.woken.close()


class Call(NamedTuple):
    """A request, the handle that it goes by, and that of its dest, where they go by handles.

    `waiting` is for a request that waits.
    """

    request: Request
    handle: Optional[Handle] = None
    dest: Optional[Handle] = None
    waiting: Optional[Waiting] = None

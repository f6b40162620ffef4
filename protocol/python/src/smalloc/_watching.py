"""What becomes of names, as it happens; spec section 7.24."""

from __future__ import annotations

import math
import time
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Deque, List, NamedTuple, Optional

from ._cells import milliseconds_of
from ._errors import InvalidNameError, ProtocolError, Status
from ._info import decode_name
from ._wire import NAME_SIZE_MAX, U64_MAX, FrameError, Operation, Reply, Request

if TYPE_CHECKING:
    from ._connection import Connection


class EventKind(IntEnum):
    """What has become of a name."""

    MISSED = 0
    """Events are not told: the daemon does not have them any more. Look at `list`."""
    ALLOCATED = 1
    """An allocation was made under the name, or an anonymous one was given it."""
    DISPOSED = 2
    """The allocation was disposed of."""
    RENAMED = 3
    """The allocation has the new name now, which was free."""
    REPLACED = 4
    """The allocation has the new name now, in the place of the one that had it."""
    TRUNCATED = 5
    """The allocation is shorter than it was."""
    FROZEN = 6
    """The allocation's bytes can't be changed any more."""


class Event(NamedTuple):
    """One event. `new_name` is that of RENAMED and REPLACED.

    Of REPLACED by what was anonymous both names are the new one. MISSED has no name; `missed` is
    how many events of all names are not told, None where that is not known: the daemon was started
    anew.
    """

    kind: EventKind
    name: str = ""
    new_name: Optional[str] = None
    missed: Optional[int] = 0


class EventQueue:
    """Events that have come and were not taken, and the cursor of those that come next."""

    def __init__(self, prefix: str, cursor: Optional[int]) -> None:
        """Raises InvalidNameError for a prefix that no name can have."""
        wire_prefix = prefix.encode("utf-8")
        is_plain = prefix.isascii() and prefix.isprintable() and " " not in prefix
        if prefix and not is_plain or len(wire_prefix) > NAME_SIZE_MAX:
            raise InvalidNameError(Status.INVALID_NAME, "no name begins with %r" % prefix[:300])
        self._prefix = wire_prefix
        self._events: Deque[Event] = deque()
        self._taken = 0 if cursor is None else cursor
        self._next = self._taken

    @property
    def cursor(self) -> int:
        """Where to go on, so that nothing is lost; some may be told again."""
        return self._taken if self._events else self._next

    def request(self, milliseconds: int) -> Request:
        """Ask for what comes next; wait so long for it. U64_MAX is for ever."""
        return Request(
            Operation.WATCH, name=self._prefix, offset=self._next, size=milliseconds
        )

    def pop(self) -> Optional[Event]:
        """Take the next event; None: it has to be asked for."""
        return self._events.popleft() if self._events else None

    def take(self, reply: Reply) -> None:
        """Take the reply to a request. Raises ProtocolError."""
        try:
            found = decode_events(reply.payload)
            if reply.header.offset == 0:
                raise FrameError("a reply to watch has no cursor")
        except FrameError as error:
            raise ProtocolError(Status.UNEXPECTED_REPLY, str(error)) from error
        missed = reply.header.size
        if missed:
            self._events.append(
                Event(EventKind.MISSED, missed=None if missed == U64_MAX else missed)
            )
        self._events.extend(found)
        self._taken, self._next = self._next, reply.header.offset


def decode_events(payload: bytes) -> List[Event]:
    """Take the events of a reply; those of kinds that are not known are left out.

    Raises FrameError.
    """
    events: List[Event] = []
    at = 0
    while at < len(payload):
        if at + 3 > len(payload):
            raise FrameError("an event is cut short")
        kind, size, new_size = payload[at : at + 3]
        at += 3
        end = at + size + new_size
        if end > len(payload):
            raise FrameError("a name of an event is cut short")
        if 1 <= kind <= EventKind.FROZEN:
            name, new_name = payload[at : at + size], payload[at + size : end]
            events.append(
                Event(EventKind(kind), decode_name(name), decode_name(new_name) or None)
            )
        at = end
    return events


class Deadline:
    """A moment, `timeout` seconds from now; None is never. Raises ValueError for NaN."""

    def __init__(self, timeout: Optional[float]) -> None:
        if timeout is not None and math.isnan(timeout):
            raise ValueError("a time is needed, not NaN")
        self._end = None if timeout is None else time.monotonic() + timeout

    def milliseconds(self) -> int:
        """Give what is left, rounded up; U64_MAX: for ever."""
        left = None if self._end is None else max(0.0, self._end - time.monotonic())
        return milliseconds_of(left)


class Watch:
    """Events of the names that begin with a prefix, as they happen. `Client.watch` makes one.

    Iterating waits for the next one, however long it takes. The daemon keeps the last 16384 events
    for all clients, and nothing for one that watches: who is slow to ask gets an event MISSED.
    Threads and Ctrl-C: as Allocation.wait. One watch is for one thread.
    """

    def __init__(self, connection: Connection, prefix: str, cursor: Optional[int]) -> None:
        """For Client."""
        self._connection = connection
        self._queue = EventQueue(prefix, cursor)
        if cursor is None:
            self._queue.take(connection.call(self._queue.request(0)))

    @property
    def cursor(self) -> int:
        """Where another watch goes on, so that nothing is lost; some may be told again."""
        return self._queue.cursor

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Event:
        event = self.next(None)
        assert event is not None
        return event

    def next(self, timeout: Optional[float] = None) -> Optional[Event]:
        """Give the next event; None: there was none within `timeout` seconds. None is for ever.

        Raises LimitError, OutOfMemoryError, CancelledError where the daemon stops.
        """
        deadline = Deadline(timeout)
        while True:
            event = self._queue.pop()
            if event is not None:
                return event
            left = deadline.milliseconds()
            request = self._queue.request(left)
            connection = self._connection
            self._queue.take(connection.wait(request) if left else connection.call(request))
            if left == 0:
                return self._queue.pop()

"""What becomes of names, for tasks."""

from __future__ import annotations

from typing import Optional

from .._watching import Deadline, Event, EventQueue
from ._connection import Connection


class Watch:
    """Events of the names that begin with a prefix, as they happen: `async for`.

    `await client.watch(prefix)` makes one. All is as with smalloc.Client.watch; a task that is
    cancelled while it waits loses no event.
    """

    def __init__(self, connection: Connection, prefix: str, cursor: Optional[int]) -> None:
        """For Client."""
        self._connection = connection
        self._queue = EventQueue(prefix, cursor)

    async def begin(self) -> Watch:
        """Ask for the cursor of now; for Client."""
        self._queue.take(await self._connection.ask(self._queue.request(0)))
        return self

    @property
    def cursor(self) -> int:
        """Where another watch goes on, so that nothing is lost; some may be told again."""
        return self._queue.cursor

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Event:
        event = await self.next(None)
        assert event is not None
        return event

    async def next(self, timeout: Optional[float] = None) -> Optional[Event]:
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
            ask = self._connection.ask_waiting if left else self._connection.ask
            self._queue.take(await ask(request))
            if left == 0:
                return self._queue.pop()

"""What a client asks of the daemon as a whole."""

from __future__ import annotations

from typing import Dict, List, Optional, Union

from ._answers import stats_of, told
from ._connection import Connection
from ._monitoring import Connected, SlowLog, ask_clients, ask_slowlog
from ._monitoring import decode_clients, decode_slowlog
from ._transfers import whole
from ._watching import Watch
from ._wire import Operation, Request


class Reports:
    """The part of a Client that tells of the daemon: counters, clients, what becomes of names."""

    _connection: Connection

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._connection.call(Request(Operation.PING))

    def stats(self) -> Dict[str, Union[int, str]]:
        """Give the daemon's counters and limits, spec section 7.15; whole numbers as integers."""
        return stats_of(self._connection.call(Request(Operation.STATS)))

    def clients(self) -> List[Connected]:
        """Tell who is connected, as far as this user may know: its own connections, root all.

        Raises UnsupportedError.
        """
        found: List[Connected] = []
        cursor = 0
        while True:
            reply = self._connection.call(ask_clients(cursor))
            found += told(decode_clients, reply)
            cursor = reply.header.offset
            if cursor == 0:
                return found

    def slowlog(self, count: int = 128) -> SlowLog:
        """Tell the requests that took longest, `count` at most. Raises UnsupportedError."""
        return told(decode_slowlog, self._connection.call(ask_slowlog(whole(count))))

    def watch(self, prefix: str = "", cursor: Optional[int] = None) -> Watch:
        """Watch names: what becomes of them from now on, or from where another watch was.

        Now is when this returns: who looks at `list` after that misses no name. Of two names of an
        event one has to begin with `prefix`.

        Raises InvalidNameError for a prefix that no name can have, OutOfMemoryError,
        UnsupportedError.
        """
        return Watch(self._connection, prefix, cursor)

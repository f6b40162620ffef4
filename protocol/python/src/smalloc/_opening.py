"""Opens an allocation and goes on with it, in one round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, List, NamedTuple, Optional, Sequence

from ._calls import Call, Handle, Outcome
from ._errors import AlreadyExistsError, ProtocolError, SmallocError, Status
from ._wire import Reply, Request

if TYPE_CHECKING:
    from ._connection import Connection


class HandleNumbers:
    """Foretells the number that a daemon gives the next handle: the one that was closed last.

    The protocol leaves the choice to the daemon, so what follows from this is to be compared with
    the reply. It is never the number of a handle that is open.
    """

    __slots__ = ("_free", "_highest", "_count")

    def __init__(self) -> None:
        self._free: List[int] = []
        self._highest = 0
        self._count = 0

    @property
    def next(self) -> int:
        """The number, unless the daemon chooses another."""
        return self._free[-1] if self._free else self._highest + 1

    def opened(self, number: int) -> None:
        """Note the number of a handle that was opened."""
        self._count += 1
        if self._free and self._free[-1] == number:
            self._free.pop()
            return
        if number != self._highest + 1:
            # Another choice: which of these are still free nothing tells.
            self._free.clear()
        self._highest = max(self._highest, number)

    def closed(self, number: int) -> None:
        """Note that a handle is closed, or that the request to close it goes first."""
        self._count -= 1
        if self._count:
            self._free.append(number)
        else:
            self._free.clear()
            self._highest = 0


class Opened(NamedTuple):
    """`reply` is that of the request which opened the handle.

    `outcomes` are those of the other requests; None where they have to be sent again.
    """

    reply: Reply
    handle: Handle
    outcomes: List[Optional[Outcome]]


def open_with(
    connection: Connection, openings: Sequence[Request], others: Sequence[Request],
    name: Optional[str],
) -> Opened:  # fmt: skip
    """Send requests that open handles, and others that go by the handle of the first that does.

    All are sent together, `others` by the number that the handle is expected to get. Where it gets
    another one, no allocation had the number, and they did nothing. A handle that another of
    `openings` opens as well is closed.

    Raises the error of the first of `openings` where none succeeds; but where that is that there
    is an allocation of the name, the last one's.
    """
    guess = Handle(0, connection, name or "")

    def calls() -> Iterator[Call]:
        for request in openings:
            yield Call(request)
        # Under the connection's lock, and behind what closes handles.
        guess.number = connection.handles.next
        for request in others:
            yield Call(request, guess)

    try:
        outcomes = connection.exchange(calls())
    finally:
        # It is no handle that this object would have to close.
        number, guess.number = guess.number, 0
    found: Optional[Reply] = None
    for one in outcomes[: len(openings)]:
        if not isinstance(one, Reply):
            continue
        if one.header.handle == 0:
            raise ProtocolError(Status.UNEXPECTED_REPLY, "an opened allocation has no handle")
        if found is None:
            found = one
        else:
            connection.abandoned.append(one.header.handle)
    if found is None:
        error = outcomes[0]
        if isinstance(error, AlreadyExistsError):
            error = outcomes[len(openings) - 1]
        assert isinstance(error, SmallocError)
        raise error
    handle = Handle(found.header.handle, connection, name or "#%d" % found.header.handle)
    is_foretold = handle.number == number
    results = [one if is_foretold else None for one in outcomes[len(openings) :]]
    return Opened(found, handle, results)

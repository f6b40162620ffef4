"""The state of one connection, short of its socket: requests begun, bytes to send, replies matched.

A connection that blocks and one of asyncio have it in common. It does no IO, and knows nothing of
what operations mean, but that descriptors come with the replies to map.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, Dict, List, Optional, Tuple

from ._address import Address
from ._calls import Outcome, Pending
from ._descriptors import Descriptors
from ._errors import ConnectionLostError, SmallocError, Status, error_of
from ._opening import HandleNumbers
from ._wire import U64_MAX, FrameError, Header, Operation, Reply, ReplyReader

# What a reply may carry that is not read into memory of its request's: a page of `list` of the
# largest daemon has some 20 MiB.
_PAYLOAD_SIZE_MAX = 1 << 26
# Buffers of one system call.
_VECTORS_MAX = 64


class Session:
    """What is under way on a connection to `address`."""

    def __init__(self, address: Address) -> None:
        self.address = address
        # Handles whose last reference has gone. Appending needs no lock.
        self.abandoned: Deque[int] = deque()
        self.descriptors = Descriptors()
        self.handles = HandleNumbers()
        # Why there is no connection any more.
        self._ended: Optional[SmallocError] = None
        self._reader = ReplyReader()
        self._pendings: Dict[int, Pending] = {}
        # What waits: the daemon answers it when it is over, and calls go on meanwhile.
        self._waits: Dict[int, Pending] = {}
        self._cookie = 0
        self._unsent: Deque[memoryview] = deque()
        self._unsent_size = 0
        self._greeted = False

    def _start(
        self, pending: Pending, handle: int, dest: int = 0, waits: bool = False
    ) -> None:
        """Give a request its cookie, and put it with what is to be sent."""
        self._cookie = self._cookie % U64_MAX + 1
        request = pending.request
        frame = request.encode(self._cookie, handle, dest)
        pending.cookie = self._cookie
        (self._waits if waits else self._pendings)[self._cookie] = pending
        if request.operation is Operation.MAP:
            self.descriptors.awaited += 1
        self._unsent.append(memoryview(frame))
        self._unsent_size += len(frame)
        if request.data is not None and len(request.data):
            self._unsent.append(request.data)
            self._unsent_size += len(request.data)

    # What is to be sent

    def _buffers(self) -> List[memoryview]:
        """Give what goes with the next system call."""
        return [self._unsent[i] for i in range(min(len(self._unsent), _VECTORS_MAX))]

    def _sent(self, count: int) -> None:
        """Note that so many bytes have left."""
        self._unsent_size -= count
        while count:
            first = self._unsent[0]
            if count < len(first):
                self._unsent[0] = first[count:]
                break
            count -= len(first)
            self._unsent.popleft()

    def _drop_unsent(self) -> None:
        self._unsent.clear()
        self._unsent_size = 0

    # What has come

    def _claim(self, header: Header) -> Optional[memoryview]:
        """Give the memory that a reply's payload goes to. Raises FrameError to refuse it."""
        pending = self._pendings.get(header.cookie) or self._waits.get(header.cookie)
        if pending is None:
            if header.cookie == 0 and header.operation == 0 and header.closes:
                self._check_size(header)
                return None
            raise FrameError("a reply belongs to no request")
        if header.operation != pending.request.operation:
            raise FrameError("a reply is one to another operation")
        into = pending.request.into
        if header.is_error or into is None:
            self._check_size(header)
            return None
        if header.payload_size != len(into):
            raise FrameError(
                "%d bytes were asked for and %d came" % (len(into), header.payload_size)
            )
        return into

    def _check_size(self, header: Header) -> None:
        if header.payload_size > _PAYLOAD_SIZE_MAX:
            raise FrameError("a reply has a payload of %d bytes" % header.payload_size)

    def _match(self, reply: Reply) -> Tuple[Pending, Outcome]:
        """Find the request of a reply; give what came of it.

        Raises FrameError, and what the daemon closes the connection for.
        """
        self._greeted = True
        header = reply.header
        pending = self._pendings.get(header.cookie) or self._waits.get(header.cookie)
        error: Optional[SmallocError] = None
        if header.is_error:
            message = reply.payload.decode("utf-8", "replace")
            error = error_of(header.status, message, None if pending is None else pending.label)
            if header.closes:
                raise error
        if pending is None:
            raise FrameError("a reply came twice")
        if header.operation == Operation.MAP:
            # What this raises ends the connection, and the request is still one of those told so.
            if error is None:
                reply = self.descriptors.take(reply)
            self.descriptors.settle()
        self._pendings.pop(header.cookie, None)
        self._waits.pop(header.cookie, None)
        if header.handle and error is None:
            self.handles.opened(header.handle)
        return pending, reply if error is None else error

    # Ends

    def _forget(self) -> None:
        """Forget all requests, as the connection ends."""
        self._pendings.clear()
        self._waits.clear()
        self._drop_unsent()
        self.descriptors.clear()

    def _lost(self, how: str) -> ConnectionLostError:
        return ConnectionLostError(
            Status.CONNECTION_LOST,
            "the connection to %s is lost: %s; a new Client connects again" % (self.address, how),
        )

    def _check_ended(self) -> None:
        """Raise why there is no connection any more."""
        why = self._ended
        if why is None:
            return
        # A new one each time, for an exception that is raised twice grows; and what ended another
        # call, such as a time, is not what this one failed of.
        if why.code in (Status.CLOSED, Status.CONNECTION_LOST):
            raise type(why)(why.code, why.message)
        raise self._lost(str(why))

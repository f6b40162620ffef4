"""One connection of asyncio: requests of any number of tasks, pipelined, and matched by cookies.

The socket is read by the event loop's `add_reader` and `recvmsg`, and not by streams, which would
lose the descriptors that come with bytes. All of it is used by the loop's thread alone.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from typing import Any, Deque, Iterable, List, Optional, Set

from .._address import Address
from .._calls import Call, Handle, Outcome
from .._cells import WaitResult, cancel, notify
from .._connection import register
from .._errors import ClosedError, ForkedError, ProtocolError, SmallocError, Status, TimedOutError
from .._errors import UnsupportedError, refusal_of
from .._session import Session
from .._wire import REPLY_MAGIC, FrameError, Header, Operation, Reply, Request
from ._asked import Asked, tell
from ._connecting import connect
from ._loop import close_socket, running_loop, settled, weakly

# So much of one caller's data is under way at a time, in bytes and requests.
_DATA_UNDER_WAY = 12 << 20
_CALLS_UNDER_WAY = 512
# System calls in a row, after which other callbacks of the loop have their turn.
_RECEIVES = 16
_REFUSAL_SIZE_MAX = 4096
_REFUSAL_TIMEOUT = 1.0
_HANDLE_CLOSED = "the allocation's handle is closed"


class Connection(Session):
    """A connection that is open; `open_connection` makes one. Times are in seconds."""

    def __init__(self, address: Address, found: socket.socket, timeout: Optional[float]) -> None:
        super().__init__(address)
        self.timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._socket = found
        # Of two objects that are collected together the socket could be the first, and would say
        # that it was not closed.
        _open_sockets.add(found)
        self._is_flush_due = False
        self._is_stalled = False
        # What has come of a line that refuses the connection; None: there is none.
        self._refusal: Optional[bytes] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        # When the daemon gave a sign of life, or was first asked for one.
        self._alive = 0.0
        # A connection that nobody has any more is collected, and closes: the loop must not be
        # what keeps it.
        self._loop.add_reader(found, weakly(self, "_readable"))
        register(self)

    def __del__(self) -> None:
        if self._ended is None:
            self._close_socket()

    # Ends

    @property
    def is_live(self) -> bool:
        """Whether the daemon is still at the other end, as far as can be told without asking it."""
        if self._process != os.getpid() or self._ended is not None or self._loop.is_closed():
            return False
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Close it; what is under way fails with ClosedError. Again does nothing."""
        if self._process == os.getpid():
            self._end(ClosedError(Status.CLOSED, "the client is closed"))

    def abandon(self) -> None:
        """Close the descriptor and nothing else, in a forked process."""
        # Without the loop: its selector is the parent's, too.
        _open_sockets.discard(self._socket)
        self._socket.close()

    def _end(self, why: SmallocError) -> None:
        if self._ended is not None:
            return
        # Without the traceback, which keeps the frames of the call and all that they hold.
        self._ended = type(why)(why.code, why.message)
        self._close_socket()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        asked = [*self._pendings.values(), *self._waits.values()]
        self._forget()
        for one in asked:
            if isinstance(one, Asked):
                tell(one, type(why)(why.code, why.message, one.label))

    def _close_socket(self) -> None:
        found, loop = self._socket, self._loop
        _open_sockets.discard(found)
        if self._process != os.getpid() or loop.is_closed() or found.fileno() < 0:
            found.close()
            return
        if running_loop() is loop:
            close_socket(loop, found)
        else:
            # By the collector, in another thread or between two runs of the loop.
            loop.call_soon_threadsafe(close_socket, loop, found)

    # Requests

    async def ask(
        self, request: Request, handle: Optional[Handle] = None, dest: Optional[Handle] = None,
        closing: Optional[Handle] = None,
    ) -> Reply:  # fmt: skip
        """Send a request and await its reply. Raises its error.

        Where the task is cancelled the request is carried out all the same, unless it waits: what
        it opens is closed then, and a wait is taken back. Memory that it moves is not touched any
        more when CancelledError is raised.
        """
        asked = self.begin(request, handle, dest, closing)
        if request.data is None and request.into is None:
            outcome = await self._outcome(asked)
        else:
            outcome = await settled(asked.future)
        if isinstance(outcome, SmallocError):
            raise outcome
        return outcome

    async def ask_waiting(self, request: Request, handle: Optional[Handle] = None) -> Reply:
        """Send a request that waits, and await its end. A cancelled task takes it back."""
        asked = self.begin(request, handle, waits=True)
        try:
            outcome = await self._outcome(asked)
        except asyncio.CancelledError:
            if self._ended is None and not self._loop.is_closed() and asked.cookie in self._waits:
                self._post(cancel(asked.cookie))
            raise
        if isinstance(outcome, SmallocError):
            raise outcome
        return outcome

    async def ask_all(self, calls: Iterable[Call]) -> List[Outcome]:
        """Send many; give what came of each, in their order. No more are sent once cancelled."""
        state = [False]
        task = self._loop.create_task(self._run(calls, state))
        # The task that asks tells, where a loop is closed with both.
        setattr(task, "_log_destroy_pending", False)
        try:
            outcomes: List[Outcome] = await settled(task, state)
            return outcomes
        except asyncio.CancelledError:
            if task.done() and not task.cancelled() and task.exception() is None:
                for one in task.result():
                    self._close_opened(one)
            raise
        finally:
            if not self._loop.is_closed():
                task.cancel()

    async def _outcome(self, asked: Asked) -> Outcome:
        assert asked.future is not None
        try:
            return await asked.future
        except asyncio.CancelledError:
            # It may have come in the very turn in which the task is told.
            if asked.future.done() and not asked.future.cancelled():
                self._drop(asked, asked.future.result())
            raise

    async def _run(self, calls: Iterable[Call], is_cancelled: List[bool]) -> List[Outcome]:
        outcomes: List[Outcome] = []
        begun: Deque[Any] = deque()
        size = 0

        async def take() -> int:
            asked, moved = begun.popleft()
            outcomes.append(await asked.future)
            return int(moved)

        for call in calls:
            if is_cancelled[0]:
                break
            request = call.request
            moved = len(request.data or b"") + len(request.into or b"")
            while begun and (size + moved > _DATA_UNDER_WAY or len(begun) >= _CALLS_UNDER_WAY):
                size -= await take()
            try:
                asked = self.begin(request, call.handle, call.dest)
            except SmallocError:
                # Another task has closed the handle. What has left still moves memory.
                while begun:
                    await take()
                raise
            begun.append((asked, moved))
            size += moved
        while begun:
            await take()
        return outcomes

    def begin(
        self, request: Request, handle: Optional[Handle] = None, dest: Optional[Handle] = None,
        closing: Optional[Handle] = None, waits: bool = False,
    ) -> Asked:  # fmt: skip
        """Have a request sent; give what its outcome will be in.

        The handle `closing`, which is `handle`, is closed at once, and open again on an error.

        Raises ForkedError, ClosedError, ConnectionLostError, RuntimeError in another loop.
        """
        self._check_here()
        self._check_ended()
        for one in (handle, dest):
            if one is not None and one.number == 0:
                raise ClosedError(Status.CLOSED, _HANDLE_CLOSED, one.label)
        self._close_abandoned()
        label = handle.label if handle else request.name.decode("ascii", "replace")
        future: asyncio.Future[Outcome] = self._loop.create_future()
        number = handle.number if handle else 0
        asked = Asked(request, label or None, handle, future, closing.number if closing else 0)
        self._enter(asked, number, dest.number if dest else 0, waits)
        if closing is not None:
            # From here on: the daemon may give the number again before this reply has come.
            closing.number = 0
        return asked

    def _post(self, request: Request, handle: int = 0) -> None:
        """Have a request sent whose outcome nobody awaits."""
        self._enter(Asked(request, None, None, None), handle)

    def _close_abandoned(self) -> None:
        while self.abandoned:
            number = self.abandoned.popleft()
            self.handles.closed(number)
            self._post(Request(Operation.CLOSE), number)

    def _enter(self, asked: Asked, handle: int, dest: int = 0, waits: bool = False) -> None:
        if not (self._pendings or self._waits):
            self._alive = self._loop.time()
        self._start(asked, handle, dest, waits)
        if self.timeout is not None and self._timer is None:
            self._timer = self._loop.call_later(self.timeout, weakly(self, "_look"))
        # What tasks ask for in the same turn of the loop leaves together.
        if not (self._is_flush_due or self._is_stalled):
            self._is_flush_due = True
            self._loop.call_soon(weakly(self, "_flush"))

    def _check_here(self) -> None:
        self._check_process()
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("the client belongs to another event loop; make a new one here")

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise ForkedError(
                Status.FORKED,
                "the connection belongs to process %d, from which this one was forked; "
                "make a new Client here" % self._process,
            )

    # What mappings ask

    def check_live(self) -> None:
        """Raise: a thread that sleeps in mapped memory would hold up the loop."""
        raise UnsupportedError(
            Status.UNKNOWN_OPERATION,
            "a wait in mapped memory would hold up the event loop; await the Allocation's wait",
        )

    def call(
        self, request: Request, handle: Optional[Handle] = None, dest: Optional[Handle] = None
    ) -> Reply:
        """Have a notify sent, by any thread: nobody needs to wait for it. Raises for all else."""
        if request.operation is not Operation.NOTIFY or handle is None:
            raise UnsupportedError(
                Status.UNKNOWN_OPERATION,
                "this takes a request here; await the Allocation's own method",
            )
        self._check_process()
        self._check_ended()
        if handle.number == 0:
            raise ClosedError(Status.CLOSED, _HANDLE_CLOSED, handle.label)
        if running_loop() is self._loop:
            self._notify(request, handle)
        else:
            # Memory is every thread's, so this is one that works in it.
            try:
                self._loop.call_soon_threadsafe(self._notify, request, handle)
            except RuntimeError:
                why = "the event loop of the client is closed"
                raise ClosedError(Status.CLOSED, why, handle.label) from None
        header = Header(REPLY_MAGIC, 1, request.operation, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        return Reply(header, b"")

    def _notify(self, request: Request, handle: Handle) -> None:
        if self._ended is None and handle.number:
            self._post(request, handle.number)

    def wait(self, request: Request, handle: Optional[Handle] = None) -> Reply:
        """Raise, as `check_live`."""
        self.check_live()
        raise AssertionError

    def call_closing(self, request: Request, handle: Handle) -> None:
        """Have a handle closed with the next request."""
        number, handle.number = handle.number, 0
        if number:
            self.abandoned.append(number)

    # Bytes

    def _flush(self) -> None:
        """Send what the socket takes; the rest when it takes more."""
        self._is_flush_due = False
        if self._ended is not None:
            return
        while self._unsent:
            try:
                self._sent(self._socket.sendmsg(self._buffers()))
            except (BlockingIOError, InterruptedError):
                if not self._is_stalled:
                    self._is_stalled = True
                    self._loop.add_writer(self._socket, weakly(self, "_flush"))
                return
            except (BrokenPipeError, ConnectionResetError):
                # The daemon has closed. What it said before that is still to be received.
                self._drop_unsent()
            except OSError as error:
                self._end(self._lost(str(error)))
                return
        if self._is_stalled:
            self._is_stalled = False
            self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        try:
            for _ in range(_RECEIVES):
                if self._ended is not None or not self._receive():
                    return
        except FrameError as error:
            why = ProtocolError(Status.UNEXPECTED_REPLY, "%s; the connection is closed" % error)
            self._end(why)
        except SmallocError as error:
            self._end(error)
        except BaseException as error:
            # No memory, or an interrupt: what has come is gone, and no task would hear of it.
            self._end(self._lost("a reply was interrupted by %s" % type(error).__name__))
            raise

    def _receive(self) -> bool:
        """Receive once; tell whether there may be more."""
        if self._refusal is not None:
            return self._hear_refusal()
        room = self._reader.room()
        size = len(room)
        try:
            if self.descriptors.awaited:
                count = self.descriptors.receive(self._socket, room)
            else:
                count = self._socket.recv_into(room)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            raise self._lost(str(error)) from error
        if count == 0:
            raise self._lost("the daemon closed it")
        self._alive = self._loop.time()
        try:
            for reply in self._reader.advance(count, self._claim):
                pending, outcome = self._match(reply)
                assert isinstance(pending, Asked)
                self._accept(pending, outcome)
        except FrameError:
            if self._greeted:
                raise
            # A daemon that refuses a connection says why in a line of text; spec section 4.2.
            self._refusal = self._reader.begun
            self._loop.call_later(_REFUSAL_TIMEOUT, weakly(self, "_end_refusal"))
            return self._hear_refusal(is_new=True)
        return count == size

    def _hear_refusal(self, is_new: bool = False) -> bool:
        assert self._refusal is not None
        if not is_new:
            try:
                more = self._socket.recv(_REFUSAL_SIZE_MAX)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                more = b""
            self._refusal += more
            if not more:
                self._end_refusal()
                return False
        if b"\n" in self._refusal or len(self._refusal) > _REFUSAL_SIZE_MAX:
            self._end_refusal()
        return True

    def _end_refusal(self) -> None:
        if self._refusal is not None:
            self._end(refusal_of(self._refusal, str(self.address)))

    def _accept(self, asked: Asked, outcome: Outcome) -> None:
        if asked.closes:
            if isinstance(outcome, Reply):
                self.handles.closed(asked.closes)
            elif asked.handle is not None:
                asked.handle.number = asked.closes
        if not tell(asked, outcome) and asked.future is not None:
            self._drop(asked, outcome)

    def _drop(self, asked: Asked, outcome: Outcome) -> None:
        """Undo what came of a request whose task was cancelled.

        What it opened is nobody's, and what woke it is for another one that waits.
        """
        request, handle = asked.request, asked.handle
        self._close_opened(outcome)
        if (
            request.operation is Operation.WAIT
            and isinstance(outcome, Reply)
            and outcome.header.size == WaitResult.NOTIFIED.value
            and self._ended is None
            and handle is not None
            and handle.number
        ):
            self._post(notify(request.offset, 1), handle.number)

    def _close_opened(self, outcome: Outcome) -> None:
        if isinstance(outcome, Reply) and outcome.header.handle and self._ended is None:
            self.abandoned.append(outcome.header.handle)
            self._close_abandoned()

    # Times

    def _look(self) -> None:
        """Look whether the daemon gives signs of life while it owes an answer."""
        self._timer = None
        if self._ended is not None or self.timeout is None:
            return
        if not (self._pendings or self._waits):
            return
        left = self._alive + self.timeout - self._loop.time()
        if left <= 0 and self._pendings:
            self._end(
                TimedOutError(
                    Status.TIMED_OUT,
                    "%s did not answer within %s seconds; the connection is closed"
                    % (self.address, self.timeout),
                )
            )
            return
        if left <= 0:
            # A daemon that is still there owes no other sign of life.
            self._alive, left = self._loop.time(), self.timeout
            self._post(Request(Operation.PING))
        if self._timer is None:
            self._timer = self._loop.call_later(left, weakly(self, "_look"))


_open_sockets: Set[socket.socket] = set()


async def open_connection(
    address: Address, connect_timeout: Optional[float], timeout: Optional[float]
) -> Connection:
    """Connect. Raises CannotConnectError."""
    return Connection(address, await connect(address, connect_timeout), timeout)

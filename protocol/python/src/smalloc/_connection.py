"""One connection to a daemon: sends requests, receives replies, matches them by their cookies.

A connection is used by one thread at a time, under its lock. What it has in common with one of
asyncio is in `_session.py`.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
import weakref
from typing import Iterable, Iterator, List, Optional, Protocol

from ._address import Address, connect
from ._calls import Call, Handle, Outcome, Pending, Waiting
from ._cells import cancel
from ._errors import ClosedError, ForkedError, ProtocolError, SmallocError, Status
from ._errors import TimedOutError, refusal_of
from ._readiness import Readiness
from ._session import Session
from ._wire import FrameError, Operation, Reply, Request

# Requests that are under way together at most, and bytes of theirs that wait to be sent: enough
# to keep the daemon at work, little enough that a list of a million takes no memory for them.
_IN_FLIGHT_MAX = 512
_UNSENT_SIZE_MAX = 1 << 20
# A refusal is a line of text. This long it may be, and so long is waited for its end, in seconds.
_REFUSAL_SIZE_MAX = 4096
_REFUSAL_TIMEOUT = 1.0


class Connection(Session):
    """A connection. Raises CannotConnectError where there is none to be had.

    `timeout` is in seconds, between any two signs of life while a request is under way; None is
    for ever. For `busy_poll` seconds an answer is asked for again and again before one sleeps.
    """

    def __init__(
        self, address: Address, connect_timeout: Optional[float], timeout: Optional[float],
        busy_poll: float,
    ) -> None:  # fmt: skip
        super().__init__(address)
        self.timeout = timeout
        # A signal's handler runs in the middle of a call of its thread. A lock that lets it in
        # gives a way to refuse it; for another one it would wait for ever.
        self._lock = threading.RLock()
        self._is_busy = False
        self._process = os.getpid()
        self._outcomes: List[Optional[Outcome]] = []
        self._socket = connect(address, connect_timeout)
        self._readiness = Readiness(self._socket, busy_poll)
        register(self)

    # Ends

    @property
    def is_live(self) -> bool:
        """Whether the daemon is still at the other end, as far as can be told without asking it."""
        if self._process != os.getpid() or self._ended is not None:
            return False
        # A thread that is at work will find out by itself.
        if not self._lock.acquire(blocking=False):
            return True
        try:
            if self._is_busy:
                return True
            if self._ended is not None:
                return False
            try:
                ahead = self._socket.recv(1, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                return True
            except OSError:
                ahead = b""
            # Whatever comes unasked is the last thing on a connection; its words are kept. What
            # was waited for is not unasked.
            if ahead:
                is_awaited = bool(self._waits)
                self._hear_out()
                if is_awaited and self._ended is None:
                    return True
            self._end(self._lost("the daemon closed it"))
            return False
        finally:
            self._lock.release()

    def check_live(self) -> None:
        """Raise why there is no connection any more, as far as can be told without asking."""
        self._lock_here()
        if not self.is_live:
            self._check_ended()

    def close(self) -> None:
        """Close it, once the requests of other threads are answered. Again does nothing."""
        if self._process != os.getpid():
            return
        with self._lock:
            self._check_idle()
            self._end(ClosedError(Status.CLOSED, "the client is closed"))

    def abandon(self) -> None:
        """Close the descriptor and nothing else: a forked process' copy, or as a process ends.

        Without this the connection, and its anonymous allocations, would outlive the parent.
        """
        self._socket.close()

    def _end(self, why: SmallocError) -> None:
        if self._ended is None:
            # Without the traceback, which keeps the frames of the call and all that they hold.
            self._ended = type(why)(why.code, why.message)
        self._socket.close()
        for waiting in self._waits.values():
            if isinstance(waiting, Waiting):
                waiting.wake()
        self._forget()

    def _check_idle(self) -> None:
        if self._is_busy:
            why = "the client is in the middle of another call of this same thread"
            raise SmallocError(Status.CLOSED, why)

    # Requests

    def call(
        self, request: Request, handle: Optional[Handle] = None, dest: Optional[Handle] = None
    ) -> Reply:
        """Send one request and wait for its reply. Raises its error."""
        outcome = self.exchange((Call(request, handle, dest),))[0]
        if isinstance(outcome, SmallocError):
            raise outcome
        return outcome

    def call_closing(self, request: Request, handle: Handle) -> None:
        """Send `close` or `dispose`, which close the handle where they succeed.

        The handle is closed here under the same lock, since from then on the daemon may give its
        number to another allocation.
        """
        outcome = self.exchange((Call(request, handle),), closing=handle)[0]
        if isinstance(outcome, SmallocError):
            raise outcome

    def exchange(self, calls: Iterable[Call], closing: Optional[Handle] = None) -> List[Outcome]:
        """Send requests without waiting in between; give what came of each, in their order.

        `calls` is gone through under the lock, as there is room for more, and must not raise. A
        handle that is closed makes a ClosedError of its request, which is not sent. The handle
        `closing` is closed where the first request succeeds.

        Raises ForkedError, ClosedError, and ConnectionLostError for all of them; whether the
        daemon has carried any of them out is then not known.
        """
        with self._lock_here():
            self._check_idle()
            self._check_ended()
            try:
                self._is_busy = True
                self._outcomes = []
                self._run(iter(calls))
                outcomes = [outcome for outcome in self._outcomes if outcome is not None]
                if closing is not None and isinstance(outcomes[0], Reply):
                    self.handles.closed(closing.number)
                    closing.number = 0
                return outcomes
            except FrameError as error:
                why = ProtocolError(Status.UNEXPECTED_REPLY, "%s; the connection is closed" % error)
                self._end(why)
                raise why from error
            except SmallocError as error:
                self._end(error)
                raise
            except BaseException as error:
                # An interrupt: a frame may have left in part.
                self._end(self._lost("a call was interrupted by %s" % type(error).__name__))
                raise
            finally:
                self._outcomes = []
                self._is_busy = False

    def wait(self, request: Request, handle: Optional[Handle] = None) -> Reply:
        """Send a request that waits, and sleep until it is over. Raises its error.

        Other threads' calls go on meanwhile; the one that has the lock receives for all, and wakes
        those that sleep. An exception in the middle, as an interrupt is, takes the wait back.
        """
        label = handle.label if handle else request.name.decode("ascii", "replace")
        waiting = Waiting(request, label or None)
        try:
            for refused in self.exchange((Call(request, handle, waiting=waiting),)):
                if isinstance(refused, SmallocError):
                    raise refused
            while waiting.outcome is None:
                self._sleep(waiting)
        except BaseException:
            self._take_back(waiting)
            raise
        finally:
            with self._lock:
                waiting.close()
        if isinstance(waiting.outcome, SmallocError):
            raise waiting.outcome
        return waiting.outcome

    def _sleep(self, waiting: Waiting) -> None:
        """Sleep until something can be received, or another thread has received it."""
        with self._lock_here():
            if waiting.outcome is not None:
                return
            self._check_ended()
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            poll.register(waiting.woken.number, select.POLLIN)
        if not poll.poll(None if self.timeout is None else max(1, round(self.timeout * 1000))):
            # A daemon that is still there owes no other sign of life.
            self.call(Request(Operation.PING))
            return
        with self._lock_here():
            if waiting.outcome is None and self._ended is None:
                self._check_idle()
                self._hear_out()
                if self._ended is not None and waiting.outcome is None:
                    raise type(self._ended)(self._ended.code, self._ended.message)

    def _take_back(self, waiting: Waiting) -> None:
        if self._process != os.getpid():
            return
        with self._lock:
            waiting.is_given_up = True
            self._close_opened(waiting)
            is_under_way = waiting.cookie in self._waits
        if is_under_way:
            # Its reply comes before that to this or after it.
            with contextlib.suppress(SmallocError):
                self.call(cancel(waiting.cookie))

    def _close_opened(self, waiting: Waiting) -> None:
        """Have closed what a wait has opened that was given up: it is nobody's."""
        outcome = waiting.outcome
        if isinstance(outcome, Reply) and outcome.header.handle:
            self.abandoned.append(outcome.header.handle)

    def _lock_here(self) -> threading.RLock:
        """Give the lock. Raises ForkedError in a child, where another thread may have held it."""
        if self._process != os.getpid():
            raise ForkedError(
                Status.FORKED,
                "the connection belongs to process %d, from which this one was forked; "
                "make a new Client here" % self._process,
            )
        return self._lock

    def _run(self, calls: Iterator[Call]) -> None:
        more = True
        while self.abandoned:
            number = self.abandoned.popleft()
            self.handles.closed(number)
            self._start(Pending(-1, Request(Operation.CLOSE), None), number)
        while True:
            while (
                more
                and len(self._pendings) < _IN_FLIGHT_MAX
                and self._unsent_size < _UNSENT_SIZE_MAX
            ):
                call = next(calls, None)
                if call is None:
                    more = False
                    break
                self._begin(call)
            if self._unsent:
                self._send()
            if not (self._pendings or self._unsent or more):
                return
            if (self._pendings or self._unsent) and self._wait():
                self._receive()

    def _begin(self, call: Call) -> None:
        index = len(self._outcomes)
        self._outcomes.append(None)
        for handle in (call.handle, call.dest):
            if handle is not None and handle.number == 0:
                self._outcomes[index] = ClosedError(
                    Status.CLOSED, "the allocation's handle is closed", handle.label
                )
                return
        label = call.handle.label if call.handle else call.request.name.decode("ascii", "replace")
        number = call.handle.number if call.handle else 0
        pending = call.waiting or Pending(index, call.request, label or None)
        self._start(pending, number, call.dest.number if call.dest else 0, call.waiting is not None)

    # Bytes

    def _send(self) -> None:
        """Send what the socket takes."""
        while self._unsent:
            try:
                sent = self._socket.sendmsg(self._buffers())
            except (BlockingIOError, InterruptedError):
                return
            except (BrokenPipeError, ConnectionResetError):
                # The daemon has closed. What it said before that is still to be received.
                self._drop_unsent()
                return
            except OSError as error:
                raise self._lost(str(error)) from error
            self._sent(sent)

    def _wait(self) -> bool:
        """Wait until something can be received, or sent where something is left to be.

        Tells whether something can be received.
        """
        found = self._readiness.wait(bool(self._unsent), self.timeout)
        if not found:
            raise TimedOutError(
                Status.TIMED_OUT,
                "%s did not answer within %s seconds; the connection is closed"
                % (self.address, self.timeout),
            )
        return found != select.POLLOUT

    def _receive(self) -> None:
        """Receive what is there. The only place that takes bytes from the socket.

        Descriptors come between a request to map and its reply, and at no other time.
        """
        room = self._reader.room()
        try:
            if self.descriptors.awaited:
                count = self.descriptors.receive(self._socket, room)
            else:
                count = self._socket.recv_into(room)
        except SmallocError:
            raise
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            raise self._lost(str(error)) from error
        if count == 0:
            raise self._lost("the daemon closed it")
        try:
            for reply in self._reader.advance(count, self._claim):
                self._accept(reply)
        except FrameError:
            if self._greeted:
                raise
            raise self._refusal() from None

    def _accept(self, reply: Reply) -> None:
        pending, outcome = self._match(reply)
        if isinstance(pending, Waiting):
            pending.outcome = outcome
            pending.wake()
            if pending.is_given_up:
                self._close_opened(pending)
        elif pending.index >= 0:
            self._outcomes[pending.index] = outcome

    def _hear_out(self) -> None:
        """Take what has arrived: replies to those that wait, or the reason of the end."""
        self._is_busy = True
        try:
            self._receive()
        except FrameError as error:
            self._end(ProtocolError(Status.UNEXPECTED_REPLY, str(error)))
        except SmallocError as error:
            self._end(error)
        except BaseException as error:
            self._end(self._lost("a call was interrupted by %s" % type(error).__name__))
            raise
        finally:
            self._is_busy = False

    def _refusal(self) -> SmallocError:
        """Read the line of text that a daemon refuses a connection with; spec section 4.2."""
        line = self._reader.begun
        end = time.monotonic() + _REFUSAL_TIMEOUT
        while b"\n" not in line and len(line) < _REFUSAL_SIZE_MAX:
            left = end - time.monotonic()
            if left <= 0 or not self._readiness.wait(False, left):
                break
            try:
                more = self._socket.recv(_REFUSAL_SIZE_MAX)
            except BlockingIOError:
                continue
            except OSError:
                break
            if not more:
                break
            line += more
        return refusal_of(line, str(self.address))


class _Abandoned(Protocol):
    def abandon(self) -> None: ...


_connections: weakref.WeakSet[_Abandoned] = weakref.WeakSet()


def register(connection: _Abandoned) -> None:
    """Have a connection abandoned in each process that is forked from this one."""
    _connections.add(connection)


def _abandon_connections() -> None:
    try:
        connections = list(_connections)
    except RuntimeError:
        # Another thread was at the set when this process was forked: its connections stay open
        # here, and are refused all the same.
        return
    for connection in connections:
        connection.abandon()


os.register_at_fork(after_in_child=_abandon_connections)

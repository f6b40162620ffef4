"""Waits on a cell, and notifies: by requests, and in mapped memory; spec section 3.10."""

from __future__ import annotations

import math
import operator
import os
import time
from typing import Optional

from . import _cells, _state
from ._atomics import Instructions, address_of, instructions
from ._calls import Handle
from ._cells import WaitResult
from ._errors import InvalidArgumentError, NotFoundError, OutOfRangeError, ProtocolError, Status
from ._futex import SharedFutex, Slept, shared_futex
from ._state import StateMemory
from ._types import ElementType
from ._wire import U64_MAX, FrameError, Mapped

_CELL_SIZE = 4
# memory_order_seq_cst
_ORDER = 5
# All in nanoseconds. To put a thread to sleep and wake it takes some 20 microseconds: half of that
# is spent for a change that is seen at once. With one processor none comes meanwhile.
_SPIN = 10_000 if (os.cpu_count() or 1) > 1 else 0
_LOOK_INTERVAL = 1_000_000_000
# As good as for ever; no sum with it overflows what the system takes.
_FOREVER = 1 << 62


def ask_wait(
    handle: Handle, type: ElementType, place: int, value: int, timeout: Optional[float]
) -> WaitResult:
    """Wait by a request. Raises what Allocation.wait does."""
    whole, milliseconds = _cells.value_of(value, type), _cells.milliseconds_of(timeout)
    request = _cells.wait(place * type.itemsize, whole, milliseconds)
    try:
        return _cells.decode_result(handle.connection.wait(request, handle))
    except FrameError as error:
        raise ProtocolError(Status.UNEXPECTED_REPLY, str(error)) from error


def ask_notify(handle: Handle, offset: int, count: int) -> int:
    """Notify by a request. Raises what Allocation.notify does."""
    return handle.connection.call(_cells.notify(offset, count), handle).header.size


def count_of(count: Optional[int]) -> int:
    """Take a count; None and what no frame holds are all. Raises InvalidArgumentError."""
    most = U64_MAX if count is None else min(operator.index(count), U64_MAX)
    if most < 0:
        raise InvalidArgumentError(Status.INVALID_ARGUMENT, "a count is 0 or more")
    return most


class MappedWaits:
    """Waits and notifies on the cells of one mapping, which the owner keeps mapped."""

    __slots__ = ("_native", "_wide", "_futex", "_base", "_state", "_told", "_handle", "_looked")

    def __init__(
        self, native: Instructions, wide: Instructions, futex: SharedFutex, base: int,
        state: int, told: Mapped, handle: Handle,
    ) -> None:  # fmt: skip
        """Take the atomics on 4 bytes and on 8, and where the memory and its state slot are."""
        self._native = native
        self._wide = wide
        self._futex = futex
        self._base = base
        self._state = state
        self._told = told
        self._handle = handle
        # When a wait has looked whether the daemon is there.
        self._looked = 0

    def wait(self, offset: int, expected: int, timeout: Optional[float]) -> WaitResult:
        """Wait while the cell at `offset` holds `expected`, its bits taken as a Uint32.

        Raises ValueError for NaN; ConnectionLostError, ClosedError, ForkedError.
        """
        start = time.monotonic_ns()
        deadline = start + _nanoseconds_of(timeout)
        cell = self._base + offset
        if not self._stays(cell, expected, min(deadline, start + _SPIN)):
            return WaitResult.DIFFERS
        while True:
            known = self._watched(offset + _CELL_SIZE)
            if known is None:
                return WaitResult.DISPOSED
            if self._native.load(cell, _ORDER) != expected:
                return WaitResult.DIFFERS
            now = time.monotonic_ns()
            if now >= deadline:
                return WaitResult.TIMEOUT
            end = min(deadline, self._next_look(now))
            if self._futex.sleep(cell, expected, self._state, known, end) is Slept.WOKEN:
                if self._watched(offset + _CELL_SIZE) is None:
                    return WaitResult.DISPOSED
                return WaitResult.NOTIFIED

    def notify(self, offset: int, count: int) -> int:
        """End waits on the cell at `offset`; give how many. Raises transport errors."""
        if count == 0:
            return 0
        # What was stored is seen by a request that this does not see: it is told of before the
        # daemon compares.
        self._native.fence(_ORDER)
        woken = max(0, self._futex.wake(self._base + offset, count))
        state = self._look()
        if state is None or not state & _state.WAITERS:
            return woken
        try:
            return woken + ask_notify(self._handle, offset, count)
        except (NotFoundError, OutOfRangeError):
            # Another client disposed of it, which ended all waits.
            return woken

    def _stays(self, cell: int, expected: int, end: int) -> bool:
        """Ask again and again until a moment whether the cell is still what it was."""
        while True:
            for _ in range(4):
                if self._native.load(cell, _ORDER) != expected:
                    return False
            if time.monotonic_ns() >= end:
                return True

    def _look(self) -> Optional[int]:
        """Give the state word; None: the allocation has gone."""
        state = self._native.load(self._state, _ORDER)
        is_same = state >> 8 == self._told.generation & _state.GENERATION_MASK
        return state if is_same and state & _state.LIVE else None

    def _watched(self, end: int) -> Optional[int]:
        """Give the state word; None: the cell that ends so many bytes from the start has gone."""
        # The word before the size: what changes after it was read ends the sleep.
        state = self._look()
        if state is None or self._wide.load(self._state + _state.SIZE_OFFSET, _ORDER) < end:
            return None
        return state

    def _next_look(self, now: int) -> int:
        """Look whether the daemon is there, unless that was done within a second.

        Gives when to look next. Raises why the connection is of no use any more.
        """
        if now < self._looked + _LOOK_INTERVAL:
            return self._looked + _LOOK_INTERVAL
        self._handle.connection.check_live()
        self._looked = now
        return now + _LOOK_INTERVAL


def mapped_waits(
    memory: memoryview, state: Optional[StateMemory], told: Mapped, handle: Handle
) -> Optional[MappedWaits]:
    """Give waits on the cells of mapped memory; None where they can't be had: by requests, then."""
    native, wide = instructions(ElementType.UINT32), instructions(ElementType.UINT64)
    futex = shared_futex()
    slot = None if state is None else state.slot(told.slot)
    if native is None or wide is None or futex is None or slot is None:
        return None
    try:
        base, at = address_of(memory), address_of(slot)
    except AttributeError:
        # Another interpreter, which tells no addresses of memory for reading.
        return None
    return MappedWaits(native, wide, futex, base, at, told, handle)


def _nanoseconds_of(timeout: Optional[float]) -> int:
    """Take a time in seconds, rounded up; a negative one is 0. Raises ValueError for NaN."""
    if timeout is None:
        return _FOREVER
    if math.isnan(timeout):
        raise ValueError("a time is needed, not NaN")
    if timeout > 1e9:
        return _FOREVER
    return max(0, math.ceil(timeout * 1e9))

"""Cells: atomics, waits and notifies on the wire; spec sections 3.10, 7.17 and 7.20 to 7.22."""

from __future__ import annotations

import math
import operator
import struct
from enum import Enum, IntEnum
from typing import Any, Optional

from ._errors import InvalidArgumentError, Status
from ._types import ElementType
from ._wire import U64_MAX, FrameError, Operation, Reply, Request

_ATOMIC = struct.Struct("<B7xQQ")
_U64 = struct.Struct("<Q")
_U32 = struct.Struct("<I")
# The types that have atomics; Uint8Clamped does not wrap around.
_CELLS = frozenset((1, 2, 3, 4, 5, 6, 10, 11))
_WAITED = frozenset((5, 6))


class AtomicAction(IntEnum):
    """What an atomic does with its cell."""

    LOAD = 1
    STORE = 2
    ADD = 3
    SUB = 4
    AND = 5
    OR = 6
    XOR = 7
    EXCHANGE = 8
    COMPARE_EXCHANGE = 9


class WaitResult(Enum):
    """How a wait ended."""

    DIFFERS = 0
    """The cell held another value when it began."""
    NOTIFIED = 1
    """By a notify, or for no reason: look at the cell again."""
    TIMEOUT = 2
    """The time was up."""
    DISPOSED = 3
    """The cell is gone: the allocation was disposed of, replaced, or truncated before it."""


def atomic(offset: int, action: AtomicAction, operand: int = 0, expected: int = 0) -> Request:
    """Load, store or change the cell at `offset`. Negative operands are sent as 64 bits."""
    payload = _ATOMIC.pack(action, operand & U64_MAX, expected & U64_MAX)
    return Request(Operation.ATOMIC, offset=offset, payload=payload)


def decode_old(payload: bytes, type: ElementType) -> int:
    """Take what a cell held, from a reply to atomic. Raises FrameError."""
    if len(payload) != 8:
        raise FrameError("a reply to atomic has %d bytes" % len(payload))
    old: Any = type.unpack(payload[: type.itemsize])[0]
    if old & U64_MAX != _U64.unpack(payload)[0]:
        raise FrameError("a reply to atomic holds no %s" % type.name)
    whole: int = old
    return whole


def wait(offset: int, value: int, milliseconds: int) -> Request:
    """Wait while the cell at `offset` holds `value`; U64_MAX milliseconds are for ever."""
    payload = _U32.pack(value & 0xFFFFFFFF)
    return Request(Operation.WAIT, offset=offset, size=milliseconds, payload=payload)


def decode_result(reply: Reply) -> WaitResult:
    """Take the reply to a wait. Raises FrameError."""
    try:
        return WaitResult(reply.header.size)
    except ValueError:
        raise FrameError("a wait has ended with %d" % reply.header.size) from None


def notify(offset: int, count: int) -> Request:
    """End `count` waits on the cell at `offset`; U64_MAX are all."""
    return Request(Operation.NOTIFY, offset=offset, size=count)


def cancel(cookie: int) -> Request:
    """Take back what waits under a cookie."""
    return Request(Operation.CANCEL, payload=_U64.pack(cookie))


def check_atomic(type: ElementType, label: str) -> None:
    """Raise InvalidArgumentError for a type that has no atomics."""
    if type.number not in _CELLS:
        raise InvalidArgumentError(
            Status.INVALID_ARGUMENT, "there are no atomics on %s" % type.name, label
        )


def check_waited(type: ElementType, label: str) -> None:
    """Raise InvalidArgumentError for a type that can't be waited on."""
    if type.number not in _WAITED:
        raise InvalidArgumentError(
            Status.INVALID_ARGUMENT, "one waits on Int32 and Uint32, not %s" % type.name, label
        )


def value_of(value: Any, type: ElementType) -> int:
    """Take a whole number that an integer type holds. Nothing is rounded, and nothing wraps.

    Raises TypeError, OverflowError.
    """
    whole = operator.index(value)
    bits = 8 * type.itemsize
    low = -(1 << (bits - 1)) if type.name.startswith("Int") else 0
    if not low <= whole < low + (1 << bits):
        raise OverflowError("%d does not fit %s" % (whole, type.name))
    return whole


def milliseconds_of(timeout: Optional[float]) -> int:
    """Take a time in seconds, rounded up; None and what no frame holds are for ever.

    Raises ValueError for NaN. A negative one is 0.
    """
    if timeout is None:
        return U64_MAX
    if math.isnan(timeout):
        raise ValueError("a time is needed, not NaN")
    if timeout > U64_MAX / 1000:
        return U64_MAX
    return min(U64_MAX, max(0, math.ceil(timeout * 1000)))

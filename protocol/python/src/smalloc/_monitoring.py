"""Who is connected to a daemon, and what took longest; spec sections 7.26 and 7.27."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta, timezone
from enum import IntEnum
from typing import List, NamedTuple, Optional, Tuple, Type, Union

from ._errors import printable
from ._wire import U64_MAX, FrameError, Operation, Reply, Request

_CONNECTED = struct.Struct("<HBBBB2x10Q")
_SLOW = struct.Struct("<HBBB3x4Q")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Mode(IntEnum):
    """How a connection speaks."""

    NONE = 0
    """Nothing has come yet."""
    TEXT = 1
    """By lines."""
    BINARY = 2
    """By frames."""


class Transport(IntEnum):
    """How a connection is made."""

    UNIX = 0
    """By a Unix socket."""
    TCP = 1
    """By TCP."""


class Cause(IntEnum):
    """What a request waited for."""

    NOTHING = 0
    """For its turn only."""
    WORK = 1
    """For work on memory."""
    MEMORY = 2
    """For memory on its way back."""
    CLIENT = 3
    """For its client to send the rest, or to take the reply's data."""


class Connected(NamedTuple):
    """One connection of a daemon. Sizes are bytes, `age` seconds.

    `user` and `process` are the system's numbers, None over TCP; `software` is what the program
    calls itself. `waiting` is what the daemon keeps of its input and output, `is_paused` whether it
    is not read from for now. What is not known here of `mode` and `transport` is a bare number.
    """

    id: int
    mode: Union[Mode, int]
    transport: Union[Transport, int]
    is_paused: bool
    user: Optional[int]
    process: Optional[int]
    age: float
    handles: int
    waiting: int
    maps: int
    bytes_read: int
    bytes_written: int
    requests: int
    software: str


class SlowRequest(NamedTuple):
    """One request that took long: `duration` in seconds, answered at `time`, in UTC.

    `size` is bytes, of requests that shared a turn how many they were. `name` is that of the
    allocation, None where it is not told. What is not known here of `operation` (its name in the
    protocol) and `cause` is a bare number.
    """

    id: int
    time: datetime
    operation: Union[str, int]
    duration: float
    size: int
    cause: Union[Cause, int]
    name: Optional[str]


class SlowLog(NamedTuple):
    """The requests that took longest, the youngest first. `threshold` is seconds."""

    threshold: float
    requests: List[SlowRequest]


def ask_clients(cursor: int) -> Request:
    """Ask for the page of connections at a cursor."""
    return Request(Operation.CLIENTS, offset=cursor)


def ask_slowlog(count: int) -> Request:
    """Ask for slow requests."""
    return Request(Operation.SLOWLOG, size=count)


def decode_clients(reply: Reply) -> List[Connected]:
    """Take a page of connections. Raises FrameError."""
    found: List[Connected] = []
    for numbers, name in _entries(reply, _CONNECTED, 4):
        _, mode, transport, paused, _, id, user, process, age = numbers[:9]
        handles, waiting, maps, read, written, requests = numbers[9:]
        found.append(
            Connected(
                id, _of(Mode, mode), _of(Transport, transport), bool(paused), _known(user),
                _known(process), age / 1000, handles, waiting, maps, read, written, requests,
                printable(name.decode("utf-8", "replace")),
            )
        )  # fmt: skip
    return found


def decode_slowlog(reply: Reply) -> SlowLog:
    """Take the reply to slowlog. Raises FrameError."""
    found: List[SlowRequest] = []
    for numbers, name in _entries(reply, _SLOW, 3):
        _, operation, cause, _, id, time, size, duration = numbers
        try:
            moment = _EPOCH + timedelta(milliseconds=time)
        except OverflowError:
            raise FrameError("a slow request is of no time") from None
        known = operation in list(Operation)
        found.append(
            SlowRequest(
                id, moment, Operation(operation).name.lower() if known else operation,
                duration / 1e6, size, _of(Cause, cause),
                printable(name.decode("utf-8", "replace")) or None,
            )
        )  # fmt: skip
    return SlowLog(reply.header.offset / 1e6, found)


def _entries(
    reply: Reply, layout: struct.Struct, name_at: int
) -> List[Tuple[Tuple[int, ...], bytes]]:
    """Take entries that begin with their size, and whose name is behind the numbers told here."""
    payload, at = reply.payload, 0
    entries: List[Tuple[Tuple[int, ...], bytes]] = []
    while at < len(payload):
        if at + layout.size > len(payload):
            raise FrameError("an entry is cut short")
        numbers = layout.unpack_from(payload, at)
        start = at + layout.size
        end = start + numbers[name_at]
        # One of no size would be read for ever.
        if end > at + numbers[0] or at + numbers[0] > len(payload):
            raise FrameError("an entry is longer than it says")
        entries.append((numbers, payload[start:end]))
        at += numbers[0]
    if len(entries) != reply.header.size:
        raise FrameError("a page has %d entries and says %d" % (len(entries), reply.header.size))
    return entries


def _known(number: int) -> Optional[int]:
    return None if number == U64_MAX else number


def _of(kind: Type[IntEnum], number: int) -> int:
    try:
        return kind(number)
    except ValueError:
        return number

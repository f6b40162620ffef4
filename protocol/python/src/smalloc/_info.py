"""What a daemon tells: its limits, what an allocation is, what is listed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import List, NamedTuple, Optional, Tuple

from ._descriptions import NUMBERS, Description, decode_description
from ._types import ElementType
from ._wire import U64_MAX, FrameError, Reply, decode_numbers

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Limits:
    """What the reply to hello tells, in its order; spec section 3.7. Sizes are bytes.

    A daemon may tell fewer numbers; what is missing has the protocol's default.
    """

    version_min: int = 1
    version_max: int = 1
    features: int = 0
    length_max: int = 2**64 - 1
    memory_max: int = 2**64 - 1
    allocations_max: int = 16777216
    connections_max: int = 65536
    frame_size_max: int = 1 << 30
    requests_in_flight_max: int = 4096
    handles_max: int = 1048576
    output_size_max: int = 1 << 20
    line_size_max: int = 1 << 20
    idle_timeout_milliseconds: int = 0
    request_timeout_milliseconds: int = 30000
    atomic_size_max: int = 65536
    name_size_max: int = 255
    ranges_max: int = 1024
    waits_max: int = 4096
    shares_max: int = 0

    @staticmethod
    def of(numbers: List[int]) -> Limits:
        """Take the numbers of a hello; those behind the last known one are ignored."""
        return Limits(*numbers[: len(fields(Limits))])


@dataclass(frozen=True)
class Stat:
    """What is told about one allocation.

    `length` is elements, `nbytes` bytes, `name` None for an anonymous one. `created` is in UTC and
    whole seconds, `handles` are those open on all connections, `storage` is 0 for memory of the
    heap and 1 for a mapping.

    The others are told by daemons with described allocations (feature `types`). `flags` is a sum
    of 4 (made shareable), 32 (made with a shape or metadata), 64 (frozen) and 128 (in memory that
    can be mapped), `maps` is 0 where no client has it mapped, 1 where they have for reading only,
    2 for writing, and `owner` is the user that made it, None for one over TCP. `shape` is None
    where there is none, or not any more.
    """

    name: Optional[str]
    type: ElementType
    length: int
    nbytes: int
    created: datetime
    handles: int
    storage: int
    flags: int = 0
    maps: int = 0
    owner: Optional[int] = None
    shape: Optional[Tuple[int, ...]] = None
    metadata: bytes = b""

    @staticmethod
    def of(reply: Reply) -> Stat:
        """Take the reply to stat. Raises FrameError."""
        header, payload = reply.header, reply.payload
        numbers = decode_numbers(payload, header.name_size)
        if len(numbers) < 3:
            raise FrameError("a reply to stat is cut short")
        type = ElementType.of_number(header.type)
        name = decode_name(payload[: header.name_size])
        try:
            created = _EPOCH + timedelta(milliseconds=numbers[0])
        except OverflowError:
            raise FrameError("a reply to stat is of no time") from None
        length = whole_length(header.size, type)
        flags, maps, owner, described = 0, 0, U64_MAX, Description()
        if len(numbers) >= 3 + NUMBERS:
            flags, maps, _, _, owner = numbers[3:8]
            rest = payload[header.name_size + 8 * (3 + NUMBERS) :]
            described = decode_description(numbers[8:], rest, length if type.is_known else None)
        return Stat(
            name or None, type, length, header.size, created, numbers[1], numbers[2], flags, maps,
            None if owner == U64_MAX else owner, *described,
        )  # fmt: skip


class Listed(NamedTuple):
    """One allocation of a listing. `length` is elements, `nbytes` bytes."""

    name: str
    type: ElementType
    length: int
    nbytes: int


def decode_name(name: bytes) -> str:
    """Take a name that the daemon tells. Raises FrameError for what can't be one."""
    text = name.decode("ascii", "replace")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise FrameError("a name is not printable")
    return text


def whole_length(size: int, type: ElementType) -> int:
    """Give the elements that `size` bytes are. Raises FrameError where they are no whole number."""
    if size % type.itemsize:
        raise FrameError("%d bytes are no whole number of %s" % (size, type.name))
    return size // type.itemsize

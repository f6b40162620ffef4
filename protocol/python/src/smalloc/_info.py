"""What a daemon tells: its limits, what an allocation is, what is listed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from enum import IntEnum, IntFlag
from typing import List, NamedTuple, Optional, Tuple, Type, TypeVar, Union

from ._descriptions import NUMBERS, Description, decode_description
from ._types import ElementType
from ._wire import U64_MAX, FrameError, Reply, decode_numbers

_Kind = TypeVar("_Kind", bound=IntEnum)

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


class StatFlag(IntFlag):
    """How an allocation was made, and what has become of it; later versions may have further ones.
    """

    SHAREABLE = 4
    """It was made to be mapped."""
    LEASED = 16
    """It was made with a lease."""
    DESCRIBED = 32
    """It was made with a shape or metadata."""
    FROZEN = 64
    """Its bytes can't be changed any more."""
    SHARED = 128
    """It is in memory that can be mapped."""


class Maps(IntEnum):
    """What clients have mapped of an allocation, or hold a descriptor of."""

    NONE = 0
    """Nothing."""
    READ = 1
    """For reading only."""
    WRITE = 2
    """For writing."""


class Storage(IntEnum):
    """Where the daemon keeps an allocation's bytes, which makes no other difference."""

    HEAP = 0
    """With many others."""
    MAPPING = 1
    """In pages of its own."""


@dataclass(frozen=True)
class Stat:
    """What is told about one allocation.

    `length` is elements, `nbytes` bytes, `name` None for an anonymous one. `created` is in UTC and
    whole seconds, and `handles` are those open on all connections.

    The others are told by daemons with described allocations (feature `types`). `owner` is the
    user that made it, None for one over TCP. `shape` is None where there is none, or not any more.
    `lease` is in seconds, None where there is none and 0 where it ends with the connection that
    made it; `lease_left` are the seconds until it ends if it is not used, None without a time.
    What a later daemon tells of `maps` and `storage`, and is not known here, is a bare number.
    """

    name: Optional[str]
    type: ElementType
    length: int
    nbytes: int
    created: datetime
    handles: int
    storage: Union[Storage, int]
    flags: StatFlag = StatFlag(0)
    maps: Union[Maps, int] = Maps.NONE
    owner: Optional[int] = None
    shape: Optional[Tuple[int, ...]] = None
    metadata: bytes = b""
    lease: Optional[float] = None
    lease_left: Optional[float] = None

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
        lease = left = U64_MAX
        if len(numbers) >= 3 + NUMBERS:
            flags, maps, lease, left, owner = numbers[3:8]
            rest = payload[header.name_size + 8 * (3 + NUMBERS) :]
            described = decode_description(numbers[8:], rest, length if type.is_known else None)
        return Stat(
            name or None, type, length, header.size, created, numbers[1],
            _named(Storage, numbers[2]), StatFlag(flags), _named(Maps, maps),
            None if owner == U64_MAX else owner, described.shape, described.metadata,
            _seconds(lease), _seconds(left),
        )  # fmt: skip


class Listed(NamedTuple):
    """One allocation of a listing. `length` is elements, `nbytes` bytes."""

    name: str
    type: ElementType
    length: int
    nbytes: int


def _seconds(milliseconds: int) -> Optional[float]:
    return None if milliseconds == U64_MAX else milliseconds / 1000


def _named(kind: Type[_Kind], number: int) -> Union[_Kind, int]:
    try:
        return kind(number)
    except ValueError:
        return number


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

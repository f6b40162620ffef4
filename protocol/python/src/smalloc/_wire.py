"""The binary protocol as bytes: numbers, frames, and a reader of replies.

Everything here takes bytes and gives bytes; it knows no socket, no lock and no time. The
authority is protocol/spec.md; a test holds the numbers to protocol/values.json.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple, Union

PROTOCOL_VERSION = 1
REQUEST_MAGIC = 0xE5
REPLY_MAGIC = 0xE6
HEADER_SIZE = 40
NAME_SIZE_MAX = 255
RANGES_MAX = 1024
WAITS_MAX = 4096
ATOMIC_SIZE_MAX = 65536
FILL_PATTERN_SIZE_MAX = 64
RANK_MAX = 8
METADATA_SIZE_MAX = 256
U64_MAX = 2**64 - 1
U32_MAX = 2**32 - 1

Buffer = Union[bytes, bytearray, memoryview]


class Operation(IntEnum):
    """What a request asks; spec section 8.2."""

    HELLO = 1
    PING = 2
    ALLOC = 3
    OPEN = 4
    CLOSE = 5
    STAT = 6
    LIST = 7
    READ = 8
    WRITE = 9
    FILL = 10
    COPY = 11
    DISPOSE = 12
    TRUNCATE = 13
    RENAME = 14
    STATS = 15
    QUIT = 16
    CANCEL = 17
    MAP = 18
    UNMAP = 19
    ATOMIC = 20
    WAIT = 21
    NOTIFY = 22
    FREEZE = 23
    WATCH = 24
    CLIENTS = 26
    SLOWLOG = 27


class Flag(IntEnum):
    """Bits of a request's flags. A bit belongs to its operation; spec section 8.3."""

    VECTORED = 1  # read, write
    NO_HANDLE = 2  # alloc
    SHAREABLE = 4  # alloc
    LEASED = 16  # alloc
    DESCRIBED = 32  # alloc


class RenameFlag(IntEnum):
    """Bits of the flags of rename."""

    REPLACE = 1


class OpenFlag(IntEnum):
    """Bits of the flags of open."""

    AWAIT = 1
    AWAIT_FROZEN = 2


class MapFlag(IntEnum):
    """Bits of the flags of map."""

    WRITABLE = 1
    POPULATE = 2


class Feature(IntEnum):
    """Bits of `features` in the reply to hello, by their numbers; spec section 8.6."""

    MAP = 0
    ATOMICS = 1
    WAIT = 2
    WATCH = 3
    FREEZE = 4
    LEASE = 5
    TYPES = 6


# Of the error statuses: bit 15 says error, bit 14 that the daemon closes after it.
STATUS_ERROR = 0x8000
STATUS_CLOSES = 0x4000

_HEADER = struct.Struct("<BBBBHBBQIIQQ")
_RANGE = struct.Struct("<QQ")
_COPY = struct.Struct("<QIB3x")
_U64 = struct.Struct("<Q")
_ENTRY = struct.Struct("<QBB")
_MAPPED = struct.Struct("<III")


class FrameError(Exception):
    """Bytes from the daemon that are no reply, or none that was asked for."""


class Header(NamedTuple):
    """The 40 bytes in front of a frame's payload; spec section 5.1. Sizes and offset in bytes."""

    magic: int
    version: int
    operation: int
    flags: int
    status: int
    name_size: int
    type: int
    cookie: int
    handle: int
    payload_size: int
    offset: int
    size: int

    def encode(self) -> bytes:
        """Give the 40 bytes. Raises struct.error for a number that does not fit its field."""
        return _HEADER.pack(*self)

    @staticmethod
    def decode(data: Buffer, at: int = 0) -> Header:
        """Take a header from 40 bytes of `data`, which has them, at offset `at`."""
        return Header(*_HEADER.unpack_from(data, at))

    @property
    def is_error(self) -> bool:
        """Whether this reply is an error."""
        return self.status != 0

    @property
    def closes(self) -> bool:
        """Whether the daemon closes the connection after this reply."""
        return self.status & (STATUS_ERROR | STATUS_CLOSES) == STATUS_ERROR | STATUS_CLOSES


class Request:
    """One request, short of its cookie and of the number behind its handle.

    `payload` goes behind the name, and `data` behind it, without being copied. The bytes of a
    reply to `read` go into `into`, which is as long as they are.
    """

    __slots__ = (
        "operation", "flags", "type", "name", "offset", "size", "payload", "data", "into",
    )  # fmt: skip

    def __init__(
        self,
        operation: Operation,
        *,
        flags: int = 0,
        type: int = 0,
        name: bytes = b"",
        offset: int = 0,
        size: int = 0,
        payload: bytes = b"",
        data: Optional[memoryview] = None,
        into: Optional[memoryview] = None,
    ) -> None:
        self.operation = operation
        self.flags = flags
        self.type = type
        self.name = name
        self.offset = offset
        self.size = size
        self.payload = payload
        self.data = data
        self.into = into

    def encode(self, cookie: int, handle: int = 0, dest_handle: int = 0) -> bytes:
        """Give the frame up to `data`, which follows it on the wire.

        `dest_handle` is that of a `copy` whose dest has no name.
        """
        payload = self.payload
        if dest_handle:
            payload = payload[:8] + dest_handle.to_bytes(4, "little") + payload[12:]
        size = len(self.name) + len(payload)
        if self.data is not None:
            size += len(self.data)
        header = _HEADER.pack(
            REQUEST_MAGIC, PROTOCOL_VERSION, self.operation, self.flags, 0, len(self.name),
            self.type, cookie, handle, size, self.offset, self.size,
        )  # fmt: skip
        return header + self.name + payload


def hello(software: bytes) -> Request:
    """Greet. `software`: at most 64 bytes, for the daemon's log."""
    return Request(Operation.HELLO, payload=software[:64])


def alloc(
    type: int, size: int, name: bytes = b"", no_handle: bool = False, shareable: bool = False,
    description: bytes = b"", leased: bool = False,
) -> Request:  # fmt: skip
    """Allocate `size` bytes of element type `type`; anonymously without a name."""
    flags = (Flag.NO_HANDLE if no_handle else 0) | (Flag.SHAREABLE if shareable else 0)
    if description:
        flags |= Flag.DESCRIBED
    if leased:
        flags |= Flag.LEASED
    return Request(
        Operation.ALLOC, flags=flags, type=type, size=size, name=name, payload=description
    )


def open_name(name: bytes, milliseconds: int = 0, frozen: bool = False) -> Request:
    """Open a name; wait so long for it if there is none, or none that is frozen. U64_MAX: for ever.
    """
    flags = OpenFlag.AWAIT_FROZEN if frozen else OpenFlag.AWAIT if milliseconds else 0
    return Request(Operation.OPEN, flags=flags, name=name, size=milliseconds)


def list_names(prefix: bytes, cursor: int, count: int) -> Request:
    """Ask for the page of `list` at `cursor`, of about `count` entries (0: as the daemon likes)."""
    return Request(Operation.LIST, name=prefix, offset=cursor, size=count)


def read(offset: int, size: int, name: bytes = b"", into: Optional[memoryview] = None) -> Request:
    """Read `size` bytes at `offset`; into memory of that size, if it is given."""
    return Request(Operation.READ, name=name, offset=offset, size=size, into=into)


def read_ranges(
    ranges: Sequence[Tuple[int, int]], name: bytes = b"", into: Optional[memoryview] = None
) -> Request:
    """Read 1 to 1024 ranges of (offset, size), one after another."""
    payload = b"".join([_RANGE.pack(*one) for one in ranges])
    return Request(
        Operation.READ, flags=Flag.VECTORED, name=name, size=len(ranges), payload=payload, into=into
    )


def write(offset: int, data: memoryview, name: bytes = b"") -> Request:
    """Write bytes at `offset`."""
    return Request(Operation.WRITE, name=name, offset=offset, size=len(data), data=data)


def write_ranges(ranges: Sequence[Tuple[int, int]], data: memoryview, name: bytes = b"") -> Request:
    """Write 1 to 1024 ranges of (offset, size), whose bytes stand one after another in `data`."""
    payload = b"".join([_RANGE.pack(*one) for one in ranges])
    return Request(
        Operation.WRITE, flags=Flag.VECTORED, name=name, size=len(ranges), payload=payload,
        data=data,
    )  # fmt: skip


def fill(offset: int, size: int, pattern: bytes, name: bytes = b"") -> Request:
    """Write a pattern of 1 to 64 bytes again and again over `size` bytes."""
    return Request(Operation.FILL, name=name, offset=offset, size=size, payload=pattern)


def copy(
    offset: int, size: int, dest_offset: int, dest_name: bytes = b"", name: bytes = b""
) -> Request:
    """Copy `size` bytes onto the dest, which has a name, or a handle that encode is told."""
    payload = _COPY.pack(dest_offset, 0, len(dest_name)) + dest_name
    return Request(Operation.COPY, name=name, offset=offset, size=size, payload=payload)


def rename(new_name: bytes, replace: bool, name: bytes = b"") -> Request:
    """Give another name; with `replace` in the place of the allocation that has it."""
    flags = RenameFlag.REPLACE if replace else 0
    return Request(Operation.RENAME, flags=flags, name=name, payload=new_name)


def map_memory(writable: bool, populate: bool, name: bytes = b"") -> Request:
    """Ask for a descriptor of the memory itself."""
    flags = (MapFlag.WRITABLE if writable else 0) | (MapFlag.POPULATE if populate else 0)
    return Request(Operation.MAP, flags=flags, name=name)


class Mapped(NamedTuple):
    """What a reply to map tells behind its header: the slot and its generation in the state memory.

    `descriptors` is how many come with the reply.
    """

    slot: int
    generation: int
    descriptors: int


def decode_mapped(payload: bytes) -> Mapped:
    """Take the payload of a reply to map. Raises FrameError."""
    if len(payload) < _MAPPED.size:
        raise FrameError("a reply to map is cut short")
    return Mapped(*_MAPPED.unpack_from(payload))


class Entry(NamedTuple):
    """What a page of `list` tells of one allocation: its size in bytes, its type's number."""

    size: int
    type: int
    name: bytes


def decode_numbers(payload: bytes, at: int = 0) -> List[int]:
    """Take the u64 numbers from offset `at` to the end; a rest of less than 8 bytes is ignored."""
    count = (len(payload) - at) // 8
    return list(struct.unpack_from("<%dQ" % count, payload, at))


def decode_entries(payload: bytes, count: int) -> List[Entry]:
    """Take the `count` entries of a page of `list`. Raises FrameError where they don't fill it."""
    entries: List[Entry] = []
    at = 0
    while at < len(payload):
        if at + _ENTRY.size > len(payload):
            raise FrameError("an entry of list is cut short")
        size, type, name_size = _ENTRY.unpack_from(payload, at)
        at += _ENTRY.size
        if name_size > len(payload) - at:
            raise FrameError("a name of list is cut short")
        entries.append(Entry(size, type, payload[at : at + name_size]))
        at += name_size
    if len(entries) != count:
        raise FrameError("a page of list has %d entries and says %d" % (len(entries), count))
    return entries


class Reply(NamedTuple):
    """One reply. The payload is empty where the bytes went into the memory of its request.

    `descriptor` is what came with a reply to map; whoever has the socket puts it there.
    """

    header: Header
    payload: bytes
    descriptor: Any = None


# A payload that is longer than this is received where it belongs, a shorter one together with
# the replies behind it: one system call for many.
_DIRECT_SIZE = 16384
_INPUT_SIZE = 65536


Claim = Callable[[Header], Optional[memoryview]]


class ReplyReader:
    """Turns the bytes of a connection into replies, however they were cut.

    The caller receives into `room()` and tells by `advance` how many bytes came. Its `claim` is
    asked with each header, before the payload is taken: it gives the memory that the payload goes
    to, exactly as long as that is, or None to have it in the reply, or raises to refuse it. It is
    what bounds the memory that a reply can take.
    """

    def __init__(self) -> None:
        self._input = bytearray(_INPUT_SIZE)
        self._view = memoryview(self._input)
        self._end = 0  # Of the input, bytes that are there: less than a header's, between calls.
        self._header: Optional[Header] = None
        self._own: Optional[bytearray] = None  # The payload, where `claim` gave no memory.
        self._target = memoryview(b"")
        self._filled = 0

    @property
    def is_between_frames(self) -> bool:
        """Whether no reply has begun."""
        return self._header is None and self._end == 0

    @property
    def begun(self) -> bytes:
        """The bytes of a header that is not whole."""
        return bytes(self._view[: self._end])

    def room(self) -> memoryview:
        """Give the memory that the next bytes are to be received into. It is never empty."""
        if self._header is not None and len(self._target) - self._filled > _DIRECT_SIZE:
            return self._target[self._filled :]
        return self._view[self._end :]

    def advance(self, count: int, claim: Claim) -> List[Reply]:
        """Take `count` bytes that were received into `room()`; give the replies now whole.

        Raises FrameError, and whatever `claim` raises; the connection can't be followed any more.
        """
        if self._header is not None and len(self._target) - self._filled > _DIRECT_SIZE:
            self._filled += count
            return [self._finish()] if self._filled == len(self._target) else []
        self._end += count
        return self._parse(claim)

    def _parse(self, claim: Claim) -> List[Reply]:
        replies: List[Reply] = []
        at = 0
        while True:
            if self._header is None:
                if at < self._end and self._input[at] != REPLY_MAGIC:
                    self._keep(at)
                    raise FrameError("the daemon's bytes are no reply")
                if self._end - at < HEADER_SIZE:
                    break
                header = Header.decode(self._input, at)
                if header.version != PROTOCOL_VERSION:
                    raise FrameError("a reply has version %d" % header.version)
                if header.name_size > header.payload_size:
                    raise FrameError("a reply's name is longer than its payload")
                target = claim(header)
                at += HEADER_SIZE
                if target is None:
                    size = header.payload_size
                    if size <= self._end - at:
                        replies.append(Reply(header, bytes(self._view[at : at + size])))
                        at += size
                        continue
                    self._own = bytearray(size)
                    target = memoryview(self._own)
                self._header, self._target, self._filled = header, target, 0
            taken = min(self._end - at, len(self._target) - self._filled)
            self._target[self._filled : self._filled + taken] = self._view[at : at + taken]
            self._filled += taken
            at += taken
            if self._filled < len(self._target):
                break
            replies.append(self._finish())
        self._keep(at)
        return replies

    def _keep(self, at: int) -> None:
        """Move what is left of the input, part of a header, to its start."""
        rest = bytes(self._view[at : self._end])
        self._view[: len(rest)] = rest
        self._end = len(rest)

    def _finish(self) -> Reply:
        assert self._header is not None
        payload = b"" if self._own is None else bytes(self._own)
        reply = Reply(self._header, payload)
        self._header, self._own, self._target, self._filled = None, None, memoryview(b""), 0
        return reply

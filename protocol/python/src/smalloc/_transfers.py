"""Moves bytes between a daemon's allocations and this program's memory."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from typing import (
    Any,
    Callable,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
)

from . import _wire
from ._allocation import Allocation
from ._array import Array
from ._buffers import readable, writable
from ._calls import Call, Handle, Outcome
from ._connection import Connection
from ._errors import (
    InvalidArgumentError,
    InvalidNameError,
    NotFoundError,
    OutOfMemoryError,
    OutOfRangeError,
    ProtocolError,
    SmallocError,
    Status,
    TooLargeError,
)
from ._info import Limits, Stat
from ._wire import Operation, Reply, Request

Target = Union[str, Allocation, Array]

# Large data goes in frames of this size, so that a request of another connection waits for one of
# them only, and a daemon's memory is asked for piece by piece.
PIECE_SIZE = 4 << 20
# A read of up to this size is handed out as the reply's payload, a larger one is received where it
# belongs.
_SMALL_SIZE = 16384
# Attempts to read what others replace meanwhile.
_ATTEMPTS = 16

_Read = TypeVar("_Read")


class Transfers(ABC):
    """The part of a Client that moves bytes. Offsets and sizes are bytes.

    A `target` is the name of an allocation, an Allocation or an Array.
    """

    _connection: Connection
    _limits: Limits

    @abstractmethod
    def open(
        self, name: str, timeout: Optional[float] = 0.0, frozen: bool = False
    ) -> Allocation:
        """Open an allocation by its name."""

    @abstractmethod
    def stat(self, target: Target) -> Stat:
        """Tell about an allocation."""

    def read(self, target: Target, offset: int = 0, size: Optional[int] = None) -> bytes:
        """Read bytes, to the end where no size is given.

        Up to `limits.atomic_size_max` bytes are read at one stroke, more piece by piece.

        Raises InvalidNameError, NotFoundError, OutOfRangeError.
        """
        offset = whole(offset)
        if isinstance(target, str) and (size is None or size > self._piece()):
            return self._opened_to_read(target, lambda opened: self.read(opened, offset, size))
        if size is None:
            assert not isinstance(target, str)
            size = max(0, target.nbytes - offset)
        size = whole(size)
        if size <= min(_SMALL_SIZE, self._piece()):
            name, handle = self._resolve(target)
            payload = self._connection.call(_wire.read(offset, size, name), handle).payload
            if len(payload) != size:
                raise nonsense("%d bytes were asked for and %d came" % (size, len(payload)))
            return payload
        data = memory(size)
        self.read_into(target, data, offset)
        return bytes(data)

    def read_into(self, target: Target, buffer: Any, offset: int = 0) -> int:
        """Read as many bytes as a writable buffer has, into it; give how many that is.

        Raises TypeError, InvalidNameError, NotFoundError, OutOfRangeError; the buffer may hold a
        part of the bytes then.
        """
        view, at = writable(buffer), whole(offset)
        piece = self._piece()
        if isinstance(target, str) and len(view) > piece:
            return self._opened_to_read(target, lambda opened: self.read_into(opened, view, at))
        name, handle = self._resolve(target)
        self._all(
            Call(_wire.read(at + start, len(part), name, part), handle)
            for start, part in cut(view, piece)
        )
        return len(view)

    def write(self, target: Target, data: Any, offset: int = 0) -> None:
        """Write the bytes of a buffer: of anything that `memoryview` takes.

        Up to `limits.atomic_size_max` bytes are written at one stroke, more piece by piece, front
        to back: an error, or a lost connection, may then leave a part of them written.

        Raises TypeError, InvalidNameError, NotFoundError, OutOfRangeError.
        """
        view, at = readable(data), whole(offset)
        piece = self._piece()
        if isinstance(target, str) and len(view) > piece:
            with self.open(target) as opened:
                self.write(opened, view, at)
            return
        name, handle = self._resolve(target)
        self._all(
            Call(_wire.write(at + start, part, name), handle) for start, part in cut(view, piece)
        )

    def read_ranges(self, target: Target, ranges: Iterable[Tuple[int, int]]) -> bytes:
        """Read ranges of (offset, size), one after another.

        Up to 1024 of them, and 4 MiB, go in one request.

        Raises InvalidNameError, NotFoundError, OutOfRangeError.
        """
        pairs = [(whole(offset), whole(size)) for offset, size in ranges]
        data = memory(sum(size for _, size in pairs))
        self._ranges(target, pairs, memoryview(data), is_write=False)
        return bytes(data)

    def write_ranges(self, target: Target, ranges: Iterable[Tuple[int, int]], data: Any) -> None:
        """Write ranges of (offset, size), whose bytes stand one after another in a buffer.

        Where ranges overlap, the later one wins. Up to 1024 of them, and 4 MiB, go in one request.

        Raises TypeError, InvalidArgumentError where the sizes do not add up, InvalidNameError,
        NotFoundError, OutOfRangeError; only a single request's ranges are checked together.
        """
        pairs = [(whole(offset), whole(size)) for offset, size in ranges]
        view = readable(data)
        if sum(size for _, size in pairs) != len(view):
            raise InvalidArgumentError(
                Status.INVALID_ARGUMENT, "the ranges' sizes do not add up to the data's"
            )
        self._ranges(target, pairs, view, is_write=True)

    def read_many(self, reads: Iterable[Tuple[Target, int, int]]) -> List[bytes]:
        """Do many reads of (target, offset, size), with all requests under way together.

        Each is at most 4 MiB.

        Raises InvalidArgumentError for a larger one; the first error of those that failed.
        """
        calls: List[Call] = []
        for target, offset, size in reads:
            self._check_piece(size)
            name, handle = self._resolve(target)
            calls.append(Call(_wire.read(whole(offset), whole(size), name), handle))
        replies = self._all(calls)
        for call, reply in zip(calls, replies):
            if len(reply.payload) != call.request.size:
                raise nonsense("a read came short")
        return [reply.payload for reply in replies]

    def write_many(self, writes: Iterable[Tuple[Target, int, Any]]) -> None:
        """Do many writes of (target, offset, buffer), with all requests under way together.

        Each is at most 4 MiB. All are tried.

        Raises InvalidArgumentError for a larger one; the first error of those that failed.
        """
        calls: List[Call] = []
        for target, offset, data in writes:
            view = readable(data)
            self._check_piece(len(view))
            name, handle = self._resolve(target)
            calls.append(Call(_wire.write(whole(offset), view, name), handle))
        self._all(calls)

    def fill(
        self, target: Target, pattern: Any, offset: int = 0, size: Optional[int] = None
    ) -> None:
        """Write a pattern of 1 to 64 bytes again and again, to the end where no size is given.

        Raises NotFoundError, InvalidArgumentError where `size` is no multiple of the pattern's,
        OutOfRangeError.
        """
        offset = whole(offset)
        if size is None:
            if isinstance(target, str):
                with self.open(target) as opened:
                    self.fill(opened, pattern, offset)
                return
            size = max(0, target.nbytes - offset)
        data = bytes(readable(pattern))
        if not 1 <= len(data) <= _wire.FILL_PATTERN_SIZE_MAX:
            raise InvalidArgumentError(Status.INVALID_ARGUMENT, "a pattern is 1 to 64 bytes")
        name, handle = self._resolve(target)
        self._connection.call(_wire.fill(offset, whole(size), data, name), handle)

    def copy(
        self, source: Target, source_offset: int, dest: Target, dest_offset: int, size: int
    ) -> None:
        """Copy bytes inside the daemon, as memmove does. Values are not converted.

        Raises NotFoundError, OutOfRangeError.
        """
        name, handle = self._resolve(source)
        dest_name, dest_handle = self._resolve(dest)
        request = _wire.copy(whole(source_offset), whole(size), whole(dest_offset), dest_name, name)
        self._connection.call(request, handle, dest_handle)

    def truncate(self, target: Target, size: int) -> None:
        """Make an allocation shorter; `size` bytes, a whole number of elements, are left.

        Raises NotFoundError, TooLargeError, OutOfRangeError, InvalidArgumentError.
        """
        name, handle = self._resolve(target)
        request = Request(Operation.TRUNCATE, name=name, size=whole(size))
        self._connection.call(request, handle)

    # Within

    def _opened_to_read(self, name: str, read: Callable[[Allocation], _Read]) -> _Read:
        """Read what has a name by a handle: between two requests the name may be another's.

        Where that happens, what was read is gone, and the reading begins anew.
        """
        for _ in range(_ATTEMPTS):
            with self.open(name) as opened:
                try:
                    return read(opened)
                except NotFoundError:
                    continue
        raise NotFoundError(Status.NO_DATA, "it is replaced faster than it can be read", name)

    def _piece(self) -> int:
        # A frame also has a name, of 255 bytes at most.
        return max(1, min(PIECE_SIZE, self._limits.frame_size_max - _wire.NAME_SIZE_MAX))

    def _check_piece(self, size: int) -> None:
        if size > self._piece():
            raise InvalidArgumentError(
                Status.INVALID_ARGUMENT, "one of many is at most %d bytes" % self._piece()
            )

    def _all(self, calls: Iterable[Call]) -> List[Reply]:
        """Send requests together; give the replies, or raise the first error."""
        replies: List[Reply] = []
        error: Optional[SmallocError] = None
        outcome: Outcome
        for outcome in self._connection.exchange(calls):
            if isinstance(outcome, Reply):
                replies.append(outcome)
            elif error is None:
                error = outcome
        if error is not None:
            raise error
        return replies

    def _ranges(
        self, target: Target, ranges: Sequence[Tuple[int, int]], view: memoryview, is_write: bool
    ) -> None:
        piece = self._piece() - 16 * _wire.RANGES_MAX
        if piece <= 0:
            raise TooLargeError(Status.FRAME_TOO_LARGE, "the daemon's frames hold no ranges")
        if isinstance(target, str):
            with self.open(target) as opened:
                self._ranges(opened, ranges, view, is_write)
            return
        name, handle = self._resolve(target)

        def calls() -> Iterator[Call]:
            at = 0
            for group in groups(ranges, piece):
                size = sum(one[1] for one in group)
                part = view[at : at + size]
                at += size
                if is_write:
                    yield Call(_wire.write_ranges(group, part, name), handle)
                else:
                    yield Call(_wire.read_ranges(group, name, part), handle)

        self._all(calls())

    def _resolve(self, target: Target) -> Tuple[bytes, Optional[Handle]]:
        """Give the name, or the handle, that a request to `target` goes by."""
        if isinstance(target, str):
            return encode_name(target), None
        if isinstance(target, Array):
            target = target.allocation
        if not isinstance(target, Allocation):
            raise TypeError("a name, an Allocation or an Array is needed")
        handle = target.handle
        if handle.connection is not self._connection:
            raise InvalidArgumentError(
                Status.INVALID_ARGUMENT, "the allocation was opened by another client", handle.label
            )
        return b"", handle


def encode_name(name: str) -> bytes:
    if not isinstance(name, str):
        raise TypeError("a name is a str, not %s" % type(name).__name__)
    is_plain = name.isascii() and name.isprintable() and " " not in name
    if not 1 <= len(name) <= _wire.NAME_SIZE_MAX or not is_plain:
        raise InvalidNameError(
            Status.INVALID_NAME,
            "%r is not 1 to 255 bytes of printable ASCII without spaces" % name[:300],
        )
    return name.encode("ascii")


def whole(number: int) -> int:
    """Take an offset, a size or a count. What no frame holds is out of every allocation's range."""
    whole = operator.index(number)
    if not 0 <= whole <= _wire.U64_MAX:
        raise OutOfRangeError(Status.OUT_OF_RANGE, "%d is outside of every allocation" % whole)
    return whole


def memory(size: int) -> bytearray:
    try:
        return bytearray(size)
    except (MemoryError, OverflowError):
        raise OutOfMemoryError(
            Status.OUT_OF_MEMORY, "there is no memory for %d bytes in this process" % size
        ) from None


def cut(view: memoryview, piece: int) -> Iterator[Tuple[int, memoryview]]:
    """Cut memory into pieces, each with its start. Nothing is one piece of nothing."""
    for at in range(0, max(1, len(view)), piece):
        yield at, view[at : at + piece]


def groups(ranges: Iterable[Tuple[int, int]], piece: int) -> Iterator[List[Tuple[int, int]]]:
    """Put ranges together for vectored requests, and cut those that are over a frame."""
    group: List[Tuple[int, int]] = []
    room = piece
    for offset, size in ranges:
        while True:
            if group and (len(group) == _wire.RANGES_MAX or (room == 0 and size)):
                yield group
                group, room = [], piece
            taken = min(size, room)
            group.append((offset, taken))
            room -= taken
            offset += taken
            size -= taken
            if not size:
                break
    if group:
        yield group


def nonsense(what: object) -> ProtocolError:
    return ProtocolError(Status.UNEXPECTED_REPLY, str(what))

"""Moves bytes between a daemon's allocations and this program's memory, for asyncio."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Awaitable, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple
from typing import TypeVar, Union

from .. import _wire
from .._array import Array as BlockingArray
from .._buffers import readable, writable
from .._calls import Call, Handle
from .._errors import InvalidArgumentError, NotFoundError, SmallocError, Status, TooLargeError
from .._info import Limits
from .._transfers import PIECE_SIZE, cut, encode_name, groups, memory, nonsense, whole
from .._wire import Operation, Reply, Request
from ._allocation import Allocation
from ._connection import Connection

Target = Union[str, Allocation, BlockingArray]

# A read of up to this size is handed out as the reply's payload, a larger one is received where it
# belongs.
_SMALL_SIZE = 16384
# Attempts to read what others replace meanwhile.
_ATTEMPTS = 16

_Read = TypeVar("_Read")


class Transfers(ABC):
    """The part of a Client that moves bytes. Offsets and sizes are bytes.

    A `target` is the name of an allocation, an Allocation or an Array. A task that is cancelled
    while bytes move is told so when none move any more.
    """

    @property
    @abstractmethod
    def connection(self) -> Connection:
        """The connection. Raises ClosedError where there is none yet."""

    @property
    @abstractmethod
    def limits(self) -> Limits:
        """The limits that the daemon told last."""

    @abstractmethod
    async def open(
        self, name: str, timeout: Optional[float] = 0.0, frozen: bool = False
    ) -> Allocation:
        """Open an allocation by its name."""

    async def read(self, target: Target, offset: int = 0, size: Optional[int] = None) -> bytes:
        """Read bytes, to the end where no size is given.

        Up to `limits.atomic_size_max` bytes are read at one stroke, more piece by piece.

        Raises InvalidNameError, NotFoundError, OutOfRangeError.
        """
        at = whole(offset)
        if isinstance(target, str) and (size is None or size > self._piece()):
            return await self._opened_to_read(target, lambda opened: self.read(opened, at, size))
        if size is None:
            assert not isinstance(target, str)
            size = max(0, target.nbytes - at)
        size = whole(size)
        if size <= min(_SMALL_SIZE, self._piece()):
            name, handle = self.resolve(target)
            payload = (await self.connection.ask(_wire.read(at, size, name), handle)).payload
            if len(payload) != size:
                raise nonsense("%d bytes were asked for and %d came" % (size, len(payload)))
            return payload
        data = memory(size)
        await self.read_into(target, data, at)
        return bytes(data)

    async def read_into(self, target: Target, buffer: Any, offset: int = 0) -> int:
        """Read as many bytes as a writable buffer has, into it; give how many that is.

        Raises TypeError, InvalidNameError, NotFoundError, OutOfRangeError; the buffer may hold a
        part of the bytes then.
        """
        view, at = writable(buffer), whole(offset)
        piece = self._piece()
        if isinstance(target, str) and len(view) > piece:
            return await self._opened_to_read(
                target, lambda opened: self.read_into(opened, view, at)
            )
        name, handle = self.resolve(target)
        await self._all(
            Call(_wire.read(at + start, len(part), name, part), handle)
            for start, part in cut(view, piece)
        )
        return len(view)

    async def write(self, target: Target, data: Any, offset: int = 0) -> None:
        """Write the bytes of a buffer: of anything that `memoryview` takes.

        Up to `limits.atomic_size_max` bytes are written at one stroke, more piece by piece, front
        to back. The buffer must not change until this returns.

        Raises TypeError, InvalidNameError, NotFoundError, OutOfRangeError.
        """
        view, at = readable(data), whole(offset)
        piece = self._piece()
        if isinstance(target, str) and len(view) > piece:
            async with await self.open(target) as opened:
                await self.write(opened, view, at)
            return
        name, handle = self.resolve(target)
        await self._all(
            Call(_wire.write(at + start, part, name), handle) for start, part in cut(view, piece)
        )

    async def read_ranges(self, target: Target, ranges: Iterable[Tuple[int, int]]) -> bytes:
        """Read ranges of (offset, size), one after another.

        Up to 1024 of them, and 4 MiB, go in one request.

        Raises InvalidNameError, NotFoundError, OutOfRangeError.
        """
        pairs = [(whole(offset), whole(size)) for offset, size in ranges]
        data = memory(sum(size for _, size in pairs))
        await self._ranges(target, pairs, memoryview(data), is_write=False)
        return bytes(data)

    async def write_ranges(
        self, target: Target, ranges: Iterable[Tuple[int, int]], data: Any
    ) -> None:
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
        await self._ranges(target, pairs, view, is_write=True)

    async def fill(
        self, target: Target, pattern: Any, offset: int = 0, size: Optional[int] = None
    ) -> None:
        """Write a pattern of 1 to 64 bytes again and again, to the end where no size is given.

        Raises NotFoundError, InvalidArgumentError where `size` is no multiple of the pattern's,
        OutOfRangeError.
        """
        at = whole(offset)
        if size is None:
            if isinstance(target, str):
                async with await self.open(target) as opened:
                    await self.fill(opened, pattern, at)
                return
            size = max(0, target.nbytes - at)
        data = bytes(readable(pattern))
        if not 1 <= len(data) <= _wire.FILL_PATTERN_SIZE_MAX:
            raise InvalidArgumentError(Status.INVALID_ARGUMENT, "a pattern is 1 to 64 bytes")
        name, handle = self.resolve(target)
        await self.connection.ask(_wire.fill(at, whole(size), data, name), handle)

    async def copy(
        self, source: Target, source_offset: int, dest: Target, dest_offset: int, size: int
    ) -> None:
        """Copy bytes inside the daemon, as memmove does. Values are not converted.

        Raises NotFoundError, OutOfRangeError.
        """
        name, handle = self.resolve(source)
        dest_name, dest_handle = self.resolve(dest)
        request = _wire.copy(whole(source_offset), whole(size), whole(dest_offset), dest_name, name)
        await self.connection.ask(request, handle, dest_handle)

    async def truncate(self, target: Target, size: int) -> None:
        """Make an allocation shorter; `size` bytes, a whole number of elements, are left.

        Raises NotFoundError, TooLargeError, OutOfRangeError, InvalidArgumentError.
        """
        name, handle = self.resolve(target)
        request = Request(Operation.TRUNCATE, name=name, size=whole(size))
        await self.connection.ask(request, handle)

    # Within

    def resolve(self, target: Target) -> Tuple[bytes, Optional[Handle]]:
        """Give the name, or the handle, that a request to `target` goes by."""
        if isinstance(target, str):
            return encode_name(target), None
        found: Any = target.allocation if isinstance(target, BlockingArray) else target
        if not isinstance(found, Allocation):
            raise TypeError("a name, or an Allocation or Array of smalloc.aio, is needed")
        handle = found.handle
        if handle.connection is not self.connection:
            raise InvalidArgumentError(
                Status.INVALID_ARGUMENT, "the allocation was opened by another client", handle.label
            )
        return b"", handle

    async def _opened_to_read(
        self, name: str, read: Callable[[Allocation], Awaitable[_Read]]
    ) -> _Read:
        """Read what has a name by a handle: between two requests the name may be another's."""
        for _ in range(_ATTEMPTS):
            async with await self.open(name) as opened:
                try:
                    return await read(opened)
                except NotFoundError:
                    continue
        raise NotFoundError(Status.NO_DATA, "it is replaced faster than it can be read", name)

    def _piece(self) -> int:
        return max(1, min(PIECE_SIZE, self.limits.frame_size_max - _wire.NAME_SIZE_MAX))

    async def _all(self, calls: Iterable[Call]) -> List[Reply]:
        """Send requests together; give the replies, or raise the first error."""
        replies: List[Reply] = []
        error: Optional[SmallocError] = None
        for outcome in await self.connection.ask_all(calls):
            if isinstance(outcome, Reply):
                replies.append(outcome)
            elif error is None:
                error = outcome
        if error is not None:
            raise error
        return replies

    async def _ranges(
        self, target: Target, ranges: Sequence[Tuple[int, int]], view: memoryview, is_write: bool
    ) -> None:
        piece = self._piece() - 16 * _wire.RANGES_MAX
        if piece <= 0:
            raise TooLargeError(Status.FRAME_TOO_LARGE, "the daemon's frames hold no ranges")
        if isinstance(target, str):
            async with await self.open(target) as opened:
                await self._ranges(opened, ranges, view, is_write)
            return
        name, handle = self.resolve(target)

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

        await self._all(calls())

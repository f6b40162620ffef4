"""An allocation that a client of asyncio has open: a sequence of numbers, counted in elements."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, List, NoReturn, Optional, Tuple

from .. import _cells
from .._allocation import reopen
from .._calls import Handle
from .._cells import AtomicAction, WaitResult, check_atomic, check_waited, decode_old, value_of
from .._descriptions import Description
from .._elements import Elements
from .._errors import ClosedError, ConnectionLostError, ForkedError, FrozenError
from .._errors import ProtocolError, Status
from .._info import Stat
from .._mapping import Mapping, mapping_of
from .._types import ElementType, Number
from .._waits import count_of
from .._wire import FrameError, Operation, Request, map_memory

if TYPE_CHECKING:
    from ._client import Client


class Allocation(Elements):
    """An open allocation. `Client.alloc` and `Client.open` make them.

    It is what smalloc.Allocation is, but that all that takes a request is to be awaited: `get` and
    `set` are for one element, `tolist` and `store` for many. Starts, counts and lengths are
    elements.

    The handle is closed by `close`, at the end of an `async with`, or with the object, then
    together with the next request of its client. An anonymous allocation goes with its handle.
    A named one is pickled as its name and its daemon's address, and is one of smalloc.Client where
    it is unpickled.

    All calls raise NotFoundError where the allocation was disposed of or replaced, by whomever;
    ClosedError after close; ConnectionLostError and ForkedError as Client says.
    """

    __slots__ = ("_client", "_description")

    def __init__(
        self, client: Client, handle: Handle, name: Optional[str], type: ElementType, length: int,
        description: Optional[Description] = None,
    ) -> None:  # fmt: skip
        """For `Client`."""
        super().__init__(handle, name, type, length)
        self._client = client
        # None until the daemon is asked.
        self._description = description

    @property
    def client(self) -> Client:
        """The client that opened it."""
        return self._client

    @property
    def shape(self) -> Optional[Tuple[int, ...]]:
        """Its dimensions, as far as this object was told; None: it has no shape.

        It is told by `alloc`, `array`, `get` and `put`, and by `stat`.
        """
        return None if self._description is None else self._description.shape

    @property
    def metadata(self) -> bytes:
        """What it was given at `alloc`, as far as this object was told: see `shape`."""
        return b"" if self._description is None else self._description.metadata

    def __repr__(self) -> str:
        name = "anonymous" if self._name is None else repr(self._name)
        closed = ", closed" if self.is_closed else ""
        return "<smalloc.aio.Allocation %s, %d x %s%s>" % (
            name, self._length, self._type.name, closed,
        )  # fmt: skip

    # Bytes

    async def read_bytes(self, start: int = 0, count: Optional[int] = None) -> bytes:
        """Read elements' bytes, little-endian; to the end without a count.

        Up to 64 KiB are read at one stroke, more piece by piece. Raises OutOfRangeError.
        """
        start, count = self._extent(start, count)
        return await self._client.read(self, start * self.itemsize, count * self.itemsize)

    async def readinto(self, buffer: Any, start: int = 0) -> int:
        """Read into a writable buffer as many bytes as it has; give how many that is.

        Raises TypeError, InvalidArgumentError where the buffer is no whole number of elements,
        OutOfRangeError.
        """
        start, _ = self._extent(start, self._whole(memoryview(buffer).nbytes))
        return await self._client.read_into(self, buffer, start * self.itemsize)

    async def write(self, data: Any, start: int = 0) -> None:
        """Write the bytes of a buffer, from element `start` on, as they are.

        Raises TypeError, InvalidArgumentError where the buffer is no whole number of elements,
        OutOfRangeError.
        """
        view = memoryview(data)
        start, _ = self._extent(start, self._whole(view.nbytes))
        await self._client.write(self, view, start * self.itemsize)

    async def fill(self, value: Any, start: int = 0, count: Optional[int] = None) -> None:
        """Store a number in all elements, to the end without a count; or repeat a pattern.

        `value` may be bytes, 1 to 64 of them.

        Raises TypeError, OutOfRangeError, InvalidArgumentError where the elements' bytes are no
        multiple of the pattern's.
        """
        is_pattern = isinstance(value, (bytes, bytearray, memoryview))
        pattern = value if is_pattern else self._pack([value])
        start, count = self._extent(start, count)
        await self._client.fill(self, pattern, start * self.itemsize, count * self.itemsize)

    # Elements

    async def get(self, index: int) -> Number:
        """Read one element. Raises OutOfRangeError."""
        size = self.itemsize
        data = await self._client.read(self, self._index(index) * size, size)
        return self._type.unpack(data)[0]

    async def set(self, index: int, value: Any) -> None:
        """Store a number, as ElementType.pack says. Raises OutOfRangeError, TypeError."""
        place = self._index(index)
        await self._client.write(self, self._pack([value]), place * self.itemsize)

    async def tolist(self, start: int = 0, count: Optional[int] = None) -> List[Number]:
        """Read elements as numbers, to the end without a count. Raises OutOfRangeError."""
        return self._type.unpack(await self.read_bytes(start, count))

    async def store(self, values: Any, start: int = 0) -> None:
        """Store numbers, or a buffer of them, from element `start` on.

        Raises OutOfRangeError, TypeError.
        """
        await self.write(self._bytes_of(values), start)

    # Cells

    async def atomic_load(self, index: int) -> int:
        """Give an integer. For all atomics see smalloc.Allocation."""
        return await self._atomic(AtomicAction.LOAD, index)

    async def atomic_store(self, index: int, value: int) -> None:
        """Store a value."""
        await self._atomic(AtomicAction.STORE, index, value)

    async def atomic_exchange(self, index: int, value: int) -> int:
        """Store a value; give what was there."""
        return await self._atomic(AtomicAction.EXCHANGE, index, value)

    async def atomic_compare_exchange(self, index: int, expected: int, desired: int) -> int:
        """Store `desired` if `expected` is there; give what was there."""
        return await self._atomic(AtomicAction.COMPARE_EXCHANGE, index, desired, expected)

    async def atomic_add(self, index: int, value: int) -> int:
        """Add a value; give what was there before."""
        return await self._atomic(AtomicAction.ADD, index, value)

    async def atomic_subtract(self, index: int, value: int) -> int:
        """Subtract a value; give what was there before."""
        return await self._atomic(AtomicAction.SUB, index, value)

    async def atomic_and(self, index: int, value: int) -> int:
        """Keep the bits that are set in a value; give what was there before."""
        return await self._atomic(AtomicAction.AND, index, value)

    async def atomic_or(self, index: int, value: int) -> int:
        """Set the bits that are set in a value; give what was there before."""
        return await self._atomic(AtomicAction.OR, index, value)

    async def atomic_xor(self, index: int, value: int) -> int:
        """Turn the bits that are set in a value; give what was there before."""
        return await self._atomic(AtomicAction.XOR, index, value)

    async def wait(self, index: int, value: int, timeout: Optional[float] = None) -> WaitResult:
        """Wait while an element of Int32 or Uint32 holds a value, as smalloc.Allocation does.

        `timeout` is in seconds, None is for ever. Other tasks use the client meanwhile, and any
        number may wait (`limits.waits_max`). Where the task is cancelled the wait is taken back;
        if a notify was faster, it is passed on to another one that waits.

        Raises OutOfRangeError, InvalidArgumentError for other types, TypeError and OverflowError
        for other values, LimitError, CancelledError where the daemon stops, UnsupportedError.
        """
        check_waited(self._type, self._handle.label)
        cell = value_of(value, self._type)
        offset = self._index(index) * self.itemsize
        request = _cells.wait(offset, cell, _cells.milliseconds_of(timeout))
        reply = await self._client.connection.ask_waiting(request, self._handle)
        try:
            return _cells.decode_result(reply)
        except FrameError as error:
            raise ProtocolError(Status.UNEXPECTED_REPLY, str(error)) from error

    async def notify(self, index: int, count: Optional[int] = None) -> int:
        """End `count` waits on an element, first those that began first; all without a count.

        Give how many have ended. Raises OutOfRangeError, InvalidArgumentError for other types,
        UnsupportedError.
        """
        check_waited(self._type, self._handle.label)
        request = _cells.notify(self._index(index) * self.itemsize, count_of(count))
        return (await self._client.connection.ask(request, self._handle)).header.size

    # Memory

    async def map(self, writable: bool = True, populate: bool = False) -> Mapping:
        """Map its memory, for reading only where `writable` is False.

        The Mapping is memory, and takes no await; but its waits, and what it would have to ask the
        daemon for, raise UnsupportedError: await those of this object. Its `notify` does not, and
        is for any thread.

        Raises UnsupportedError over TCP and with an older daemon; NotFoundError; OutOfMemoryError,
        ShareLimitError; FrozenError with `writable`; BusyError while it is being frozen.
        """
        reply = await self._client.connection.ask(map_memory(writable, populate), self._handle)
        mapping = mapping_of(reply, self._handle, self._type, writable, populate)
        self._length = min(self._length, mapping.length)
        return mapping

    async def freeze(self) -> None:
        """Make its bytes unchangeable, for all clients and for good. Once more does nothing.

        Raises BusyError while anybody, this program included, has it mapped for writing, or
        changes it, and has changed nothing then; OutOfMemoryError.
        """
        await self._client.freeze(self)

    async def frozen(self) -> bool:
        """Whether it is frozen. This asks the daemon, by a write of nothing."""
        try:
            await self._client.write(self, b"")
        except FrozenError:
            return True
        return False

    # The allocation

    async def stat(self) -> Stat:
        """Ask the daemon about it; its name, length and shape are then what they have become."""
        stat = await self._client.stat(self)
        self.note(stat)
        return stat

    def note(self, stat: Stat) -> None:
        """Take what the daemon has told about it; for Client."""
        self._name, self._length = stat.name, min(self._length, stat.length)
        self._description = Description(stat.shape, stat.metadata)

    def describe(self, description: Description) -> None:
        """Take what it was made with; for Client."""
        self._description = description

    async def truncate(self, length: int) -> None:
        """Make it shorter, for all clients: `length` elements are left. Raises OutOfRangeError."""
        length = operator.index(length)
        await self._client.truncate(self, length * self.itemsize)
        if length != self._length and self._description is not None:
            self._description = self._description._replace(shape=None)
        self._length = length

    async def rename(self, name: str, replace: bool = False) -> None:
        """Give it another name, or its first; with `replace` in the place of what has the name.

        Raises InvalidNameError, NotFoundError, AlreadyExistsError.
        """
        await self._client.rename(self, name, replace)
        self._name = name

    async def dispose(self) -> None:
        """Free it, for all clients, and close the handle. Raises NotFoundError."""
        await self._client.dispose(self)

    async def close(self) -> None:
        """Close the handle; an anonymous allocation goes. Idempotent, also without a connection."""
        request = Request(Operation.CLOSE)
        try:
            await self._client.connection.ask(request, self._handle, closing=self._handle)
        except (ClosedError, ConnectionLostError, ForkedError):
            # Handles end with their connection.
            pass

    async def __aenter__(self) -> Allocation:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __copy__(self) -> NoReturn:
        raise TypeError("a copy of an Allocation would be the same memory; open it once more")

    def __deepcopy__(self, _: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> Tuple[Any, Tuple[str, str, int, int]]:
        if self._name is None:
            raise TypeError("an anonymous allocation is its connection's and can't be pickled")
        return reopen, (self._client.address, self._name, self._type.number, self._length)

    async def _atomic(
        self, action: AtomicAction, index: int, operand: int = 0, expected: int = 0
    ) -> int:
        place = self._index(index)
        check_atomic(self._type, self._handle.label)
        operand, expected = value_of(operand, self._type), value_of(expected, self._type)
        request = _cells.atomic(place * self.itemsize, action, operand, expected)
        payload = (await self._client.connection.ask(request, self._handle)).payload
        try:
            return decode_old(payload, self._type)
        except FrameError as error:
            raise ProtocolError(Status.UNEXPECTED_REPLY, str(error)) from error

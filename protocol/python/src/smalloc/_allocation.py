"""An allocation that a client has open: a sequence of numbers, counted in elements."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Iterator, List, NoReturn, Optional, Tuple, Union, overload

from ._atomics import Atomics, ask_atomic
from ._buffers import readable
from ._calls import Handle
from ._cells import AtomicAction, WaitResult, check_waited
from ._descriptions import Description
from ._elements import Elements
from ._errors import ClosedError, ConnectionLostError, ForkedError, InvalidArgumentError
from ._errors import FrozenError, MismatchError, Status
from ._info import Stat
from ._mapping import Mapping, map_allocation
from ._shared import shared_client
from ._types import ElementType, Number
from ._waits import ask_notify, ask_wait, count_of
from ._wire import Operation, Request

if TYPE_CHECKING:
    from ._client import Client

# Elements are iterated over, and stored from lists, so many bytes at a time.
_CHUNK_SIZE = 1 << 20


class Allocation(Atomics, Elements):
    """An open allocation. `Client.alloc` and `Client.open` make them.

    `a[i]` and `a[i:j]` read elements as Python's numbers and lists of them, `a[i] = x` and
    `a[i:j] = values` store them as ElementType.pack says. Starts, counts and lengths are elements.

    The handle is closed by `close`, at the end of a `with`, or with the object, then together with
    the next call of its client. An anonymous allocation goes with its handle; one with a name
    stays until it is disposed of. A named one is pickled as its name and its daemon's address, and
    unpickled by opening what has the name then.

    All calls raise NotFoundError where the allocation was disposed of or replaced, by whomever;
    ClosedError after close; ConnectionLostError and ForkedError as Client says.
    """

    __slots__ = ("_client", "_description")

    def __init__(
        self, client: Client, handle: Handle, name: Optional[str], type: ElementType, length: int,
        description: Optional[Description] = None,
    ) -> None:  # fmt: skip
        """For `Client.alloc` and `Client.open`."""
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
        """Its dimensions, at most 8, as far as this object knows; None: it has no shape.

        It got one by `alloc`, `array` or `put`, and loses it where it is truncated. Who has opened
        it asks the daemon, once; `stat` asks again.
        """
        return self._described().shape

    @property
    def metadata(self) -> bytes:
        """What it was given at `alloc`, up to 256 bytes. Who has opened it asks the daemon, once.
        """
        return self._described().metadata

    def __repr__(self) -> str:
        name = "anonymous" if self._name is None else repr(self._name)
        closed = ", closed" if self.is_closed else ""
        return "<smalloc.Allocation %s, %d x %s%s>" % (name, self._length, self._type.name, closed)

    # Bytes

    def read_bytes(self, start: int = 0, count: Optional[int] = None) -> bytes:
        """Read elements' bytes, little-endian; to the end without a count.

        Up to 64 KiB are read at one stroke, more piece by piece. Raises OutOfRangeError.
        """
        start, count = self._extent(start, count)
        return self._client.read(self, start * self.itemsize, count * self.itemsize)

    def readinto(self, buffer: Any, start: int = 0) -> int:
        """Read into a writable buffer as many bytes as it has; give how many that is.

        Raises TypeError, InvalidArgumentError where the buffer is no whole number of elements,
        OutOfRangeError.
        """
        size = memoryview(buffer).nbytes
        start, _ = self._extent(start, self._whole(size))
        return self._client.read_into(self, buffer, start * self.itemsize)

    def write(self, data: Any, start: int = 0) -> None:
        """Write the bytes of a buffer, from element `start` on, as they are.

        Up to 64 KiB are written at one stroke, more piece by piece, front to back.

        Raises TypeError, InvalidArgumentError where the buffer is no whole number of elements,
        OutOfRangeError.
        """
        view = readable(data)
        start, _ = self._extent(start, self._whole(len(view)))
        self._client.write(self, view, start * self.itemsize)

    def fill(self, value: Any, start: int = 0, count: Optional[int] = None) -> None:
        """Store a number in all elements, to the end without a count; or repeat a pattern.

        `value` may be bytes, 1 to 64 of them.

        Raises TypeError, OutOfRangeError, InvalidArgumentError where the elements' bytes are no
        multiple of the pattern's.
        """
        is_pattern = isinstance(value, (bytes, bytearray, memoryview))
        pattern = value if is_pattern else self._pack([value])
        start, count = self._extent(start, count)
        self._client.fill(self, pattern, start * self.itemsize, count * self.itemsize)

    # Elements

    def tolist(self, start: int = 0, count: Optional[int] = None) -> List[Number]:
        """Read elements as numbers; to the end without a count. Raises OutOfRangeError."""
        return self._type.unpack(self.read_bytes(start, count))

    @overload
    def __getitem__(self, index: int) -> Number: ...

    @overload
    def __getitem__(self, index: slice) -> List[Number]: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[Number, List[Number]]:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._length)
            places = range(start, stop, step)
            if not places:
                return []
            first, last = min(places[0], places[-1]), max(places[0], places[-1])
            # The memory between the elements comes along.
            numbers = self.tolist(first, last - first + 1)
            return numbers if step == 1 else numbers[::step]
        return self.tolist(self._index(index), 1)[0]

    def __setitem__(self, index: Union[int, slice], value: Any) -> None:
        if not isinstance(index, slice):
            self.write(self._pack([value]), self._index(index))
            return
        start, stop, step = index.indices(self._length)
        places = range(start, stop, step)
        if not hasattr(value, "__len__") and not hasattr(value, "__iter__"):
            data = self._pack([value]) * len(places)
        else:
            data = self._bytes_of(value)
        if len(data) != len(places) * self.itemsize:
            raise InvalidArgumentError(
                Status.INVALID_ARGUMENT,
                "%d elements can't take %d values" % (len(places), len(data) // self.itemsize),
                self._handle.label,
            )
        if step == 1:
            self.write(data, start)
        else:
            size = self.itemsize
            self._client.write_ranges(self, [(place * size, size) for place in places], data)

    def __iter__(self) -> Iterator[Number]:
        chunk = max(1, _CHUNK_SIZE // self.itemsize)
        for start in range(0, self._length, chunk):
            yield from self.tolist(start, min(chunk, self._length - start))

    def copy_onto(
        self, dest: Allocation, start: int = 0, dest_start: int = 0, count: Optional[int] = None
    ) -> None:
        """Copy elements inside the daemon, as memmove does; to the end without a count.

        Bytes are copied and values not converted: two of Uint32 fill one Double. `start` and
        `count` are elements of this allocation, `dest_start` is elements of the dest, which may
        be this one.

        Raises OutOfRangeError, NotFoundError.
        """
        start, count = self._extent(start, count)
        size = self.itemsize
        at = operator.index(dest_start) * dest.itemsize
        self._client.copy(self, start * size, dest, at, count * size)

    # Waits

    def wait(self, index: int, value: int, timeout: Optional[float] = None) -> WaitResult:
        """Wait until an element of Int32 or Uint32 is notified, if it holds `value`.

        If it does not when this begins, the result is DIFFERS, at once. `timeout` is in seconds,
        None is for ever. NOTIFIED may come for no reason: look at the element again, and wait
        again if need be. A client that changes the element first, and notifies then, is never
        missed; a change alone wakes nobody.

        Other threads may use the client meanwhile, and any number may wait. Ctrl-C takes the wait
        back, and the client stays usable. It takes two descriptors of this process.

        Raises OutOfRangeError, InvalidArgumentError for other types, TypeError and OverflowError
        for other values, LimitError, CancelledError where the daemon stops, UnsupportedError.
        """
        check_waited(self._type, self._handle.label)
        return ask_wait(self._handle, self._type, self._index(index), value, timeout)

    def notify(self, index: int, count: Optional[int] = None) -> int:
        """End `count` waits on an element, first those that began first; all without a count.

        Give how many have ended. Raises OutOfRangeError, InvalidArgumentError for other types,
        UnsupportedError.
        """
        check_waited(self._type, self._handle.label)
        offset = self._index(index) * self.itemsize
        return ask_notify(self._handle, offset, count_of(count))

    # Memory

    def map(self, writable: bool = True, populate: bool = False) -> Mapping:
        """Map its memory, for reading only where `writable` is False.

        The first time that anybody maps it takes as long as to copy it, unless it was made
        `shareable`; after that some ten microseconds. With `populate` all pages are made, and
        mapped, before this returns, so that no access waits for one.

        Raises UnsupportedError over TCP and with an older daemon; NotFoundError; OutOfMemoryError,
        ShareLimitError; FrozenError with `writable`; BusyError while it is being frozen.
        """
        mapping = map_allocation(self._handle, self._type, writable, populate)
        self._length = min(self._length, mapping.length)
        return mapping

    def freeze(self) -> None:
        """Make its bytes unchangeable, for all clients and for good. Once more does nothing.

        Raises BusyError while anybody, this program included, has it mapped for writing, or
        changes it, and has changed nothing then; OutOfMemoryError.
        """
        self._client.freeze(self)

    @property
    def frozen(self) -> bool:
        """Whether it is frozen. This asks the daemon, by a write of nothing."""
        try:
            self._client.write(self, b"")
        except FrozenError:
            return True
        return False

    # The allocation

    def stat(self) -> Stat:
        """Ask the daemon about it; its name, length and shape are then what they have become."""
        stat = self._client.stat(self)
        self.note(stat)
        return stat

    def note(self, stat: Stat) -> None:
        """Take what the daemon has told about it; for Client."""
        self._name, self._length = stat.name, min(self._length, stat.length)
        self._description = Description(stat.shape, stat.metadata)

    def truncate(self, length: int) -> None:
        """Make it shorter, for all clients: `length` elements are left. Raises OutOfRangeError."""
        length = operator.index(length)
        self._client.truncate(self, length * self.itemsize)
        if length != self._length and self._description is not None:
            self._description = self._description._replace(shape=None)
        self._length = length

    def rename(self, name: str, replace: bool = False) -> None:
        """Give it another name, or its first; with `replace` in the place of what has the name.

        Raises InvalidNameError, NotFoundError, AlreadyExistsError.
        """
        self._client.rename(self, name, replace)
        self._name = name

    def dispose(self) -> None:
        """Free it, for all clients, and close the handle. Raises NotFoundError."""
        self._client.dispose(self)

    def close(self) -> None:
        """Close the handle; an anonymous allocation goes. Idempotent, also without a connection."""
        try:
            self._handle.connection.call_closing(Request(Operation.CLOSE), self._handle)
        except (ClosedError, ConnectionLostError, ForkedError):
            # Handles end with their connection.
            pass

    def __enter__(self) -> Allocation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __copy__(self) -> NoReturn:
        raise TypeError("a copy of an Allocation would be the same memory; open it once more")

    def __deepcopy__(self, _: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> Tuple[Any, Tuple[str, str, int, int]]:
        if self._name is None:
            raise TypeError("an anonymous allocation is its connection's and can't be pickled")
        return reopen, (self._client.address, self._name, self._type.number, self._length)

    # Within

    def _described(self) -> Description:
        if self._description is None:
            if not self._client.tells_shapes:
                return Description()
            self.stat()
        assert self._description is not None
        return self._description

    def _atomic(
        self, action: AtomicAction, index: int, operand: int = 0, expected: int = 0
    ) -> int:
        place = self._index(index)
        return ask_atomic(self._handle, self._type, place, action, operand, expected)


def reopen(address: str, name: str, type: int, length: int) -> Allocation:
    """Open what a pickle told of, by this process' own client of that address.

    Raises NotFoundError, CannotConnectError, MismatchError where the name holds something of
    another type or length now.
    """
    found = shared_client(address).open(name)
    if found.type.number != type or found.length != length:
        found.close()
        raise MismatchError(
            Status.MISMATCH, "it has another type or length than when it was pickled", name
        )
    return found

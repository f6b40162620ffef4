"""A mapping: an allocation's memory as a part of this process' own."""

from __future__ import annotations

import errno
import operator
import os
import sys
from typing import Any, Iterator, List, NoReturn, Optional, Union

from . import _state
from ._atomics import Atomics, address_of, ask_atomic, instructions
from ._buffers import map_file, readable
from ._calls import Handle
from ._cells import AtomicAction, WaitResult, check_atomic, check_waited, value_of
from ._errors import FrozenError, InvalidArgumentError, OutOfMemoryError, OutOfRangeError
from ._errors import ProtocolError, ShareLimitError, Status
from ._numpy import array_over, find_numpy
from ._types import ElementType, Number
from ._waits import MappedWaits, ask_notify, ask_wait, count_of, mapped_waits
from ._wire import Mapped, Reply, decode_mapped, map_memory

# The class has a property of that name.
_View = memoryview
# An item of a memoryview of these formats is one access of the processor.
_CELLS = frozenset("bBhHiIfdqQ?")


class Mapping(Atomics):
    """An allocation's memory, mapped. `Allocation.map` makes one.

    `m[i]` and `m[i:j]` read elements as Python's numbers and lists of them, `m[i] = x` and
    `m[i:j] = values` store them as ElementType.pack says; indices are checked. No request is sent,
    and other programs see what is stored at once. `memoryview`, `memoryview(m)` (from Python 3.12
    on) and `numpy.asarray(m)` give the memory itself.

    The memory is unmapped when this object and all views of it have gone, and in no other way: it
    stays readable after the client is closed, the allocation is disposed of or truncated, or the
    daemon has ended. What is stored then reaches nobody but others who have it mapped; `is_live`
    tells. A forked child has the mapping, too. An anonymous allocation stays with this object.

    An element of up to 8 bytes is read and stored at one stroke, more is not; `spec.md`, section
    3.8, has the memory model. The atomics are the processor's own, one or two microseconds each,
    where the system has libatomic; else, and for a load where it is mapped for reading only, they
    are requests. So it is with waits, which are the kernel's own.
    """

    __slots__ = (
        "_bytes", "_cells", "_type", "_length", "_is_writable", "_handle", "_state", "_told",
        "_address", "_waits", "__weakref__",
    )  # fmt: skip

    def __init__(
        self, memory: memoryview, type: ElementType, is_writable: bool, handle: Handle, told: Mapped
    ) -> None:
        """For Client."""
        self._bytes = memory
        self._cells: Any = None
        format: Any = type.format
        if format in _CELLS and sys.byteorder == "little":
            self._cells = memory.cast(format)
        self._type = type
        self._length = len(memory) // type.itemsize
        self._is_writable = is_writable
        # It keeps the handle open, and so an anonymous allocation.
        self._handle = handle
        self._state = handle.connection.descriptors.state
        self._told = told
        # 0 until an atomic asks for it.
        self._address = 0
        # None until a wait or notify asks for it, and where it can't be had.
        self._waits: Optional[MappedWaits] = None

    @property
    def type(self) -> ElementType:
        """The element type."""
        return self._type

    @property
    def length(self) -> int:
        """Elements that are mapped; the allocation may have become shorter."""
        return self._length

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self._type.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes that are mapped."""
        return len(self._bytes)

    @property
    def writable(self) -> bool:
        """Whether it is mapped for writing."""
        return self._is_writable

    @property
    def exists(self) -> bool:
        """Whether the allocation was not disposed of, nor replaced, while the daemon lived.

        Read from the state memory: no request is sent, and it takes a microsecond. An allocation
        without elements has no memory, and is said to be there.
        """
        return self._flags & _state.LIVE != 0

    @property
    def is_live(self) -> bool:
        """Whether others still reach the allocation: `exists`, and the connection stands.

        It is False once the daemon has ended, once the client is closed, and in a forked child,
        since there nothing tells whether the daemon still runs.
        """
        return self.exists and self._handle.connection.is_live

    @property
    def frozen(self) -> bool:
        """Whether the allocation was frozen, by this program or another; no request is sent."""
        return self._flags & _state.FROZEN != 0

    @property
    def memoryview(self) -> _View:
        """A view of the memory; of elements where Python has such a format, else of bytes.

        It can be written to where `writable` is True. It keeps the memory mapped.
        """
        return memoryview(self._bytes if self._cells is None else self._cells)

    def __buffer__(self, flags: int) -> _View:
        return self.memoryview

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        return converted(array_over(self._bytes, self._type, (self._length,)), dtype, copy)

    @property
    def __array_struct__(self) -> Any:
        if find_numpy() is None:
            raise AttributeError("__array_struct__")
        # Numpy would take the elements one by one, since there is an index and a length.
        return array_over(self._bytes, self._type, (self._length,)).__array_struct__

    def __len__(self) -> int:
        return self._length

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        kind = "" if self._is_writable else ", read-only"
        return "<smalloc.Mapping %s, %d x %s%s>" % (
            self._handle.label, self._length, self._type.name, kind,
        )  # fmt: skip

    def __iter__(self) -> Iterator[Number]:
        for index in range(self._length):
            number: Any = self[index]
            yield number

    def __getitem__(self, index: Union[int, slice]) -> Union[Number, List[Number]]:
        if isinstance(index, slice):
            if self._cells is not None:
                cells: List[Number] = self._cells[index].tolist()
                return cells
            places = range(*index.indices(self._length))
            if not places:
                return []
            size = self.itemsize
            first, last = min(places[0], places[-1]), max(places[0], places[-1])
            numbers = self._type.unpack(self._bytes[first * size : (last + 1) * size])
            return numbers[:: places.step]
        place = self._index(index)
        if self._cells is not None:
            number: Number = self._cells[place]
            return number
        size = self.itemsize
        return self._type.unpack(self._bytes[place * size : (place + 1) * size])[0]

    def __setitem__(self, index: Union[int, slice], value: Any) -> None:
        self.check_writable()
        if not self._type.is_known:
            raise TypeError("%s is not known here: it takes bytes only" % self._type.name)
        size = self.itemsize
        if not isinstance(index, slice):
            place = self._index(index)
            data = self._type.pack([value])
            if self._cells is not None:
                (self._cells[place],) = self._type.unpack(data)
            else:
                self._bytes[place * size : (place + 1) * size] = data
            return
        places = range(*index.indices(self._length))
        if hasattr(value, "__len__") or hasattr(value, "__iter__"):
            data = self._type.pack(list(value))
        else:
            data = self._type.pack([value]) * len(places)
        if len(data) != len(places) * size:
            raise InvalidArgumentError(
                Status.INVALID_ARGUMENT,
                "%d elements can't take %d values" % (len(places), len(data) // size),
                self._handle.label,
            )
        if places.step == 1:
            self._bytes[places.start * size : places.start * size + len(data)] = data
            return
        for at, place in enumerate(places):
            self._bytes[place * size : (place + 1) * size] = data[at * size : (at + 1) * size]

    def write(self, data: Any, start: int = 0) -> None:
        """Write the bytes of a buffer, from element `start` on, as they are.

        Raises TypeError, FrozenError where it is mapped for reading, InvalidArgumentError where
        the buffer is no whole number of elements, OutOfRangeError.
        """
        self.check_writable()
        view, start = readable(data), operator.index(start)
        if len(view) % self.itemsize:
            raise InvalidArgumentError(
                Status.INVALID_ARGUMENT,
                "%d bytes are no whole number of %s" % (len(view), self._type.name),
                self._handle.label,
            )
        count = len(view) // self.itemsize
        if not 0 <= start <= self._length or count > self._length - start:
            raise OutOfRangeError(
                Status.OUT_OF_RANGE,
                "start + count > length: %d + %d of %d" % (start, count, self._length),
                self._handle.label,
            )
        store(self._bytes[start * self.itemsize :][: len(view)], view)

    def wait(self, index: int, value: int, timeout: Optional[float] = None) -> WaitResult:
        """Wait until an element of Int32 or Uint32 is notified, if it holds `value`.

        Results and `timeout` are those of Allocation.wait; those that wait by either, in any
        program, are woken by `notify` of either. Store first, and notify then. It asks the element
        again for some microseconds, and then the thread sleeps, without a request: it takes no
        descriptor, and other threads run. DISPOSED comes at once, before Linux 5.16 within 100
        milliseconds. Ctrl-C ends it within a second; a wake-up that was meant for this thread alone
        may go with it, as with a program that is killed.

        Raises OutOfRangeError, InvalidArgumentError for other types, TypeError and OverflowError
        for other values; within about a second ConnectionLostError, ClosedError where the client
        is closed, ForkedError in a child, since nothing tells there whether the daemon still runs.
        """
        check_waited(self._type, self._handle.label)
        place, whole = self._index(index), value_of(value, self._type)
        waits = self._mapped_waits()
        if waits is None:
            return ask_wait(self._handle, self._type, place, whole, timeout)
        return waits.wait(place * self.itemsize, whole & 0xFFFFFFFF, timeout)

    def notify(self, index: int, count: Optional[int] = None) -> int:
        """End `count` waits on an element, of threads that wait by a mapping; all without a count.

        As many requests that wait end, too; only where there are any is one sent, which other
        calls of the client come before. What was stored before those that are woken find.

        Give how many have ended. Raises OutOfRangeError, InvalidArgumentError for other types;
        where requests wait what Allocation.notify does, but that threads are awake then.
        """
        check_waited(self._type, self._handle.label)
        offset, most = self._index(index) * self.itemsize, count_of(count)
        waits = self._mapped_waits()
        if waits is None:
            return ask_notify(self._handle, offset, most)
        return waits.notify(offset, most)

    def __copy__(self) -> NoReturn:
        raise TypeError("a copy of a Mapping would be the same memory; bytes(m.memoryview) copies")

    def __deepcopy__(self, _: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Mapping is this process' own; pickle the Allocation or an Array")

    # For Array

    def check_writable(self) -> None:
        """Raise FrozenError, or TypeError where it is mapped for reading only."""
        if self._is_writable:
            return
        if self.frozen:
            why = "its bytes can't be changed any more"
            raise FrozenError(Status.FROZEN, why, self._handle.label)
        raise TypeError("the allocation %s is mapped for reading only" % self._handle.label)

    def check_held(self, end: int) -> None:
        """Raise OutOfRangeError where an element before `end` was cut off by a truncate."""
        if self._told.slot == 0:
            return
        assert self._state is not None
        size = self._state.size(self._told.slot, self._told.generation)
        if end * self.itemsize > size and self.exists:
            raise OutOfRangeError(
                Status.OUT_OF_RANGE,
                "element %d of %d that are left" % (end - 1, size // self.itemsize),
                self._handle.label,
            )

    @property
    def raw(self) -> _View:
        """The bytes: not a view of one's own, and not to be released."""
        return self._bytes

    # Within

    def _atomic(
        self, action: AtomicAction, index: int, operand: int = 0, expected: int = 0
    ) -> int:
        check_atomic(self._type, self._handle.label)
        if action is not AtomicAction.LOAD:
            self.check_writable()
        place = self._index(index)
        native = instructions(self._type) if self._is_writable else None
        if native is None:
            return ask_atomic(self._handle, self._type, place, action, operand, expected)
        operand, expected = value_of(operand, self._type), value_of(expected, self._type)
        if not self._address:
            self._address = address_of(self._bytes)
        return native.run(self._address + place * self.itemsize, action, operand, expected)

    def _mapped_waits(self) -> Optional[MappedWaits]:
        if self._waits is None:
            self._waits = mapped_waits(self._bytes, self._state, self._told, self._handle)
        return self._waits

    @property
    def _flags(self) -> int:
        if self._told.slot == 0:
            return _state.LIVE
        assert self._state is not None
        return self._state.flags(self._told.slot, self._told.generation)

    def _index(self, index: int) -> int:
        index = operator.index(index)
        if not -self._length <= index < self._length:
            raise OutOfRangeError(
                Status.OUT_OF_RANGE, "index %d of %d" % (index, self._length), self._handle.label
            )
        return index % self._length


def map_allocation(
    handle: Handle, type: ElementType, writable: bool, populate: bool = False
) -> Mapping:
    """Map what a handle stands for. Raises what Allocation.map does."""
    reply = handle.connection.call(map_memory(writable, populate), handle)
    return mapping_of(reply, handle, type, writable, populate)


def mapping_of(
    reply: Reply, handle: Handle, type: ElementType, writable: bool, populate: bool = False,
    data: memoryview = memoryview(b""),
) -> Mapping:  # fmt: skip
    """Map what a reply to map brought, and store `data` from its start on.

    Where the pages are not there yet data goes through the descriptor: that makes them twice as
    fast as to touch them one by one, and where there are none left it is an error and no signal.

    Raises what Allocation.map does.
    """
    header = reply.header
    memory = memoryview(bytearray() if writable else b"")
    if header.type != type.number or header.size % type.itemsize:
        raise ProtocolError(Status.UNEXPECTED_REPLY, "what is mapped has another type")
    if reply.descriptor is not None:
        try:
            if not populate:
                _write(reply.descriptor.number, header.offset, data[: header.size])
            memory = _map(reply.descriptor.number, header.offset, header.size, writable, populate)
            if populate and data:
                store(memory[: len(data)], data[: header.size])
        finally:
            reply.descriptor.close()
    return Mapping(memory, type, writable, handle, decode_mapped(reply.payload))


def _write(descriptor: int, offset: int, data: memoryview) -> None:
    while data:
        try:
            count = os.pwrite(descriptor, data, offset)
        except OSError as error:
            raise OutOfMemoryError(
                Status.OUT_OF_MEMORY, "it can't be written: %s" % error.strerror
            ) from error
        data, offset = data[count:], offset + count


def _map(
    descriptor: int, offset: int, size: int, writable: bool, populate: bool
) -> memoryview:
    try:
        return map_file(descriptor, size, offset, writable, populate)
    except OSError as error:
        why = "it can't be mapped: %s" % error.strerror
        if error.errno == errno.EMFILE:
            raise ShareLimitError(Status.SHARE_LIMIT, why + " (ulimit -n)") from error
        raise OutOfMemoryError(Status.OUT_OF_MEMORY, why) from error
    except (ValueError, OverflowError) as error:
        raise ProtocolError(Status.UNEXPECTED_REPLY, "it can't be mapped: %s" % error) from error


def store(into: memoryview, data: memoryview) -> None:
    """Copy bytes; with numpy other threads run meanwhile."""
    numpy = find_numpy() if len(data) >= 65536 else None
    if numpy is None:
        into[:] = data
    else:
        numpy.copyto(numpy.frombuffer(into, "u1"), numpy.frombuffer(data, "u1"))


def converted(array: Any, dtype: Any, copy: Optional[bool]) -> Any:
    """Give an array as `__array__` is asked for it. Raises ValueError where `copy=False` can't be.
    """
    if dtype is not None and dtype != array.dtype:
        if copy is False:
            raise ValueError("it is of %s: it can't be had as %s without a copy" % (
                array.dtype, dtype,
            ))
        return array.astype(dtype)
    return array.copy() if copy else array

"""An array: an allocation with a shape.

Where its memory is mapped an index reads and writes that, and numpy gets a view of it. Elsewhere
every access moves bytes over a socket: an index just those that it selects, and `numpy.asarray`
takes a copy. All of that is in `Array._read` and `Array._write`, and in what numpy asks.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, NoReturn, Optional, Tuple, Union

from ._allocation import Allocation
from ._buffers import readable
from ._calls import Outcome
from ._errors import (
    ClosedError,
    ConnectionLostError,
    ForkedError,
    FrozenError,
    MismatchError,
    NotFoundError,
    SmallocError,
    Status,
)
from ._index import Selection, select
from ._mapping import Mapping, converted, mapping_of, store
from ._numpy import array_over, dtype_of, find_numpy, keeps_capsules
from ._shared import shared_client
from ._shapes import Shape, is_buffer, length_of, misfit, nested, shape_of, spread
from ._types import ElementType
from ._wire import Reply

_DLPACK_CPU = (1, 0)


class Array:
    """An allocation with a shape, row-major. `Client.array`, `put` and `get` make them.

    The daemon keeps the shape, so that whoever opens the array gets it.

    `a[...]` reads what the index selects (whole numbers, slices and an ellipsis, as in numpy) and
    gives a fresh numpy array, or one number; without numpy nested lists. `a[...] = values`
    writes it, and converts numbers as ElementType.pack does where numpy would not keep their
    kind.

    Over a Unix socket, with a daemon that has `map`, `numpy.asarray(a)` is the memory itself,
    which other programs share, and no request is sent for it nor for an index; memoryview (from
    Python 3.12 on) and DLPack give the memory, too. `Client.array` and `get` map it at once, else
    the first of these does. It stays readable when the client is closed, the allocation disposed
    of, or the daemon has ended, and is unmapped when this object and all views have gone. What is
    stored by an index after the allocation is gone raises NotFoundError, and an index of what was
    cut off by a truncate OutOfRangeError; what is stored through a view nobody is told of:
    `is_live` tells.

    Over TCP `numpy.asarray(a)` is a read-only copy, since what one wrote into it would get nowhere.
    `numpy.array(a)` is a copy of one's own, wherever the memory is. An index that selects one block
    of memory is one request up to 64 KiB, which is atomic; others are vectored requests of 1024
    blocks each.

    An array whose allocation has a name is pickled as that name, its daemon's address, its type
    and shape: some hundred bytes. Unpickling opens, and maps, what has the name then.

    Errors are those of Allocation.
    """

    __slots__ = ("_allocation", "_shape", "_is_writable", "_mapping", "_is_lent")

    def __init__(
        self,
        allocation: Allocation,
        shape: Optional[Shape] = None,
        writable: bool = True,
        mapping: Optional[Mapping] = None,
    ) -> None:
        """Give an allocation a shape; where none is told its own, or else one dimension.

        Without `writable` it can't be stored to by this object, nor through views. A mapping is
        one of the allocation, where there is one already.

        Raises MismatchError where the shape is of another length, InvalidArgumentError where it
        has over 8 dimensions.
        """
        own = allocation.shape if shape is None else shape_of(shape)
        dims = (allocation.length,) if own is None else own
        if length_of(dims) != allocation.length:
            raise MismatchError(
                Status.MISMATCH,
                "it has %d elements, shape %s %d" % (allocation.length, dims, length_of(dims)),
                allocation.name,
            )
        self._allocation = allocation
        self._shape = dims
        self._is_writable = writable
        self._mapping = mapping
        # Whether the memory's address was told, which only this object keeps mapped.
        self._is_lent = False

    @property
    def allocation(self) -> Allocation:
        """The allocation, to truncate, rename, copy or dispose of."""
        return self._allocation

    @property
    def name(self) -> Optional[str]:
        """The allocation's name; None: anonymous."""
        return self._allocation.name

    @property
    def type(self) -> ElementType:
        """The element type."""
        return self._allocation.type

    @property
    def dtype(self) -> Any:
        """The element type as numpy's dtype. Needs numpy; Bfloat16 needs ml_dtypes as well.

        Raises ImportError, UnknownTypeError.
        """
        return dtype_of(self.type)

    @property
    def shape(self) -> Tuple[int, ...]:
        """Elements along each axis, at most 8; their product is the allocation's length."""
        return self._shape

    @property
    def ndim(self) -> int:
        """Axes."""
        return len(self._shape)

    @property
    def length(self) -> int:
        """Elements, of all axes; what numpy calls the size, which is bytes here."""
        return length_of(self._shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.type.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.length * self.itemsize

    @property
    def mapping(self) -> Optional[Mapping]:
        """The mapping, which is made where there is none yet; None where none can be had.

        It is for reading only where the allocation is frozen, or `writable` was False.

        Raises NotFoundError, MismatchError where the allocation has become shorter,
        OutOfMemoryError, ShareLimitError, BusyError while it is being frozen.
        """
        if self._mapping is None and self._allocation.client.can_map:
            try:
                found = self._allocation.map(self._is_writable)
            except FrozenError:
                found = self._allocation.map(writable=False)
            self._take(found)
        return self._mapping

    @property
    def is_live(self) -> bool:
        """Whether others still reach the allocation; no request is sent where it is mapped.

        It is False once the allocation was disposed of or replaced, the daemon has ended, or the
        client is closed.
        """
        if self._mapping is not None:
            return self._mapping.is_live
        try:
            self._allocation.stat()
        except (NotFoundError, ClosedError, ConnectionLostError, ForkedError):
            return False
        return True

    @property
    def frozen(self) -> bool:
        """Whether it is frozen; no request is sent where it is mapped."""
        return self._allocation.frozen if self._mapping is None else self._mapping.frozen

    def freeze(self) -> None:
        """Make its elements unchangeable, for all clients and for good. Once more does nothing.

        The array is mapped for reading only afterwards.

        Raises BusyError where any view of it that can be written to is still in use, in this
        program or another, and has changed nothing then; OutOfMemoryError.
        """
        mapping = self._mapping
        if mapping is not None and not mapping.exists:
            raise NotFoundError(Status.NO_DATA, "it was disposed of or replaced", self.name)
        if mapping is None or not mapping.writable or self._is_lent:
            self._allocation.freeze()
            return
        # Its own mapping would be in the way. One for reading takes its place first, so that the
        # array stays readable whatever happens.
        self._mapping = mapping = self._allocation.map(writable=False)
        try:
            self._allocation.freeze()
        except SmallocError:
            with contextlib.suppress(SmallocError):
                self._mapping = self._allocation.map()
            raise

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("an array without axes has no length")
        return self._shape[0]

    def __bool__(self) -> bool:
        raise TypeError("an array is neither true nor false; look at its length or its elements")

    def __repr__(self) -> str:
        name = "anonymous" if self.name is None else repr(self.name)
        return "<smalloc.Array %s, %s of %s>" % (name, self._shape, self.type.name)

    def __getitem__(self, index: Any) -> Any:
        selection = select(self._shape, index)
        return self._decode(self._read(selection, index), selection.shape, is_own=True)

    def __setitem__(self, index: Any, values: Any) -> None:
        selection = select(self._shape, index)
        self._check_writable(selection)
        self._write(selection, index, self._encode(values, selection.shape))

    def __iter__(self) -> Iterator[Any]:
        for place in range(len(self)):
            yield self[place]

    def tolist(self) -> Any:
        """Read all elements as nested lists of numbers; without axes as one number."""
        return nested(self.type.unpack(self.tobytes()), self._shape)

    def tobytes(self) -> bytes:
        """Read all elements' bytes, little-endian and row-major."""
        return bytes(self.contents())

    def contents(self) -> Union[bytes, memoryview]:
        """Give all elements' bytes: the memory itself where it is mapped, else a copy."""
        if self._mapping is not None:
            return memoryview(self._mapping.raw).toreadonly()
        return self._allocation.client.read(self._allocation, 0, self.nbytes)

    def fill(self, value: Any) -> None:
        """Store a number in all elements, inside the daemon."""
        self._check_writable()
        self._allocation.fill(value, 0, self.length)

    def close(self) -> None:
        """Close the allocation's handle; what is mapped stays. Idempotent."""
        self._allocation.close()

    def __enter__(self) -> Array:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        """Give a numpy array of all elements.

        Where it can be mapped that is the memory itself, unless a copy was asked for or another
        dtype makes it one. Elsewhere it is a copy, read-only unless asked for, and `copy=False`
        raises ValueError.
        """
        if self.mapping is not None:
            return converted(self._view(), dtype, copy)
        if copy is False:
            raise ValueError(
                "the array %r is reached over a socket: it can't be had without a copy" % self.name
            )
        numbers = self._decode(self.contents(), self._shape, bool(copy), as_array=True)
        if dtype is not None and dtype != numbers.dtype:
            return numbers.astype(dtype)
        return numbers

    @property
    def __array_struct__(self) -> Any:
        # Numpy looks for this before the next. From 1.23 on it keeps the capsule, which keeps the
        # memory mapped, and before that this object only.
        if find_numpy() is None or self.mapping is None:
            raise AttributeError("__array_struct__")
        if not keeps_capsules():
            self._is_lent = True
        return self._view().__array_struct__

    @property
    def __array_interface__(self) -> Any:
        if find_numpy() is None or self.mapping is None:
            raise AttributeError("__array_interface__")
        self._is_lent = True
        return self._view().__array_interface__

    def __buffer__(self, flags: int) -> memoryview:
        mapping = self.mapping
        if mapping is None:
            raise BufferError("the array is reached over a socket: it has no memory here")
        try:
            return memoryview(mapping.memoryview if find_numpy() is None else self._view())
        except ValueError as error:
            raise BufferError(str(error)) from error

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None,
        copy: Optional[bool] = None,
    ) -> Any:  # fmt: skip
        """Export it as numpy does: for reading only with a `max_version` of (1, 0) or newer.

        Raises BufferError where that is not met, where `copy=False` can't be, and for devices but
        the processor; ImportError without numpy.
        """
        if stream is not None or dl_device is not None and tuple(dl_device) != _DLPACK_CPU:
            raise BufferError("the array is in the processor's memory")
        if self.mapping is None:
            if copy is False:
                raise BufferError("the array is reached over a socket: it has no memory here")
            copy = True
        view = self.__array__(copy=bool(copy))
        try:
            return view.__dlpack__(max_version=max_version)
        except TypeError:
            # Before 2.1 numpy has only the older form, which any consumer takes.
            return view.__dlpack__()

    def __dlpack_device__(self) -> Tuple[int, int]:
        return _DLPACK_CPU

    def __copy__(self) -> NoReturn:
        raise TypeError("a copy of an Array would be the same memory; numpy.array(a) copies")

    def __deepcopy__(self, _: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> Tuple[Any, Tuple[str, str, int, Tuple[int, ...], bool]]:
        if self.name is None:
            raise TypeError("an anonymous array belongs to its connection: it can't be pickled")
        address = self._allocation.client.address
        return reopen, (address, self.name, self.type.number, self._shape, self._is_writable)

    # Bytes

    def _take(self, found: Mapping) -> None:
        if found.length != self.length:
            raise MismatchError(
                Status.MISMATCH, "it has %d elements by now" % found.length, self.name
            )
        self._mapping = found

    def _view(self) -> Any:
        assert self._mapping is not None
        return array_over(self._mapping.raw, self.type, self._shape)

    def _cells(self, numpy: Any) -> Any:
        """Give the mapped elements as bare bytes, which numpy moves without looking at them."""
        assert self._mapping is not None
        return numpy.frombuffer(self._mapping.raw, "V%d" % self.itemsize).reshape(self._shape)

    def _check_writable(self, selection: Optional[Selection] = None) -> None:
        if self._mapping is not None:
            self._mapping.check_writable()
            if not self._mapping.exists:
                raise NotFoundError(Status.NO_DATA, "it was disposed of or replaced", self.name)
            if selection is not None:
                self._mapping.check_held(selection.end)
        elif not self._is_writable:
            raise TypeError("the array was opened for reading only")

    def _read(self, selection: Selection, index: Any) -> Any:
        client, size = self._allocation.client, self.itemsize
        if self._mapping is not None and selection.size:
            self._mapping.check_held(selection.end)
            raw, numpy = self._mapping.raw, find_numpy()
            if numpy is not None and selection.size != selection.block:
                return numpy.array(self._cells(numpy)[index], order="C")
            step = selection.block * size
            places = (start * size for start in selection.blocks())
            return bytearray().join([raw[place : place + step] for place in places])
        if selection.size == selection.block:
            (start,) = selection.blocks()
            data = bytearray(selection.size * size)
            client.read_into(self._allocation, data, start * size)
            return data
        ranges = ((start * size, selection.block * size) for start in selection.blocks())
        return client.read_ranges(self._allocation, ranges)

    def _write(self, selection: Selection, index: Any, data: Any) -> None:
        client, size = self._allocation.client, self.itemsize
        if self._mapping is not None and selection.size:
            raw, numpy = self._mapping.raw, find_numpy()
            if numpy is not None and selection.size != selection.block:
                values = numpy.frombuffer(data, "V%d" % size).reshape(selection.shape)
                self._cells(numpy)[index] = values
                return
            step = selection.block * size
            for at, start in enumerate(selection.blocks()):
                store(raw[start * size :][:step], data[at * step : (at + 1) * step])
            return
        if selection.size == selection.block:
            (start,) = selection.blocks()
            client.write(self._allocation, data, start * size)
            return
        ranges = ((start * size, selection.block * size) for start in selection.blocks())
        client.write_ranges(self._allocation, ranges, data)

    # Numbers

    def _decode(
        self, data: Any, shape: Tuple[int, ...], is_own: bool,
        as_array: bool = False,
    ) -> Any:  # fmt: skip
        numpy = find_numpy()
        if numpy is None or (self.type is ElementType.BFLOAT16 and not as_array):
            return nested(self.type.unpack(data), shape)
        if not self.nbytes or not len(data):
            numbers = numpy.zeros(shape, self.dtype)
        elif self.type is ElementType.BOOL:
            # Others may have written other bytes than 0 and 1, all of which are true.
            numbers = (numpy.frombuffer(data, "u1") != 0).reshape(shape)
        else:
            numbers = numpy.frombuffer(data, self.dtype).reshape(shape)
        if not shape and not as_array:
            return numbers[()]
        if is_own and not numbers.flags.writeable:
            return numbers.copy()
        if not is_own:
            numbers.flags.writeable = False
        return numbers

    def _encode(self, values: Any, shape: Tuple[int, ...]) -> Any:
        """Give the bytes of values, spread over a shape as numpy does."""
        if not self.type.is_known:
            raise TypeError("%s is not known here: it takes bytes only" % self.type.name)
        if isinstance(values, Array):
            values = values[...]
        numpy = find_numpy()
        if numpy is None or self.type is ElementType.BFLOAT16:
            return spread(self.type, values, shape)
        if hasattr(values, "__array__") or is_buffer(values):
            found = numpy.asarray(values)
            if found.dtype != self.dtype and (
                self.type is ElementType.UINT8_CLAMPED
                or not numpy.can_cast(found.dtype, self.dtype, "same_kind")
            ):
                found = self._stored(numpy, found)
            found = found.astype(self.dtype, copy=False)
        else:
            # Of numbers themselves no dtype is made in between, which might not hold them.
            found = self._stored(numpy, numpy.array(values, dtype=object))
        try:
            return readable(numpy.ascontiguousarray(numpy.broadcast_to(found, shape)))
        except ValueError:
            raise misfit(tuple(found.shape), shape) from None

    def _stored(self, numpy: Any, numbers: Any) -> Any:
        data = self.type.pack(numbers.reshape(-1).tolist())
        return numpy.frombuffer(data, self.dtype).reshape(numbers.shape)


def reopen(
    address: str, name: str, type: int, shape: Tuple[int, ...], writable: bool = True
) -> Array:
    """Open, and map, what a pickle told of, by this process' own client of that address.

    Raises NotFoundError, CannotConnectError, MismatchError where the name holds something of
    another type or length now.
    """
    found = shared_client(address).get(name, shape, writable)
    if found.type.number != type:
        found.close()
        raise MismatchError(Status.MISMATCH, "it has another type than when it was pickled", name)
    return found


def opened_array(
    allocation: Allocation, shape: Optional[Shape], writable: bool = True,
    mapped: Optional[Outcome] = None, is_new: bool = False,
) -> Array:  # fmt: skip
    """Give an allocation a shape, and map it; where that fails, close it, or dispose of a new one.

    `mapped` is what came of the request to map it, where that was sent already.
    """
    try:
        array = Array(allocation, shape, writable)
        if isinstance(mapped, Reply):
            array._take(mapping_of(mapped, allocation.handle, allocation.type, writable))
        elif isinstance(mapped, FrozenError):
            array._take(allocation.map(writable=False))
        elif mapped is not None:
            raise mapped
        array.mapping
        return array
    except BaseException:
        if is_new:
            with contextlib.suppress(SmallocError):
                allocation.dispose()
        allocation.close()
        raise

"""An array: an allocation with a shape.

Over a socket every access moves bytes: an index reads or writes just what it selects, and
`numpy.asarray` takes a copy. All of that is in `Array._read` and `Array._write`, and in
`__array__`, so that an array whose memory is mapped differs there and nowhere else.
"""

from __future__ import annotations

import operator
from importlib import import_module
from typing import Any, Iterator, List, NoReturn, Optional, Sequence, Tuple, Union

from ._allocation import Allocation
from ._buffers import readable
from ._errors import InvalidArgumentError, MismatchError, Status, TooLargeError, UnknownTypeError
from ._index import Selection, select
from ._shared import shared_client
from ._types import ElementType

Shape = Union[int, Sequence[int]]

RANK_MAX = 8


def _numpy() -> Any:
    """Give numpy, or None where it is not installed."""
    try:
        return import_module("numpy")
    except ImportError:
        return None


class Array:
    """An allocation with a shape, row-major. `Client.array`, `put` and `get` make them.

    `a[...]` reads what the index selects (whole numbers, slices and an ellipsis, as in numpy) and
    gives a fresh numpy array, or one number; without numpy nested lists. `a[...] = values`
    writes it, and converts numbers as ElementType.pack does where numpy would not keep their
    kind. `numpy.asarray(a)` works: over a socket it gives a read-only copy, since what one wrote
    into it would get nowhere; `numpy.array(a)` gives a copy of one's own.

    An index that selects one block of memory is one request up to 64 KiB, which is atomic; others
    are vectored requests of 1024 blocks each.

    An array whose allocation has a name is pickled as that name, its daemon's address, its type
    and shape: some hundred bytes. Unpickling opens what has the name then.

    Errors are those of Allocation.
    """

    __slots__ = ("_allocation", "_shape")

    def __init__(self, allocation: Allocation, shape: Optional[Shape] = None) -> None:
        """Give an allocation a shape; one dimension where none is told.

        Raises MismatchError where the shape is of another length, InvalidArgumentError where it
        has over 8 dimensions.
        """
        dims = (allocation.length,) if shape is None else shape_of(shape)
        if length_of(dims) != allocation.length:
            raise MismatchError(
                Status.MISMATCH,
                "it has %d elements, not those of shape %s" % (allocation.length, dims),
                allocation.name,
            )
        self._allocation = allocation
        self._shape = dims

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
        numpy = import_module("numpy")
        if self.type is ElementType.BFLOAT16:
            try:
                return numpy.dtype(import_module("ml_dtypes").bfloat16)
            except ImportError:
                raise UnknownTypeError(
                    Status.UNKNOWN_TYPE, "numpy has no Bfloat16; the package ml_dtypes does"
                ) from None
        return numpy.dtype(self.type.typestr)

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
        return self._decode(self._read(selection), selection.shape, is_own=True)

    def __setitem__(self, index: Any, values: Any) -> None:
        selection = select(self._shape, index)
        self._write(selection, self._encode(values, selection.shape))

    def __iter__(self) -> Iterator[Any]:
        for place in range(len(self)):
            yield self[place]

    def tolist(self) -> Any:
        """Read all elements as nested lists of numbers; without axes as one number."""
        return _nest(self.type.unpack(self.tobytes()), self._shape)

    def tobytes(self) -> bytes:
        """Read all elements' bytes, little-endian and row-major."""
        return self._allocation.client.read(self._allocation, 0, self.nbytes)

    def fill(self, value: Any) -> None:
        """Store a number in all elements, inside the daemon."""
        self._allocation.fill(value, 0, self.length)

    def close(self) -> None:
        """Close the allocation's handle. Idempotent."""
        self._allocation.close()

    def __enter__(self) -> Array:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        """Give a numpy array of all elements.

        Over a socket that is a copy, and `copy=False` raises ValueError. It is read-only but where
        a copy was asked for, or where another dtype made it one.
        """
        if copy is False:
            raise ValueError(
                "the array %r is reached over a socket: it can't be had without a copy" % self.name
            )
        whole = select(self._shape, Ellipsis)
        numbers = self._decode(self._read(whole), self._shape, bool(copy), as_array=True)
        if dtype is not None and dtype != numbers.dtype:
            return numbers.astype(dtype)
        return numbers

    def __copy__(self) -> NoReturn:
        raise TypeError("a copy of an Array would be the same memory; numpy.array(a) copies")

    def __deepcopy__(self, _: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> Tuple[Any, Tuple[str, str, int, Tuple[int, ...]]]:
        if self.name is None:
            raise TypeError("an anonymous array belongs to its connection: it can't be pickled")
        address = self._allocation.client.address
        return reopen, (address, self.name, self.type.number, self._shape)

    # Bytes

    def _read(self, selection: Selection) -> Union[bytes, bytearray]:
        client, size = self._allocation.client, self.itemsize
        if selection.size == selection.block:
            (start,) = selection.blocks()
            data = bytearray(selection.size * size)
            client.read_into(self._allocation, data, start * size)
            return data
        ranges = ((start * size, selection.block * size) for start in selection.blocks())
        return client.read_ranges(self._allocation, ranges)

    def _write(self, selection: Selection, data: Any) -> None:
        client, size = self._allocation.client, self.itemsize
        if selection.size == selection.block:
            (start,) = selection.blocks()
            client.write(self._allocation, data, start * size)
            return
        ranges = ((start * size, selection.block * size) for start in selection.blocks())
        client.write_ranges(self._allocation, ranges, data)

    # Numbers

    def _decode(
        self, data: Union[bytes, bytearray], shape: Tuple[int, ...], is_own: bool,
        as_array: bool = False,
    ) -> Any:  # fmt: skip
        numpy = _numpy()
        if numpy is None or (self.type is ElementType.BFLOAT16 and not as_array):
            return _nest(self.type.unpack(data), shape)
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
        numpy = _numpy()
        if numpy is None or self.type is ElementType.BFLOAT16:
            return _spread(self.type, values, shape)
        if hasattr(values, "__array__") or _is_buffer(values):
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
        return readable(numpy.ascontiguousarray(numpy.broadcast_to(found, shape)))

    def _stored(self, numpy: Any, numbers: Any) -> Any:
        data = self.type.pack(numbers.reshape(-1).tolist())
        return numpy.frombuffer(data, self.dtype).reshape(numbers.shape)


def reopen(address: str, name: str, type: int, shape: Tuple[int, ...]) -> Array:
    """Open what a pickle told of, by this process' own client of that address.

    Raises NotFoundError, CannotConnectError, MismatchError where the name holds something of
    another type or length now.
    """
    found = shared_client(address).open(name)
    if found.type.number != type:
        found.close()
        raise MismatchError(Status.MISMATCH, "it has another type than when it was pickled", name)
    try:
        return Array(found, shape)
    except MismatchError:
        found.close()
        raise


def shape_of(shape: Shape) -> Tuple[int, ...]:
    """Take a shape: one whole number, or up to 8 of them. Raises InvalidArgumentError."""
    dims: Tuple[int, ...]
    if hasattr(shape, "__index__"):
        dims = (operator.index(shape),)
    else:
        dims = tuple(operator.index(one) for one in shape)
    if len(dims) > RANK_MAX or any(one < 0 for one in dims):
        raise InvalidArgumentError(
            Status.INVALID_ARGUMENT, "a shape is at most 8 numbers from 0 on, not %s" % (dims,)
        )
    return dims


def length_of(shape: Tuple[int, ...]) -> int:
    """Give the elements of a shape."""
    length = 1
    for one in shape:
        length *= one
    return length


def elements_of(values: Any, dtype: Any) -> Tuple[ElementType, Tuple[int, ...], Any]:
    """Give the type, the shape and the bytes of values.

    Raises TypeError, UnknownTypeError, ValueError for lists that are not of one shape.
    """
    wanted = None if dtype is None else ElementType.of(dtype)
    if isinstance(values, Array):
        if wanted is None or wanted is values.type:
            return values.type, values.shape, values.tobytes()
        values = values[...]
    numpy = _numpy() if hasattr(values, "__array__") else None
    data: Any
    if numpy is not None:
        # A dtype says more than a buffer's format does.
        found = numpy.asarray(values)
        if found.dtype.byteorder == ">":
            found = found.astype(found.dtype.newbyteorder("<"))
        type = ElementType.of(found.dtype)
        shape, data = tuple(found.shape), numpy.ascontiguousarray(found).reshape(-1)
        if type is ElementType.BFLOAT16:
            # No buffer has this dtype.
            data = data.view("<u2")
    elif _is_buffer(values):
        view = memoryview(values)
        of_format = ElementType.of_format(view.format, view.itemsize)
        if of_format is None:
            raise UnknownTypeError(
                Status.UNKNOWN_TYPE, "no element type is like a buffer's %r" % view.format
            )
        type, shape, data = of_format, tuple(view.shape or ()), view
    else:
        if wanted is None:
            raise TypeError("values that are no array and no buffer need a dtype")
        shape = _shape_of_lists(values)
        return wanted, shape_of(shape), wanted.pack(_flatten(values, shape))
    if wanted is not None and wanted is not type:
        if not (wanted.typestr == "|u1" and type is ElementType.UINT8):
            numbers = type.unpack(readable(data))
            return wanted, shape_of(shape), wanted.pack(numbers)
        type = wanted
    if len(shape) > RANK_MAX:
        raise TooLargeError(Status.TOO_LARGE, "an array has at most 8 dimensions")
    return type, shape, readable(data)


def _is_buffer(values: Any) -> bool:
    try:
        memoryview(values)
    except (TypeError, ValueError, BufferError):
        return False
    return True


def _nest(numbers: List[Any], shape: Tuple[int, ...]) -> Any:
    if not shape:
        return numbers[0]
    for length in reversed(shape[1:]):
        if length == 0:
            return _empty(shape)
        numbers = [numbers[at : at + length] for at in range(0, len(numbers), length)]
    return numbers


def _empty(shape: Tuple[int, ...]) -> List[Any]:
    return [_empty(shape[1:]) for _ in range(shape[0])] if len(shape) > 1 else [None] * shape[0]


def _shape_of_lists(values: Any) -> Tuple[int, ...]:
    """Give the shape of nested lists, by the first of each; of a number none."""
    shape: List[int] = []
    while hasattr(values, "__len__") and not isinstance(values, (str, bytes)):
        shape.append(len(values))
        if not len(values):
            break
        values = values[0]
    return tuple(shape)


def _flatten(values: Any, shape: Tuple[int, ...]) -> List[Any]:
    if not shape:
        if hasattr(values, "__len__") and not isinstance(values, (str, bytes)):
            raise InvalidArgumentError(Status.INVALID_ARGUMENT, "the lists are not of one shape")
        return [values]
    if not hasattr(values, "__len__") or len(values) != shape[0]:
        raise InvalidArgumentError(Status.INVALID_ARGUMENT, "the lists are not of one shape")
    flat: List[Any] = []
    for value in values:
        flat += _flatten(value, shape[1:])
    return flat


def _spread(type: ElementType, values: Any, shape: Tuple[int, ...]) -> bytes:
    """Store one number everywhere, or nested lists of the very shape."""
    if _is_buffer(values):
        values = memoryview(values).tolist() if not hasattr(values, "tolist") else values.tolist()
    if not hasattr(values, "__len__"):
        return type.pack([values]) * length_of(shape)
    found = _shape_of_lists(values)
    if found != shape:
        raise InvalidArgumentError(
            Status.INVALID_ARGUMENT, "values of shape %s do not fit into %s" % (found, shape)
        )
    return type.pack(_flatten(values, shape))

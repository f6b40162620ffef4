"""What `put` takes: arrays, buffers and lists of numbers, as elements of a type."""

from __future__ import annotations

from typing import Any, Tuple

from ._array import Array
from ._buffers import readable
from ._errors import Status, TooLargeError, UnknownTypeError
from ._numpy import find_numpy
from ._shapes import flattened, is_buffer, shape_of, shape_of_lists
from ._types import ElementType
from ._wire import RANK_MAX


def elements_of(values: Any, dtype: Any) -> Tuple[ElementType, Tuple[int, ...], Any]:
    """Give the type, the shape and the bytes of values.

    Raises TypeError, UnknownTypeError, ValueError for lists that are not of one shape.
    """
    wanted = None if dtype is None else ElementType.of(dtype)
    if isinstance(values, Array):
        if wanted is None or wanted is values.type:
            return values.type, values.shape, memoryview(values.contents())
        values = values[...]
    numpy = find_numpy() if hasattr(values, "__array__") else None
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
    elif is_buffer(values):
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
        shape = shape_of_lists(values)
        return wanted, shape_of(shape), wanted.pack(flattened(values, shape))
    if wanted is not None and wanted is not type:
        if not (wanted.typestr == "|u1" and type is ElementType.UINT8):
            numbers = type.unpack(readable(data))
            return wanted, shape_of(shape), wanted.pack(numbers)
        type = wanted
    if len(shape) > RANK_MAX:
        raise TooLargeError(Status.TOO_LARGE, "an array has at most 8 dimensions")
    return type, shape, readable(data)

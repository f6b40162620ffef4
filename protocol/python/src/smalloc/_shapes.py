"""Shapes, and nested lists of numbers."""

from __future__ import annotations

import operator
from typing import Any, List, Sequence, Tuple, Union

from ._errors import InvalidArgumentError, Status
from ._types import ElementType
from ._wire import RANK_MAX, U64_MAX

Shape = Union[int, Sequence[int]]


def shape_of(shape: Shape) -> Tuple[int, ...]:
    """Take a shape: one whole number, or up to 8 of them. Raises InvalidArgumentError."""
    dims: Tuple[int, ...]
    if hasattr(shape, "__index__"):
        dims = (operator.index(shape),)
    else:
        dims = tuple(operator.index(one) for one in shape)
    if len(dims) > RANK_MAX or any(not 0 <= one <= U64_MAX for one in dims):
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


def is_buffer(values: Any) -> bool:
    try:
        memoryview(values)
    except (TypeError, ValueError, BufferError):
        return False
    return True


def nested(numbers: List[Any], shape: Tuple[int, ...]) -> Any:
    if not shape:
        return numbers[0]
    for length in reversed(shape[1:]):
        if length == 0:
            return _empty(shape)
        numbers = [numbers[at : at + length] for at in range(0, len(numbers), length)]
    return numbers


def _empty(shape: Tuple[int, ...]) -> List[Any]:
    return [_empty(shape[1:]) for _ in range(shape[0])] if len(shape) > 1 else [None] * shape[0]


def shape_of_lists(values: Any) -> Tuple[int, ...]:
    """Give the shape of nested lists, by the first of each; of a number none."""
    shape: List[int] = []
    while hasattr(values, "__len__") and not isinstance(values, (str, bytes)):
        shape.append(len(values))
        if not len(values):
            break
        values = values[0]
    return tuple(shape)


def flattened(values: Any, shape: Tuple[int, ...]) -> List[Any]:
    is_list = hasattr(values, "__len__") and not isinstance(values, (str, bytes))
    if not shape:
        if is_list:
            raise _uneven("one of %d where numbers are" % len(values))
        return [values]
    if not is_list or len(values) != shape[0]:
        found = "one of %d" % len(values) if is_list else "a number"
        raise _uneven("%s where the first of these is one of %d" % (found, shape[0]))
    flat: List[Any] = []
    for value in values:
        flat += flattened(value, shape[1:])
    return flat


def _uneven(how: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        Status.INVALID_ARGUMENT, "the lists are not of one shape: there is " + how
    )


def misfit(found: Tuple[int, ...], shape: Tuple[int, ...]) -> InvalidArgumentError:
    """Make the error of values that do not fit where they are to be stored."""
    return InvalidArgumentError(
        Status.INVALID_ARGUMENT, "values of shape %s do not fit into %s" % (found, shape)
    )


def spread(type: ElementType, values: Any, shape: Tuple[int, ...]) -> bytes:
    """Store one number everywhere, or nested lists of the very shape."""
    if is_buffer(values):
        values = memoryview(values).tolist() if not hasattr(values, "tolist") else values.tolist()
    if not hasattr(values, "__len__"):
        return type.pack([values]) * length_of(shape)
    found = shape_of_lists(values)
    if found != shape:
        raise misfit(found, shape)
    return type.pack(flattened(values, shape))

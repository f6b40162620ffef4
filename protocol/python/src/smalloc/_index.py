"""What an index selects of a row-major array: elements' places, and the shape of the selection."""

from __future__ import annotations

import itertools
import operator
from typing import Any, Iterator, List, NamedTuple, Tuple

from ._errors import OutOfRangeError, Status


class Selection(NamedTuple):
    """Elements of an array: `shape` is that of the selection, without the axes of whole numbers.

    They lie in blocks of `block` elements each; `axes` has the places of the blocks along each
    axis, in elements from the start of the array.
    """

    shape: Tuple[int, ...]
    block: int
    axes: Tuple[range, ...]

    @property
    def size(self) -> int:
        """Elements selected."""
        size = self.block
        for axis in self.axes:
            size *= len(axis)
        return size

    @property
    def end(self) -> int:
        """The place after the last element selected; 0 for none."""
        if not self.block:
            return 0
        return sum(max(axis[0], axis[-1]) for axis in self.axes) + self.block

    def blocks(self) -> Iterator[int]:
        """Give the place of each block, in the selection's order."""
        return (sum(places) for places in itertools.product(*self.axes))


def select(shape: Tuple[int, ...], index: Any) -> Selection:
    """Select by whole numbers, slices of any step and one ellipsis, as numpy does.

    Raises TypeError for other indices, OutOfRangeError (an IndexError).
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    ellipses = [at for at, part in enumerate(parts) if part is Ellipsis]
    if len(ellipses) > 1:
        raise _out_of_range("an index can have one ellipsis")
    at = ellipses[0] if ellipses else len(parts)
    missing = len(shape) - (len(parts) - len(ellipses))
    if missing < 0:
        raise _out_of_range("too many indices for an array of %d dimensions" % len(shape))
    parts[at : at + len(ellipses)] = [slice(None)] * missing

    selected: List[int] = []
    axes: List[range] = []
    stride = 1
    for part, length in zip(reversed(parts), reversed(shape)):
        if isinstance(part, slice):
            places = range(*part.indices(length))
            selected.append(len(places))
        else:
            if isinstance(part, bool) or not hasattr(part, "__index__"):
                raise TypeError(
                    "an index is whole numbers, slices and an ellipsis; for others there is "
                    "numpy.asarray(array)[...]"
                )
            place = operator.index(part)
            if not -length <= place < length:
                raise _out_of_range("index %d of an axis of %d" % (place, length))
            places = range(place % length, place % length + 1)
        axes.append(range(places.start * stride, places.stop * stride, places.step * stride))
        stride *= max(1, length)
    dims = tuple(reversed(selected))
    if 0 in dims:
        return Selection(dims, 0, ())
    # From the last axis on, as far as the elements lie one after another, they are one block.
    block = 1
    starts: List[range] = []
    is_whole = True
    for axis in axes:
        is_whole = is_whole and (len(axis) == 1 or axis.step == block)
        if is_whole:
            block *= len(axis)
        starts.append(axis[:1] if is_whole else axis)
    return Selection(dims, block, tuple(reversed(starts)))


def _out_of_range(message: str) -> OutOfRangeError:
    return OutOfRangeError(Status.OUT_OF_RANGE, message)

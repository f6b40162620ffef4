"""What an open allocation is, short of asking the daemon: its type, its length, its elements."""

from __future__ import annotations

import operator
from typing import Any, Optional, Tuple

from ._buffers import readable
from ._calls import Handle
from ._errors import InvalidArgumentError, OutOfRangeError, Status
from ._types import ElementType


class Elements:
    """Elements behind a handle, counted and checked. Clients that block and of asyncio have it."""

    __slots__ = ("_handle", "_name", "_type", "_length")

    def __init__(
        self, handle: Handle, name: Optional[str], type: ElementType, length: int
    ) -> None:
        self._handle = handle
        self._name = name
        self._type = type
        self._length = length

    @property
    def handle(self) -> Handle:
        """What stands for it on its connection; for Client."""
        return self._handle

    @property
    def name(self) -> Optional[str]:
        """The name it was opened by, or got by this object's rename; None: anonymous."""
        return self._name

    @property
    def type(self) -> ElementType:
        """The element type."""
        return self._type

    @property
    def length(self) -> int:
        """Elements, as far as this object knows: another client may have made it shorter."""
        return self._length

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self._type.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._length * self._type.itemsize

    @property
    def is_closed(self) -> bool:
        """Whether the handle was closed by this program."""
        return self._handle.number == 0

    def __len__(self) -> int:
        return self._length

    def __bool__(self) -> bool:
        return True

    # Within

    def _extent(self, start: int, count: Optional[int]) -> Tuple[int, int]:
        """Check a range of elements. The daemon checks it, too, but large ones piece by piece."""
        start = operator.index(start)
        if not 0 <= start <= self._length:
            raise OutOfRangeError(
                Status.OUT_OF_RANGE, "start > length: %d of %d" % (start, self._length),
                self._handle.label,
            )  # fmt: skip
        count = self._length - start if count is None else operator.index(count)
        if not 0 <= count <= self._length - start:
            raise OutOfRangeError(
                Status.OUT_OF_RANGE,
                "start + count > length: %d + %d of %d" % (start, count, self._length),
                self._handle.label,
            )
        return start, count

    def _index(self, index: int) -> int:
        index = operator.index(index)
        if not -self._length <= index < self._length:
            raise OutOfRangeError(
                Status.OUT_OF_RANGE, "index %d of %d" % (index, self._length), self._handle.label
            )
        return index % self._length

    def _whole(self, size: int) -> int:
        if size % self.itemsize:
            raise InvalidArgumentError(
                Status.INVALID_ARGUMENT,
                "%d bytes are no whole number of %s" % (size, self._type.name),
                self._handle.label,
            )
        return size // self.itemsize

    def _pack(self, values: Any) -> bytes:
        self._check_known()
        return self._type.pack(values)

    def _check_known(self) -> None:
        if not self._type.is_known:
            raise TypeError("%s is not known here: it takes bytes only" % self._type.name)

    def _bytes_of(self, values: Any) -> Any:
        """Give the elements' bytes of a buffer of this very type as they are, of others packed."""
        try:
            view = memoryview(values)
        except TypeError:
            return self._pack(list(values))
        if view.ndim != 1:
            raise TypeError("values of one dimension are needed")
        type = ElementType.of_format(view.format, view.itemsize)
        if type is self._type or (type is ElementType.UINT8 and self._type.typestr == "|u1"):
            return readable(values)
        return self._pack(values.tolist() if hasattr(values, "tolist") else view.tolist())

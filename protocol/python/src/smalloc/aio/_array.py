"""An array of a client of asyncio: memory where it is mapped, else read and written by requests."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, NoReturn, Optional, Union

from .._array import Array as BlockingArray
from .._errors import FrozenError, NotFoundError, SmallocError, Status
from .._index import Selection, select
from .._mapping import Mapping
from .._shapes import Shape
from ._allocation import Allocation
from ._loop import settled

_NO_MEMORY = "the array is reached over a socket: await its read and write"


class Array(BlockingArray):
    """An allocation with a shape. `Client.array`, `put` and `get` of smalloc.aio make them.

    Where it is mapped (over a Unix socket, from a daemon with `map`) it is memory: an index,
    numpy, DLPack and memoryview are what they are of a smalloc.Array, and nothing is awaited.
    Elsewhere they raise TypeError, and `await a.read(index)` and `await a.write(index, values)`
    take their place; these work for both. `fill`, `freeze` and `close` are to be awaited.

    It is pickled as its name, and is a smalloc.Array where it is unpickled.
    """

    __slots__ = ()

    def __init__(
        self, allocation: Allocation, shape: Optional[Shape] = None, writable: bool = True,
        mapping: Optional[Mapping] = None,
    ) -> None:  # fmt: skip
        """For `Client`."""
        own: Any = allocation
        super().__init__(own, shape, writable, mapping)

    @property
    def allocation(self) -> Any:
        """The allocation, of smalloc.aio, to truncate, rename, copy or dispose of."""
        return self._allocation

    @property
    def mapping(self) -> Optional[Mapping]:
        """The mapping; None where none was to be had."""
        return self._mapping

    @property
    def is_live(self) -> bool:
        """Whether others still reach the allocation, and this client can tell.

        Where it is not mapped, whether the connection stands.
        """
        if self._mapping is not None:
            return self._mapping.is_live
        return self._allocation.handle.connection.is_live

    @property
    def frozen(self) -> bool:
        """Whether it is frozen. Raises TypeError where it is not mapped: ask the allocation."""
        if self._mapping is None:
            raise TypeError("the array is reached over a socket: await a.allocation.frozen()")
        return self._mapping.frozen

    async def read(self, index: Any = Ellipsis) -> Any:
        """Read what an index selects, as `a[index]` of a smalloc.Array does."""
        if self._mapping is not None:
            return self[index]
        selection, size = select(self._shape, index), self.itemsize
        client: Any = self._allocation.client
        if selection.size == selection.block:
            (start,) = selection.blocks()
            data = bytearray(selection.size * size)
            await client.read_into(self._allocation, data, start * size)
        else:
            data = await client.read_ranges(self._allocation, _ranges(selection, size))
        return self._decode(data, selection.shape, is_own=True)

    async def write(self, index: Any, values: Any) -> None:
        """Store values where an index selects, as `a[index] = values` of a smalloc.Array does."""
        if self._mapping is not None:
            self[index] = values
            return
        selection, size = select(self._shape, index), self.itemsize
        self._check_writable(selection)
        data = self._encode(values, selection.shape)
        client: Any = self._allocation.client
        if selection.size == selection.block:
            (start,) = selection.blocks()
            await client.write(self._allocation, data, start * size)
        else:
            await client.write_ranges(self._allocation, _ranges(selection, size), data)

    async def fill(self, value: Any) -> None:  # type: ignore[override]
        """Store a number in all elements, inside the daemon."""
        self._check_writable()
        allocation: Any = self._allocation
        await allocation.fill(value, 0, self.length)

    async def freeze(self) -> None:  # type: ignore[override]
        """Make its elements unchangeable, for all clients and for good. Once more does nothing.

        The array is mapped for reading only afterwards.

        Raises BusyError where any view of it that can be written to is still in use, in this
        program or another, and has changed nothing then; OutOfMemoryError.
        """
        mapping, allocation = self._mapping, self.allocation
        if mapping is not None and not mapping.exists:
            raise NotFoundError(Status.NO_DATA, "it was disposed of or replaced", self.name)
        if mapping is None or not mapping.writable or self._is_lent:
            await allocation.freeze()
            return
        del mapping
        # Its own mapping would be in the way. One for reading takes its place first.
        self._mapping = await allocation.map(writable=False)
        try:
            await allocation.freeze()
        except (SmallocError, asyncio.CancelledError):
            # The freeze of a task that is cancelled is carried out, or not: what comes behind it
            # finds out, and is not cancelled itself.
            await settled(asyncio.ensure_future(self._map_again()))
            raise

    async def _map_again(self) -> None:
        with contextlib.suppress(SmallocError):
            self._mapping = await self.allocation.map()

    async def close(self) -> None:  # type: ignore[override]
        """Close the allocation's handle; what is mapped stays. Idempotent."""
        await self.allocation.close()

    def contents(self) -> Union[bytes, memoryview]:
        """Give all elements' bytes: the memory itself. Raises TypeError where it is not mapped."""
        if self._mapping is None:
            raise TypeError(_NO_MEMORY)
        return super().contents()

    def __enter__(self) -> NoReturn:
        raise TypeError("`async with` closes an array of smalloc.aio")

    async def __aenter__(self) -> Array:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _read(self, selection: Selection, index: Any) -> Any:
        if self._mapping is None:
            raise TypeError(_NO_MEMORY)
        return super()._read(selection, index) if selection.size else bytearray()

    def _write(self, selection: Selection, index: Any, data: Any) -> None:
        if self._mapping is None:
            raise TypeError(_NO_MEMORY)
        if selection.size:
            super()._write(selection, index, data)


def _ranges(selection: Selection, size: int) -> Any:
    return [(start * size, selection.block * size) for start in selection.blocks()]


async def mapped_array(
    allocation: Allocation, shape: Optional[Shape], writable: bool, can_map: bool,
    is_new: bool = False,
) -> Array:  # fmt: skip
    """Give an allocation that was opened for it a shape, and map it; close it where that fails.

    What is new, and was made for this, is disposed of where it fails.
    """
    try:
        mapping: Optional[Mapping] = None
        array = Array(allocation, shape, writable)
        if can_map:
            try:
                mapping = await allocation.map(writable)
            except FrozenError:
                mapping = await allocation.map(writable=False)
            array._take(mapping)
        return array
    except BaseException:
        if is_new:
            with contextlib.suppress(SmallocError):
                await allocation.dispose()
        await allocation.close()
        raise

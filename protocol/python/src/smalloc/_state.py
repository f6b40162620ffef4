"""The state memory: what has become of mapped allocations, without asking; spec section 3.8."""

from __future__ import annotations

import errno
import os
from typing import Optional

from ._buffers import map_file
from ._errors import ConnectionLostError, Status
from ._wire import FrameError

# Flags of a state word; requests wait on a cell of what has WAITERS.
LIVE = 1
FROZEN = 2
WAITERS = 4
GENERATION_MASK = 0xFFFFFF
# Where the size of the allocation is in a slot.
SIZE_OFFSET = 8

_SLOT_SIZE = 16


class StateMemory:
    """A daemon's state memory, mapped for reading. It stays readable when the daemon has ended."""

    __slots__ = ("_sizes", "_words")

    def __init__(self, descriptor: int) -> None:
        """Map it. The descriptor may be closed after that.

        Raises FrameError; ConnectionLostError where the system refuses, since it comes but once.
        """
        try:
            size = os.fstat(descriptor).st_size // _SLOT_SIZE * _SLOT_SIZE
            memory = map_file(descriptor, size)
        except OSError as error:
            raise ConnectionLostError(
                Status.CONNECTION_LOST,
                "the daemon's state memory can't be mapped: %s%s; the connection is closed"
                % (error.strerror, " (ulimit -n)" if error.errno == errno.EMFILE else ""),
            ) from error
        except (ValueError, OverflowError) as error:
            raise FrameError("the state memory can't be mapped: %s" % error) from error
        # An item of these views is one access of the processor.
        self._words = memory.cast("I")
        self._sizes = memory.cast("Q")

    def flags(self, slot: int, generation: int) -> int:
        """Give the flags of a slot, LIVE and FROZEN; none where it stands for another by now."""
        at = slot * (_SLOT_SIZE // 4)
        if not 0 < at < len(self._words):
            return 0
        word: int = self._words[at]
        return word & 0xFF if word >> 8 == generation & GENERATION_MASK else 0

    def size(self, slot: int, generation: int) -> int:
        """Give the bytes of a slot's allocation; 0 where it has gone."""
        # The daemon changes the size first: that of the slot's next allocation comes after this.
        if not self.flags(slot, generation) & LIVE:
            return 0
        size: int = self._sizes[slot * (_SLOT_SIZE // 8) + 1]
        return size

    def slot(self, slot: int) -> Optional[memoryview]:
        """Give the memory of a slot; None: there is no such slot."""
        at = slot * (_SLOT_SIZE // 4)
        if not 0 < at < len(self._words):
            return None
        return self._words[at : at + _SLOT_SIZE // 4]

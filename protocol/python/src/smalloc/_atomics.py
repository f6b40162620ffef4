"""Atomics: one integer loaded, stored or changed at a stroke, by requests and in mapped memory."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any, Callable, Dict, NamedTuple, Optional

from ._calls import Handle
from ._cells import AtomicAction, atomic, check_atomic, decode_old, value_of
from ._errors import ProtocolError, Status
from ._types import ElementType
from ._wire import FrameError


class Atomics(ABC):
    """What an Allocation and a Mapping have in common: atomics on their integers.

    They are for Int8 to Uint32, Int64 and Uint64, and exact: a value is a whole number that the
    type holds. Sums wrap around. All atomics on an allocation, of all programs, be it by requests
    or in mapped memory, take effect one after another. An index counts elements, from the end
    where it is negative.

    All raise OutOfRangeError, InvalidArgumentError for other types, TypeError and OverflowError
    for other values, FrozenError but for a load, UnsupportedError with an older daemon.
    """

    __slots__ = ()

    def atomic_load(self, index: int) -> int:
        """Give the element."""
        return self._atomic(AtomicAction.LOAD, index)

    def atomic_store(self, index: int, value: int) -> None:
        """Store a value."""
        self._atomic(AtomicAction.STORE, index, value)

    def atomic_exchange(self, index: int, value: int) -> int:
        """Store a value; give what was there."""
        return self._atomic(AtomicAction.EXCHANGE, index, value)

    def atomic_compare_exchange(self, index: int, expected: int, desired: int) -> int:
        """Store `desired` if `expected` is there; give what was there.

        It has stored if that is `expected`.
        """
        return self._atomic(AtomicAction.COMPARE_EXCHANGE, index, desired, expected)

    def atomic_add(self, index: int, value: int) -> int:
        """Add a value; give what was there before."""
        return self._atomic(AtomicAction.ADD, index, value)

    def atomic_subtract(self, index: int, value: int) -> int:
        """Subtract a value; give what was there before."""
        return self._atomic(AtomicAction.SUB, index, value)

    def atomic_and(self, index: int, value: int) -> int:
        """Keep the bits that are set in a value; give what was there before."""
        return self._atomic(AtomicAction.AND, index, value)

    def atomic_or(self, index: int, value: int) -> int:
        """Set the bits that are set in a value; give what was there before."""
        return self._atomic(AtomicAction.OR, index, value)

    def atomic_xor(self, index: int, value: int) -> int:
        """Turn the bits that are set in a value; give what was there before."""
        return self._atomic(AtomicAction.XOR, index, value)

    @abstractmethod
    def _atomic(
        self, action: AtomicAction, index: int, operand: int = 0, expected: int = 0
    ) -> int: ...


def ask_atomic(
    handle: Handle, type: ElementType, place: int, action: AtomicAction, operand: int, expected: int
) -> int:
    """Have the daemon do it. Raises what Atomics do."""
    check_atomic(type, handle.label)
    operand, expected = value_of(operand, type), value_of(expected, type)
    request = atomic(place * type.itemsize, action, operand, expected)
    try:
        return decode_old(handle.connection.call(request, handle).payload, type)
    except FrameError as error:
        raise ProtocolError(Status.UNEXPECTED_REPLY, str(error)) from error


# memory_order_seq_cst
_ORDER = 5
_NAMES: Dict[AtomicAction, str] = {
    AtomicAction.ADD: "fetch_add",
    AtomicAction.SUB: "fetch_sub",
    AtomicAction.AND: "fetch_and",
    AtomicAction.OR: "fetch_or",
    AtomicAction.XOR: "fetch_xor",
    AtomicAction.EXCHANGE: "exchange",
}


class Instructions(NamedTuple):
    """The processor's own atomics on elements of one type, by addresses.

    `compare_exchange` takes and gives a place for the expected value, which `cell` makes.
    """

    load: Callable[[int, int], int]
    changes: Dict[AtomicAction, Callable[[int, int, int], int]]
    compare_exchange: Callable[[int, Any, int, int, int], bool]
    cell: Any
    fence: Callable[[int], None]

    def run(self, address: int, action: AtomicAction, operand: int, expected: int) -> int:
        """Do it; give what was there."""
        if action is AtomicAction.LOAD:
            return self.load(address, _ORDER)
        if action is AtomicAction.COMPARE_EXCHANGE:
            old = self.cell(expected)
            self.compare_exchange(address, old, operand, _ORDER, _ORDER)
            whole: int = old.value
            return whole
        if action is AtomicAction.STORE:
            action = AtomicAction.EXCHANGE
        return self.changes[action](address, operand, _ORDER)


@lru_cache(maxsize=None)
def instructions(type: ElementType) -> Optional[Instructions]:
    """Give the processor's atomics on a type, from libatomic; None where they can't be had."""
    if sys.byteorder != "little":
        return None
    try:
        import ctypes

        # Without letting go of the interpreter's lock, which takes longer than they do.
        library = ctypes.PyDLL("libatomic.so.1")
        size = type.itemsize
        library.__atomic_is_lock_free.argtypes = (ctypes.c_size_t, ctypes.c_void_p)
        library.__atomic_is_lock_free.restype = ctypes.c_bool
        # What takes a lock does so in this process alone.
        if not library.__atomic_is_lock_free(size, None):
            return None
        cell: Any = getattr(ctypes, "c_%s%d" % (type.name.rstrip("0123456789").lower(), 8 * size))
        load = getattr(library, "__atomic_load_%d" % size)
        load.argtypes, load.restype = (ctypes.c_void_p, ctypes.c_int), cell
        changes: Dict[AtomicAction, Callable[[int, int, int], int]] = {}
        for action, name in _NAMES.items():
            change = getattr(library, "__atomic_%s_%d" % (name, size))
            change.argtypes, change.restype = (ctypes.c_void_p, cell, ctypes.c_int), cell
            changes[action] = change
        compare = getattr(library, "__atomic_compare_exchange_%d" % size)
        compare.argtypes = (
            ctypes.c_void_p, ctypes.POINTER(cell), cell, ctypes.c_int, ctypes.c_int,
        )  # fmt: skip
        compare.restype = ctypes.c_bool
        fence = library.atomic_thread_fence
        fence.argtypes, fence.restype = (ctypes.c_int,), None
    except (ImportError, OSError, AttributeError):
        return None
    return Instructions(load, changes, compare, cell, fence)


def address_of(memory: memoryview) -> int:
    """Give the address of memory that the caller keeps mapped.

    Raises AttributeError for memory for reading where the interpreter does not tell it.
    """
    import ctypes

    if not memory.readonly:
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))
    python = ctypes.pythonapi
    # `Py_buffer`: 10 words, the first of which is the address.
    view = (ctypes.c_void_p * 16)()
    python.PyObject_GetBuffer(ctypes.py_object(memory), view, 0)
    try:
        address: Any = view[0]
        return int(address)
    finally:
        python.PyBuffer_Release(view)

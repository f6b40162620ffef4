"""Views of other objects' bytes, through the buffer protocol."""

from __future__ import annotations

import sys
from typing import Any


def readable(data: Any) -> memoryview:
    """Give a buffer's bytes in row-major order: a view where they lie so, else a copy.

    Raises TypeError for what is no buffer.
    """
    view = memoryview(data)
    if view.nbytes == 0:
        return memoryview(b"")
    if not view.c_contiguous:
        return memoryview(view.tobytes())
    try:
        return view.cast("B")
    except (TypeError, ValueError, NotImplementedError):
        # A format that memoryview does not know, as numpy's complex numbers have.
        numpy = sys.modules.get("numpy")
        if numpy is None:
            return memoryview(view.tobytes())
        return memoryview(numpy.frombuffer(view, dtype="u1"))


def writable(buffer: Any) -> memoryview:
    """Give a view of a buffer's bytes to write to.

    Raises TypeError for what is no buffer, can't be written to, or does not lie in one piece in
    row-major order.
    """
    view = memoryview(buffer)
    if view.readonly:
        raise TypeError("the buffer can't be written to")
    if view.nbytes == 0:
        return memoryview(bytearray())
    if not view.c_contiguous:
        raise TypeError("the buffer is not in one piece")
    try:
        return view.cast("B")
    except (TypeError, ValueError, NotImplementedError):
        numpy = sys.modules.get("numpy")
        if numpy is None:
            raise TypeError("a buffer of format %s can't be written to" % view.format) from None
        return memoryview(numpy.frombuffer(view, dtype="u1"))

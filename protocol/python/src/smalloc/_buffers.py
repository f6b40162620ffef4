"""Views of other objects' bytes, through the buffer protocol, and of files, mapped."""

from __future__ import annotations

import functools
import mmap
import os
import sys
from typing import Any, Dict


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


@functools.lru_cache(maxsize=None)
def has_shared_huge_pages() -> bool:
    """Whether the system gives shared memory huge pages where they are asked for. Read once."""
    try:
        with open("/sys/kernel/mm/transparent_hugepage/shmem_enabled") as file:
            word = file.read().partition("[")[2].partition("]")[0]
    except OSError:
        return False
    return word not in ("", "never", "deny")


def map_file(
    descriptor: int, size: int, offset: int = 0, writable: bool = False, populate: bool = False
) -> memoryview:
    """Map a part of a file; give its bytes, which are all that refers to the mapping.

    Raises OSError, and ValueError or OverflowError for a part that is not there: to touch it would
    end the process.
    """
    flags = mmap.MAP_SHARED
    if populate:
        # Python knows its name from 3.10 on.
        flags |= getattr(mmap, "MAP_POPULATE", 0)
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    # Without this Python keeps a duplicate of the descriptor open as long as the mapping is there.
    untracked: Dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
    # Python takes size 0 for all of the file.
    if size == 0 or os.fstat(descriptor).st_size < offset + size:
        raise ValueError("the file is too short")
    return memoryview(mmap.mmap(descriptor, size, flags, protection, offset=offset, **untracked))

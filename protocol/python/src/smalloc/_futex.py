"""The kernel's futexes: sleeping on words of memory that several processes have mapped.

By ctypes, since Python has no call for them. All are shared ones, without FUTEX_PRIVATE_FLAG.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from enum import Enum
from functools import lru_cache
from typing import Any, Optional

# `futex` by machine; `futex_waitv` has one number on all.
_FUTEX = {"x86_64": 202, "aarch64": 98}
_FUTEX_WAITV = 449
_WAKE = 1
# Unlike FUTEX_WAIT it takes a moment, and no time from now.
_WAIT_BITSET = 9
_ANY_BIT = 0xFFFFFFFF
# FUTEX_32, not private.
_FLAGS = 2
_CLOCK_MONOTONIC = 1
_COUNT_MAX = (1 << 31) - 1
# Nanoseconds. So late is a change of the second word seen where one can't sleep on two.
_SLICE = 100_000_000


class Slept(Enum):
    """Why a sleep is over."""

    WOKEN = 0
    """Another thread has woken this one; rarely, none has."""
    DIFFERS = 1
    """One of the words was not what it should be: there was no sleep."""
    OVER = 2
    """The time was up, a signal came, or it is time to look at the words."""


class SharedFutex:
    """Sleeping on words by their addresses, and waking. Other threads of Python run meanwhile."""

    def __init__(self, ctypes: Any, number: int) -> None:
        # It lets go of the interpreter's lock, unlike PyDLL.
        library = ctypes.CDLL(None, use_errno=True)
        self._call = library.syscall
        self._call.argtypes = (
            ctypes.c_long, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p,
            ctypes.c_ulong, ctypes.c_ulong,
        )  # fmt: skip
        self._call.restype = ctypes.c_long
        self._errno = ctypes.get_errno
        self._words = ctypes.c_uint64 * 6
        self._time = ctypes.c_int64 * 2
        self._number = number
        # Whether the system can sleep on two words at once, as far as is known (Linux 5.16).
        self.sleeps_on_two = True
        if self.wake(ctypes.addressof(ctypes.c_uint32(0)), 1) < 0:
            raise OSError("the system refuses futexes")

    def sleep(self, word: int, expected: int, other: int, known: int, deadline: int) -> Slept:
        """Sleep while two words are what they are expected to be.

        `deadline` is in nanoseconds of time.monotonic_ns.
        """
        if self.sleeps_on_two:
            words = self._words(expected, word, _FLAGS, known, other, _FLAGS)
            found = self._call(
                _FUTEX_WAITV, words, 2, 0, self._time(*divmod(deadline, 10**9)), _CLOCK_MONOTONIC, 0
            )
            if found >= 0:
                return Slept.WOKEN
            why = self._errno()
            if why == errno.EAGAIN:
                return Slept.DIFFERS
            if why in (errno.ETIMEDOUT, errno.EINTR):
                return Slept.OVER
            # An old system, or a sandbox that does not know the call.
            self.sleeps_on_two = False
        end = min(deadline, time.monotonic_ns() + _SLICE)
        moment = self._time(*divmod(end, 10**9))
        if self._call(self._number, word, _WAIT_BITSET, expected, moment, 0, _ANY_BIT) >= 0:
            return Slept.WOKEN
        return Slept.DIFFERS if self._errno() == errno.EAGAIN else Slept.OVER

    def wake(self, word: int, count: int) -> int:
        """Wake threads of all processes that sleep on a word, `count` at most; give how many."""
        woken: int = self._call(self._number, word, _WAKE, min(count, _COUNT_MAX), None, 0, 0)
        return woken


@lru_cache(maxsize=None)
def shared_futex() -> Optional[SharedFutex]:
    """Give the kernel's futexes; None where they can't be had."""
    number = _FUTEX.get(os.uname().machine)
    # A program of 32 bits has other numbers.
    if number is None or not sys.platform.startswith("linux") or sys.maxsize < 1 << 32:
        return None
    try:
        import ctypes

        return SharedFutex(ctypes, number)
    except (ImportError, OSError, AttributeError):
        return None

"""What a client of either kind makes of arguments and of replies."""

from __future__ import annotations

import operator
from typing import Callable, Dict, Optional, Tuple, TypeVar, Union

from . import _wire
from ._errors import BusyError, MismatchError, Status, TooLargeError
from ._info import Stat
from ._transfers import nonsense
from ._types import ElementType
from ._wire import FrameError, Reply

_Told = TypeVar("_Told")


def size_of(length: int, type: ElementType) -> int:
    whole = operator.index(length)
    if not 0 <= whole * type.itemsize <= _wire.U64_MAX:
        raise TooLargeError(Status.TOO_LARGE, "n > kMaxLength")
    return whole * type.itemsize


def check_shape(
    found: Optional[Tuple[int, ...]], dims: Tuple[int, ...], name: Optional[str]
) -> None:
    """Raise MismatchError where an array has another shape than was asked for."""
    if found not in (None, dims):
        raise MismatchError(Status.MISMATCH, "it has shape %s, not %s" % (found, dims), name)


def told(decode: Callable[[Reply], _Told], reply: Reply) -> _Told:
    """Decode a reply. Raises ProtocolError where it makes no sense."""
    try:
        return decode(reply)
    except FrameError as error:
        raise nonsense(error) from error


def stat_of(reply: Reply) -> Stat:
    """Take the reply to stat."""
    return told(Stat.of, reply)


def busy_to_freeze(error: BusyError) -> BusyError:
    """Say what may be in the way of a freeze: the daemon can't tell this program from others."""
    why = "%s; a mapping or a view of this program's own that can be written to counts, too"
    return BusyError(error.code, why % error.message, error.allocation)


def stats_of(reply: Reply) -> Dict[str, Union[int, str]]:
    """Take the reply to stats."""
    stats: Dict[str, Union[int, str]] = {}
    for line in reply.payload.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(" ")
        # A value of thousands of digits is no counter, and slow to take for one.
        is_whole = value.isascii() and value.isdigit() and len(value) <= 20
        stats[key] = int(value) if is_whole else value
    return stats

"""A client of smallocd, which holds named, typed arrays of memory for any number of programs.

    import smalloc

    with smalloc.Client() as client:
        a = client.array("a", (2, 3), "float32")
        a[0] = [1, 2, 3]
        print(a[0, 1])

`smalloc.aio` has the same for asyncio.

`Client` is the connection, `Allocation` what counts elements, `Array` what has a shape and meets
numpy, `Mapping` an allocation's memory as a part of this process' own. All errors are
SmallocErrors. The protocol is protocol/spec.md of the project.
"""

from . import aio
from ._allocation import Allocation
from ._array import Array
from ._cells import WaitResult
from ._client import Client
from ._errors import (
    AlreadyExistsError,
    BusyError,
    CancelledError,
    CannotConnectError,
    ClosedError,
    ConnectionLostError,
    ForkedError,
    FrozenError,
    InvalidArgumentError,
    InvalidNameError,
    LimitError,
    MismatchError,
    NotFoundError,
    OutOfMemoryError,
    OutOfRangeError,
    ProtocolError,
    ShareLimitError,
    SmallocError,
    Status,
    TimedOutError,
    TooLargeError,
    UnknownTypeError,
    UnsupportedError,
)
from ._info import Limits, Listed, Maps, Stat, StatFlag, Storage
from ._mapping import Mapping
from ._monitoring import Cause, Connected, Mode, SlowLog, SlowRequest, Transport
from ._types import ElementType
from ._version import __version__
from ._watching import Event, EventKind, Watch

__all__ = [
    "AlreadyExistsError",
    "Allocation",
    "Array",
    "BusyError",
    "CancelledError",
    "CannotConnectError",
    "Cause",
    "Client",
    "ClosedError",
    "Connected",
    "ConnectionLostError",
    "ElementType",
    "Event",
    "EventKind",
    "ForkedError",
    "FrozenError",
    "InvalidArgumentError",
    "InvalidNameError",
    "LimitError",
    "Limits",
    "Listed",
    "Mapping",
    "Maps",
    "MismatchError",
    "Mode",
    "NotFoundError",
    "OutOfMemoryError",
    "OutOfRangeError",
    "ProtocolError",
    "ShareLimitError",
    "SlowLog",
    "SlowRequest",
    "SmallocError",
    "Stat",
    "StatFlag",
    "Status",
    "Storage",
    "TimedOutError",
    "TooLargeError",
    "Transport",
    "UnknownTypeError",
    "UnsupportedError",
    "WaitResult",
    "Watch",
    "__version__",
    "aio",
]

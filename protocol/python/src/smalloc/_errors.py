"""What can go wrong: one hierarchy, with the statuses of the protocol and a few of its own.

Every exception is a SmallocError, and where it fits one of Python's own kinds as well, so that
`except KeyError` catches an allocation that is not there.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Dict, Optional, Tuple, Type


class Status(IntEnum):
    """Numbers of errors: the daemon's of spec section 8.4, and from 0xF000 on the client's own."""

    OK = 0
    NO_DATA = 0x8001
    ALREADY_EXISTS = 0x8002
    OUT_OF_RANGE = 0x8003
    TOO_LARGE = 0x8004
    UNKNOWN_TYPE = 0x8005
    INVALID_NAME = 0x8006
    INVALID_ARGUMENT = 0x8007
    UNKNOWN_OPERATION = 0x8008
    UNSUPPORTED_FLAGS = 0x8009
    UNSUPPORTED_VERSION = 0x800A
    MALFORMED_REQUEST = 0x800B
    FRAME_TOO_LARGE = 0x800C
    LINE_TOO_LONG = 0x800D
    OUT_OF_MEMORY = 0x800E
    MEMORY_LIMIT = 0x800F
    ALLOCATION_LIMIT = 0x8010
    HANDLE_LIMIT = 0x8011
    BUSY = 0x8012
    FROZEN = 0x8013
    CANCELLED = 0x8014
    WAIT_LIMIT = 0x8015
    SHARE_LIMIT = 0x8016
    MALFORMED_FRAME = 0xC001
    HELLO_REQUIRED = 0xC002
    CONNECTION_LIMIT = 0xC003
    IDLE_TIMEOUT = 0xC004
    REQUEST_TIMEOUT = 0xC005
    SHUTTING_DOWN = 0xC006
    NOT_SMALLOC = 0xC007
    INCOMPLETE_LINE = 0xC008
    CANNOT_CONNECT = 0xF001
    CONNECTION_LOST = 0xF002
    TIMED_OUT = 0xF003
    UNEXPECTED_REPLY = 0xF004
    CLOSED = 0xF005
    FORKED = 0xF006
    MISMATCH = 0xF007

    @property
    def symbol(self) -> str:
        """The status' name in the protocol: `noData`."""
        first, *others = self.name.lower().split("_")
        return first + "".join(word.capitalize() for word in others)


def symbol_of(code: int) -> str:
    """Give a status' name, also of one that this client does not know: `0x8123`."""
    try:
        return Status(code).symbol
    except ValueError:
        return "0x%04X" % code


class SmallocError(Exception):
    """Something that smallocd refused, or that came between it and this client.

    `code` is the status' number, `status` its name (`noData`), `message` the words of whoever
    found the error, for people, and `allocation` the name of the allocation that it was about, or
    `#3` for an anonymous one with that handle, or None.
    """

    def __init__(self, code: int, message: str, allocation: Optional[str] = None) -> None:
        super().__init__(message)
        self.code = int(code)
        self.message = message
        self.allocation = allocation

    @property
    def status(self) -> str:
        """The status' name in the protocol, `noData`; of one not known here its number."""
        return symbol_of(self.code)

    def __str__(self) -> str:
        about = "" if self.allocation is None else " (allocation %s)" % self.allocation
        return "%s: %s%s" % (self.status, self.message, about)

    def __reduce__(
        self,
    ) -> Tuple[Type[SmallocError], Tuple[int, str, Optional[str]]]:
        return type(self), (self.code, self.message, self.allocation)


class NotFoundError(SmallocError, KeyError):
    """noData: nothing is allocated under this name, or what the handle stood for is gone."""


class AlreadyExistsError(SmallocError, ValueError):
    """alreadyExists: the name holds an allocation already."""


class OutOfRangeError(SmallocError, IndexError):
    """outOfRange: a start, count or length lies outside the allocation."""


class TooLargeError(SmallocError, ValueError):
    """tooLarge, frameTooLarge: it is over a limit on lengths or frames."""


class UnknownTypeError(SmallocError, TypeError):
    """unknownType: the daemon, or this client, does not have such an element type."""


class InvalidNameError(SmallocError, ValueError):
    """invalidName: a name is 1 to 255 bytes of printable ASCII without spaces."""


class InvalidArgumentError(SmallocError, ValueError):
    """invalidArgument: an argument is malformed, or not a whole number of elements."""


class UnsupportedError(SmallocError, NotImplementedError):
    """unknownOperation, unsupportedFlags, unsupportedVersion: an older daemon."""


class OutOfMemoryError(SmallocError, MemoryError):
    """outOfMemory, memoryLimit: there is no memory for it, or none that the daemon may use."""


class LimitError(SmallocError):
    """allocationLimit, handleLimit, waitLimit: there are as many as there may be."""


class ShareLimitError(LimitError):
    """shareLimit: the daemon shares as many allocations as it may, or has no descriptor left."""


class BusyError(SmallocError):
    """busy: another process has it mapped for writing, or a request is at work on it; try again."""


class FrozenError(SmallocError, PermissionError):
    """frozen: the allocation's bytes can't be changed any more."""


class CancelledError(SmallocError):
    """cancelled: a wait was taken back, which the daemon does when it stops."""


class ProtocolError(SmallocError):
    """The two sides do not understand each other: a bug in one of them, or no smallocd at all."""


class MismatchError(SmallocError, ValueError):
    """An allocation has another element type, shape or length than was asked for."""


class ClosedError(SmallocError, ValueError):
    """The client, or the allocation's handle, was closed by this program."""


class ForkedError(SmallocError, RuntimeError):
    """The connection belongs to the process that this one was forked from."""


class ConnectionLostError(SmallocError, ConnectionError):
    """There is no connection any more: the daemon ended it, or ended, or the network failed."""


class CannotConnectError(ConnectionLostError):
    """There was no connection to be had."""


class TimedOutError(ConnectionLostError, TimeoutError):
    """The daemon did not answer in time; the connection was given up."""


_KINDS: Dict[int, Type[SmallocError]] = {
    Status.NO_DATA: NotFoundError,
    Status.ALREADY_EXISTS: AlreadyExistsError,
    Status.OUT_OF_RANGE: OutOfRangeError,
    Status.TOO_LARGE: TooLargeError,
    Status.UNKNOWN_TYPE: UnknownTypeError,
    Status.INVALID_NAME: InvalidNameError,
    Status.INVALID_ARGUMENT: InvalidArgumentError,
    Status.UNKNOWN_OPERATION: UnsupportedError,
    Status.UNSUPPORTED_FLAGS: UnsupportedError,
    Status.UNSUPPORTED_VERSION: UnsupportedError,
    Status.MALFORMED_REQUEST: ProtocolError,
    Status.FRAME_TOO_LARGE: TooLargeError,
    Status.OUT_OF_MEMORY: OutOfMemoryError,
    Status.MEMORY_LIMIT: OutOfMemoryError,
    Status.ALLOCATION_LIMIT: LimitError,
    Status.HANDLE_LIMIT: LimitError,
    Status.BUSY: BusyError,
    Status.FROZEN: FrozenError,
    Status.CANCELLED: CancelledError,
    Status.WAIT_LIMIT: LimitError,
    Status.SHARE_LIMIT: ShareLimitError,
    Status.MALFORMED_FRAME: ProtocolError,
    Status.HELLO_REQUIRED: ProtocolError,
    Status.CONNECTION_LIMIT: CannotConnectError,
    Status.IDLE_TIMEOUT: ConnectionLostError,
    Status.REQUEST_TIMEOUT: ConnectionLostError,
    Status.SHUTTING_DOWN: ConnectionLostError,
    Status.NOT_SMALLOC: ProtocolError,
    Status.CANNOT_CONNECT: CannotConnectError,
    Status.CONNECTION_LOST: ConnectionLostError,
    Status.TIMED_OUT: TimedOutError,
    Status.UNEXPECTED_REPLY: ProtocolError,
    Status.CLOSED: ClosedError,
    Status.FORKED: ForkedError,
    Status.MISMATCH: MismatchError,
}


def error_of(code: int, message: str, allocation: Optional[str] = None) -> SmallocError:
    """Make the exception of a status' kind; of a status not known here a SmallocError."""
    kind = _KINDS.get(code)
    if kind is None:
        # A status that is not known goes by its two top bits; 14 says that the daemon closes.
        kind = ConnectionLostError if code & 0xF000 == 0xC000 else SmallocError
    return kind(code, printable(message), allocation)


def refusal_of(line: bytes, address: str) -> SmallocError:
    """Make the exception of the line of text that a daemon refuses a connection with."""
    text = line.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    words = text.split(None, 2)
    if len(words) == 3 and words[0] == "ERR":
        for status in Status:
            if status.symbol == words[1]:
                return error_of(status, words[2].partition(": ")[2] or words[2])
    return ProtocolError(
        Status.UNEXPECTED_REPLY, "%s is no smallocd: it says %r" % (address, text[:80])
    )


def printable(text: str) -> str:
    """Replace what a terminal must not get."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)

"""The client: a connection, names, and arrays.

How it moves bytes is in `_transfers.py`, what counts elements in `_allocation.py`, what has a shape
in `_array.py`.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterable, Iterator, List, NoReturn, Optional, Sequence, Tuple

from . import _wire
from ._address import default_address, parse_address
from ._allocation import Allocation
from ._answers import busy_to_freeze, check_shape, size_of, stat_of
from ._array import Array, opened_array
from ._buffers import has_shared_huge_pages
from ._calls import Call, Handle, Outcome
from ._cells import milliseconds_of
from ._connection import Connection
from ._descriptions import Description
from ._errors import BusyError, MismatchError, NotFoundError, ShareLimitError
from ._errors import SmallocError, Status
from ._info import Limits, Listed, Stat, decode_name, whole_length
from ._mapping import mapping_of
from ._opening import open_with
from ._reports import Reports
from ._shapes import Shape, length_of, shape_of
from ._transfers import Target, Transfers, encode_name, nonsense, whole
from ._types import ElementType
from ._values import elements_of
from ._version import __version__
from ._wire import Feature, FrameError, Operation, Reply, Request

# Attempts to open or make an array while others make and dispose of it.
ATTEMPTS = 100
# From this size on `put` writes into memory that can be mapped. Writing alone takes half as long
# into memory that can't (64 MiB: 13 against 25 ms, without huge pages), but to map that afterwards
# moves it. Both together take as long either way at 64 KiB, 0.85 times as long this way at 256 KiB,
# and 0.6 to 0.7 times from 1 MiB on.
SHARED_SIZE = 65536
# From this size on it has the daemon make huge pages first, where the system has them for shared
# memory: 64 MiB then take a half to a fifth of the time.
HUGE_SIZE = 2 << 20


class Client(Transfers, Reports):
    """A connection to smallocd.

    Any number of threads may use one client: a lock has their calls follow one another. A process
    that was forked may not use its parent's (`ForkedError`), and makes one of its own. Where the
    daemon ends, or the network fails, the call under way and all later ones raise
    `ConnectionLostError`; what was opened is lost with the connection, and a new Client connects
    again. So does a call that is interrupted (Ctrl-C), since half of a request may have left.

    As a context manager it closes itself.

    Offsets and sizes are bytes here; lengths, starts and counts are elements. A `target` is the
    name of an allocation, an Allocation or an Array.
    """

    def __init__(
        self,
        address: Optional[str] = None,
        *,
        timeout: Optional[float] = 30.0,
        connect_timeout: Optional[float] = 5.0,
        mapping: bool = True,
        busy_poll: float = 0.0,
    ) -> None:
        """Connect to `unix:PATH`, `tcp:HOST:PORT` or `tcp:[IPV6]:PORT`, and say hello.

        Without an address it is `$SMALLOC_ADDRESS`, else `unix:$XDG_RUNTIME_DIR/smallocd.sock`,
        else `unix:/run/smallocd/smallocd.sock`. Times are in seconds, None is for ever: `timeout`
        between any two signs of life of the daemon while it owes an answer. Without `mapping` all
        arrays are reached by requests, as they are over TCP. For `busy_poll`, such as 50e-6, an
        answer is asked for again and again before the thread sleeps, which is faster and takes a
        processor meanwhile; 0: it sleeps at once.

        Raises InvalidArgumentError, CannotConnectError, ConnectionLostError, UnsupportedError.
        """
        where = parse_address(default_address() if address is None else address)
        self._address = str(where)
        self._connection = Connection(where, connect_timeout, timeout, busy_poll)
        self._limits = Limits()
        self._wants_mapping = mapping
        try:
            self.hello()
        except BaseException:
            self._connection.close()
            raise

    # The connection

    @property
    def address(self) -> str:
        """The daemon's address; the path of a socket is absolute."""
        return self._address

    @property
    def limits(self) -> Limits:
        """The limits that the daemon told last."""
        return self._limits

    @property
    def is_live(self) -> bool:
        """Whether the connection stands, as far as can be told without asking the daemon."""
        return self._connection.is_live

    @property
    def can_map(self) -> bool:
        """Whether arrays are mapped: the daemon told that they can be, over a Unix socket."""
        return self._wants_mapping and self._limits.features >> Feature.MAP & 1 == 1

    @property
    def tells_shapes(self) -> bool:
        """Whether the daemon keeps shapes and metadata, and tells them."""
        return self._limits.features >> Feature.TYPES & 1 == 1

    def close(self) -> None:
        """Close the connection; what is mapped stays. Idempotent.

        Handles, and anonymous allocations, end with it.
        """
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<smalloc.Client %s%s>" % (self._address, "" if self.is_live else ", not live")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Client is a connection and can't be pickled; pickle its address")

    def hello(self) -> Limits:
        """Ask for the limits anew."""
        software = "smalloc-python/" + __version__
        reply = self._connection.call(_wire.hello(software.encode("ascii")))
        self._limits = Limits.of(_wire.decode_numbers(reply.payload))
        return self._limits

    # Names

    def alloc(
        self, length: int, type: Any = "Uint8", name: Optional[str] = None, shareable: bool = False,
        shape: Optional[Shape] = None, metadata: bytes = b"", lease: Optional[float] = None,
    ) -> Allocation:  # fmt: skip
        """Allocate `length` elements of `type`, which read as zeros, and open them.

        Without a name the allocation is anonymous: it goes when the object does, with the next
        call, and at the latest with the connection. `type` is whatever ElementType.of takes.
        `shareable` has its memory be such that it is mapped without being moved first; that needs
        a Unix socket, and a daemon with `map`. `shape` is up to 8 dimensions whose product is the
        length, and `metadata` up to 256 bytes of one's own: the daemon keeps both, and tells them
        to whoever opens it.

        `lease` has it end by itself, under its name, too: with this connection where it is 0, else
        when no handle and no map of it was open for so many seconds.

        Raises InvalidNameError, UnknownTypeError, TooLargeError, AlreadyExistsError, LimitError,
        OutOfMemoryError; UnsupportedError, ShareLimitError with `shareable`; InvalidArgumentError,
        UnsupportedError (see `tells_shapes`) with a shape or metadata.
        """
        element = ElementType.of(type)
        wire_name = b"" if name is None else encode_name(name)
        described = Description.of(shape, metadata, lease).check(length)
        size = size_of(length, element)
        request = _wire.alloc(
            element.number, size, wire_name, False, shareable, described.encode(),
            described.lease is not None,
        )  # fmt: skip
        reply = self._connection.call(request)
        return self._opened(reply, self._handle_of(reply, name), name, element, described)

    def create(
        self, name: str, length: int, type: Any = "Uint8", shape: Optional[Shape] = None,
        metadata: bytes = b"", lease: Optional[float] = None,
    ) -> None:  # fmt: skip
        """Allocate under a name, as `alloc` does, without opening it. Raises the same."""
        element = ElementType.of(type)
        described = Description.of(shape, metadata, lease).check(length)
        size = size_of(length, element)
        self._connection.call(
            _wire.alloc(
                element.number, size, encode_name(name), True, False, described.encode(),
                described.lease is not None,
            )  # fmt: skip
        )

    def open(
        self, name: str, timeout: Optional[float] = 0.0, frozen: bool = False
    ) -> Allocation:
        """Open an allocation by its name; wait for it where there is none.

        `timeout` is in seconds, None is for ever, and 0 does not wait. With `frozen` it has to be
        frozen, too. However short a name is there, it is not missed; but what was disposed of
        since then raises NotFoundError with its first use. Threads and Ctrl-C: as Allocation.wait.

        Raises InvalidNameError, NotFoundError (also when the time is up), LimitError,
        CancelledError where the daemon stops, UnsupportedError.
        """
        request = _wire.open_name(encode_name(name), milliseconds_of(timeout), frozen)
        connection = self._connection
        reply = connection.wait(request) if request.size else connection.call(request)
        type = ElementType.of_number(reply.header.type)
        return self._opened(reply, self._handle_of(reply, name), name, type)

    def exists(self, name: str) -> bool:
        """Tell whether there is an allocation of that name. Raises InvalidNameError."""
        try:
            self._connection.call(Request(Operation.STAT, name=encode_name(name)))
        except NotFoundError:
            return False
        return True

    def dispose(self, target: Target) -> None:
        """Free an allocation, and its name, for all clients.

        Raises InvalidNameError, NotFoundError.
        """
        name, handle = self._resolve(target)
        request = Request(Operation.DISPOSE, name=name)
        if handle is None:
            self._connection.call(request)
        else:
            self._connection.call_closing(request, handle)

    def freeze(self, target: Target) -> None:
        """Make an allocation's bytes unchangeable, for all clients and for good.

        Raises InvalidNameError, NotFoundError, BusyError while anybody has it mapped for writing
        or changes it, OutOfMemoryError.
        """
        name, handle = self._resolve(target)
        try:
            self._connection.call(Request(Operation.FREEZE, name=name), handle)
        except BusyError as error:
            raise busy_to_freeze(error) from None

    def rename(self, target: Target, name: str, replace: bool = False) -> None:
        """Give an allocation another name, or an anonymous one its first.

        With `replace` it takes the place of the allocation that has the name, which is disposed
        of: at no moment does nothing have the name.

        Raises InvalidNameError, NotFoundError, AlreadyExistsError (not with `replace`).
        """
        old, handle = self._resolve(target)
        self._connection.call(_wire.rename(encode_name(name), replace, old), handle)
        if handle is not None:
            handle.label = name

    def stat(self, target: Target) -> Stat:
        """Tell about an allocation. Raises InvalidNameError, NotFoundError."""
        name, handle = self._resolve(target)
        return stat_of(self._connection.call(Request(Operation.STAT, name=name), handle))

    def stat_many(self, targets: Iterable[Target]) -> List[Optional[Stat]]:
        """Tell about many, with all requests under way together. None for those not found.

        Raises InvalidNameError.
        """
        calls: List[Call] = []
        for target in targets:
            name, handle = self._resolve(target)
            calls.append(Call(Request(Operation.STAT, name=name), handle))
        stats: List[Optional[Stat]] = []
        for outcome in self._connection.exchange(calls):
            if isinstance(outcome, NotFoundError):
                stats.append(None)
            elif isinstance(outcome, SmallocError):
                raise outcome
            else:
                stats.append(stat_of(outcome))
        return stats

    def list(self, prefix: str = "", page: int = 0) -> Iterator[Listed]:
        """Tell the named allocations whose names start with `prefix`, in no order.

        They are asked for page by page while one iterates, of about `page` entries each (0: as
        the daemon likes). What comes or goes meanwhile may be told or not.
        """
        wire_prefix = prefix.encode("utf-8")
        if len(wire_prefix) > _wire.NAME_SIZE_MAX:
            return
        cursor = 0
        while True:
            request = _wire.list_names(wire_prefix, cursor, whole(page))
            reply = self._connection.call(request)
            try:
                for entry in _wire.decode_entries(reply.payload, reply.header.size):
                    type = ElementType.of_number(entry.type)
                    length = whole_length(entry.size, type)
                    yield Listed(decode_name(entry.name), type, length, entry.size)
            except FrameError as error:
                raise nonsense(error) from error
            cursor = reply.header.offset
            if cursor == 0:
                return

    # Arrays

    def array(
        self, name: str, shape: Shape, dtype: Any, metadata: bytes = b"",
        lease: Optional[float] = None,
    ) -> Array:  # fmt: skip
        """Open the array of that name, or make it, of zeros. It is mapped where that can be.

        One that is made gets the metadata and the lease; those of one that is opened are not looked
        at.

        Raises MismatchError where there is an allocation of another type or shape, or of another
        length where it has no shape, and what `alloc`, `open` and Allocation.map raise.
        """
        element, dims, wire_name = ElementType.of(dtype), shape_of(shape), encode_name(name)
        described = Description.of(self._told(dims), metadata, lease)
        size = size_of(length_of(dims), element)
        make = _wire.alloc(
            element.number, size, wire_name, False, self.can_map, described.encode(),
            lease is not None,
        )  # fmt: skip
        # Where it can be made it was not there. Its handle is then the first, and else the other's.
        openings = (make, Request(Operation.OPEN, name=wire_name))
        for _ in range(ATTEMPTS):
            try:
                found, mapped, is_new = self._open_with(openings, name, True, True)
                if found.type is not element:
                    found.close()
                    why = "it is of %s, not %s" % (found.type.name, element.name)
                    raise MismatchError(Status.MISMATCH, why, name)
                try:
                    check_shape(found.shape, dims, name)
                except BaseException:
                    found.close()
                    raise
                return opened_array(found, dims, True, mapped, is_new)
            except NotFoundError:
                continue
        raise NotFoundError(Status.NO_DATA, "others make and dispose of it all the time", name)

    def get(self, name: str, shape: Optional[Shape] = None, writable: bool = True) -> Array:
        """Open an array by its name. It has the shape that it was made with.

        Another one of the same length may be asked for; without either it is of one dimension.
        It is mapped where that can be: `numpy.asarray(client.get(name))` is then the memory
        itself, without a copy. It can be written to unless the allocation is frozen, or
        `writable` is False.

        Raises NotFoundError, MismatchError where the shape is of another length, and what
        Allocation.map raises.
        """
        openings = (Request(Operation.OPEN, name=encode_name(name)),)
        for _ in range(ATTEMPTS):
            try:
                found, mapped, _ = self._open_with(openings, name, shape is None, writable)
                return opened_array(found, shape, writable, mapped)
            except NotFoundError:
                # Between the two requests it may have been replaced.
                self.stat(name)
        raise NotFoundError(Status.NO_DATA, "it is replaced faster than it can be mapped", name)

    def put(self, name: str, values: Any, dtype: Any = None, metadata: bytes = b"") -> Array:
        """Put values under a name, in the place of what has it, at one stroke.

        `values` is an array of numpy's or another buffer of numbers, of any shape, which gives the
        element type; or, with a `dtype`, a list of numbers, which are stored as ElementType.pack
        does. Whoever opens it gets the shape, too. Others find what was there before or all of the
        new values: these are written into an anonymous allocation, which then takes the name. So
        nothing is left of a put that fails, whenever that is, and for a moment there has to be
        memory for both. From 64 KiB on they are written into memory that can be mapped without
        being moved, where that can be.

        Raises TypeError, UnknownTypeError, InvalidNameError, OutOfMemoryError and others of
        `alloc`.
        """
        element, dims, data = elements_of(values, dtype)
        encode_name(name)
        told = self._told(dims)
        if self.can_map and len(data) >= SHARED_SIZE:
            # The descriptor would give it small pages; the daemon makes the huge ones.
            populate = len(data) >= HUGE_SIZE and has_shared_huge_pages()
            with contextlib.suppress(ShareLimitError):
                made, reply = self._alloc_mapped(
                    length_of(dims), element, told, metadata, populate
                )
                try:
                    mapping = mapping_of(reply, made.handle, element, True, populate, data)
                    made.rename(name, replace=True)
                    return Array(made, dims, mapping=mapping)
                except BaseException:
                    made.close()
                    raise
        made = self.alloc(length_of(dims), element, shape=told, metadata=metadata)
        try:
            self.write(made, data)
            made.rename(name, replace=True)
            return Array(made, dims)
        except BaseException:
            made.close()
            raise

    # Within

    def _told(self, shape: Tuple[int, ...]) -> Optional[Tuple[int, ...]]:
        """Give what an older daemon is told of a shape: nothing."""
        return shape if self.tells_shapes else None

    def _open_with(
        self, openings: Sequence[Request], name: str, tells_shape: bool, writable: bool
    ) -> Tuple[Allocation, Optional[Outcome], bool]:
        """Open it, ask for its shape and map it, in one round trip; what can't be asked for is not.

        Give the allocation, what came of the request to map it, if it was sent, and whether the
        allocation is new. Raises the errors of the others.
        """
        others: List[Request] = []
        if tells_shape and self.tells_shapes:
            others.append(Request(Operation.STAT))
        if self.can_map:
            others.append(_wire.map_memory(writable, False))
        opened = open_with(self._connection, openings, others, name)
        type = ElementType.of_number(opened.reply.header.type)
        found = self._opened(opened.reply, opened.handle, name, type)
        mapped: Optional[Outcome] = None
        for request, outcome in zip(others, opened.outcomes):
            if request.operation is Operation.MAP:
                mapped = outcome
            elif isinstance(outcome, Reply):
                found.note(stat_of(outcome))
            elif outcome is not None:
                raise outcome
        return found, mapped, opened.reply.header.operation == Operation.ALLOC

    def _alloc_mapped(
        self, length: int, type: ElementType, shape: Optional[Shape], metadata: bytes,
        populate: bool,
    ) -> Tuple[Allocation, Reply]:  # fmt: skip
        """Allocate anonymously, and ask for the memory. Raises what `alloc` and `map` do."""
        size, described = size_of(length, type), Description.of(shape, metadata)
        make = _wire.alloc(type.number, size, shareable=True, description=described.encode())
        to_map = _wire.map_memory(True, populate)
        opened = open_with(self._connection, (make,), (to_map,), None)
        (mapped,) = opened.outcomes
        if mapped is None:
            mapped = self._connection.call(to_map, opened.handle)
        if isinstance(mapped, SmallocError):
            raise mapped
        return self._opened(opened.reply, opened.handle, None, type, described), mapped

    def _handle_of(self, reply: Reply, name: Optional[str]) -> Handle:
        number = reply.header.handle
        if number == 0:
            raise nonsense("an opened allocation has no handle")
        return Handle(number, self._connection, name or "#%d" % number)

    def _opened(
        self, reply: Reply, handle: Handle, name: Optional[str], type: ElementType,
        description: Optional[Description] = None,
    ) -> Allocation:  # fmt: skip
        try:
            length = whole_length(reply.header.size, type)
        except FrameError as error:
            raise nonsense(error) from error
        return Allocation(self, handle, name, type, length, description)

"""The client of asyncio: a connection, names, and arrays."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, AsyncIterator, Dict, Iterable, List, NoReturn, Optional, Sequence, Tuple
from typing import Union

from .. import _wire
from .._address import default_address, parse_address
from .._answers import busy_to_freeze, check_shape, size_of, stat_of, stats_of, told
from .._buffers import has_shared_huge_pages
from .._calls import Call, Handle, Outcome
from .._cells import milliseconds_of
from .._client import ATTEMPTS, HUGE_SIZE, SHARED_SIZE
from .._descriptions import Description
from .._errors import AlreadyExistsError, BusyError, ClosedError, MismatchError, NotFoundError
from .._errors import ShareLimitError, SmallocError, Status
from .._info import Limits, Listed, Stat, decode_name, whole_length
from .._mapping import Mapping, mapping_of
from .._monitoring import Connected, SlowLog, ask_clients, ask_slowlog
from .._monitoring import decode_clients, decode_slowlog
from .._shapes import Shape, length_of, shape_of
from .._transfers import encode_name, nonsense, whole
from .._types import ElementType
from .._values import elements_of
from .._version import __version__
from .._wire import Feature, FrameError, Operation, Reply, Request
from ._allocation import Allocation
from ._array import Array, mapped_array
from ._connection import Connection, open_connection
from ._transfers import Target, Transfers
from ._watch import Watch


class Client(Transfers):
    """A connection to smallocd, for the tasks of one event loop.

    `async with smalloc.aio.Client() as client` connects and closes; so do `connect` and `close`.
    Any number of tasks use it: their requests leave together, and replies are matched by cookies.
    What is told of smalloc.Client holds here: a lost connection stays lost, a forked process makes
    a client of its own, offsets and sizes are bytes, lengths, starts and counts are elements.

    A task that is cancelled leaves the client usable. Its request, if it has left, is carried out
    all the same: what it gives a name stays. A wait is taken back; what would be opened is closed.
    """

    def __init__(
        self,
        address: Optional[str] = None,
        *,
        timeout: Optional[float] = 30.0,
        connect_timeout: Optional[float] = 5.0,
        mapping: bool = True,
    ) -> None:
        """Take an address, as smalloc.Client does. It connects with `connect`.

        Times are in seconds, None is for ever: `timeout` between any two signs of life of the
        daemon while it owes an answer. Without `mapping` all arrays are reached by requests.

        Raises InvalidArgumentError.
        """
        self._where = parse_address(default_address() if address is None else address)
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._wants_mapping = mapping
        self._limits = Limits()
        self._connection: Optional[Connection] = None
        # While a task connects: what the others that want to are told, and what is being greeted.
        self._connecting: Optional[asyncio.Future[Optional[SmallocError]]] = None
        self._greeting: Optional[Connection] = None

    # The connection

    async def connect(self) -> Client:
        """Connect, and say hello; again does nothing. Tasks that do it together share one.

        Raises CannotConnectError, ConnectionLostError, UnsupportedError; ClosedError where another
        task closes the client meanwhile.
        """
        while self._connection is None:
            if self._connecting is None:
                await self._connect()
                continue
            # It is another task's. Where that one is cancelled, this one connects.
            error = await asyncio.shield(self._connecting)
            if error is not None:
                raise type(error)(error.code, error.message)
        return self

    async def _connect(self) -> None:
        told: asyncio.Future[Optional[SmallocError]] = asyncio.get_running_loop().create_future()
        error: Optional[SmallocError] = None
        self._connecting = told
        try:
            found = await open_connection(self._where, self._connect_timeout, self._timeout)
            try:
                self._greeting = None if told.done() else found
                limits = None if told.done() else await self._greet(found)
                if limits is None or told.done():
                    raise ClosedError(Status.CLOSED, "the client is closed")
            except BaseException:
                found.close()
                raise
            self._connection, self._limits = found, limits
        except SmallocError as caught:
            error = caught
            raise
        finally:
            self._connecting = self._greeting = None
            if not (told.done() or told.get_loop().is_closed()):
                told.set_result(error)

    @property
    def connection(self) -> Connection:
        """The connection; for Allocation. Raises ClosedError where there is none yet."""
        if self._connection is None:
            raise ClosedError(Status.CLOSED, "the client is not connected: `await connect()`")
        return self._connection

    @property
    def address(self) -> str:
        """The daemon's address; the path of a socket is absolute."""
        return str(self._where)

    @property
    def limits(self) -> Limits:
        """The limits that the daemon told last."""
        return self._limits

    @property
    def is_live(self) -> bool:
        """Whether the connection stands, as far as can be told without asking the daemon."""
        return self._connection is not None and self._connection.is_live

    @property
    def can_map(self) -> bool:
        """Whether arrays are mapped: the daemon told that they can be, over a Unix socket."""
        return self._wants_mapping and self._limits.features >> Feature.MAP & 1 == 1

    @property
    def tells_shapes(self) -> bool:
        """Whether the daemon keeps shapes and metadata, and tells them."""
        return self._limits.features >> Feature.TYPES & 1 == 1

    async def close(self) -> None:
        """Close the connection; what is mapped stays. Idempotent.

        Handles, and anonymous allocations, end with it; what other tasks await fails with
        ClosedError.
        """
        if self._connection is not None:
            self._connection.close()
        if self._greeting is not None:
            self._greeting.close()
        if self._connecting is not None and not self._connecting.done():
            self._connecting.set_result(ClosedError(Status.CLOSED, "the client is closed"))

    async def __aenter__(self) -> Client:
        return await self.connect()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return "<smalloc.aio.Client %s%s>" % (self.address, "" if self.is_live else ", not live")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Client is a connection and can't be pickled; pickle its address")

    async def hello(self) -> Limits:
        """Ask for the limits anew."""
        self._limits = await self._greet(self.connection)
        return self._limits

    @staticmethod
    async def _greet(connection: Connection) -> Limits:
        software = "smalloc-python-aio/" + __version__
        reply = await connection.ask(_wire.hello(software.encode("ascii")))
        return Limits.of(_wire.decode_numbers(reply.payload))

    async def ping(self) -> None:
        """Ask for a sign of life."""
        await self.connection.ask(Request(Operation.PING))

    async def stats(self) -> Dict[str, Union[int, str]]:
        """Give the daemon's counters and limits, spec section 7.15; whole numbers as integers."""
        return stats_of(await self.connection.ask(Request(Operation.STATS)))

    async def clients(self) -> List[Connected]:
        """Tell who is connected, as far as this user may know: its own connections, root all.

        Raises UnsupportedError.
        """
        found: List[Connected] = []
        cursor = 0
        while True:
            reply = await self.connection.ask(ask_clients(cursor))
            found += told(decode_clients, reply)
            cursor = reply.header.offset
            if cursor == 0:
                return found

    async def slowlog(self, count: int = 128) -> SlowLog:
        """Tell the requests that took longest, `count` at most. Raises UnsupportedError."""
        return told(decode_slowlog, await self.connection.ask(ask_slowlog(whole(count))))

    # Names

    async def alloc(
        self, length: int, type: Any = "Uint8", name: Optional[str] = None, shareable: bool = False,
        shape: Optional[Shape] = None, metadata: bytes = b"", lease: Optional[float] = None,
    ) -> Allocation:  # fmt: skip
        """Allocate `length` elements of `type`, which read as zeros, and open them.

        Without a name the allocation is anonymous: it goes when the object does, with the next
        request, and at the latest with the connection. All is as with smalloc.Client.alloc.
        """
        element = ElementType.of(type)
        wire_name = b"" if name is None else encode_name(name)
        described = Description.of(shape, metadata, lease).check(length)
        size = size_of(length, element)
        request = _wire.alloc(
            element.number, size, wire_name, False, shareable, described.encode(),
            described.lease is not None,
        )  # fmt: skip
        return self._opened(await self.connection.ask(request), name, element, described)

    async def create(
        self, name: str, length: int, type: Any = "Uint8", shape: Optional[Shape] = None,
        metadata: bytes = b"", lease: Optional[float] = None,
    ) -> None:  # fmt: skip
        """Allocate under a name, as `alloc` does, without opening it. Raises the same."""
        element = ElementType.of(type)
        described = Description.of(shape, metadata, lease).check(length)
        size = size_of(length, element)
        await self.connection.ask(
            _wire.alloc(
                element.number, size, encode_name(name), True, False, described.encode(),
                described.lease is not None,
            )  # fmt: skip
        )

    async def open(
        self, name: str, timeout: Optional[float] = 0.0, frozen: bool = False
    ) -> Allocation:
        """Open an allocation by its name; wait for it where there is none.

        All is as with smalloc.Client.open. Where the task is cancelled, it waits no more.
        """
        request = _wire.open_name(encode_name(name), milliseconds_of(timeout), frozen)
        connection = self.connection
        ask = connection.ask_waiting if request.size else connection.ask
        reply = await ask(request)
        return self._opened(reply, name, ElementType.of_number(reply.header.type))

    async def watch(self, prefix: str = "", cursor: Optional[int] = None) -> Watch:
        """Watch names: what becomes of them from now on, or from where another watch was.

        All is as with smalloc.Client.watch.
        """
        watch = Watch(self.connection, prefix, cursor)
        return await watch.begin() if cursor is None else watch

    async def exists(self, name: str) -> bool:
        """Tell whether there is an allocation of that name. Raises InvalidNameError."""
        try:
            await self.connection.ask(Request(Operation.STAT, name=encode_name(name)))
        except NotFoundError:
            return False
        return True

    async def dispose(self, target: Target) -> None:
        """Free an allocation, and its name, for all clients.

        Raises InvalidNameError, NotFoundError.
        """
        name, handle = self.resolve(target)
        await self.connection.ask(Request(Operation.DISPOSE, name=name), handle, closing=handle)

    async def freeze(self, target: Target) -> None:
        """Make an allocation's bytes unchangeable, for all clients and for good.

        Raises InvalidNameError, NotFoundError, BusyError while anybody has it mapped for writing
        or changes it, OutOfMemoryError.
        """
        name, handle = self.resolve(target)
        try:
            await self.connection.ask(Request(Operation.FREEZE, name=name), handle)
        except BusyError as error:
            raise busy_to_freeze(error) from None

    async def rename(self, target: Target, name: str, replace: bool = False) -> None:
        """Give an allocation another name, or an anonymous one its first.

        With `replace` it takes the place of the allocation that has the name, which is disposed
        of: at no moment does nothing have the name.

        Raises InvalidNameError, NotFoundError, AlreadyExistsError (not with `replace`).
        """
        old, handle = self.resolve(target)
        await self.connection.ask(_wire.rename(encode_name(name), replace, old), handle)
        if handle is not None:
            handle.label = name

    async def stat(self, target: Target) -> Stat:
        """Tell about an allocation. Raises InvalidNameError, NotFoundError."""
        name, handle = self.resolve(target)
        return stat_of(await self.connection.ask(Request(Operation.STAT, name=name), handle))

    async def stat_many(self, targets: Iterable[Target]) -> List[Optional[Stat]]:
        """Tell about many, with all requests under way together. None for those not found.

        Raises InvalidNameError.
        """
        calls: List[Call] = []
        for target in targets:
            name, handle = self.resolve(target)
            calls.append(Call(Request(Operation.STAT, name=name), handle))
        stats: List[Optional[Stat]] = []
        for outcome in await self.connection.ask_all(calls):
            if isinstance(outcome, NotFoundError):
                stats.append(None)
            elif isinstance(outcome, SmallocError):
                raise outcome
            else:
                stats.append(stat_of(outcome))
        return stats

    async def list(self, prefix: str = "", page: int = 0) -> AsyncIterator[Listed]:
        """Tell the named allocations whose names start with `prefix`, in no order.

        They are asked for page by page while one iterates (`async for`), of about `page` entries
        each (0: as the daemon likes). What comes or goes meanwhile may be told or not.
        """
        wire_prefix = prefix.encode("utf-8")
        if len(wire_prefix) > _wire.NAME_SIZE_MAX:
            return
        cursor = 0
        while True:
            request = _wire.list_names(wire_prefix, cursor, whole(page))
            reply = await self.connection.ask(request)
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

    async def array(
        self, name: str, shape: Shape, dtype: Any, metadata: bytes = b"",
        lease: Optional[float] = None,
    ) -> Array:  # fmt: skip
        """Open the array of that name, or make it, of zeros. It is mapped where that can be.

        All is as with smalloc.Client.array.
        """
        element, dims, wire_name = ElementType.of(dtype), shape_of(shape), encode_name(name)
        described = Description.of(self._told(dims), metadata, lease)
        size = size_of(length_of(dims), element)
        make = _wire.alloc(
            element.number, size, wire_name, False, self.can_map, described.encode(),
            lease is not None,
        )  # fmt: skip
        openings = (make, Request(Operation.OPEN, name=wire_name))
        for _ in range(ATTEMPTS):
            try:
                found, is_new = await self._open_with(openings, name, True, described)
                if found.type is not element:
                    await found.close()
                    why = "it is of %s, not %s" % (found.type.name, element.name)
                    raise MismatchError(Status.MISMATCH, why, name)
                try:
                    check_shape(found.shape, dims, name)
                except MismatchError:
                    await found.close()
                    raise
                return await mapped_array(found, dims, True, self.can_map, is_new)
            except NotFoundError:
                continue
        raise NotFoundError(Status.NO_DATA, "others make and dispose of it all the time", name)

    async def get(self, name: str, shape: Optional[Shape] = None, writable: bool = True) -> Array:
        """Open an array by its name. It has the shape that it was made with.

        All is as with smalloc.Client.get.
        """
        openings = (Request(Operation.OPEN, name=encode_name(name)),)
        for _ in range(ATTEMPTS):
            try:
                found, _ = await self._open_with(openings, name, shape is None)
                return await mapped_array(found, shape, writable, self.can_map)
            except NotFoundError:
                # Between the two requests it may have been replaced.
                await self.stat(name)
        raise NotFoundError(Status.NO_DATA, "it is replaced faster than it can be mapped", name)

    async def put(
        self, name: str, values: Any, dtype: Any = None, metadata: bytes = b""
    ) -> Array:
        """Put values under a name, in the place of what has it, at one stroke.

        All is as with smalloc.Client.put. Copying into mapped memory takes the loop's thread.
        """
        if isinstance(values, Array) and values.mapping is None:
            dtype = values.type if dtype is None else dtype
            values = await values.read()
        element, dims, data = elements_of(values, dtype)
        encode_name(name)
        told = self._told(dims)
        is_shared = self.can_map and len(data) >= SHARED_SIZE
        try:
            made = await self.alloc(
                length_of(dims), element, None, is_shared, shape=told, metadata=metadata
            )
        except ShareLimitError:
            is_shared = False
            made = await self.alloc(length_of(dims), element, shape=told, metadata=metadata)
        try:
            mapping: Optional[Mapping] = None
            if is_shared:
                # The descriptor would give it small pages; the daemon makes the huge ones.
                populate = len(data) >= HUGE_SIZE and has_shared_huge_pages()
                with contextlib.suppress(ShareLimitError):
                    reply = await self.connection.ask(
                        _wire.map_memory(True, populate), made.handle
                    )
                    mapping = mapping_of(reply, made.handle, element, True, populate, data)
            if mapping is None:
                await self.write(made, data)
            await made.rename(name, replace=True)
            if mapping is None and self.can_map:
                return await mapped_array(made, dims, True, True)
            return Array(made, dims, mapping=mapping)
        except BaseException:
            await made.close()
            raise

    # Within

    def _told(self, shape: Tuple[int, ...]) -> Optional[Tuple[int, ...]]:
        """Give what an older daemon is told of a shape: nothing."""
        return shape if self.tells_shapes else None

    async def _open_with(
        self, openings: Sequence[Request], name: str, tells_shape: bool,
        described: Optional[Description] = None,
    ) -> Tuple[Allocation, bool]:  # fmt: skip
        """Open it by the first request that does, and ask for its shape; tell whether it is new.

        What is new is `described`, which is not asked for: a task that is cancelled then would
        leave it.

        Raises the error of the first where none does; but where that is that there is an
        allocation of the name, the last one's.
        """
        outcomes = await self.connection.ask_all(Call(one) for one in openings)
        found: Optional[Allocation] = None
        for one in outcomes:
            if isinstance(one, Reply):
                opened = self._opened(one, name, ElementType.of_number(one.header.type))
                # Another one of the same name is closed with the object.
                found = found or opened
        if found is None:
            error: Outcome = outcomes[0]
            if isinstance(error, AlreadyExistsError):
                error = outcomes[-1]
            assert isinstance(error, SmallocError)
            raise error
        is_new = isinstance(outcomes[0], Reply) and openings[0].operation is Operation.ALLOC
        if is_new and described is not None:
            found.describe(described)
        elif tells_shape and self.tells_shapes:
            await found.stat()
        return found, is_new

    def _opened(
        self, reply: Reply, name: Optional[str], type: ElementType,
        description: Optional[Description] = None,
    ) -> Allocation:  # fmt: skip
        number = reply.header.handle
        if number == 0:
            raise nonsense("an opened allocation has no handle")
        handle = Handle(number, self.connection, name or "#%d" % number)
        try:
            length = whole_length(reply.header.size, type)
        except FrameError as error:
            raise nonsense(error) from error
        return Allocation(self, handle, name, type, length, description)


"""A server in a few lines: what a client may ask of it, and what it answers. No mappings.

What of a request is against the specification is found in `_breaches.py`.
"""

from __future__ import annotations

import struct
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from .._types import ElementType
from .._wire import PROTOCOL_VERSION, RANGES_MAX, REPLY_MAGIC, U64_MAX
from .._wire import Feature, Flag, Header, Operation, RenameFlag
from ._findings import status_code

# Everything that needs no descriptors.
FEATURES = sum(
    1 << one for one in (Feature.ATOMICS, Feature.WAIT, Feature.FREEZE, Feature.TYPES)
)
# versionMin, versionMax, features, and the limits in the order of section 3.7.
GREETING = (
    1, 1, FEATURES, 1 << 30, 1 << 30, 1 << 20, 1000, 1 << 26, 4096, 1 << 20, 1 << 20, 1 << 20,
    0, 30000, 65536, 255, 1024, 4096, 0,
)  # fmt: skip
CLASSES = {"alreadyExists": 1, "outOfRange": 2, "tooLarge": 2, "unknownType": 1}
CLASSES.update({"invalidName": 1, "invalidArgument": 1, "frameTooLarge": 2, "lineTooLong": 2})


class Fault(Exception):
    """An error that is answered."""

    def __init__(self, status: str, message: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.message = message or "the server says " + status


class Waiter(NamedTuple):
    """A wait that is not over: of which connection, under which cookie, on which cell."""

    session: "Session"
    cookie: int
    item: "Item"
    offset: int


class Item:
    """An allocation."""

    def __init__(self, name: bytes, type: int, data: bytearray, shape: bytes, about: bytes) -> None:
        self.name = name
        self.type = type
        self.data = data
        self.shape = shape  # As stat tells it: rank and eight dimensions.
        self.about = about
        self.is_gone = False
        self.is_frozen = False


_NO_SHAPE = struct.pack("<9Q", U64_MAX, *(8 * [0]))


class Model:
    """All that is allocated, for all connections."""

    def __init__(self) -> None:
        self.names: Dict[bytes, Item] = {}
        self.waiters: List[Waiter] = []

    def end_waits(self, item: Item, result: int) -> None:
        """Answer all that wait on an allocation."""
        for one in [one for one in self.waiters if one.item is item]:
            self.waiters.remove(one)
            one.session.replies.append(reply(Operation.WAIT, one.cookie, size=result))


def reply(
    operation: int, cookie: int, payload: bytes = b"", *, type: int = 0, handle: int = 0,
    offset: int = 0, size: int = 0, name_size: int = 0,
) -> bytes:  # fmt: skip
    """Give a reply that is no error."""
    header = Header(
        REPLY_MAGIC, PROTOCOL_VERSION, operation, 0, 0, name_size, type, cookie, handle,
        len(payload), offset, size,
    )  # fmt: skip
    return header.encode() + payload


def error_reply(operation: int, cookie: int, code: int, kind: int, message: str) -> bytes:
    """Give an error."""
    payload = message.encode("utf-8")
    header = Header(
        REPLY_MAGIC, PROTOCOL_VERSION, operation, 0, code, 0, kind, cookie, 0, len(payload), 0, 0
    )
    return header.encode() + payload


class Session:
    """One connection: its handles, and the replies that are to be sent."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.greeting: Tuple[int, ...] = GREETING
        self.handles: Dict[int, Item] = {}
        self.replies: List[bytes] = []
        self.is_greeted = False
        # Numbers of handles that were closed; the last one is given first, as `smallocd` does.
        self._free: List[int] = []

    def serve(self, header: Header, payload: bytes) -> None:
        """Answer one request, which may be later."""
        try:
            try:
                call = _CALLS[Operation(header.operation)]
            except (ValueError, KeyError):
                raise Fault("unknownOperation") from None
            if header.payload_size > self.greeting[7]:
                raise Fault("frameTooLarge")
            answer = call(self, header, payload)
            if answer is not None:
                self.replies.append(answer)
        except Fault as fault:
            code = status_code(fault.status)
            kind = CLASSES.get(fault.status, 0)
            self.replies.append(
                error_reply(header.operation, header.cookie, code, kind, fault.message)
            )

    # What requests have in common

    def _item(self, header: Header, payload: bytes) -> Item:
        if header.handle:
            item = self.handles.get(header.handle)
        else:
            name = payload[: header.name_size]
            _check_name(name)
            item = self.model.names.get(name)
        if item is None or item.is_gone:
            raise Fault("noData", "object has no external array data")
        return item

    def _extent(self, item: Item, offset: int, size: int) -> None:
        if offset > len(item.data):
            raise Fault("outOfRange", "start > length")
        if size > len(item.data) - offset:
            raise Fault("outOfRange", "start + count > length")

    def _opened(self, item: Item) -> int:
        number = self._free.pop() if self._free else len(self.handles) + 1
        self.handles[number] = item
        return number

    def _drop(self, item: Item) -> None:
        item.is_gone = True
        if self.model.names.get(item.name) is item:
            del self.model.names[item.name]
        self.model.end_waits(item, 3)

    def _ranges(self, header: Header, payload: bytes) -> Tuple[List[Tuple[int, int]], bytes]:
        rest = payload[header.name_size :]
        if not header.flags & Flag.VECTORED:
            if header.operation == Operation.WRITE and header.size != len(rest):
                raise Fault("malformedRequest")
            if header.operation == Operation.READ and rest:
                raise Fault("malformedRequest")
            return [(header.offset, header.size)], rest
        if not 1 <= header.size <= RANGES_MAX:
            raise Fault("invalidArgument")
        if len(rest) < 16 * header.size:
            raise Fault("malformedRequest")
        numbers = struct.unpack_from("<%dQ" % (2 * header.size), rest)
        return list(zip(numbers[::2], numbers[1::2])), rest[16 * header.size :]

    # Operations

    def hello(self, header: Header, payload: bytes) -> bytes:
        if len(payload) > 64:
            raise Fault("malformedRequest")
        self.is_greeted = True
        numbers = struct.pack("<%dQ" % len(self.greeting), *self.greeting)
        return reply(Operation.HELLO, header.cookie, numbers)

    def ping(self, header: Header, payload: bytes) -> bytes:
        return reply(header.operation, header.cookie)

    def alloc(self, header: Header, payload: bytes) -> bytes:
        name, rest = payload[: header.name_size], payload[header.name_size :]
        shape, about = _NO_SHAPE, b""
        if header.flags & Flag.DESCRIBED:
            if len(rest) < 8:
                raise Fault("malformedRequest")
            (rank,) = struct.unpack_from("<Q", rest)
            count = 0 if rank == U64_MAX else rank
            if count > 8:
                raise Fault("invalidArgument")
            dims = rest[8 : 8 + 8 * count]
            shape = rest[:8] + dims + bytes(64 - 8 * count)
            lease, size = struct.unpack_from("<QH", rest, 8 + 8 * count)
            about = rest[18 + 8 * count :]
            if lease and not header.flags & Flag.LEASED or len(about) != size:
                raise Fault("malformedRequest")
        elif rest:
            raise Fault("malformedRequest")
        if header.name_size:
            _check_name(name)
        type = ElementType.of_number(header.type)
        if not type.is_known:
            raise Fault("unknownType")
        if header.size > self.greeting[3]:
            raise Fault("tooLarge", "n > kMaxLength")
        if header.size % type.itemsize:
            raise Fault("invalidArgument")
        if name in self.model.names:
            raise Fault("alreadyExists", "object already has external array data")
        item = Item(name, header.type, bytearray(header.size), shape, about)
        if name:
            self.model.names[name] = item
        handle = 0 if header.flags & Flag.NO_HANDLE else self._opened(item)
        return reply(3, header.cookie, type=header.type, handle=handle, size=header.size)

    def open(self, header: Header, payload: bytes) -> bytes:
        item = self._item(header, payload)
        return reply(
            4, header.cookie, type=item.type, handle=self._opened(item), size=len(item.data)
        )

    def close(self, header: Header, payload: bytes) -> bytes:
        item = self.handles.pop(header.handle, None)
        if item is None:
            raise Fault("noData", "object has no external array data")
        self._free.append(header.handle)
        if not item.name:
            self._drop(item)
        return reply(5, header.cookie)

    def stat(self, header: Header, payload: bytes) -> bytes:
        item = self._item(header, payload)
        numbers = struct.pack("<8Q", 1795420800000, 1, 0, 0, 0, U64_MAX, U64_MAX, 1000)
        about = item.shape + struct.pack("<Q", len(item.about)) + item.about
        return reply(
            6, header.cookie, item.name + numbers + about, type=item.type, size=len(item.data),
            name_size=len(item.name),
        )  # fmt: skip

    def list(self, header: Header, payload: bytes) -> bytes:
        found = [one for name, one in self.model.names.items() if name.startswith(payload)]
        entries = [
            struct.pack("<QBB", len(one.data), one.type, len(one.name)) + one.name for one in found
        ]
        return reply(7, header.cookie, b"".join(entries), size=len(found))

    def read(self, header: Header, payload: bytes) -> bytes:
        ranges, _ = self._ranges(header, payload)
        item = self._item(header, payload)
        for one in ranges:
            self._extent(item, *one)
        data = b"".join(bytes(item.data[at : at + size]) for at, size in ranges)
        if len(data) > self.greeting[7]:
            raise Fault("frameTooLarge")
        return reply(8, header.cookie, data, type=item.type, size=len(data))

    def write(self, header: Header, payload: bytes) -> bytes:
        ranges, data = self._ranges(header, payload)
        if sum(size for _, size in ranges) != len(data):
            raise Fault("malformedRequest")
        item = self._item(header, payload)
        for one in ranges:
            self._extent(item, *one)
        self._check_thawed(item)
        start = 0
        for at, size in ranges:
            item.data[at : at + size] = data[start : start + size]
            start += size
        return reply(9, header.cookie, size=len(data))

    def fill(self, header: Header, payload: bytes) -> bytes:
        item, pattern = self._item(header, payload), payload[header.name_size :]
        if not 1 <= len(pattern) <= 64:
            raise Fault("invalidArgument")
        self._extent(item, header.offset, header.size)
        if header.size % len(pattern):
            raise Fault("invalidArgument")
        self._check_thawed(item)
        end = header.offset + header.size
        item.data[header.offset : end] = pattern * (header.size // len(pattern))
        return reply(10, header.cookie, size=header.size)

    def copy(self, header: Header, payload: bytes) -> bytes:
        rest = payload[header.name_size :]
        if len(rest) < 16:
            raise Fault("malformedRequest")
        at, handle, size = struct.unpack_from("<QIB", rest)
        if len(rest) != 16 + size or (handle != 0) == (size != 0) or rest[13:16] != bytes(3):
            raise Fault("malformedRequest")
        source = self._item(header, payload)
        dest = self._item(header._replace(handle=handle, name_size=size), rest[16:])
        self._extent(source, header.offset, header.size)
        self._extent(dest, at, header.size)
        self._check_thawed(dest)
        dest.data[at : at + header.size] = source.data[header.offset :][: header.size]
        return reply(11, header.cookie, size=header.size)

    def dispose(self, header: Header, payload: bytes) -> bytes:
        self._drop(self._item(header, payload))
        if self.handles.pop(header.handle, None) is not None:
            self._free.append(header.handle)
        return reply(12, header.cookie)

    def truncate(self, header: Header, payload: bytes) -> bytes:
        item = self._item(header, payload)
        self._check_thawed(item)
        if header.size > len(item.data):
            raise Fault("outOfRange", "truncate length is bigger than current one")
        if header.size % ElementType.of_number(item.type).itemsize:
            raise Fault("invalidArgument")
        if header.size != len(item.data):
            item.shape = _NO_SHAPE
        del item.data[header.size :]
        self.model.end_waits(item, 1)
        return reply(13, header.cookie, size=header.size)

    def rename(self, header: Header, payload: bytes) -> bytes:
        new = payload[header.name_size :]
        _check_name(new)
        item = self._item(header, payload)
        other = self.model.names.get(new)
        if other is not None and other is not item:
            if not header.flags & RenameFlag.REPLACE:
                raise Fault("alreadyExists", "object already has external array data")
            self._drop(other)
        self.model.names.pop(item.name, None)
        item.name = new
        self.model.names[new] = item
        return reply(14, header.cookie)

    def stats(self, header: Header, payload: bytes) -> bytes:
        lines = "pid 4711\nuptime_seconds 60\nloops 1\nallocations %d\n" % len(self.model.names)
        return reply(15, header.cookie, lines.encode())

    def cancel(self, header: Header, payload: bytes) -> bytes:
        if len(payload) != 8:
            raise Fault("malformedRequest")
        (cookie,) = struct.unpack("<Q", payload)
        found = [
            one for one in self.model.waiters if one.session is self and one.cookie == cookie
        ]
        for one in found:
            self.model.waiters.remove(one)
            code = status_code("cancelled")
            self.replies.append(error_reply(Operation.WAIT, cookie, code, 0, "it was taken back"))
        return reply(17, header.cookie, size=len(found))

    def atomic(self, header: Header, payload: bytes) -> bytes:
        rest = payload[header.name_size :]
        if len(rest) != 24 or rest[1:8] != bytes(7):
            raise Fault("malformedRequest")
        action, operand, expected = struct.unpack("<B7xQQ", rest)
        if not 1 <= action <= 9:
            raise Fault("invalidArgument")
        if action == 1 and operand or action != 9 and expected:
            raise Fault("malformedRequest")
        item = self._item(header, payload)
        type = ElementType.of_number(item.type)
        if type.number not in (1, 2, 3, 4, 5, 6, 10, 11):
            raise Fault("invalidArgument")
        self._extent(item, header.offset, type.itemsize)
        if header.offset % type.itemsize:
            raise Fault("invalidArgument")
        cell = slice(header.offset, header.offset + type.itemsize)
        is_signed = type.name.startswith("Int")
        old = int.from_bytes(item.data[cell], "little", signed=is_signed)
        mask = (1 << 8 * type.itemsize) - 1
        results: Dict[int, int] = {
            1: old, 2: operand, 3: old + operand, 4: old - operand, 5: old & operand,
            6: old | operand, 7: old ^ operand, 8: operand,
            9: operand if (old ^ expected) & mask == 0 else old,
        }  # fmt: skip
        if action != 1:
            self._check_thawed(item)
            item.data[cell] = (results[action] & mask).to_bytes(type.itemsize, "little")
        told = struct.pack("<Q", old & U64_MAX)
        return reply(20, header.cookie, told, type=item.type, size=8)

    def wait(self, header: Header, payload: bytes) -> Optional[bytes]:
        rest = payload[header.name_size :]
        if len(rest) != 4:
            raise Fault("malformedRequest")
        item = self._cell(header, payload)
        if bytes(item.data[header.offset : header.offset + 4]) != rest:
            return reply(21, header.cookie, size=0)
        if header.size < 1000:
            # Nothing else happens meanwhile.
            return reply(21, header.cookie, size=2)
        self.model.waiters.append(Waiter(self, header.cookie, item, header.offset))
        return None

    def notify(self, header: Header, payload: bytes) -> bytes:
        item = self._cell(header, payload)
        found = [
            one for one in self.model.waiters if one.item is item and one.offset == header.offset
        ][: header.size]
        for one in found:
            self.model.waiters.remove(one)
            one.session.replies.append(reply(Operation.WAIT, one.cookie, size=1))
        return reply(22, header.cookie, size=len(found))

    def freeze(self, header: Header, payload: bytes) -> bytes:
        self._item(header, payload).is_frozen = True
        return reply(23, header.cookie)

    def _cell(self, header: Header, payload: bytes) -> Item:
        item = self._item(header, payload)
        if item.type not in (5, 6):
            raise Fault("invalidArgument")
        self._extent(item, header.offset, 4)
        if header.offset % 4:
            raise Fault("invalidArgument")
        return item

    def _check_thawed(self, item: Item) -> None:
        if item.is_frozen:
            raise Fault("frozen")


_Serve = Callable[[Session, Header, bytes], Optional[bytes]]
_CALLS: Dict[Operation, _Serve] = {
    Operation.HELLO: Session.hello, Operation.PING: Session.ping, Operation.QUIT: Session.ping,
    Operation.ALLOC: Session.alloc, Operation.OPEN: Session.open, Operation.CLOSE: Session.close,
    Operation.STAT: Session.stat, Operation.LIST: Session.list, Operation.READ: Session.read,
    Operation.WRITE: Session.write, Operation.FILL: Session.fill, Operation.COPY: Session.copy,
    Operation.DISPOSE: Session.dispose, Operation.TRUNCATE: Session.truncate,
    Operation.RENAME: Session.rename, Operation.STATS: Session.stats,
    Operation.CANCEL: Session.cancel, Operation.ATOMIC: Session.atomic,
    Operation.WAIT: Session.wait, Operation.NOTIFY: Session.notify,
    Operation.FREEZE: Session.freeze,
}  # fmt: skip


def _check_name(name: bytes) -> None:
    if not 1 <= len(name) <= 255 or any(not 0x21 <= one <= 0x7E for one in name):
        raise Fault("invalidName")


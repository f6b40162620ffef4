"""What of a client's frames is against the specification: more strictly than a server has to look.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple

from .._wire import PROTOCOL_VERSION, REQUEST_MAGIC, Flag, Header, OpenFlag, Operation, RenameFlag


class _Shape(NamedTuple):
    """What an operation takes: fields besides those of every request, flags, handle or name."""

    fields: Tuple[str, ...] = ()
    flags: int = 0
    target: str = ""  # "both", "name", "handle", "prefix" or nothing


_SHAPES: Dict[Operation, _Shape] = {
    Operation.HELLO: _Shape(("payload",)),
    Operation.PING: _Shape(),
    Operation.ALLOC: _Shape(
        ("type", "size", "payload"),
        Flag.NO_HANDLE | Flag.SHAREABLE | Flag.LEASED | Flag.DESCRIBED,
        "prefix",
    ),
    Operation.OPEN: _Shape(("size",), OpenFlag.AWAIT | OpenFlag.AWAIT_FROZEN, "name"),
    Operation.CLOSE: _Shape((), 0, "handle"),
    Operation.STAT: _Shape((), 0, "both"),
    Operation.LIST: _Shape(("offset", "size"), 0, "prefix"),
    Operation.READ: _Shape(("offset", "size", "payload"), Flag.VECTORED, "both"),
    Operation.WRITE: _Shape(("offset", "size", "payload"), Flag.VECTORED, "both"),
    Operation.FILL: _Shape(("offset", "size", "payload"), 0, "both"),
    Operation.COPY: _Shape(("offset", "size", "payload"), 0, "both"),
    Operation.DISPOSE: _Shape((), 0, "both"),
    Operation.TRUNCATE: _Shape(("size",), 0, "both"),
    Operation.RENAME: _Shape(("payload",), RenameFlag.REPLACE, "both"),
    Operation.STATS: _Shape(),
    Operation.QUIT: _Shape(),
    Operation.CANCEL: _Shape(("payload",)),
    Operation.ATOMIC: _Shape(("offset", "payload"), 0, "both"),
    Operation.WAIT: _Shape(("offset", "size", "payload"), 0, "both"),
    Operation.NOTIFY: _Shape(("offset", "size"), 0, "both"),
    Operation.FREEZE: _Shape((), 0, "both"),
    Operation.WATCH: _Shape(("offset", "size"), 0, "prefix"),
    Operation.CLIENTS: _Shape(("offset", "size")),
    Operation.SLOWLOG: _Shape(("size",)),
}


def breach(header: Header, is_greeted: bool) -> Optional[Tuple[str, str]]:
    """Say what of a request is against the specification, and which section says so."""
    if header.magic != REQUEST_MAGIC:
        return "the magic is 0x%02X" % header.magic, "§ 5.1"
    if header.version != PROTOCOL_VERSION:
        return "the version is %d" % header.version, "§ 5.1"
    if not is_greeted and header.operation != Operation.HELLO:
        return "the first frame is operation %d and no hello" % header.operation, "§ 4.3"
    if header.status:
        return "the status is 0x%04X, and must be 0" % header.status, "§ 5.1"
    try:
        operation = Operation(header.operation)
        shape = _SHAPES[operation]
    except (ValueError, KeyError):
        # What a server does not know may be tried.
        return None
    if operation is Operation.OPEN and not header.flags and header.size:
        return "its size is %d, and must be 0 where it does not wait" % header.size, "§ 7.4 open"
    section = "§ 5.1, § 7.%d %s" % (operation, operation.name.lower())
    if header.flags & ~shape.flags:
        return "it has the flags 0x%02X" % header.flags, "§ 8.3, " + section
    for name, number in (
        ("type", header.type), ("offset", header.offset), ("size", header.size),
        ("payload", max(0, header.payload_size - header.name_size)),
    ):  # fmt: skip
        if number and name not in shape.fields:
            return "its field %s is %d, and must be 0" % (name, number), section
    if header.name_size > header.payload_size:
        return "its name is longer than its payload", section
    count = (header.handle != 0) + (header.name_size != 0)
    wanted = {"both": count == 1, "name": header.handle == 0 and count == 1,
              "handle": header.name_size == 0 and count == 1,
              "prefix": header.handle == 0}.get(shape.target, count == 0)  # fmt: skip
    if not wanted:
        return "handle %d and a name of %d bytes" % (header.handle, header.name_size), section
    return None

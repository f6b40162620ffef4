"""Addresses of daemons: `unix:PATH`, `tcp:HOST:PORT`, `tcp:[IPV6]:PORT`; spec section 4.1."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple, Optional, Union

from ._errors import CannotConnectError, InvalidArgumentError, Status


class UnixAddress(NamedTuple):
    """A Unix stream socket, by its path, which is absolute."""

    path: str

    def __str__(self) -> str:
        return "unix:" + self.path


class TCPAddress(NamedTuple):
    """A TCP port, 1 to 65535, of a host's name or number."""

    host: str
    port: int

    def __str__(self) -> str:
        return ("tcp:[%s]:%d" if ":" in self.host else "tcp:%s:%d") % self


Address = Union[UnixAddress, TCPAddress]


def default_address() -> str:
    """Give the address that is meant where none is told.

    That is `$SMALLOC_ADDRESS`, else `unix:$XDG_RUNTIME_DIR/smallocd.sock`, else
    `unix:/run/smallocd/smallocd.sock`; what is set and empty counts as not set.
    """
    told = os.environ.get("SMALLOC_ADDRESS")
    if told:
        return told
    folder = os.environ.get("XDG_RUNTIME_DIR")
    return "unix:%s/smallocd.sock" % (folder or "/run/smallocd")


def parse_address(text: str) -> Address:
    """Take an address apart. A path is made absolute.

    Raises InvalidArgumentError.
    """
    scheme, _, rest = text.partition(":")
    if ",unix:" in rest or ",tcp:" in rest:
        raise _invalid(text, "one address is needed")
    if scheme == "unix":
        if not rest or "\0" in rest:
            raise _invalid(text, "a path is needed")
        return UnixAddress(os.path.abspath(rest))
    if scheme == "tcp":
        host, _, port = rest.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise _invalid(text, "an IPv6 address stands in brackets")
        if not host or not host.isprintable() or set(host) & set("/[] "):
            raise _invalid(text, "a host is needed")
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
            raise _invalid(text, "a port of 1 to 65535 is needed")
        return TCPAddress(host, int(port))
    raise _invalid(text, "it starts with unix: or tcp:")


def _invalid(text: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        Status.INVALID_ARGUMENT, "%r is no address of a daemon: %s" % (text, why)
    )


def connect(address: Address, timeout: Optional[float]) -> socket.socket:
    """Connect, in `timeout` seconds at most. The socket has no timeout of its own and never blocks.

    Raises CannotConnectError.
    """
    opened: Optional[socket.socket] = None
    try:
        if isinstance(address, UnixAddress):
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            opened.settimeout(timeout)
            opened.connect(address.path)
        else:
            opened = socket.create_connection((address.host, address.port), timeout)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setblocking(False)
        return opened
    # UnicodeError: a host that is no name.
    except (OSError, UnicodeError) as error:
        if opened is not None:
            opened.close()
        raise CannotConnectError(
            Status.CANNOT_CONNECT, "%s can't be reached: %s" % (address, error)
        ) from error
    except BaseException:
        if opened is not None:
            opened.close()
        raise

"""Connects a socket without holding up the event loop."""

from __future__ import annotations

import asyncio
import socket
from typing import Optional

from .._address import Address, UnixAddress
from .._errors import CannotConnectError, Status

# Seconds until a daemon whose queue of connections is full is asked again.
_PAUSE = 0.01


async def connect(address: Address, timeout: Optional[float]) -> socket.socket:
    """Connect, in `timeout` seconds at most. Raises CannotConnectError."""
    try:
        return await asyncio.wait_for(_connected(address), timeout)
    except asyncio.TimeoutError:
        why = "%s can't be reached: timed out" % (address,)
        raise CannotConnectError(Status.CANNOT_CONNECT, why) from None
    # UnicodeError: a host that is no name.
    except (OSError, UnicodeError) as error:
        why = "%s can't be reached: %s" % (address, error)
        raise CannotConnectError(Status.CANNOT_CONNECT, why) from error


async def _connected(address: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    if isinstance(address, UnixAddress):
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            found.setblocking(False)
            while True:
                try:
                    # It is connected at once, or not at all.
                    found.connect(address.path)
                    return found
                except BlockingIOError:
                    await asyncio.sleep(_PAUSE)
        except BaseException:
            found.close()
            raise
    places = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    failure = OSError("the host has no address")
    for family, type, protocol, _, place in places:
        found = socket.socket(family, type, protocol)
        try:
            found.setblocking(False)
            await loop.sock_connect(found, place)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return found
        except OSError as error:
            found.close()
            failure = error
        except BaseException:
            found.close()
            raise
    raise failure

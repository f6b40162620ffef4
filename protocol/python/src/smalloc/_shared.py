"""One client for each address in a process, for what comes out of pickles."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Dict

# In a forked process its hook has to close their connections before this module's forgets them.
from . import _connection  # noqa: F401

if TYPE_CHECKING:
    from ._client import Client

_clients: Dict[str, Client] = {}
_lock = threading.Lock()


def shared_client(address: str) -> Client:
    """Give this process' client of an address; a new one where there is none that is live.

    It has the times that a Client has by itself, and is closed at the process' end.

    Raises CannotConnectError and what else Client does.
    """
    from ._client import Client

    with _lock:
        client = _clients.get(address)
        if client is None or not client.is_live:
            client = _clients[address] = Client(address)
        return client


def _forget() -> None:
    global _lock
    # Another thread of the parent may have held the lock, and is not here to give it back.
    _lock = threading.Lock()
    _clients.clear()


def _abandon() -> None:
    # A thread may still be in the middle of a call, and is not waited for.
    for client in list(_clients.values()):
        client._connection.abandon()


atexit.register(_abandon)
os.register_at_fork(after_in_child=_forget)

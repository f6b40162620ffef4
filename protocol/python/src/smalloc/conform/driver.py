"""The driver of this package's own clients: `python -m smalloc.conform.driver [aio]`.

It drives smalloc.Client, or smalloc.aio.Client. protocol/conform/README.md has what it is told and
what it answers; it is an example of one, too.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import Any, Callable, Dict, List, Optional

import smalloc


class Drives:
    """A client, and what it has open, by names."""

    def __init__(self) -> None:
        self._client: Optional[smalloc.Client] = None
        self._open: Dict[str, smalloc.Allocation] = {}
        self._waiting: Optional[threading.Thread] = None
        self._result: Any = None

    def answer(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """Do what is asked; give the answer."""
        call: Optional[Callable[..., Any]] = getattr(self, "do_" + request.pop("do"), None)
        if call is None:
            return {"unsupported": True}
        try:
            return {"ok": call(**request)}
        except smalloc.SmallocError as error:
            return {"error": error.status}
        except (ValueError, TypeError, OverflowError) as error:
            return {"error": type(error).__name__}

    @property
    def client(self) -> smalloc.Client:
        """The client that is connected, or was."""
        assert self._client is not None
        return self._client

    def named(self, name: str) -> smalloc.Allocation:
        """Give what is open under a name, or open it."""
        if name not in self._open:
            self._open[name] = self.client.open(name)
        return self._open[name]

    def do_connect(self, address: str) -> None:
        self.do_close()
        self._client = smalloc.Client(address, timeout=15)

    def do_close(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._waiting is not None:
            self._waiting.join()
        self._waiting, self._open = None, {}

    def do_ping(self) -> None:
        self.client.ping()

    def do_stats(self, key: str) -> str:
        return str(self.client.stats()[key])

    def do_alloc(self, name: str, type: str, length: int) -> None:
        self._open[name] = self.client.alloc(length, type, name)

    def do_open(self, name: str) -> Dict[str, Any]:
        self._open[name] = found = self.client.open(name)
        return {"type": found.type.name, "length": found.length}

    def do_stat(self, name: str) -> Dict[str, Any]:
        stat = self.client.stat(name)
        return {"type": stat.type.name, "length": stat.length}

    def do_list(self, prefix: str) -> List[List[Any]]:
        return sorted([one.name, one.type.name, one.length] for one in self.client.list(prefix))

    def do_read(self, name: str, start: int, count: int) -> str:
        return self.named(name).read_bytes(start, count).hex()

    def do_write(self, name: str, start: int, hex: str) -> None:
        self.named(name).write(bytes.fromhex(hex), start)

    def do_fill(self, name: str, start: int, count: int, hex: str) -> None:
        self.named(name).fill(bytes.fromhex(hex), start, count)

    def do_copy(self, source: str, start: int, dest: str, destStart: int, count: int) -> None:
        one, other = self.named(source), self.named(dest)
        self.client.copy(
            one, start * one.itemsize, other, destStart * other.itemsize, count * one.itemsize
        )

    def do_truncate(self, name: str, length: int) -> None:
        self.named(name).truncate(length)

    def do_rename(self, name: str, to: str, replace: bool) -> None:
        found = self.named(name)
        found.rename(to, replace)
        self._open[to] = self._open.pop(name)

    def do_freeze(self, name: str) -> None:
        self.client.freeze(name)

    def do_dispose(self, name: str) -> None:
        self.client.dispose(name)
        self._open.pop(name, None)

    def do_atomic(
        self, name: str, index: int, action: str, value: int = 0, expected: int = 0
    ) -> int:
        found = self.named(name)
        if action == "load":
            return found.atomic_load(index)
        if action == "store":
            # This client's store does not tell what was there.
            return found.atomic_exchange(index, value)
        if action == "compareExchange":
            return found.atomic_compare_exchange(index, expected, value)
        names = {"sub": "subtract"}
        call: Callable[[int, int], int] = getattr(found, "atomic_" + names.get(action, action))
        return call(index, value)

    def do_wait(
        self, name: str, index: int, value: int, milliseconds: int, background: bool = False
    ) -> Optional[str]:
        found = self.named(name)

        def wait() -> str:
            return found.wait(index, value, milliseconds / 1000).name.lower()

        if not background:
            return wait()

        def run() -> None:
            try:
                self._result = {"ok": wait()}
            except smalloc.SmallocError as error:
                self._result = {"error": error.status}

        # A wait takes its place as soon as it is sent; what is asked for next is sent after it.
        self._waiting = threading.Thread(target=run)
        self._waiting.start()
        return None

    def do_notify(self, name: str, index: int) -> int:
        return self.named(name).notify(index)

    def do_result(self) -> str:
        assert self._waiting is not None
        self._waiting.join(10)
        self._waiting = None
        if "ok" not in self._result:
            raise smalloc.SmallocError(0, self._result["error"])
        result: str = self._result["ok"]
        return result


class Run:
    """Gives an object of smalloc.aio the calls of one that blocks, by running its loop for each."""

    def __init__(self, loop: asyncio.AbstractEventLoop, driven: Any) -> None:
        self._loop = loop
        self._driven = driven

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._driven, name)
        return self._call(found) if callable(found) else found

    def _call(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            bare = [one._driven if isinstance(one, Run) else one for one in arguments]
            result = method(*bare)
            if hasattr(result, "__aiter__"):
                result = _collected(result)
            if asyncio.iscoroutine(result):
                result = self._loop.run_until_complete(result)
            return Run(self._loop, result) if isinstance(result, smalloc.aio.Allocation) else result

        return call


async def _collected(entries: Any) -> List[Any]:
    return [one async for one in entries]


class AioDrives(Drives):
    """The same for smalloc.aio: a wait in the background is a task."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._task: Optional[asyncio.Task[Any]] = None

    def do_connect(self, address: str) -> None:
        self.do_close()
        made = smalloc.aio.Client(address, timeout=15)
        run: Any = Run(self._loop, made)
        run.connect()
        self._client = run

    def do_wait(
        self, name: str, index: int, value: int, milliseconds: int, background: bool = False
    ) -> Optional[str]:
        found: Any = self.named(name)
        if not background:
            result: str = found.wait(index, value, milliseconds / 1000).name.lower()
            return result
        self._task = self._loop.create_task(found._driven.wait(index, value, milliseconds / 1000))
        # It is sent with this.
        self.client.ping()
        return None

    def do_result(self) -> str:
        assert self._task is not None
        result: str = self._loop.run_until_complete(self._task).name.lower()
        return result


def main() -> None:
    """Answer lines until there are no more."""
    drives = AioDrives() if sys.argv[1:] == ["aio"] else Drives()
    for line in sys.stdin:
        print(json.dumps(drives.answer(json.loads(line))), flush=True)
    drives.do_close()


if __name__ == "__main__":
    main()

"""smalloc.aio where things end: lost daemons, forks, loops, collected clients."""

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest
import warnings
from typing import Any, Awaitable, Callable, List, Optional
from unittest import mock

import smalloc
from smalloc import WaitResult, aio
from smalloc._wire import Operation
from smalloc.conform._model import error_reply, reply
from smalloc.conform._scripted import Script, Server, Special

from support import Daemon, same_without_numpy
from test_aio import AioTestCase
from test_mapping import descriptors, within


class EndTests(AioTestCase):
    def ends(self, why: Callable[[aio.Client], Awaitable[None]], kind: Any) -> None:
        async def test(client: aio.Client) -> None:
            a = await client.alloc(1, "Int32")
            mapped = await client.array("m", 4, "int32")
            mapped[0] = 5
            waiting = [asyncio.ensure_future(a.wait(0, 0)) for _ in range(3)]
            await client.ping()
            await why(client)
            for one in waiting:
                with self.assertRaises(kind):
                    await asyncio.wait_for(one, 10)
            for _ in range(500):
                if not client.is_live:
                    break
                await asyncio.sleep(0.01)
            self.assertFalse(client.is_live)
            for call in (client.ping(), a.get(0), client.open("m"), client.read("m")):
                with self.assertRaises((smalloc.ConnectionLostError, smalloc.ClosedError)):
                    await call
            await a.close()
            self.assertEqual((mapped[0], mapped.is_live), (5, False))

        self.run_with(test)

    def test_the_daemon_is_killed(self) -> None:
        daemon = Daemon()
        self.addCleanup(daemon.stop)

        async def kill(_: aio.Client) -> None:
            daemon.kill()

        mine, type(self).daemon = self.daemon, daemon
        self.addCleanup(setattr, type(self), "daemon", mine)
        self.ends(kill, smalloc.ConnectionLostError)
        type(self).daemon = mine

    def test_the_daemon_stops(self) -> None:
        daemon = Daemon()
        self.addCleanup(daemon.stop)

        async def stop(_: aio.Client) -> None:
            daemon.process.send_signal(signal.SIGTERM)

        mine, type(self).daemon = self.daemon, daemon
        self.addCleanup(setattr, type(self), "daemon", mine)
        self.ends(stop, (smalloc.CancelledError, smalloc.ConnectionLostError))
        type(self).daemon = mine

    def test_the_client_is_closed(self) -> None:
        async def close(client: aio.Client) -> None:
            await client.close()
            await client.close()

        self.ends(close, smalloc.ClosedError)
        self.client.dispose("m")

    def test_a_reply_that_can_not_be_taken(self) -> None:
        """It ends the connection, and its own task is told, too."""

        def refuse(*_: Any) -> Any:
            raise OSError(errno.EMFILE, "Too many open files")

        def fail(*_: Any) -> Any:
            raise MemoryError

        async def test(client: aio.Client) -> None:
            a = await client.alloc(1, "Int32", shareable=True)
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)
            calls = (a.map(), client.ping(), a.wait(0, 0))
            with mock.patch("smalloc." + where, what):
                for one in [asyncio.ensure_future(call) for call in calls]:
                    with self.assertRaises(smalloc.ConnectionLostError):
                        await asyncio.wait_for(one, 5)
            self.assertFalse(client.is_live)

        for where, what in (("_state.map_file", refuse), ("_session.Session._match", fail)):
            with self.subTest(where):
                self.run_with(test)

    def test_a_client_that_is_not_connected(self) -> None:
        async def test() -> None:
            client = aio.Client(self.daemon.address)
            with self.assertRaises(smalloc.ClosedError):
                await client.ping()
            self.assertFalse(client.is_live)
            await asyncio.gather(client.connect(), client.connect())
            await client.ping()
            await client.connect()
            await client.close()
            for address in ("unix:/nowhere", "tcp:127.0.0.1:1", "tcp:no.such.host.invalid:1"):
                with self.assertRaises(smalloc.CannotConnectError):
                    await aio.Client(address, connect_timeout=5).connect()

        asyncio.run(test())

    def test_a_daemon_that_says_nothing(self) -> None:
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as silent:
            silent.bind(folder + "/s")
            silent.listen(1)

            async def test() -> None:
                with self.assertRaises(smalloc.TimedOutError):
                    await aio.Client("unix:%s/s" % folder, timeout=0.1).connect()
                # A queue that is full is waited for, and no longer than may be.
                held = [socket.socket(socket.AF_UNIX) for _ in range(3)]
                for one in held:
                    one.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        one.connect(folder + "/s")
                try:
                    with self.assertRaises(smalloc.CannotConnectError):
                        await aio.Client("unix:%s/s" % folder, connect_timeout=0.1).connect()
                finally:
                    for one in held:
                        one.close()

            asyncio.run(test())

    def test_a_wait_beside_a_daemon_that_hangs(self) -> None:
        daemon = Daemon()
        self.addCleanup(daemon.stop)

        async def test() -> None:
            async with aio.Client(daemon.address, timeout=0.3) as client:
                a = await client.alloc(1, "Int32")
                waiting = asyncio.ensure_future(a.wait(0, 0))
                # Longer than the time: the daemon gives signs of life.
                await asyncio.sleep(1)
                self.assertFalse(waiting.done())
                daemon.process.send_signal(signal.SIGSTOP)
                try:
                    with self.assertRaises(smalloc.TimedOutError):
                        await asyncio.wait_for(waiting, 10)
                finally:
                    daemon.process.send_signal(signal.SIGCONT)

        asyncio.run(test())


class LoopTests(AioTestCase):
    def test_another_loop_is_refused(self) -> None:
        async def made() -> aio.Client:
            return await aio.Client(self.daemon.address).connect()

        first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
        try:
            client = first.run_until_complete(made())
            with self.assertRaises(RuntimeError):
                second.run_until_complete(client.ping())
            first.run_until_complete(client.ping())
            first.run_until_complete(client.close())
        finally:
            first.close()
            second.close()

    def test_a_loop_that_is_closed_with_things_pending(self) -> None:
        """Nothing is said, nothing hangs, no descriptor is left."""
        gc.collect()
        before = descriptors(os.getpid())
        told: List[Any] = []

        async def begin() -> Any:
            client = await aio.Client(self.daemon.address).connect()
            a = await client.alloc(1 << 20, "Int32")
            mapping = await a.map()
            asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))
            tasks = [
                asyncio.ensure_future(a.wait(0, 0)),
                asyncio.ensure_future(client.read(a)),
                asyncio.ensure_future(client.ping()),
            ]
            await asyncio.sleep(0)
            return client, a, tasks, mapping

        loop = asyncio.new_event_loop()
        kept = loop.run_until_complete(begin())
        for task in kept[2]:
            # Else asyncio itself says that a task was destroyed.
            task._log_destroy_pending = False
        loop.close()
        self.assertFalse(kept[0].is_live)
        self.assertEqual(kept[3][0], 0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del kept, loop, task
            gc.collect()
        self.assertEqual(told, [])
        self.assertEqual(descriptors(os.getpid()), before)

    def test_run_ends_with_tasks_that_wait(self) -> None:
        async def test() -> None:
            client = await aio.Client(self.daemon.address).connect()
            a = await client.alloc(1, "Int32")
            asyncio.ensure_future(a.wait(0, 0))
            await client.ping()

        asyncio.run(test())
        gc.collect()
        self.assertTrue(within(2, lambda: self.client.stats()["allocations"] == 0))

    def test_a_client_that_nobody_has_any_more_is_closed(self) -> None:
        async def test() -> None:
            gc.collect()
            before = descriptors(os.getpid())
            client: Optional[aio.Client] = await aio.Client(self.daemon.address).connect()
            assert client is not None
            a: Any = await client.alloc(4)
            del client, a
            gc.collect()
            await asyncio.sleep(0.01)
            self.assertLessEqual(descriptors(os.getpid()), before)

        asyncio.run(test())
        self.assertTrue(within(2, lambda: self.client.stats()["allocations"] == 0))

    def test_handles_are_closed_with_their_objects(self) -> None:
        async def test(client: aio.Client) -> None:
            await client.create("a", 4)
            for _ in range(50):
                await client.open("a")
            gc.collect()
            await client.ping()
            self.assertEqual((await client.stat("a")).handles, 0)

        self.run_with(test)

    def test_in_a_thread_of_its_own(self) -> None:
        found: List[Any] = []

        def run() -> None:
            async def test(client: aio.Client) -> None:
                found.append((await client.put("a", [1, 2], "int8")).tolist())

            self.run_with(test)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(20)
        self.assertEqual(found, [[1, 2]])


class ForkTests(AioTestCase):
    def test_a_forked_child_is_refused_and_the_parent_goes_on(self) -> None:
        async def test(client: aio.Client) -> None:
            a = await client.array("a", 4, "int32")
            anonymous = await client.alloc(4)
            waiting = asyncio.ensure_future(a.allocation.wait(0, 0))
            await client.ping()
            with warnings.catch_warnings():
                # There may be threads of other tests.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if not child:
                code = 1
                try:
                    for coroutine in (client.ping(), anonymous.get(0)):
                        try:
                            coroutine.send(None)
                        except smalloc.ForkedError:
                            code = 0
                        else:
                            code = 2
                    # What is mapped stays usable, and what is collected disturbs nobody.
                    a[1] = 7
                    if client.is_live or a.is_live:
                        code = 3
                    client.connection.close()
                    del anonymous, client, waiting
                    gc.collect()
                finally:
                    os._exit(code)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            self.assertEqual(a[1], 7)
            await client.ping()
            await anonymous.get(0)
            self.assertEqual(await a.allocation.notify(0), 1)
            self.assertIs(await waiting, WaitResult.NOTIFIED)

        self.run_with(test)

    def test_a_child_makes_a_client_of_its_own(self) -> None:
        program = """
            import asyncio, os, sys
            from smalloc import aio

            async def ping():
                async with aio.Client(sys.argv[1]) as client:
                    return (await client.stats())["pid"]

            async def main():
                async with aio.Client(sys.argv[1]) as client:
                    await client.ping()
                    child = os.fork()
                    if not child:
                        # The loop is the parent's.
                        asyncio.events._set_running_loop(None)
                        os._exit(0 if asyncio.run(ping()) else 1)
                    assert os.waitpid(child, 0)[1] == 0
                    await client.ping()

            asyncio.run(main())
            """
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), self.daemon.address],
            check=True,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
            timeout=30,
        )


@same_without_numpy
class HostileTests(unittest.TestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.addCleanup(self.server.close)

    def pings(self, answer: Any, *kinds: Any) -> None:
        """Ping a server that answers the first one so; these are the errors of that and the next.
        """

        def first(header: Any, payload: bytes, count: int) -> Any:
            return answer(header) if count == 0 else None

        self.server.begin(Script(answers={Operation.PING: first}))

        async def test() -> None:
            async with aio.Client(self.server.address, timeout=5) as client:
                for kind in kinds:
                    with contextlib.ExitStack() as stack:
                        if kind is not None:
                            stack.enter_context(self.assertRaises(kind))
                        await client.ping()

        asyncio.run(test())

    def test_replies_that_make_no_sense(self) -> None:
        lost = smalloc.ConnectionLostError
        for answer in (
            lambda header: Special(reply(2, header.cookie + 1)),
            lambda header: Special(reply(15, header.cookie)),
            lambda header: Special(b"\xe5" + reply(2, header.cookie)[1:]),
            lambda header: Special(reply(2, header.cookie)[:20] + b"\xff" * 4 + bytes(16)),
        ):
            self.pings(answer, smalloc.ProtocolError, lost)
        self.pings(lambda header: Special(reply(2, header.cookie)[:39], True), lost, lost)
        self.pings(lambda header: Special(b"", True), lost, lost)
        self.pings(
            lambda header: Special(error_reply(2, header.cookie, 0x8123, 0, "new")),
            smalloc.SmallocError, None,
        )  # fmt: skip
        self.pings(
            lambda header: Special(error_reply(2, header.cookie, 0xC006, 0, "stops"), True),
            lost, lost,
        )  # fmt: skip

    def test_a_refusal_in_text(self) -> None:
        async def test() -> None:
            with self.assertRaises(smalloc.CannotConnectError) as caught:
                await aio.Client(self.server.address).connect()
            self.assertEqual(caught.exception.status, "connectionLimit")

        for _ in range(20):
            self.server.begin(Script(refusal=b"ERR connectionLimit Error: too many\n"))
            asyncio.run(test())

    def test_the_driver_for_asyncio_conforms(self) -> None:
        from test_conform import conform

        code, said = conform("client", "--", sys.executable, "-m", "smalloc.conform.driver", "aio")
        self.assertEqual(code, 0, said)
        self.assertNotIn("not played", said)


if __name__ == "__main__":
    unittest.main()

"""Waiting for a name: opens that wait, from threads and tasks; whether there is one."""

import asyncio
import gc
import os
import signal
import socket
import threading
import time
import unittest
from typing import Any, List, Optional

import smalloc
from smalloc import aio
from smalloc._wire import Header, Operation

from support import Daemon, DaemonTestCase
from test_hostile import HostileTestCase
from test_mapping import within


class Opener(threading.Thread):
    """An open in a thread of its own, and what came of it."""

    def __init__(self, client: smalloc.Client, *arguments: Any, **words: Any) -> None:
        super().__init__(daemon=True)
        self.client, self.arguments, self.words = client, arguments, words
        self.found: Optional[smalloc.Allocation] = None
        self.error: Optional[BaseException] = None
        self.start()

    def run(self) -> None:
        try:
            self.found = self.client.open(*self.arguments, **self.words)
        except BaseException as error:
            self.error = error

    def opened(self) -> smalloc.Allocation:
        self.join(20)
        assert self.found is not None, self.error
        return self.found


class OpenTests(DaemonTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.other = smalloc.Client(self.daemon.address)
        self.addCleanup(self.other.close)

    def test_exists(self) -> None:
        self.assertFalse(self.client.exists("a"))
        self.client.create("a", 4)
        self.assertTrue(self.client.exists("a"))
        with self.assertRaises(smalloc.InvalidNameError):
            self.client.exists("no name")

    def test_a_name_that_is_there_is_not_waited_for(self) -> None:
        self.client.create("a", 4, "Int16")
        self.assertEqual(self.client.open("a", 60).length, 4)
        self.assertEqual(self.client.open("a", None).length, 4)

    def test_a_name_that_comes(self) -> None:
        opener = Opener(self.client, "a", 60)
        # Others use the client meanwhile.
        self.client.ping()
        time.sleep(0.05)
        self.assertIsNone(opener.found)
        made = self.other.alloc(3, "Int32", "a")
        made[1] = 7
        found = opener.opened()
        self.assertEqual((found.name, found[:]), ("a", [0, 7, 0]))

    def test_a_name_that_is_given(self) -> None:
        opener = Opener(self.client, "a", None)
        made = self.other.alloc(3, "Int32")
        time.sleep(0.05)
        made.rename("a")
        self.assertEqual(opener.opened().length, 3)

    def test_the_time_is_up(self) -> None:
        start = time.monotonic()
        with self.assertRaises(smalloc.NotFoundError) as caught:
            self.client.open("a", 0.1)
        self.assertGreaterEqual(time.monotonic() - start, 0.1)
        self.assertEqual(caught.exception.allocation, "a")
        with self.assertRaises(smalloc.NotFoundError):
            self.client.open("a")

    def test_what_has_to_be_frozen(self) -> None:
        self.client.create("a", 4)
        with self.assertRaises(smalloc.NotFoundError):
            self.client.open("a", frozen=True)
        opener = Opener(self.client, "a", 60, frozen=True)
        time.sleep(0.05)
        self.assertIsNone(opener.found)
        self.other.freeze("a")
        self.assertTrue(opener.opened().frozen)
        self.assertTrue(self.client.open("a", frozen=True).frozen)

    def test_many_threads_and_one_that_makes_it(self) -> None:
        openers = [Opener(self.client, "a", 60) for _ in range(20)]
        time.sleep(0.1)
        self.other.create("a", 4)
        self.assertEqual({one.opened().length for one in openers}, {4})
        self.assertEqual(self.client.stat("a").handles, 20)

    def test_ctrl_c_takes_it_back(self) -> None:
        kept = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, kept)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with self.assertRaises(KeyboardInterrupt):
            self.client.open("a", 60)
        self.other.create("a", 4)
        self.client.ping()
        self.assertEqual(self.client.stat("a").handles, 0)

    def test_the_daemon_stops(self) -> None:
        daemon = Daemon()
        self.addCleanup(daemon.stop)
        with smalloc.Client(daemon.address) as client:
            opener = Opener(client, "a", None)
            time.sleep(0.1)
            daemon.kill(signal.SIGTERM)
            opener.join(20)
            kinds = (smalloc.CancelledError, smalloc.ConnectionLostError)
            self.assertIsInstance(opener.error, kinds)

    def test_tasks(self) -> None:
        async def test() -> None:
            async with aio.Client(self.daemon.address) as client:
                self.assertFalse(await client.exists("a"))
                tasks: List[Any] = [
                    asyncio.ensure_future(client.open("a", 60)) for _ in range(100)
                ]
                await client.ping()
                for one in tasks[::2]:
                    one.cancel()
                await asyncio.gather(*tasks[::2], return_exceptions=True)
                await client.ping()
                self.other.create("a", 4)
                found = await asyncio.gather(*tasks[1::2])
                self.assertEqual({one.length for one in found}, {4})
                self.assertEqual((await client.stat("a")).handles, 50)
                self.assertTrue(await client.exists("a"))
                with self.assertRaises(smalloc.NotFoundError):
                    await client.open("b", 0.05)
                # Cancelled in the very moment in which it has been found.
                for _ in range(20):
                    task = asyncio.ensure_future(client.open("c", 60))
                    await client.ping()
                    self.other.create("c", 4)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    await client.ping()
                    self.assertEqual(self.other.stat("c").handles, 0)
                    self.other.dispose("c")
                del found, tasks
                gc.collect()
                await client.ping()
                self.assertTrue(within(2, lambda: self.other.stat("a").handles == 0))

        asyncio.run(test())


class LateTests(HostileTestCase):
    def test_what_a_wait_opens_after_its_cancel_is_closed(self) -> None:
        """The reply may be on its way as the daemon answers that there is no such wait."""

        class Interrupt(BaseException):
            pass

        def interrupt(*_: Any) -> None:
            raise Interrupt

        taken_back = threading.Event()
        heard: List[Header] = []

        def answer(connection: socket.socket) -> None:
            self.greet(connection)
            opened = self.request(connection)
            # It has sent the request, and sleeps by then.
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGUSR1)
            header = self.request(connection)
            assert header.operation == Operation.CANCEL
            connection.sendall(self.reply(header))
            assert taken_back.wait(5)
            connection.sendall(self.reply(opened, handle=9, type=5, size=16))
            for _ in range(3):
                heard.append(self.request(connection))
                connection.sendall(self.reply(heard[-1]))
            connection.recv(1)

        kept = signal.signal(signal.SIGUSR1, interrupt)
        self.addCleanup(signal.signal, signal.SIGUSR1, kept)
        client = self.client_of(self.served(answer), timeout=5)
        with self.assertRaises(Interrupt):
            client.open("a", 60)
        taken_back.set()
        # The reply comes before that to one of these.
        for _ in range(2):
            client.ping()
        self.assertEqual(
            [(one.operation, one.handle) for one in heard if one.operation != Operation.PING],
            [(Operation.CLOSE, 9)],
        )


if __name__ == "__main__":
    unittest.main()

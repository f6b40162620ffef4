"""smalloc.aio and tasks that are cancelled, at each moment of what they do."""

import asyncio
import contextlib
import gc
import os
import unittest
from random import Random
from typing import Any, List
from unittest import mock

import smalloc
from smalloc import WaitResult, aio

from support import scaled, seeded
from test_aio import AioTestCase
from test_mapping import descriptors


async def spin(times: int) -> None:
    """Let other tasks and the socket have so many turns."""
    for _ in range(times):
        await asyncio.sleep(0)


class CancelTests(AioTestCase):
    def test_in_each_moment_of_a_request(self) -> None:
        """However far it has come, the client is as usable as before, and nothing is left."""

        def calls(client: aio.Client, a: aio.Allocation, data: Any) -> List[Any]:
            return [
                lambda: client.ping(),
                lambda: client.alloc(4),
                lambda: client.open("a"),
                lambda: a.atomic_add(1, 0),
                lambda: client.read_into(a, data),
                lambda: client.write(a, data),
                lambda: client.array("b", 10, "int32"),
                lambda: client.get("a"),
                lambda: client.put("c", bytes(70000)),
                lambda: a.wait(0, 0),
                lambda: client.stat_many(["a", a]),
            ]

        async def test(client: aio.Client) -> None:
            a = await client.alloc(50000, "Int32", "a")
            data = bytearray(200000)
            for call in calls(client, a, data):
                for turns in range(12):
                    task = asyncio.ensure_future(call())
                    await spin(turns)
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
                    del task
                    self.assertEqual(await a.atomic_load(1), 0)
            gc.collect()
            await client.ping()
            for name in ("b", "c"):
                with contextlib.suppress(smalloc.NotFoundError):
                    await client.dispose(name)
            await client.ping()
            # Nothing but the one handle is open, and nobody waits.
            self.assertEqual((await client.stat("a")).handles, 1)
            self.assertEqual((await client.stats())["allocations"], 1)
            self.assertEqual(await a.notify(0), 0)

        gc.collect()
        before = descriptors(os.getpid())
        self.run_with(test)
        gc.collect()
        self.assertEqual(descriptors(os.getpid()), before)
        self.client.dispose("a")

    def test_memory_is_not_touched_any_more_when_the_task_is_told(self) -> None:
        async def test(client: aio.Client) -> None:
            size = 32 << 20
            a = await client.alloc(size, name="a")
            await client.fill(a, b"\7", 0, size)
            for turns in (1, 5, 20, 60):
                data = bytearray(size)
                task = asyncio.ensure_future(client.read_into(a, data))
                await spin(turns)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                data[:] = bytes(size)
                await client.ping()
                await asyncio.sleep(0.05)
                self.assertEqual(data.count(7), 0)
            # What is to be written may be used anew at once, too.
            data = bytearray(b"\1" * size)
            task = asyncio.ensure_future(client.write(a, data))
            await spin(3)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            data[:] = b"\2" * size
            self.assertEqual((await client.read(a)).count(2), 0)
            await a.dispose()

        self.run_with(test)

    def test_a_wait_is_taken_back(self) -> None:
        async def test(client: aio.Client) -> None:
            a = await client.alloc(1, "Int32", "a")
            tasks = [asyncio.ensure_future(a.wait(0, 0)) for _ in range(100)]
            await client.ping()
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks[::2], return_exceptions=True)
            self.assertTrue(all(isinstance(one, asyncio.CancelledError) for one in results))
            self.assertEqual(await a.notify(0), 50)
            self.assertEqual(
                set(await asyncio.gather(*tasks[1::2])), {WaitResult.NOTIFIED}
            )
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(a.wait(0, 0), 0.01)
            await client.ping()
            self.assertEqual(self.client.open("a").notify(0), 0)

        self.run_with(test)

    def test_a_notify_that_was_faster_wakes_another_one(self) -> None:
        async def test(client: aio.Client) -> None:
            a = await client.alloc(1, "Int32", "a")
            other = self.client.open("a")
            for _ in range(scaled(30)):
                first, second = (asyncio.ensure_future(a.wait(0, 0)) for _ in range(2))
                await client.ping()
                # The reply is in the socket, and this loop has not seen it.
                self.assertEqual(other.notify(0, 1), 1)
                first.cancel()
                self.assertIs(await asyncio.wait_for(second, 5), WaitResult.NOTIFIED)
                self.assertTrue(first.cancelled())

        self.run_with(test)

    def test_an_array_that_is_made(self) -> None:
        """Once the daemon has told of it, it goes with the task that it was made for."""

        async def test(client: aio.Client) -> None:
            heard, kept = 0, client.connection.ask

            async def ask(request: Any, *arguments: Any, **words: Any) -> Any:
                nonlocal heard
                heard += 1
                if heard == which:
                    task.cancel()
                return await kept(request, *arguments, **words)

            # The requests that follow the one that makes it.
            for which in (1, 2):
                with mock.patch.object(client.connection, "ask", ask):
                    heard = 0
                    task = asyncio.ensure_future(client.array("a", (2, 2), "int32"))
                    await asyncio.gather(task, return_exceptions=True)
                self.assertEqual(task.cancelled(), not await client.exists("a"))
                self.assertTrue(task.cancelled() or which == 2)
            self.assertEqual(task.result().allocation.shape, (2, 2))

        self.run_with(test)

    def test_a_freeze(self) -> None:
        """An array that was not frozen can be written to as before, however often it is cancelled.
        """

        async def test(client: aio.Client) -> None:
            array = await client.array("a", 4, "int32")
            busy = self.client.open("a").map()
            for turns in range(20):
                for again in range(4):
                    task = asyncio.ensure_future(array.freeze())
                    await spin(turns)
                    for _ in range(again):
                        task.cancel()
                        await spin(1)
                    with self.assertRaises((asyncio.CancelledError, smalloc.BusyError)):
                        await task
                    array[0] = turns
            del busy, task
            gc.collect()
            for turns in range(20):
                array = await client.array("b%d" % turns, 4, "int32")
                task = asyncio.ensure_future(array.freeze())
                await spin(turns)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await client.ping()
                assert array.mapping is not None
                self.assertNotEqual(array.mapping.writable, array.frozen)

        self.run_with(test)

    @seeded
    def test_many_at_random(self, random: Random) -> None:
        async def one(client: aio.Client, a: aio.Allocation) -> None:
            what = random.randrange(6)
            if what == 0:
                await a.wait(0, 0, random.random() / 50)
            elif what == 1:
                await (await client.open("a")).close()
            elif what == 2:
                await client.read(a, 0, random.randrange(100000))
            elif what == 3:
                await client.write(a, bytes(random.randrange(1, 100000)), 4)
            elif what == 4:
                (await client.get("a"))[1] = 0
            else:
                await a.notify(0, 1)

        async def test(client: aio.Client) -> None:
            a = await client.alloc(50000, "Int32", "a")
            tasks = [asyncio.ensure_future(one(client, a)) for _ in range(scaled(400))]
            while not all(task.done() for task in tasks):
                random.choice(tasks).cancel()
                await spin(random.randrange(3))
            for task in tasks:
                if not task.cancelled():
                    task.result()
            # The last one, too: a cancelled task keeps the frames that it was cancelled in.
            del task, tasks
            gc.collect()
            await client.ping()
            await client.ping()
            self.assertEqual((await client.stat("a")).handles, 1)

        self.run_with(test)


if __name__ == "__main__":
    unittest.main()

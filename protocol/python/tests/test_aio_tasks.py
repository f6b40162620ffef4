"""smalloc.aio and tasks that use the same objects in the same turn."""

import asyncio
import unittest
from typing import Any

import smalloc
from smalloc import WaitResult, aio
from smalloc._state import WAITERS

from test_aio import AioTestCase
from test_mapping import within
from test_waits import Waiter


class CloseTests(AioTestCase):
    def test_what_follows_a_close_does_not_reach_another_allocation(self) -> None:
        """The daemon gives the number again to what is opened behind it."""

        async def test(client: aio.Client) -> None:
            await client.create("other", 4, "Int32")
            for end in (aio.Allocation.close, aio.Allocation.dispose):
                a = await client.alloc(4, "Int32")
                _, other, wrote, again = await asyncio.gather(
                    end(a), client.open("other"), a.set(0, 77), a.close(), return_exceptions=True
                )
                self.assertIsInstance(wrote, smalloc.ClosedError)
                self.assertIsNone(again)
                assert isinstance(other, aio.Allocation)
                self.assertEqual(await other.get(0), 0)
                await other.close()

        self.run_with(test)

    def test_a_close_is_idempotent_across_tasks(self) -> None:
        async def test(client: aio.Client) -> None:
            a = await client.alloc(4)
            await asyncio.gather(a.close(), a.close(), a.close())
            b = await client.alloc(4)
            await asyncio.gather(b.dispose(), b.close())
            self.assertTrue(a.is_closed and b.is_closed)
            self.assertEqual((await client.stats())["allocations"], 0)

        self.run_with(test)

    def test_a_dispose_that_fails_leaves_the_handle_open(self) -> None:
        async def test(client: aio.Client) -> None:
            a = await client.alloc(4, name="a")
            self.client.dispose("a")
            with self.assertRaises(smalloc.NotFoundError):
                await a.dispose()
            self.assertFalse(a.is_closed)
            # The number is not given again before this.
            await client.create("b", 4)
            b = await client.open("b")
            await a.close()
            self.assertEqual(await b.get(0), 0)

        self.run_with(test)

    def test_a_wake_up_is_not_passed_on_to_another_allocation(self) -> None:
        async def test(client: aio.Client) -> None:
            a = await client.alloc(1, "Int32", "a")
            other = await client.alloc(1, "Int32", "other")
            waiting, theirs = (asyncio.ensure_future(one.wait(0, 0)) for one in (a, other))
            await client.ping()
            # The reply is in the socket, and this loop has not seen it.
            self.assertEqual(self.client.open("a").notify(0, 1), 1)
            waiting.cancel()
            await asyncio.gather(a.close(), client.open("other"))
            for _ in range(3):
                await client.ping()
            self.assertFalse(theirs.done())
            self.assertEqual(await other.notify(0), 1)
            await theirs
            self.assertTrue(waiting.cancelled())

        self.run_with(test)

    def test_memory_is_not_touched_any_more_when_a_close_was_faster(self) -> None:
        async def test(client: aio.Client) -> None:
            size = 32 << 20
            a = await client.alloc(size, name="a")
            await a.fill(7)
            for turns in (1, 3, 5):
                b, data = await client.open("a"), bytearray(size)
                reading = asyncio.ensure_future(client.read_into(b, data))
                for _ in range(turns):
                    await asyncio.sleep(0)
                closing = asyncio.ensure_future(b.close())
                with self.assertRaises(smalloc.ClosedError):
                    await reading
                data[:] = bytes(size)
                await closing
                self.assertEqual(data.count(7), 0)

        self.run_with(test)


class ConnectTests(AioTestCase):
    def test_all_that_connect_wait_for_the_greeting(self) -> None:
        async def connected(client: aio.Client) -> int:
            await client.connect()
            return client.limits.atomic_size_max

        async def test() -> None:
            client = aio.Client(self.daemon.address)
            told = await asyncio.gather(*(connected(client) for _ in range(3)))
            self.assertEqual(set(told), {self.client.limits.atomic_size_max})
            self.assertTrue(client.can_map)
            await client.close()
            self.assertTrue(within(2, lambda: len(self.client.clients()) == 1))

        asyncio.run(test())

    def test_one_that_is_cancelled_leaves_it_to_the_others(self) -> None:
        async def test() -> None:
            for turns in range(8):
                client = aio.Client(self.daemon.address)
                tasks = [asyncio.ensure_future(client.connect()) for _ in range(3)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                tasks[0].cancel()
                await asyncio.gather(tasks[0], return_exceptions=True)
                self.assertEqual(await asyncio.gather(*tasks[1:]), [client, client])
                await client.ping()
                await client.close()
            self.assertTrue(within(2, lambda: len(self.client.clients()) == 1))

        asyncio.run(test())

    def test_all_are_told_why_there_is_none(self) -> None:
        async def test() -> None:
            client = aio.Client("unix:/nowhere")
            found = await asyncio.gather(
                *(client.connect() for _ in range(3)), return_exceptions=True
            )
            self.assertEqual({type(one) for one in found}, {smalloc.CannotConnectError})

        asyncio.run(test())

    def test_a_close_ends_what_connects(self) -> None:
        async def test() -> None:
            for turns in range(6):
                client = aio.Client(self.daemon.address)
                tasks = [asyncio.ensure_future(client.connect()) for _ in range(2)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                await client.close()
                await asyncio.gather(*tasks, return_exceptions=True)
                if turns:
                    self.assertFalse(client.is_live, turns)
                else:
                    # It was no connection yet, and there is none to be closed.
                    await client.close()
            self.assertTrue(within(2, lambda: len(self.client.clients()) == 1))

        asyncio.run(test())


class ThreadTests(AioTestCase):
    def test_a_notify_in_mapped_memory_from_another_thread(self) -> None:
        """It wakes requests that wait as well, of which only the loop can tell the daemon."""

        async def test(client: aio.Client) -> None:
            a = await client.alloc(1, "Int32", "a", shareable=True)
            mapping = await a.map()
            loop = asyncio.get_running_loop()

            async def ping() -> None:
                mapping.notify(0)

            for notify in (lambda: mapping.notify(0), lambda: asyncio.run(ping())):
                waiting = asyncio.ensure_future(a.wait(0, 0))
                await client.ping()
                await loop.run_in_executor(None, notify)
                self.assertIs(await asyncio.wait_for(waiting, 5), WaitResult.NOTIFIED)
            waiting = asyncio.ensure_future(a.wait(0, 0))
            await client.ping()
            # One that can't be woken is no wake-up that is lost without a word.
            await a.close()
            with self.assertRaises(smalloc.ClosedError):
                await loop.run_in_executor(None, mapping.notify, 0)
            self.client.open("a").notify(0)
            self.assertIs(await waiting, WaitResult.NOTIFIED)

        self.run_with(test)

    def test_a_notify_when_the_loop_is_closed(self) -> None:
        """It is told that requests which wait are not woken."""

        async def begin() -> Any:
            client = await aio.Client(self.daemon.address).connect()
            a = await client.alloc(1, "Int32", "a", shareable=True)
            return client, await a.map(), a

        loop = asyncio.new_event_loop()
        client, mapping, a = loop.run_until_complete(begin())
        waiter = Waiter(self.client.open("a"), 0, 0, 20)
        self.assertTrue(within(5, lambda: mapping._flags & WAITERS))
        # Between two runs of the loop.
        mapping.notify(0)
        loop.run_until_complete(client.ping())
        self.assertEqual(waiter.ended(), (WaitResult.NOTIFIED, None))
        waiter = Waiter(self.client.open("a"), 0, 0, 20)
        self.assertTrue(within(5, lambda: mapping._flags & WAITERS))
        loop.close()
        with self.assertRaises(smalloc.ClosedError):
            mapping.notify(0)
        self.client.open("a").notify(0)
        self.assertEqual(waiter.ended(), (WaitResult.NOTIFIED, None))


if __name__ == "__main__":
    unittest.main()

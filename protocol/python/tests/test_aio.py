"""smalloc.aio: the operations, many tasks on one connection, memory."""

import asyncio
import gc
import os
import pickle
import unittest
from random import Random
from typing import Any, Coroutine, List

import smalloc
from smalloc import WaitResult, aio

from support import Daemon, DaemonTestCase, needs_numpy, numpy, seeded
from test_mapping import within


class AioTestCase(DaemonTestCase):
    """Each test has a daemon of its class, a blocking client, and runs coroutines with one of aio.
    """

    def run_with(self, test: Any, **options: Any) -> Any:
        """Run a coroutine function that takes a client, in a loop of its own."""

        async def body() -> Any:
            async with aio.Client(self.daemon.address, timeout=20, **options) as client:
                return await test(client)

        return asyncio.run(body())


class OperationTests(AioTestCase):
    def test_names(self) -> None:
        async def test(client: aio.Client) -> None:
            made = await client.alloc(4, "Int16", "a", shape=(2, 2), metadata=b"m")
            self.assertEqual((made.name, made.length, made.shape), ("a", 4, (2, 2)))
            await client.create("b", 3)
            opened = await client.open("a")
            self.assertIs(opened.type, smalloc.ElementType.INT16)
            self.assertEqual((opened.shape, opened.metadata), (None, b""))
            stat = await opened.stat()
            self.assertEqual((stat.shape, stat.metadata, opened.shape), ((2, 2), b"m", (2, 2)))
            names = {one.name async for one in client.list()}
            self.assertEqual(names, {"a", "b"})
            stats = await client.stat_many(["b", "nothing", made])
            self.assertEqual([one and one.length for one in stats], [3, None, 4])
            await client.rename("b", "c")
            with self.assertRaises(smalloc.AlreadyExistsError):
                await made.rename("c")
            await made.rename("c", replace=True)
            self.assertEqual(made.name, "c")
            await made.truncate(2)
            self.assertEqual((made.length, made.shape), (2, None))
            await client.freeze("c")
            self.assertTrue(await made.frozen())
            with self.assertRaises(smalloc.FrozenError):
                await made.set(0, 1)
            await client.dispose("c")
            with self.assertRaises(smalloc.NotFoundError):
                await opened.get(0)
            await opened.close()
            await opened.close()
            with self.assertRaises(smalloc.ClosedError):
                await opened.get(0)
            with self.assertRaises(smalloc.InvalidNameError):
                await client.open("with space")
            self.assertEqual((await client.stats())["allocations"], 0)
            self.assertGreater(client.limits.frame_size_max, 0)
            await client.ping()

        self.run_with(test)

    def test_elements(self) -> None:
        async def test(client: aio.Client) -> None:
            a = await client.alloc(4, "Double")
            await a.store([0.1, 0.2], 1)
            await a.set(-1, 5)
            self.assertEqual(await a.tolist(), [0, 0.1, 0.2, 5])
            self.assertEqual(await a.get(3), 5)
            self.assertEqual(await a.read_bytes(3), b"\0\0\0\0\0\0\x14@")
            await a.fill(7, 0, 2)
            buffer = bytearray(16)
            self.assertEqual(await a.readinto(buffer), 16)
            self.assertEqual(smalloc.ElementType.DOUBLE.unpack(buffer), [7, 7])
            await a.write(bytes(8), 1)
            self.assertEqual(await a.tolist(0, 2), [7, 0])
            for call in (a.get(4), a.set(-5, 1), a.tolist(2, 3), a.write(b"123")):
                with self.assertRaises((IndexError, smalloc.InvalidArgumentError)):
                    await call
            await a.dispose()
            self.assertTrue(a.is_closed)

        self.run_with(test)

    def test_bytes(self) -> None:
        size = (9 << 20) + 5
        data = Random(7).randbytes(size) if hasattr(Random, "randbytes") else os.urandom(size)

        async def test(client: aio.Client) -> None:
            a = await client.alloc(size, name="a")
            await client.write("a", data)
            self.assertEqual(await client.read("a"), data)
            self.assertEqual(await client.read(a, 3, 1 << 20), data[3 : (1 << 20) + 3])
            self.assertEqual(await client.read(a, size, 0), b"")
            await client.write_ranges(a, [(0, 2), (size - 1, 1)], b"xyz")
            found = await client.read_ranges("a", [(size - 1, 1), (0, 3)])
            self.assertEqual(found, b"zxy" + data[2:3])
            b = await client.alloc(size)
            await client.copy(a, 1, b, 0, size - 1)
            self.assertEqual(await client.read(b, 0, 4), b"y" + data[2:5])
            await client.fill(b, b"ab", 0, size - 1)
            self.assertEqual(await client.read(b, size - 3), b"ab\0")
            with self.assertRaises(smalloc.OutOfRangeError):
                await client.read("a", size - 1, 2)
            with self.assertRaises(smalloc.NotFoundError):
                await client.read("nothing")
            with self.assertRaises(TypeError):
                await client.read(self.client.alloc(1))  # type: ignore[arg-type]

        self.run_with(test)

    def test_cells(self) -> None:
        async def test(client: aio.Client) -> None:
            a = await client.alloc(2, "Int32", "a")
            self.assertEqual(await a.atomic_add(0, 5), 0)
            self.assertEqual(await a.atomic_subtract(0, 6), 5)
            self.assertEqual(await a.atomic_exchange(0, 12), -1)
            self.assertEqual(await a.atomic_and(0, 10), 12)
            self.assertEqual(await a.atomic_or(0, 1), 8)
            self.assertEqual(await a.atomic_xor(0, 3), 9)
            self.assertEqual(await a.atomic_compare_exchange(0, 10, 4), 10)
            await a.atomic_store(0, 3)
            self.assertEqual(await a.atomic_load(0), 3)
            self.assertIs(await a.wait(0, 4), WaitResult.DIFFERS)
            self.assertIs(await a.wait(0, 3, 0.01), WaitResult.TIMEOUT)
            waiting = asyncio.ensure_future(a.wait(0, 3))
            await client.ping()
            self.assertEqual(await a.notify(0), 1)
            self.assertIs(await waiting, WaitResult.NOTIFIED)
            waiting = asyncio.ensure_future(a.wait(1, 0))
            await client.ping()
            await client.dispose("a")
            self.assertIs(await waiting, WaitResult.DISPOSED)
            with self.assertRaises(OverflowError):
                await a.atomic_add(0, 1 << 40)

        self.run_with(test)

    def test_descriptions_over_tcp_and_by_sockets_alone(self) -> None:
        async def test(client: aio.Client) -> None:
            a = await client.array("a", (2, 3), "int16")
            self.assertIsNone(a.mapping)
            await a.write((1, slice(None)), [1, 2, 3])
            self.assertEqual(list((await a.read(1))), [1, 2, 3])
            self.assertEqual(await a.read((1, -1)), 3)
            await a.write((Ellipsis, 0), 9)
            self.assertEqual([list(row) for row in await a.read()], [[9, 0, 0], [9, 2, 3]])
            for misused in (lambda: a[0], lambda: a.tolist(), lambda: a.frozen, a.__enter__):
                with self.assertRaises(TypeError):
                    misused()
            await a.fill(1)
            put = await client.put("b", a)
            self.assertEqual(list(await put.read(0)), [1, 1, 1])
            self.assertTrue(put.is_live)

        self.run_with(test, mapping=False)


class MemoryTests(AioTestCase):
    def test_an_array_is_memory(self) -> None:
        async def test(client: aio.Client) -> None:
            a = await client.array("a", (2, 3), "int32")
            a[0] = [1, 2, 3]
            a[:, 2] = 7
            self.assertEqual(a.tolist(), [[1, 2, 7], [0, 0, 7]])
            self.assertEqual(self.client.get("a").tolist(), [[1, 2, 7], [0, 0, 7]])
            same = await client.array("a", (2, 3), "int32")
            same[1, 1] = 5
            self.assertEqual(a[1, 1], 5)
            self.assertEqual(list(await a.read(1)), [0, 5, 7])
            got = await client.get("a")
            self.assertEqual((got.shape, got.tolist()), ((2, 3), [[1, 2, 7], [0, 5, 7]]))
            with self.assertRaises(smalloc.MismatchError):
                await client.array("a", (3, 2), "int32")
            with self.assertRaises(smalloc.MismatchError):
                await client.array("a", (2, 3), "float32")
            del same, got
            gc.collect()
            await a.freeze()
            self.assertTrue(a.frozen)
            with self.assertRaises(smalloc.FrozenError):
                a[0] = 1
            await client.dispose("a")
            self.assertFalse(a.is_live)
            self.assertEqual(a[1, 1], 5)

        self.run_with(test)
        # The second open's handle, and all others, have ended with the connection.
        self.assertTrue(within(2, lambda: self.client.stats()["memory_held_bytes"] == 0))

    def test_put(self) -> None:
        async def test(client: aio.Client) -> None:
            for size in (10, 70000, 3 << 20):
                data = bytes(range(256)) * (size // 256 + 1)
                await client.put("b", data[:size])
                self.assertEqual(self.client.read("b"), data[:size])
                self.assertEqual(self.client.stat("b").shape, (size,))
            put = await client.put("c", [[1, 2], [3, 4]], "int16")
            self.assertEqual(put.tolist(), [[1, 2], [3, 4]])
            again = await client.put("d", put)
            self.assertEqual(again.tolist(), [[1, 2], [3, 4]])

        self.run_with(test)

    @needs_numpy
    def test_numpy_has_the_memory_itself(self) -> None:
        async def test(client: aio.Client) -> None:
            a = await client.array("a", (4, 4), "float32")
            view = numpy.asarray(a)
            view[2] = 3
            self.assertEqual(self.client.get("a")[2, 3], 3)
            self.assertEqual((await client.get("a"))[2, 3], 3)
            self.daemon  # The view outlives the client.
            return view

        view = self.run_with(test)
        self.assertEqual(view[2, 0], 3)

    def test_mappings(self) -> None:
        async def test(client: aio.Client) -> None:
            a = await client.alloc(2, "Int32", "a", shareable=True)
            mapping = await a.map()
            mapping[0] = 4
            self.assertEqual(await a.atomic_add(0, 1), 4)
            self.assertEqual(mapping.atomic_add(0, 1), 5)
            # A mapped notify wakes what waits by a request; it needs no await.
            waiting = asyncio.ensure_future(a.wait(0, 6))
            await client.ping()
            mapping.atomic_store(0, 7)
            mapping.notify(0)
            self.assertIs(await asyncio.wait_for(waiting, 5), WaitResult.NOTIFIED)
            # A sleep in memory would hold up everything.
            with self.assertRaises(smalloc.UnsupportedError):
                mapping.wait(0, 7, 0.1)
            self.assertTrue(mapping.is_live)
            await client.close()
            self.assertFalse(mapping.is_live)
            self.assertEqual(mapping[0], 7)

        self.run_with(test)

    def test_pickles_are_opened_by_the_blocking_client(self) -> None:
        async def test(client: aio.Client) -> bytes:
            a = await client.array("a", 3, "int32")
            a[:] = [1, 2, 3]
            opened = await client.open("a")
            with self.assertRaises(TypeError):
                pickle.dumps(client)
            return pickle.dumps([a, opened])

        array, allocation = pickle.loads(self.run_with(test))
        self.assertEqual((array.tolist(), allocation[:]), ([1, 2, 3], [1, 2, 3]))


class ManyTests(AioTestCase):
    def test_a_thousand_tasks(self) -> None:
        async def one(client: aio.Client, number: int) -> int:
            name = "t/%d" % number
            a = await client.alloc(8, "Int64", name)
            await a.set(0, number)
            await client.copy(a, 0, a, 8, 8)
            opened = await client.open(name)
            found = await opened.tolist(0, 2)
            await opened.close()
            await a.dispose()
            assert found == [number, number], found
            return number

        async def test(client: aio.Client) -> List[int]:
            return list(await asyncio.gather(*(one(client, number) for number in range(1000))))

        self.assertEqual(self.run_with(test), list(range(1000)))
        self.assertEqual(self.client.stats()["allocations"], 0)

    def test_a_thousand_waits_and_one_that_notifies(self) -> None:
        async def test(client: aio.Client) -> List[WaitResult]:
            a = await client.alloc(1, "Int32")
            tasks = [asyncio.ensure_future(a.wait(0, 0)) for _ in range(1000)]
            await client.ping()
            await a.atomic_store(0, 1)
            self.assertEqual(await a.notify(0), 1000)
            return list(await asyncio.gather(*tasks))

        self.assertEqual(set(self.run_with(test)), {WaitResult.NOTIFIED})

    def test_requests_of_one_turn_leave_together(self) -> None:
        async def test(client: aio.Client) -> None:
            sent = []
            connection = client.connection
            buffers = connection._buffers

            def counted() -> Any:
                found = buffers()
                sent.append(len(found))
                return found

            connection._buffers = counted  # type: ignore[method-assign]
            await asyncio.gather(*(client.ping() for _ in range(50)))
            self.assertEqual(sent, [50])

        self.run_with(test)

    def test_large_data_beside_small_requests(self) -> None:
        async def test(client: aio.Client) -> None:
            size = 64 << 20
            a = await client.alloc(size)
            data = bytearray(size)
            data[-1] = 1
            moving = asyncio.ensure_future(client.write(a, data))
            pings = 0
            while not moving.done():
                await client.ping()
                pings += 1
            await moving
            self.assertGreater(pings, 2)
            self.assertEqual(await client.read(a, size - 2), b"\0\1")

        self.run_with(test)

    @seeded
    def test_random_operations_like_the_blocking_client(self, random: Random) -> None:
        """Tasks of one client, each on an allocation of its own, beside a model."""

        async def one(client: aio.Client, number: int) -> None:
            size = random.choice((1, 7, 300, 20000, 70000))
            a = await client.alloc(size, name="r/%d" % number)
            model = bytearray(size)
            for _ in range(20):
                start = random.randrange(size + 1)
                count = random.randrange(size - start + 1)
                what = random.randrange(4)
                if what == 0:
                    data = bytes(random.randrange(256) for _ in range(min(count, 500)))
                    await client.write(a, data, start)
                    model[start : start + len(data)] = data
                elif what == 1:
                    await client.fill(a, b"%c" % (number % 256), start, count)
                    model[start : start + count] = bytes([number % 256]) * count
                elif what == 2:
                    to = random.randrange(size - count + 1)
                    await client.copy(a, start, a, to, count)
                    model[to : to + count] = bytes(model[start : start + count])
                found = await client.read("r/%d" % number if what else a, start, count)
                assert found == model[start : start + count]
            await a.dispose()

        async def test(client: aio.Client) -> None:
            await asyncio.gather(*(one(client, number) for number in range(40)))

        self.run_with(test)


class TCPTests(unittest.TestCase):
    def test_over_tcp(self) -> None:
        import socket

        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        daemon = Daemon(port=port)
        self.addCleanup(daemon.stop)

        async def test() -> None:
            async with aio.Client("tcp:127.0.0.1:%d" % port) as client:
                a = await client.put("a", [1, 2, 3], "int32")
                self.assertFalse(client.can_map)
                self.assertIsNone(a.mapping)
                self.assertEqual(list(await a.read()), [1, 2, 3])
                with self.assertRaises(smalloc.UnsupportedError):
                    await a.allocation.map()

        run: Coroutine[Any, Any, None] = test()
        asyncio.run(run)


if __name__ == "__main__":
    unittest.main()

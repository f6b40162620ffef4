"""Leases: of a connection, and of a time without use; what stat tells of them."""

import asyncio
import gc
import time
import unittest

import smalloc
from smalloc import StatFlag, aio

from support import DaemonTestCase
from test_mapping import within


class LeaseTests(DaemonTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.other = smalloc.Client(self.daemon.address)
        self.addCleanup(self.other.close)

    def test_one_of_the_connection(self) -> None:
        with smalloc.Client(self.daemon.address) as client:
            client.alloc(4, name="a", lease=0).close()
            client.create("b", 4, lease=0)
            array = client.array("c", (2, 2), "int8", metadata=b"m", lease=0)
            array[0, 0] = 3
            for name in "abc":
                stat = self.other.stat(name)
                self.assertEqual((stat.lease, stat.lease_left), (0, None))
                self.assertIn(StatFlag.LEASED, stat.flags)
            self.assertEqual((stat.shape, stat.metadata), ((2, 2), b"m"))
            opened = self.other.open("a")
        self.assertTrue(within(5, lambda: not list(self.other.list())))
        with self.assertRaises(smalloc.NotFoundError):
            opened.read_bytes()
        self.assertEqual(array[0, 0], 3)

    def test_one_of_a_time(self) -> None:
        a = self.client.alloc(4, name="a", lease=0.2, shape=(2, 2))
        stat = self.client.stat("a")
        self.assertEqual((stat.lease, stat.lease_left, stat.shape), (0.2, 0.2, (2, 2)))
        time.sleep(0.5)
        # A handle is use.
        self.assertTrue(self.other.exists("a"))
        a.close()
        self.assertTrue(within(5, lambda: not self.other.exists("a")))

    def test_a_map_is_use(self) -> None:
        array = self.client.array("a", 4, "int8", lease=0.1)
        array.close()
        time.sleep(1.5)
        self.assertTrue(self.other.exists("a"))
        del array
        gc.collect()
        self.assertTrue(within(6, lambda: not self.other.exists("a")))

    def test_most_have_none(self) -> None:
        self.client.create("a", 4)
        stat = self.client.stat("a")
        self.assertEqual((stat.lease, stat.lease_left), (None, None))
        self.assertNotIn(StatFlag.LEASED, stat.flags)

    def test_with_asyncio(self) -> None:
        async def test() -> None:
            async with aio.Client(self.daemon.address) as client:
                await client.create("a", 4, lease=0)
                await client.alloc(4, name="b", lease=60)
                await client.array("c", 4, "int8", lease=0)
                stats = await client.stat_many(["a", "b", "c"])
                self.assertEqual([one and one.lease for one in stats], [0, 60, 0])

        asyncio.run(test())
        self.assertTrue(within(5, lambda: not self.other.exists("c")))
        self.assertEqual([one.name for one in self.other.list()], ["b"])


if __name__ == "__main__":
    unittest.main()

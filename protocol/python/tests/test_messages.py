"""What is printed and said: flags by their names, shapes, what is in the way; and what is left."""

import asyncio
import gc
import unittest
from typing import Any
from unittest import mock

import smalloc
from smalloc import Maps, StatFlag, Storage, aio

from support import DaemonTestCase, needs_numpy, numpy


class MessageTests(DaemonTestCase):
    def test_stat_prints_names(self) -> None:
        a = self.client.array("a", (2, 3), "int16", metadata=b"m")
        stat = self.client.stat("a")
        self.assertEqual(stat.flags, StatFlag.SHAREABLE | StatFlag.DESCRIBED | StatFlag.SHARED)
        self.assertIn(StatFlag.SHARED, stat.flags)
        self.assertEqual((stat.maps, stat.storage), (Maps.WRITE, Storage.MAPPING))
        for name in ("SHAREABLE", "DESCRIBED", "SHARED", "Maps.WRITE", "Storage.MAPPING"):
            self.assertIn(name, repr(stat))
        self.assertNotIn("FROZEN", repr(stat))
        a.freeze()
        self.assertIn("FROZEN", repr(self.client.stat("a")))

    def test_what_is_in_the_way_of_a_freeze_may_be_ones_own(self) -> None:
        a = self.client.array("a", 4, "int16")
        own = a.allocation.map()
        for freeze in (a.freeze, a.allocation.freeze, lambda: self.client.freeze("a")):
            with self.assertRaisesRegex(smalloc.BusyError, "a view of this program's own"):
                freeze()

        async def test() -> None:
            async with aio.Client(self.daemon.address) as client:
                with self.assertRaisesRegex(smalloc.BusyError, "a view of this program's own"):
                    await client.freeze("a")

        asyncio.run(test())
        del own
        gc.collect()
        a.freeze()

    def test_errors_of_shapes_say_them(self) -> None:
        said = [
            (lambda: self.client.alloc(7, shape=(2, 3)), r"\(2, 3\) has 6 elements.* length is 7"),
            (lambda: self.client.create("a", 7, shape=(2, 3)), r"\(2, 3\) has 6 elements"),
            (
                lambda: self.client.put("a", [[1, 2], [3]], "int8"),
                "one of 1 where the first of these is one of 2",
            ),
            (lambda: self.client.put("a", [[1, 2], 3], "int8"), "there is a number where"),
            (lambda: self.client.put("a", [1, [2]], "int8"), "one of 1 where numbers are"),
        ]
        self.client.array("b", (2, 3), "int8")
        said += [
            (lambda: self.client.array("b", (3, 2), "int8"), r"\(2, 3\), not \(3, 2\)"),
            (lambda: self.client.get("b", (4, 2)), r"6 elements, shape \(4, 2\) 8"),
        ]
        for call, words in said:
            with self.assertRaisesRegex(smalloc.SmallocError, words):
                call()
        self.assertEqual([one.name for one in self.client.list()], ["b"])

    def test_values_that_do_not_fit_say_their_shape(self) -> None:
        a = self.client.array("a", (2, 3), "int8")
        values: Any
        for values in ([[1, 2]], [1, 2, 3, 4]):
            shape = (1, 2) if len(values) == 1 else (4,)
            with self.assertRaises(smalloc.InvalidArgumentError) as caught:
                a[...] = values
            self.assertIn("%s do not fit into (2, 3)" % (shape,), str(caught.exception))

    @needs_numpy
    def test_so_do_numpys(self) -> None:
        a = self.client.array("a", (2, 3), "int8")
        with self.assertRaisesRegex(ValueError, r"\(4,\) do not fit into \(2, 3\)"):
            a[...] = numpy.zeros(4, "int8")


class LeftoverTests(DaemonTestCase):
    """What can't be mapped is not left under its name, if this call has made it."""

    def unmappable(self) -> Any:
        return mock.patch("smalloc._mapping.map_file", side_effect=OSError(24, "too many files"))

    def test_an_array_that_was_just_made_goes(self) -> None:
        with self.unmappable():
            with self.assertRaises(smalloc.ShareLimitError):
                self.client.array("a", 4, "int32")
        self.assertEqual(list(self.client.list()), [])
        self.assertEqual(self.client.stats()["allocations"], 0)

    def test_one_that_was_there_stays(self) -> None:
        self.client.create("a", 4, "Int32")
        with self.unmappable():
            with self.assertRaises(smalloc.ShareLimitError):
                self.client.array("a", 4, "int32")
        self.client.ping()
        self.assertEqual(self.client.stat("a").handles, 0)

    def test_so_it_is_with_asyncio(self) -> None:
        async def test() -> None:
            async with aio.Client(self.daemon.address) as client:
                for name in ("a", "b"):
                    with self.unmappable(), self.assertRaises(smalloc.ShareLimitError):
                        await client.array(name, 4, "int32")

        self.client.create("b", 4, "Int32")
        asyncio.run(test())
        self.assertEqual([one.name for one in self.client.list()], ["b"])


if __name__ == "__main__":
    unittest.main()

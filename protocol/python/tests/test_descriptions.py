"""Shapes and metadata: kept by the daemon, told to whoever opens, believed within bounds."""

import pickle
import socket
import struct
import unittest
from random import Random
from typing import Any, List, Optional, Tuple

import smalloc
from smalloc import _wire
from smalloc._info import Stat
from smalloc._wire import U64_MAX, FrameError, Header, Reply

from support import DaemonTestCase, needs_numpy, numpy, seeded
from test_hostile import HostileTestCase


class DescriptionTests(DaemonTestCase):
    def test_who_opens_it_gets_shape_and_metadata(self) -> None:
        a = self.client.alloc(6, "Int64", "a", shape=(2, 3), metadata=b"a\0b")
        self.assertEqual((a.shape, a.metadata), ((2, 3), b"a\0b"))
        with smalloc.Client(self.daemon.address) as other:
            opened = other.open("a")
            self.assertEqual((opened.shape, opened.metadata), ((2, 3), b"a\0b"))
            self.assertEqual(other.get("a").shape, (2, 3))
            self.assertEqual(other.get("a", (3, 2)).shape, (3, 2))
            with self.assertRaises(smalloc.MismatchError):
                other.get("a", (3, 3))
        stat = self.client.stat("a")
        self.assertEqual((stat.shape, stat.metadata, stat.flags & 32), ((2, 3), b"a\0b", 32))
        self.client.create("b", 6, "Int8", shape=(3, 2), metadata=bytearray(b"x" * 256))
        self.assertEqual(self.client.get("b").shape, (3, 2))
        self.assertEqual(self.client.open("b").metadata, b"x" * 256)

    def test_none_is_not_one_dimension(self) -> None:
        self.client.alloc(6, "Int64", "plain")
        self.client.alloc(6, "Int64", "line", shape=6)
        self.client.alloc(6, "Int64", "metadata", metadata=b"m")
        shapes = [self.client.open(name).shape for name in ("plain", "line", "metadata")]
        self.assertEqual(shapes, [None, (6,), None])
        self.assertEqual(self.client.get("plain").shape, (6,))
        # What has no shape is opened by any of its length, as ever.
        self.assertEqual(self.client.array("plain", (2, 3), "Int64").shape, (2, 3))
        with self.assertRaises(smalloc.MismatchError):
            self.client.array("plain", (2, 4), "Int64")

    def test_array_checks_the_shape_and_leaves_no_handle(self) -> None:
        self.client.array("a", (2, 3), "Int64", metadata=b"first").close()
        again = self.client.array("a", (2, 3), "Int64", metadata=b"second")
        self.assertEqual(again.allocation.metadata, b"first")
        for shape in ((3, 2), 6, (1, 2, 3), (2, 4), ()):
            with self.assertRaises(smalloc.MismatchError) as caught:
                self.client.array("a", shape, "Int64")
            self.assertIn("(2, 3)", str(caught.exception))
        self.assertEqual(self.client.stat("a").handles, 1)

    def test_all_shapes(self) -> None:
        for shape in ((), (0,), (2, 0, 3), (1,) * 8, (2, 1, 3), (0, 2**64 - 1)):
            array = self.client.array("a", shape, "Int16")
            self.assertEqual((array.shape, self.client.get("a").shape), (shape, shape))
            self.assertEqual(self.client.stat("a").shape, shape)
            self.client.dispose("a")
        with self.assertRaises(smalloc.InvalidArgumentError):
            self.client.alloc(5, "Int16", shape=(2, 3))
        for bad in ((1,) * 9, (2**64, 0), -1):
            with self.assertRaises(smalloc.InvalidArgumentError):
                self.client.alloc(0, "Int16", shape=bad)
        with self.assertRaises(smalloc.InvalidArgumentError):
            self.client.alloc(1, metadata=b"x" * 257)
        with self.assertRaises(TypeError):
            self.client.alloc(1, metadata="x")  # type: ignore[arg-type]

    def test_truncate_ends_the_shape(self) -> None:
        a, other = self.client.alloc(6, "Int8", "a", shape=(2, 3), metadata=b"m"), None
        other = self.client.open("a")
        a.truncate(6)
        self.assertEqual(a.shape, (2, 3))
        a.truncate(4)
        self.assertEqual((a.shape, a.metadata, a.stat().shape), (None, b"m", None))
        self.assertEqual((other.shape, other.metadata), (None, b"m"))
        self.assertEqual(self.client.get("a").shape, (4,))

    def test_put_keeps_the_shape_and_rename_too(self) -> None:
        self.client.put("a", [[1, 2], [3, 4], [5, 6]], "Int32", metadata=b"m")
        self.client.rename("a", "b")
        self.assertEqual(self.client.get("b").tolist(), [[1, 2], [3, 4], [5, 6]])
        self.assertEqual(self.client.open("b").metadata, b"m")
        self.client.put("b", 7, "Int32")
        found = self.client.get("b")
        self.assertEqual((found.shape, found.tolist(), found.allocation.metadata), ((), 7, b""))
        self.client.put("b", [], "Int32")
        self.assertEqual(self.client.get("b").shape, (0,))
        again = pickle.loads(pickle.dumps(self.client.put("b", [[1, 2]], "Int8")))
        self.assertEqual(again.shape, (1, 2))
        again.close()

    def test_stat_tells_the_rest(self) -> None:
        a = self.client.alloc(100_000, "Int8", "a", shareable=True)
        self.assertEqual(self.client.stat("a").maps, 0)
        mapping = a.map()
        stat = self.client.stat("a")
        self.assertEqual((stat.flags & (4 | 128), stat.maps), (4 | 128, 2))
        self.assertIsInstance(stat.owner, int)
        del mapping
        a.freeze()
        self.assertEqual((self.client.stat("a").flags & 64, a.frozen), (64, True))

    @needs_numpy
    @seeded
    def test_any_layout_is_put_and_gets_its_shape_back(self, random: Random) -> None:
        for large in (False, True):
            for rank in range(9):
                shape = tuple(random.randint(0 if not large else 1, 3) for _ in range(rank))
                if large and rank:
                    shape = (30_000, *shape[1:])
                values = numpy.random.RandomState(rank).randint(0, 99, shape).astype("i4")
                for layout in (
                    values,
                    numpy.asfortranarray(values),
                    values.T,
                    values[::2] if rank else values,
                    numpy.flip(values),
                ):
                    self.client.put("a", layout)
                    found = self.client.get("a")
                    self.assertEqual(found.shape, layout.shape)
                    self.assertTrue((numpy.asarray(found) == layout).all(), (layout.shape, rank))

    def test_an_older_daemon_is_told_no_shape(self) -> None:
        # As one that tells no feature; what it would make of a description it is not asked.
        with smalloc.Client(self.daemon.address) as client:
            client._limits = smalloc.Limits()
            self.assertFalse(client.tells_shapes)
            with client.array("a", (2, 3), "Int8") as array:
                self.assertEqual((array.shape, array.allocation.shape), ((2, 3), None))
            self.assertEqual(client.get("a").shape, (6,))
            self.assertEqual(client.array("a", (3, 2), "Int8").shape, (3, 2))
            self.assertEqual(client.put("b", [[1, 2]], "Int8").shape, (1, 2))
            self.assertEqual(client.open("b").metadata, b"")
        self.assertEqual([self.client.stat(name).shape for name in "ab"], [None, None])


class SocketDescriptionTests(DescriptionTests):
    mapping = False


def stat_of(
    rank: int, dims: Tuple[int, ...], metadata: bytes, size: Optional[int] = None, length: int = 6,
    type: int = 1, more: bytes = b"",
) -> Stat:  # fmt: skip
    told = len(metadata) if size is None else size
    numbers: List[int] = [0, 1, 0, 32, 0, U64_MAX, U64_MAX, 7, rank]
    numbers += [*dims, *[0] * (8 - len(dims)), told]
    payload = b"a" + struct.pack("<18Q", *numbers) + metadata + more
    header = Header(0xE6, 1, _wire.Operation.STAT, 0, 0, 1, type, 1, 0, len(payload), 0, length)
    return Stat.of(Reply(header, payload))


class HostileDescriptionTests(HostileTestCase):
    def test_replies_of_stat(self) -> None:
        stat = stat_of(2, (2, 3), b"abc", more=b"later")
        self.assertEqual((stat.shape, stat.metadata, stat.owner), ((2, 3), b"abc", 7))
        self.assertIsNone(stat_of(U64_MAX, (), b"").shape)
        # Elements of a type that is not known are bytes here, of which no shape is known.
        self.assertIsNone(stat_of(2, (2, 3), b"", length=12, type=99).shape)
        for wrong in (
            lambda: stat_of(2, (2, 4), b""),
            lambda: stat_of(0, (), b""),
            lambda: stat_of(9, (1, 1, 1, 1, 1, 1, 2, 3), b""),
            lambda: stat_of(U64_MAX - 1, (6,), b""),
            lambda: stat_of(2, (U64_MAX, U64_MAX), b""),
            lambda: stat_of(1, (6,), b"abc", size=4),
            lambda: stat_of(1, (6,), b"x" * 300),
            lambda: stat_of(1, (6,), b"", size=U64_MAX),
        ):
            with self.assertRaises(FrameError):
                wrong()

    def test_a_shape_that_makes_no_sense_is_an_error(self) -> None:
        def answer(connection: socket.socket) -> None:
            header = self.request(connection)
            # All features but map.
            connection.sendall(self.reply(header, struct.pack("<3Q", 1, 1, 0xFE)))
            header = self.request(connection)
            connection.sendall(self.reply(header, handle=1, type=1, size=6))
            header = self.request(connection)
            numbers: Any = [0, 1, 0, 0, 0, U64_MAX, U64_MAX, 0, 2, 2, 4, 0, 0, 0, 0, 0, 0, 0]
            payload = struct.pack("<18Q", *numbers)
            connection.sendall(self.reply(header, payload, type=1, size=6))
            self.request(connection)

        client = self.client_of(self.served(answer))
        with self.assertRaises(smalloc.ProtocolError):
            client.get("a")


if __name__ == "__main__":
    unittest.main()

"""All operations, against a daemon."""

import os
import pickle
import socket
import threading
import unittest
from random import Random
from typing import List
from unittest import mock

import smalloc
from smalloc import Client, ElementType
from smalloc._address import default_address, parse_address

from support import Daemon, DaemonTestCase, seeded


class AddressTests(unittest.TestCase):
    def test_the_default(self) -> None:
        for environment, address in (
            ({"SMALLOC_ADDRESS": "tcp:h:1", "XDG_RUNTIME_DIR": "/r"}, "tcp:h:1"),
            ({"SMALLOC_ADDRESS": "", "XDG_RUNTIME_DIR": "/r"}, "unix:/r/smallocd.sock"),
            ({"XDG_RUNTIME_DIR": ""}, "unix:/run/smallocd/smallocd.sock"),
            ({}, "unix:/run/smallocd/smallocd.sock"),
        ):
            with mock.patch.dict(os.environ, environment, clear=True):
                self.assertEqual(default_address(), address)

    def test_addresses(self) -> None:
        for text in ("unix:/a/b", "tcp:localhost:1", "tcp:[::1]:65535", "tcp:127.0.0.1:80"):
            self.assertEqual(str(parse_address(text)), text)
        self.assertEqual(str(parse_address("unix:b")), "unix:" + os.path.abspath("b"))

    def test_what_is_no_address(self) -> None:
        for text in (
            "",
            "unix:",
            "/a",
            "tcp:",
            "tcp:h",
            "tcp:h:",
            "tcp:h:0",
            "tcp:h:65536",
            "tcp:h:1x",
            "tcp::1",
            "tcp:::1:80",
            "tcp://127.0.0.1:80",
            "http:h:1",
            "unix:/a,tcp:h:1",
            "unix:\0",
            "tcp:h:\u0661",
            "tcp:h h:1",
        ):
            with self.assertRaises(smalloc.InvalidArgumentError, msg=text):
                parse_address(text)

    def test_nobody_there(self) -> None:
        for address in ("unix:/nowhere/at/all", "unix:/" + "x" * 200, "tcp:127.0.0.1:1"):
            with self.assertRaises(smalloc.CannotConnectError) as caught:
                Client(address)
            self.assertIsInstance(caught.exception, ConnectionError)
            self.assertIn(address.rpartition(":")[0], str(caught.exception))


class OperationTests(DaemonTestCase):
    def test_hello_ping_stats(self) -> None:
        limits = self.client.hello()
        self.assertEqual(limits, self.client.limits)
        self.assertEqual((limits.version_min, limits.ranges_max), (1, 1024))
        self.client.ping()
        stats = self.client.stats()
        self.assertEqual(stats["pid"], self.daemon.process.pid)
        self.assertEqual(stats["limit_handles"], limits.handles_max)

    def test_the_default_address_is_used(self) -> None:
        with mock.patch.dict(os.environ, {"SMALLOC_ADDRESS": self.daemon.address}):
            with Client() as client:
                self.assertEqual(client.address, self.daemon.address)
                client.ping()

    def test_alloc_open_close(self) -> None:
        a = self.client.alloc(4, name="a")
        self.assertEqual((a.name, a.length, a.nbytes, a.itemsize), ("a", 4, 4, 1))
        self.assertIs(a.type, ElementType.UINT8)
        b = self.client.open("a")
        b.write(b"\x01\x02", 1)
        self.assertEqual(a.read_bytes(), b"\0\x01\x02\0")
        self.assertEqual(self.client.stat("a").handles, 2)
        b.close()
        b.close()
        self.assertTrue(b.is_closed)
        self.assertEqual(self.client.stat("a").handles, 1)
        with self.assertRaises(smalloc.ClosedError):
            b.read_bytes()
        with self.assertRaises(ValueError):
            self.client.copy(a, 0, b, 0, 1)

    def test_create_makes_no_handle(self) -> None:
        self.client.create("a", 3, "Double")
        stat = self.client.stat("a")
        self.assertEqual((stat.name, stat.length, stat.nbytes, stat.handles), ("a", 3, 24, 0))
        self.assertIs(stat.type, ElementType.DOUBLE)
        self.assertEqual(stat.created.microsecond, 0)

    def test_errors_are_pythons_too(self) -> None:
        self.client.create("a", 4)
        for kind, python, call in (
            (smalloc.NotFoundError, KeyError, lambda: self.client.open("nope")),
            (smalloc.AlreadyExistsError, ValueError, lambda: self.client.alloc(1, name="a")),
            (smalloc.OutOfRangeError, IndexError, lambda: self.client.read("a", 3, 2)),
            (smalloc.TooLargeError, ValueError, lambda: self.client.alloc(2**62)),
            (smalloc.TooLargeError, ValueError, lambda: self.client.alloc(2**64)),
            (smalloc.TooLargeError, ValueError, lambda: self.client.alloc(-1)),
            (smalloc.UnknownTypeError, TypeError, lambda: self.client.alloc(1, 99)),
            (smalloc.InvalidNameError, ValueError, lambda: self.client.alloc(1, name="a b")),
            (smalloc.InvalidNameError, ValueError, lambda: self.client.open("")),
            (smalloc.InvalidNameError, ValueError, lambda: self.client.open("x" * 256)),
            (smalloc.InvalidNameError, ValueError, lambda: self.client.open("\xe4")),
            (smalloc.OutOfRangeError, IndexError, lambda: self.client.read("a", -1, 1)),
            (smalloc.OutOfRangeError, IndexError, lambda: self.client.read("a", 2**64, 1)),
            (smalloc.InvalidArgumentError, ValueError, lambda: self.client.fill("a", b"abc")),
            (smalloc.InvalidArgumentError, ValueError, lambda: self.client.fill("a", b"")),
            (
                smalloc.OutOfMemoryError,
                MemoryError,
                lambda: [self.client.alloc(self.client.limits.length_max) for _ in range(2)],
            ),
        ):
            with self.assertRaises(kind) as caught:
                call()
            self.assertIsInstance(caught.exception, python)
            self.assertIsInstance(caught.exception, smalloc.SmallocError)
            self.client.ping()
        with self.assertRaises(smalloc.NotFoundError) as caught:
            self.client.read("nope", 0, 1)
        error = caught.exception
        self.assertEqual((error.code, error.status, error.allocation), (0x8001, "noData", "nope"))
        self.assertEqual(error.message, "object has no external array data")
        self.assertEqual(str(error), "noData: object has no external array data (allocation nope)")

    @seeded
    def test_large_data_goes_in_pieces(self, random: Random) -> None:
        data = random.randbytes(10_000_003)
        self.client.create("a", len(data))
        opened = self.client.stats()["requests_open"]
        self.client.write("a", data)
        self.assertEqual(self.client.read("a"), data)
        # The name may be another allocation's between two pieces, so they go by a handle.
        self.assertEqual(self.client.stats()["requests_open"], int(opened) + 2)
        with self.client.open("a") as a:
            self.assertEqual(a.read_bytes(5, 9_000_001), data[5:9_000_006])
            buffer = bytearray(9_000_001)
            self.assertEqual(a.readinto(buffer, 7), len(buffer))
            self.assertEqual(buffer, data[7:9_000_008])

    @seeded
    def test_ranges(self, random: Random) -> None:
        model = bytearray(random.randbytes(100_000))
        a = self.client.alloc(len(model))
        a.write(model)
        for count in (0, 1, 2, 1023, 1024, 1025, 5000):
            ranges = []
            for _ in range(count):
                offset = random.randrange(len(model) + 1)
                ranges.append((offset, random.randint(0, min(200, len(model) - offset))))
            expected = b"".join(bytes(model[at : at + size]) for at, size in ranges)
            self.assertEqual(self.client.read_ranges(a, ranges), expected)
            data = random.randbytes(len(expected))
            self.client.write_ranges(a, ranges, data)
            at = 0
            for offset, size in ranges:
                model[offset : offset + size] = data[at : at + size]
                at += size
            self.assertEqual(a.read_bytes(), model)
        with self.assertRaises(smalloc.OutOfRangeError):
            self.client.read_ranges(a, [(0, 1), (len(model), 1)])
        with self.assertRaises(smalloc.InvalidArgumentError):
            self.client.write_ranges(a, [(0, 2)], b"x")

    def test_ranges_over_a_frame(self) -> None:
        size = 11_000_000
        a = self.client.alloc(size)
        data = os.urandom(size)
        halves = [(size // 2, size - size // 2), (0, size // 2)]
        self.client.write_ranges(a, halves, data)
        self.assertEqual(self.client.read_ranges(a, halves), data)
        self.assertEqual(a.read_bytes(), data[size - size // 2 :] + data[: size - size // 2])

    def test_many(self) -> None:
        names = ["n%d" % at for at in range(3000)]
        for name in names:
            self.client.create(name, 8)
        self.client.write_many((name, 0, name.ljust(8).encode()) for name in names)
        read = self.client.read_many((name, 0, 8) for name in names)
        self.assertEqual(read, [name.ljust(8).encode() for name in names])
        stats = self.client.stat_many(["n0", "nope", "n1"])
        self.assertEqual([stat and stat.name for stat in stats], ["n0", None, "n1"])
        with self.assertRaises(smalloc.NotFoundError):
            self.client.read_many([("n0", 0, 1), ("nope", 0, 1), ("n1", 0, 1)])
        self.client.ping()
        with self.assertRaises(smalloc.NotFoundError):
            self.client.write_many([("nope", 0, b"x"), ("n1", 0, b"new")])
        self.assertEqual(self.client.read("n1", 0, 3), b"new")

    def test_fill_copy_truncate(self) -> None:
        self.client.create("a", 8)
        self.client.create("b", 8)
        self.client.fill("a", b"\1\2")
        self.client.fill("a", b"\xff", 6)
        self.assertEqual(self.client.read("a"), b"\1\2\1\2\1\2\xff\xff")
        self.client.copy("a", 1, "b", 4, 4)
        with self.client.open("b") as b, self.client.open("a") as a:
            self.assertEqual(b.read_bytes(), b"\0\0\0\0\2\1\2\1")
            self.client.copy(b, 4, a, 0, 2)
            self.client.copy("b", 4, a, 2, 2)
            self.client.copy(b, 4, "a", 4, 2)
            self.assertEqual(a.read_bytes(), b"\2\1\2\1\2\1\xff\xff")
            a.copy_onto(a, 0, 1, 7)
            self.assertEqual(a.read_bytes(), b"\2\2\1\2\1\2\1\xff")
            a.truncate(2)
            self.assertEqual((len(a), a.read_bytes()), (2, b"\2\2"))
            with self.assertRaises(smalloc.OutOfRangeError):
                a.truncate(3)
        self.client.truncate("b", 0)
        self.assertEqual(self.client.read("b"), b"")

    def test_rename_and_dispose(self) -> None:
        a = self.client.alloc(1, name="a")
        a.rename("b")
        self.assertEqual((a.name, self.client.stat("b").name), ("b", "b"))
        self.client.create("c", 1)
        with self.assertRaises(smalloc.AlreadyExistsError):
            a.rename("c")
        old = self.client.open("c")
        a.rename("c", replace=True)
        self.assertEqual([one.name for one in self.client.list()], ["c"])
        with self.assertRaises(smalloc.NotFoundError) as caught:
            old.read_bytes()
        self.assertEqual(caught.exception.allocation, "c")
        old.close()
        self.client.rename("c", "d")
        self.assertEqual(a.stat().name, "d")
        a.dispose()
        self.assertTrue(a.is_closed)
        with self.assertRaises(smalloc.NotFoundError):
            self.client.dispose("d")

    def test_list(self) -> None:
        names = {"p/%d" % at for at in range(2500)}
        for name in names:
            self.client.create(name, 2, "Int16")
        self.client.create("other", 0)
        listed = list(self.client.list("p/"))
        self.assertEqual({one.name for one in listed}, names)
        self.assertEqual(len(listed), len(names))
        self.assertEqual(listed[0][1:], (ElementType.INT16, 2, 4))
        self.assertEqual({one.name for one in self.client.list("p/", page=7)}, names)
        self.assertEqual(len(list(self.client.list())), len(names) + 1)
        self.assertEqual(list(self.client.list("x" * 300)), [])
        self.assertEqual(list(self.client.list("\xe4")), [])
        # Other calls may come between two pages.
        for one in self.client.list("p/", page=100):
            self.client.dispose(one.name)
        self.assertEqual([one.name for one in self.client.list()], ["other"])

    def test_an_anonymous_allocation_goes_with_its_object(self) -> None:
        before = self.client.stats()["allocations"]
        a = self.client.alloc(1)
        self.assertIsNone(a.name)
        self.assertEqual(self.client.stats()["allocations"], int(before) + 1)
        del a
        self.client.ping()
        self.assertEqual(self.client.stats()["allocations"], before)

    def test_a_handle_of_another_client_is_refused(self) -> None:
        a = self.client.alloc(1)
        with Client(self.daemon.address) as other:
            with self.assertRaises(smalloc.InvalidArgumentError):
                other.read(a, 0, 1)

    def test_threads(self) -> None:
        failures: List[str] = []

        def work(number: int) -> None:
            try:
                name = "t%d" % number
                a = self.client.alloc(1000, "Uint32", name)
                for turn in range(100):
                    a[turn] = number * 1000 + turn
                    with self.client.open(name) as again:
                        if again[turn] != number * 1000 + turn:
                            failures.append(name)
                if a[:100] != [number * 1000 + turn for turn in range(100)]:
                    failures.append(name)
            except Exception as error:
                failures.append(repr(error))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual(failures, [])

    def test_a_client_is_not_pickled(self) -> None:

        with self.assertRaises(TypeError):
            pickle.dumps(self.client)


class SmallFrameTests(DaemonTestCase):
    options = ["--frame-size-max", "100000"]

    def test_pieces_fit_the_daemons_frames(self) -> None:
        data = os.urandom(1_000_000)
        a = self.client.alloc(len(data), name="a")
        a.write(data)
        self.assertEqual(a.read_bytes(), data)
        self.client.write("a", data[::-1])
        self.assertEqual(self.client.read("a"), data[::-1])
        ranges = [(at, 1000) for at in range(0, len(data), 1000)]
        self.assertEqual(self.client.read_ranges("a", ranges), data[::-1])
        with self.assertRaises(smalloc.InvalidArgumentError):
            self.client.read_many([("a", 0, 100001)])


class TCPTests(unittest.TestCase):
    def test_tcp(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        daemon = Daemon(port=port)
        self.addCleanup(daemon.stop)
        with Client("tcp:127.0.0.1:%d" % port) as client:
            data = os.urandom(9_000_000)
            client.create("a", len(data))
            client.write("a", data)
            self.assertEqual(client.read("a"), data)


if __name__ == "__main__":
    unittest.main()

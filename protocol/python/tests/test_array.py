"""Arrays: shapes, putting and getting, with numpy and without."""

import array
import os
import pickle
import subprocess
import sys
import threading
import time
import unittest
import unittest.mock
from multiprocessing import get_context
from random import Random
from typing import Any

import smalloc
from smalloc import Array, ElementType

from support import DaemonTestCase, needs_numpy, numpy, seeded


def total(values: Array) -> float:
    """For a process of its own."""
    return sum(values.allocation[:])  # type: ignore[arg-type]


class ArrayTests(DaemonTestCase):
    def test_array_makes_or_opens(self) -> None:
        a = self.client.array("a", (2, 3), "Double")
        self.assertEqual((a.shape, a.ndim, a.length, a.nbytes), ((2, 3), 2, 6, 48))
        self.assertEqual(a.tolist(), [[0, 0, 0], [0, 0, 0]])
        a[1] = [1, 2, 3]
        again = self.client.array("a", (2, 3), "float64")
        self.assertEqual(again.tolist(), [[0, 0, 0], [1, 2, 3]])
        for shape, dtype in (
            ((7,), "Double"),
            ((3, 2), "Double"),
            (6, "Double"),
            ((2, 3), "Int32"),
            ((2, 3), "Uint8Clamped"),
        ):
            try:
                self.client.array("a", shape, dtype)
                self.fail("it was opened")
            except smalloc.MismatchError as error:
                self.assertEqual(error.allocation, "a")
                # It has left no handle, also for whoever keeps the error.
                self.assertEqual(self.client.stat("a").handles, 2)
        for shape in ((1,) * 9, -1, (2, -3)):
            with self.assertRaises(smalloc.InvalidArgumentError):
                self.client.array("b", shape, "Double")
        scalar = self.client.array("s", (), "Int32")
        scalar[()] = 7
        self.assertEqual((scalar.tolist(), scalar[...]), (7, 7))
        empty = self.client.array("e", (2, 0), "Int32")
        self.assertEqual((empty.tolist(), len(empty)), ([[], []], 2))

    def test_put_and_get(self) -> None:
        a = self.client.put("a", array.array("i", [1, 2, 3]))
        self.assertIs(a.type, ElementType.INT32)
        self.assertEqual(self.client.get("a").tolist(), [1, 2, 3])
        self.assertEqual(self.client.get("a", (3, 1)).tolist(), [[1], [2], [3]])
        with self.assertRaises(smalloc.MismatchError):
            self.client.get("a", (2, 2))
        with self.assertRaises(smalloc.NotFoundError):
            self.client.get("b")
        self.client.put("b", [[1, 2], [3, 4]], "Float")
        self.assertEqual(self.client.get("b", (2, 2)).tolist(), [[1, 2], [3, 4]])
        self.client.put("c", memoryview(bytes(range(12))).cast("B", (3, 4)))
        self.assertEqual(self.client.get("c", 12).tolist(), list(range(12)))
        self.client.put("c", memoryview(array.array("h", range(10)))[::3])
        self.assertEqual(self.client.get("c").tolist(), [0, 3, 6, 9])
        self.client.put("c", array.array("d", [1.5, 300]), "Uint8Clamped")
        self.assertEqual(self.client.get("c").tolist(), [2, 255])
        self.client.put("c", a)
        self.assertEqual(self.client.get("c").tolist(), [1, 2, 3])
        self.client.put("c", 5, "Int8")
        self.assertEqual(self.client.get("c", ()).tolist(), 5)

    def test_put_replaces_at_one_stroke_and_leaves_nothing(self) -> None:
        self.client.put("a", array.array("i", [1, 2, 3]))
        old = self.client.get("a")
        count = self.client.stats()["allocations"]
        new = self.client.put("a", array.array("d", [4, 5]))
        self.assertEqual(self.client.stats()["allocations"], count)
        self.assertEqual((new.name, new.tolist()), ("a", [4, 5]))
        self.assertFalse(old.is_live)
        if self.mapping:
            self.assertEqual(old.tolist(), [1, 2, 3])
        else:
            with self.assertRaises(smalloc.NotFoundError):
                old.tolist()
        with self.assertRaises(smalloc.NotFoundError):
            old[0] = 1
        for name, values, dtype in (
            ("a b", [1], "Int8"),
            ("a", ["x"], "Int8"),
            ("a", [[1], [2, 3]], "Int8"),
            ("a", [1], None),
            ("a", object(), None),
            ("a", [1], "nope"),
            ("a", [1, [2]], "Int8"),
            ("n" * 256, [1], "Int8"),
        ):
            with self.assertRaises((TypeError, ValueError), msg=(name, values)):
                self.client.put(name, values, dtype)
        self.assertEqual(self.client.stats()["allocations"], count)
        self.assertEqual(self.client.get("a").tolist(), [4, 5])

    def test_a_put_that_fails_late_leaves_nothing(self) -> None:
        count = self.client.stats()["allocations"]

        def fail(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        for name in ("write", "rename"):
            with unittest.mock.patch.object(self.client, name, fail):
                try:
                    self.client.put("a", array.array("i", [1]))
                    self.fail("put went well")
                except KeyboardInterrupt as error:
                    # Whoever keeps the error keeps what the call had.
                    self.assertEqual(self.client.stats()["allocations"], count, error)

    def test_a_killed_put_leaves_nothing(self) -> None:
        self.client.put("a", array.array("i", [1]))
        count = self.client.stats()["allocations"]
        script = (
            "import smalloc, sys, os, signal\n"
            "client = smalloc.Client(sys.argv[1])\n"
            "client.rename = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
            "client.put('a', bytes(30_000_000))\n"
        )
        done = subprocess.run([sys.executable, "-c", script, self.daemon.address], timeout=60)
        self.assertEqual(done.returncode, -9)
        for _ in range(200):
            if self.client.stats()["allocations"] == count:
                break
        self.assertEqual(self.client.stats()["allocations"], count)
        self.assertEqual(self.client.get("a").tolist(), [1])

    def test_readers_find_the_old_or_the_new(self) -> None:
        first, second = bytes(200_000), b"\xff" * 200_000
        self.client.put("a", first)
        with smalloc.Client(self.daemon.address) as other:
            for turn in range(50):
                found = other.get("a")
                self.client.put("a", second if turn % 2 else first)
                try:
                    self.assertIn(found.tobytes(), (first, second))
                except smalloc.NotFoundError:
                    pass
                self.assertIn(other.get("a").tobytes(), (first, second))

    def test_what_is_read_by_name_is_one_or_the_other(self) -> None:
        # Of different lengths, over a frame and under one.
        contents = [b"a" * 9_000_000, b"b" * 50, b"c" * 5_000_000, b""]
        self.client.put("a", contents[0])
        stop = threading.Event()

        def replace() -> None:
            with smalloc.Client(self.daemon.address) as other:
                turn = 0
                while not stop.wait(0.02):
                    turn += 1
                    other.put("a", contents[turn % 4]).close()

        thread = threading.Thread(target=replace)
        thread.start()
        try:
            found = [self.client.read("a") for _ in range(60)]
            end = time.monotonic() + 10
            while len(set(found)) == 1 and time.monotonic() < end:
                found.append(self.client.read("a"))
        finally:
            stop.set()
            thread.join(20)
        self.assertLessEqual(set(found), set(contents))
        self.assertGreater(len(set(found)), 1)

    def test_what_is_replaced_while_it_is_read_is_read_anew(self) -> None:
        self.client.put("a", b"old")
        other = smalloc.Client(self.daemon.address)
        self.addCleanup(other.close)
        opened, replaced = self.client.open, [b"new"]

        def replace(name: str) -> smalloc.Allocation:
            found = opened(name)
            if replaced:
                other.put(name, replaced.pop()).close()
            return found

        with unittest.mock.patch.object(self.client, "open", replace):
            self.assertEqual(self.client.read("a"), b"new")
            self.assertEqual(replaced, [])

    def test_indices_read_and_write_through(self) -> None:
        a = self.client.array("a", (3, 4), "Int32")
        a[...] = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
        lists = lambda found: found.tolist() if hasattr(found, "tolist") else found  # noqa: E731
        self.assertEqual(lists(a[1]), [4, 5, 6, 7])
        self.assertEqual(lists(a[:, 1]), [1, 5, 9])
        self.assertEqual(lists(a[::2, ::-1]), [[3, 2, 1, 0], [11, 10, 9, 8]])
        self.assertEqual(a[2, 3], 11)
        self.assertEqual(lists(a[-1, 1:3]), [9, 10])
        a[:, 0] = [20, 21, 22]
        a[0, 1:3] = 5
        self.assertEqual(a.tolist(), [[20, 5, 5, 3], [21, 5, 6, 7], [22, 9, 10, 11]])
        self.assertEqual([lists(row) for row in a], a.tolist())
        a.fill(3)
        self.assertEqual(a.tolist(), [[3] * 4] * 3)
        for index in ((3,), (0, 4), (0, 0, 0)):
            with self.assertRaises(IndexError):
                a[index]
        with self.assertRaises(ValueError):
            a[0] = [1, 2, 3]
        with self.assertRaises(TypeError):
            bool(a)

    def test_integers_of_64_bits_are_exact(self) -> None:
        try:
            a = self.client.array("a", (3,), "Uint64")
        except smalloc.UnknownTypeError:
            self.skipTest("this daemon has no Uint64")
        a[...] = [2**64 - 1, 2**53 + 1, 1]
        self.assertEqual(a.tolist(), [2**64 - 1, 2**53 + 1, 1])
        with self.assertRaises(OverflowError):
            a[0] = 2**64

    def test_pickled_by_name(self) -> None:
        a = self.client.put("a", array.array("i", [1, 2, 3, 4]))
        b = self.client.get("a", (2, 2))
        data = pickle.dumps(b)
        self.assertLess(len(data), 200)
        c = pickle.loads(data)
        self.assertEqual((c.shape, c.tolist()), ((2, 2), [[1, 2], [3, 4]]))
        c[0, 0] = 9
        self.assertEqual(a.tolist(), [9, 2, 3, 4])
        d = pickle.loads(pickle.dumps(a.allocation))
        self.assertEqual(d[:], [9, 2, 3, 4])
        self.assertIs(pickle.loads(data).allocation.client, d.client)
        self.client.put("a", array.array("d", [1]))
        for stale in (data, pickle.dumps(d)):
            with self.assertRaises(smalloc.MismatchError):
                pickle.loads(stale)
        self.client.dispose("a")
        with self.assertRaises(smalloc.NotFoundError):
            pickle.loads(data)
        with self.assertRaises(TypeError):
            pickle.dumps(self.client.alloc(1))

    def test_other_processes_get_arrays_by_name(self) -> None:
        arrays = [self.client.put("a%d" % at, [at, 1], "Double") for at in range(6)]
        for way in ("fork", "spawn"):
            with get_context(way).Pool(2) as pool:
                self.assertEqual(pool.map(total, arrays), [at + 1 for at in range(6)])

    def test_without_numpy_all_is_lists(self) -> None:
        script = (
            "import sys\n"
            "sys.modules['numpy'] = None\n"
            "import smalloc\n"
            "client = smalloc.Client(sys.argv[1])\n"
            "a = client.array('a', (2, 3), 'Int16')\n"
            "a[...] = [[1, 2, 3], [4, 5, 6]]\n"
            "a[:, 1] = 7\n"
            "assert a[0] == [1, 7, 3], a[0]\n"
            "assert a[:, 1:] == [[7, 3], [7, 6]], a[:, 1:]\n"
            "assert a[1, 2] == 6\n"
            "assert a.tolist() == [[1, 7, 3], [4, 7, 6]]\n"
            "client.put('b', memoryview(bytes(4)).cast('B', (2, 2)))\n"
            "try: a.dtype\n"
            "except ImportError: print('done')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, self.daemon.address],
            timeout=60,
            stdout=subprocess.PIPE,
            universal_newlines=True,
        )
        self.assertEqual((done.returncode, done.stdout), (0, "done\n"))


class SocketArrayTests(ArrayTests):
    mapping = False


@needs_numpy
class NumpyTests(DaemonTestCase):
    def test_asarray(self) -> None:
        values = numpy.arange(6, dtype="f8").reshape(2, 3)
        a = self.client.put("a", values)
        self.assertEqual(a.dtype, values.dtype)
        got = numpy.asarray(a)
        self.assertTrue((got == values).all())
        self.assertEqual((got.shape, got.dtype), ((2, 3), values.dtype))
        if not self.mapping:
            # What one wrote into a copy would get nowhere.
            with self.assertRaises(ValueError):
                got[0, 0] = 1
            with self.assertRaises(ValueError):
                a.__array__(copy=False)
            if int(numpy.__version__.split(".")[0]) >= 2:
                with self.assertRaises(ValueError):
                    numpy.asarray(a, copy=False)
        own = numpy.array(a)
        own[0, 0] = 1
        self.assertEqual(a[0, 0], 0)
        single = numpy.asarray(a, dtype="f4")
        self.assertEqual(single.dtype, numpy.dtype("f4"))
        self.assertEqual(float(numpy.sum(a)), 15.0)
        scalar = self.client.put("s", numpy.float32(2.5))
        self.assertEqual((scalar.shape, float(numpy.asarray(scalar))), ((), 2.5))
        empty = self.client.put("e", numpy.zeros((3, 0, 2), "i2"))
        self.assertEqual(numpy.asarray(empty).shape, (3, 0, 2))

    @seeded
    def test_every_dtype_goes_there_and_back(self, random: Random) -> None:
        for number in range(1, 17):
            type = ElementType.of_number(number)
            if type.typestr is None:
                continue
            data = random.randbytes(24 * type.itemsize)
            if type is ElementType.BOOL:
                data = bytes(byte & 1 for byte in data)
            values = numpy.frombuffer(data, type.typestr).reshape(2, 3, 4)
            try:
                a = self.client.put("a", values)
            except smalloc.UnknownTypeError:
                continue
            self.assertEqual(a.type.typestr, type.typestr)
            self.assertEqual(numpy.asarray(a).tobytes(), data)
            self.assertEqual(a[1, :, ::2].tobytes(), values[1, :, ::2].tobytes())

    def test_any_layout_is_put(self) -> None:
        values = numpy.arange(24, dtype="i4").reshape(2, 3, 4)
        for laid in (
            values,
            values.T,
            values[:, ::2, ::-1],
            numpy.asfortranarray(values),
            values.astype(">i4"),
            numpy.broadcast_to(values[0], (2, 3, 4)),
        ):
            a = self.client.put("a", laid)
            self.assertEqual((a.shape, a.type), (laid.shape, ElementType.INT32))
            self.assertTrue((numpy.asarray(a) == laid).all())

    def test_what_no_element_type_is_like_is_refused(self) -> None:
        count = self.client.stats()["allocations"]
        for values in (
            numpy.zeros(2, "S3"),
            numpy.zeros(2, "f4,f8"),
            numpy.zeros(2, "M8[s]"),
            numpy.array([object()]),
            numpy.zeros(2, "longdouble"),
            numpy.zeros((1,) * 9, "i4"),
        ):
            with self.assertRaises((smalloc.UnknownTypeError, smalloc.TooLargeError)):
                self.client.put("a", values)
        self.assertEqual(self.client.stats()["allocations"], count)

    @seeded
    def test_indices_as_in_numpy(self, random: Random) -> None:
        values = numpy.arange(120, dtype="i4").reshape(2, 3, 4, 5)
        self.client.put("a", values)
        a = self.client.get("a", values.shape)
        for turn in range(200):
            index = []
            for length in values.shape[: random.randint(0, 4)]:
                if random.random() < 0.3:
                    index.append(random.randrange(-length, length))
                else:
                    ends = [random.choice((None, random.randint(-6, 6))) for _ in range(2)]
                    index.append(slice(*ends, random.choice((None, 1, 2, -1, -2))))
            if random.random() < 0.3:
                index.insert(random.randint(0, len(index)), Ellipsis)
                if sum(one is not Ellipsis for one in index) > 4:
                    continue
            try:
                expected = values[tuple(index)]
            except IndexError:
                with self.assertRaises(IndexError):
                    a[tuple(index)]
                continue
            got = a[tuple(index)]
            self.assertEqual(got.shape, expected.shape, index)
            self.assertTrue((got == expected).all(), index)
            new = numpy.arange(turn, turn + expected.size).reshape(expected.shape).astype("i4")
            values[tuple(index)] = new
            a[tuple(index)] = new
        self.assertTrue((numpy.asarray(a) == values).all())

    def test_what_is_read_is_ones_own(self) -> None:
        a = self.client.array("a", (3, 4), "i4")
        for index in (0, (slice(None), 1), Ellipsis):
            part = a[index]
            part[...] = 7
            self.assertEqual(numpy.asarray(a).sum(), 0)

    def test_values_are_spread_and_converted(self) -> None:
        a = self.client.array("a", (3, 4), "i1")
        a[...] = numpy.arange(4, dtype="i1")
        self.assertEqual(a[2].tolist(), [0, 1, 2, 3])
        # Numbers that numpy would not convert are stored by the protocol's rules.
        a[0] = numpy.array([300.5, -1.9, numpy.nan, numpy.inf])
        self.assertEqual(a[0].tolist(), [44, -1, 0, 0])
        a[1] = [300, -129, 0.9, 1]
        self.assertEqual(a[1].tolist(), [44, 127, 0, 1])
        clamped = self.client.array("c", (3,), "Uint8Clamped")
        clamped[...] = numpy.array([300, -5, 2])
        self.assertEqual(clamped.tolist(), [255, 0, 2])
        clamped[...] = numpy.array([300, 256, 2], "u2")
        self.assertEqual(clamped.tolist(), [255, 255, 2])
        single = self.client.put("f", numpy.zeros(3, "f4"))
        single[...] = numpy.array([0.1, 1e-60, 2.0])
        self.assertEqual(single.tolist(), [float(numpy.float32(0.1)), 0, 2])
        with self.assertRaises(ValueError):
            a[...] = numpy.zeros((2, 4), "i1")
        with self.assertRaises(TypeError):
            a[0] = "text"

    def test_every_byte_but_0_is_a_true(self) -> None:
        a = self.alloc_or_skip(4, "Bool", "a")
        a.write(b"\0\1\2\xff")
        got = numpy.asarray(self.client.get("a"))
        # A view has to take the bytes as they are.
        self.assertEqual(got.dtype, numpy.dtype(bool))
        told = [0, 1, 2, 255] if self.mapping else [0, 1, 1, 1]
        self.assertEqual(got.view("u1").tolist(), told)
        self.assertEqual(a[:], [False, True, True, True])

    def test_large(self) -> None:
        values = numpy.frombuffer(os.urandom(24_000_000), "f4").reshape(3, 1000, 2000)
        a = self.client.put("a", values)
        self.assertEqual(numpy.asarray(a).tobytes(), values.tobytes())
        self.assertEqual(a[1, :, 3].tobytes(), values[1, :, 3].tobytes())
        part = numpy.ones((500, 2), "f4")
        a[0, :500, 7:9] = part
        self.assertEqual(a[0, :500, 7:9].tobytes(), part.tobytes())


class SocketNumpyTests(NumpyTests):
    mapping = False


if __name__ == "__main__":
    unittest.main()

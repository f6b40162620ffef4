"""Arrays that share memory: numpy's ways to it, pickles, put, programs that are killed."""

import gc
import multiprocessing
import os
import pickle
import random
import signal
import sys
import time
import unittest
from typing import Any, Tuple

import smalloc

from support import DaemonTestCase, needs_numpy, numpy, seeded
from test_ends import in_child
from test_mapping import descriptors, within


def numpy_is(*version: int) -> bool:
    found = tuple(int(part) for part in numpy.__version__.split(".")[:2])
    return bool(found >= version)


needs_dlpack = unittest.skipIf(numpy is None or not numpy_is(1, 23), "numpy has no from_dlpack")


@needs_numpy
class ViewTests(DaemonTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.values = numpy.arange(6, dtype="f8").reshape(2, 3)
        self.client.put("a", self.values)
        self.array = self.client.get("a", (2, 3))
        self.address = numpy.asarray(self.array).ctypes.data

    def test_asarray_is_the_memory_itself(self) -> None:
        for view in (
            numpy.asarray(self.array),
            self.array.__array__(),
            self.array.__array__(copy=False),
            numpy.asarray(self.array, dtype="f8"),
            numpy.asarray(self.client.get("a", (2, 3))),
        ):
            self.assertEqual((view.shape, view.dtype), ((2, 3), self.values.dtype))
            self.assertTrue(view.flags.writeable)
            view[0, 0] += 1
            self.assertEqual(self.client.read("a", 0, 8), view[:1, 0].tobytes())
        self.assertEqual(self.array[0, 0], 5)

    def test_copies_are_ones_own(self) -> None:
        for copy in (
            numpy.array(self.array),
            self.array.__array__(copy=True),
            numpy.asarray(self.array, dtype="f4"),
            self.array[...],
        ):
            copy[...] = 9
        self.assertTrue((numpy.asarray(self.array) == self.values).all())
        with self.assertRaises(ValueError):
            self.array.__array__("f4", copy=False)
        if numpy_is(2, 0):
            self.assertEqual(numpy.asarray(self.array, copy=False).ctypes.data, self.address)
            with self.assertRaises(ValueError):
                numpy.asarray(self.array, dtype="f4", copy=False)

    def test_array_interface(self) -> None:
        for writable in (True, False):
            array = self.client.get("a", (2, 3), writable=writable)
            told = array.__array_interface__
            pointer, is_read_only = told["data"]
            self.assertEqual((told["shape"], told["typestr"], told["version"]), ((2, 3), "<f8", 3))
            self.assertIsNone(told["strides"])
            self.assertEqual(is_read_only, not writable)

            class Other:
                __array_interface__ = told
                owner = array

            view = numpy.asarray(Other())
            self.assertEqual(view.ctypes.data, pointer)
            self.assertEqual(view.tolist(), self.values.tolist())
        over_socket = smalloc.Client(self.daemon.address, mapping=False)
        self.addCleanup(over_socket.close)
        for name in ("__array_interface__", "__array_struct__"):
            self.assertFalse(hasattr(over_socket.get("a"), name))

    def test_a_view_keeps_the_memory_mapped(self) -> None:
        views = [numpy.asarray(self.array), numpy.asarray(self.array.allocation.map())]
        view = views[0]
        del self.array
        gc.collect()
        self.client.dispose("a")
        self.client.close()
        for _ in range(100):
            bytearray(50000)
        self.assertEqual([one.ravel().tolist() for one in views], [[0, 1, 2, 3, 4, 5]] * 2)
        self.assertEqual(view[1, 2], 5)

    def test_freezing_waits_for_views_and_for_nothing_else(self) -> None:
        view = numpy.asarray(self.array)
        with self.assertRaises(smalloc.BusyError):
            self.array.freeze()
        view[0, 0] = 7
        self.assertEqual(self.array[0, 0], 7)
        del view
        if not numpy_is(1, 23):
            # It keeps the array, and nothing else, for a view.
            return
        self.array.freeze()
        view = numpy.asarray(self.array)
        self.assertFalse(view.flags.writeable)
        with self.assertRaises(ValueError):
            view[0, 0] = 1
        self.assertEqual(view[0, 0], 7)
        # What has been told an address is held by this object alone.
        lent = self.client.put("b", self.values)
        lent.__array_interface__
        with self.assertRaises(smalloc.BusyError):
            lent.freeze()

    def test_for_reading_only_where_asked(self) -> None:
        array = self.client.get("a", (2, 3), writable=False)
        for view in (numpy.asarray(array), array.__array__()):
            self.assertFalse(view.flags.writeable)
        for change in (lambda: array.__setitem__(0, 1), lambda: array.fill(1)):
            with self.assertRaises(TypeError):
                change()
        numpy.asarray(self.array)[0, 0] = 3
        self.assertEqual(numpy.asarray(array)[0, 0], 3)

    @needs_dlpack
    def test_dlpack(self) -> None:
        self.assertEqual(self.array.__dlpack_device__(), (1, 0))
        view = numpy.from_dlpack(self.array)
        self.assertEqual((view.ctypes.data, view.shape), (self.address, (2, 3)))
        self.assertEqual(view.tolist(), self.values.tolist())
        self.assertIn("dltensor", repr(self.array.__dlpack__()))
        for wrong in ({"dl_device": (2, 0)}, {"stream": 1}):
            with self.assertRaises(BufferError):
                self.array.__dlpack__(**wrong)
        readers = self.client.get("a", (2, 3), writable=False)
        with self.assertRaises(BufferError):
            readers.__dlpack__()
        if numpy_is(2, 1):
            self.assertIn("dltensor_versioned", repr(readers.__dlpack__(max_version=(1, 0))))
            view = numpy.from_dlpack(readers)
            self.assertEqual(view.tolist(), self.values.tolist())
            self.assertFalse(view.flags.writeable)
            copied = numpy.from_dlpack(self.array, copy=True)
            copied[...] = 9
            self.assertEqual(self.array[1, 2], 5)
        else:
            with self.assertRaises(BufferError):
                readers.__dlpack__(max_version=(1, 0))

    @needs_dlpack
    def test_dlpack_over_a_socket_is_a_copy(self) -> None:
        with smalloc.Client(self.daemon.address, mapping=False) as client:
            array = client.get("a", (2, 3))
            self.assertEqual(numpy.from_dlpack(array).tolist(), self.values.tolist())
            with self.assertRaises(BufferError):
                array.__dlpack__(copy=False)

    @unittest.skipIf(sys.version_info < (3, 12), "__buffer__ is of Python 3.12")
    def test_buffer(self) -> None:
        view = memoryview(self.array)  # type: ignore[arg-type]
        self.assertEqual((view.shape, view.format, view.readonly), ((2, 3), "d", False))
        view[0, 1] = 8.0
        self.assertEqual(self.array[0, 1], 8)
        self.assertTrue(memoryview(self.client.get("a", writable=False)).readonly)

    def test_large_puts_are_mapped_and_whole(self) -> None:
        for size in (65535, 65536, 65537, 5_000_000):
            values = numpy.frombuffer(os.urandom(size), "u1")
            array = self.client.put("b", values[::-1])
            self.assertTrue((numpy.asarray(array) == values[::-1]).all())
            self.assertEqual(self.client.read("b"), values[::-1].tobytes())


def doubled(array: smalloc.Array) -> Tuple[int, bool]:
    before: int = array[0]
    array[0] = 2 * before
    return array[1], array.mapping is not None


class PickleTests(DaemonTestCase):
    def test_what_is_unpickled_maps_the_same_memory(self) -> None:
        array = self.client.array("a", 50_000, "Int32")
        again = pickle.loads(pickle.dumps(array))
        array[7] = 3
        self.assertEqual(again.mapping[7], 3)
        again.mapping[7] = 4
        self.assertEqual(array.mapping[7], 4)
        reader = pickle.loads(pickle.dumps(self.client.get("a", writable=False)))
        self.assertFalse(reader.mapping.writable)
        self.assertLess(len(pickle.dumps(array)), 250)
        again.close()

    def test_other_processes(self) -> None:
        array = self.client.array("a", 50_000, "Int32")
        array[0], array[1] = 3, 9
        for method in ("spawn", "fork"):
            with multiprocessing.get_context(method).Pool(1) as pool:
                self.assertEqual(pool.apply(doubled, (array,)), (9, True))
        self.assertEqual(array.mapping[0], 12)

    def test_a_forked_child_shares_what_was_mapped_before(self) -> None:
        array = self.client.array("a", 50_000, "Int32")

        def body() -> None:
            assert array[5] == 0
            array[5] = 6
            try:
                self.client.get("a")
                raise AssertionError
            except smalloc.ForkedError:
                pass
            with smalloc.Client(self.daemon.address) as own:
                assert own.get("a").mapping[5] == 6

        self.assertEqual(in_child(body), 0)
        self.assertEqual(array[5], 6)


def work(address: str, seed: int) -> None:
    """Map, put, freeze and let go, until killed."""
    source = random.Random(seed)
    client = smalloc.Client(address)
    data = bytes(3_000_000)
    held = []
    while True:
        size = source.choice((1, 5000, 100_000, 3_000_000))
        what = source.randrange(6)
        if what == 0:
            held.append(client.put("shared/%d" % source.randrange(3), data[:size]))
        elif what == 1:
            held.append(client.get("shared/%d" % source.randrange(3), writable=False))
        elif what == 2:
            allocation = client.alloc(size, shareable=source.random() < 0.5)
            mapping = allocation.map(populate=source.random() < 0.5)
            mapping.write(data[:size])
            held.append((allocation, mapping))
        elif what == 3:
            allocation = client.alloc(size)
            allocation.freeze()
            held.append(allocation.map(writable=False))
        elif what == 4:
            client.put("shared/%d" % source.randrange(3), data[:size]).allocation.stat()
        else:
            del held[: source.randrange(8)]


class KilledTests(DaemonTestCase):
    @seeded
    def test_programs_that_are_killed_leave_nothing(self, random: random.Random) -> None:
        for one in range(3):
            self.client.put("shared/%d" % one, bytes(100))
        before = self.client.stats()
        files = descriptors(self.daemon.process.pid)
        address = self.daemon.address
        for _ in range(200):
            child = os.fork()
            if child == 0:
                try:
                    work(address, random.randrange(2**32))
                finally:
                    # It ends by being killed only.
                    os._exit(1)
            time.sleep(random.random() * 0.04)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            self.assertTrue(os.WIFSIGNALED(status), "it ended by itself: %d" % status)
            random.random()
        found: Any = {}

        def is_as_before() -> bool:
            found.update(self.client.stats(), files=descriptors(self.daemon.process.pid))
            return (
                found["memory_held_bytes"] == 0
                and found["allocations"] == before["allocations"]
                and found["connections"] == before["connections"]
                # The three that all shared may have memory of the shared kind by now.
                and found["files"] <= files + 3
            )

        self.assertTrue(within(2, is_as_before), (before, files, found))
        for one in range(3):
            self.client.put("shared/%d" % one, bytes(100))
        self.assertTrue(within(2, lambda: descriptors(self.daemon.process.pid) <= files))


if __name__ == "__main__":
    unittest.main()

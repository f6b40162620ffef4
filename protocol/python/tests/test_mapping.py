"""Mappings: elements, ends, what becomes of them, descriptors."""

import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
import unittest
from unittest import mock
from typing import Any, Callable, List

import smalloc
from smalloc import ElementType
from smalloc._state import LIVE

from support import Daemon, DaemonTestCase, numpy
from test_ends import in_child


def descriptors(process: int) -> int:
    return len(os.listdir("/proc/%d/fd" % process))


def within(seconds: float, check: Callable[[], bool]) -> bool:
    """Whether something becomes true in so long."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def is_shared(client: smalloc.Client) -> bool:
    try:
        client.array("again", 5000, "Int8")
    except smalloc.ShareLimitError:
        return False
    return True


def mappings() -> int:
    with open("/proc/self/maps") as maps:
        return sum("memfd:" in line for line in maps)


class ElementTests(DaemonTestCase):
    def test_elements_of_every_type(self) -> None:
        for number in range(1, 17):
            type = ElementType.of_number(number)
            a = self.alloc_or_skip(6, type) if number < 10 else self.alloc_or_none(6, type)
            if a is None:
                continue
            m = a.map()
            self.assertEqual((m.type, m.length, m.nbytes), (type, 6, 6 * type.itemsize))
            one = True if type is ElementType.BOOL else 1
            m[0] = m[-1] = one
            m[1:3] = [0, one]
            m[3::2] = one
            self.assertEqual(m[:], [one, 0, one, one, 0, one], type)
            self.assertEqual(a[:], m[:])
            self.assertEqual((m[::-2], m[4:1:-1], m[9:]), (a[::-2], a[4:1:-1], []))
            self.assertEqual((list(m), len(m)), (m[:], 6))
            a[4] = one
            self.assertEqual(m[4], one)

    def alloc_or_none(self, length: int, type: ElementType) -> Any:
        try:
            return self.client.alloc(length, type)
        except smalloc.UnknownTypeError:
            return None

    def test_stores_follow_the_protocols_rules(self) -> None:
        m = self.client.alloc(3, "Int8").map()
        m[:] = [300, -129, 1.9]
        self.assertEqual(m[:], [44, 127, 1])
        c = self.client.alloc(2, "Uint8Clamped").map()
        c[0] = 300
        self.assertEqual(c[0], 255)

    def test_indices_are_checked(self) -> None:
        m = self.client.alloc(3, "Int32").map()
        for index in (3, -4, 2**70):
            with self.assertRaises(smalloc.OutOfRangeError):
                m[index]
            with self.assertRaises(smalloc.OutOfRangeError):
                m[index] = 1
        with self.assertRaises(smalloc.InvalidArgumentError):
            m[:2] = [1, 2, 3]
        for data, start in ((bytes(16), 0), (bytes(4), 3), (bytes(4), -1)):
            with self.assertRaises(smalloc.OutOfRangeError):
                m.write(data, start)
        with self.assertRaises(smalloc.InvalidArgumentError):
            m.write(bytes(3))
        m.write(bytes(range(8)), 1)
        self.assertEqual(bytes(m.memoryview), bytes(4) + bytes(range(8)))

    def test_a_mapping_for_reading_can_not_be_stored_to(self) -> None:
        a = self.client.alloc(3, "Int32")
        m = a.map(writable=False)
        self.assertTrue(m.memoryview.readonly)
        for store in (lambda: m.write(b"1234"), lambda: m.__setitem__(0, 1)):
            with self.assertRaises(TypeError):
                store()
        a[1] = 5
        self.assertEqual(m[:], [0, 5, 0])

    def test_it_keeps_an_anonymous_allocation(self) -> None:
        m = self.client.alloc(5000).map()
        self.client.ping()
        self.assertTrue(m.is_live)
        before = self.client.stats()["allocations"]
        assert isinstance(before, int)
        del m
        self.client.ping()
        self.assertEqual(self.client.stats()["allocations"], before - 1)

    def test_threads_share_a_client(self) -> None:
        wrong: List[BaseException] = []

        def work(one: int) -> None:
            try:
                for turn in range(50):
                    a = client.array("t%d" % one, 5000, "Uint8")
                    assert a.mapping is not None
                    a.mapping[turn] = one
                    assert client.get("t%d" % one)[turn] == one and a.is_live
                    client.put("u%d" % one, bytes([one]) * 70_000)
            except BaseException as error:
                wrong.append(error)

        client = smalloc.Client(self.daemon.address)
        threads = [threading.Thread(target=work, args=(one,)) for one in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        for one in range(1, 5):
            self.assertEqual(client.read("u%d" % one), bytes([one]) * 70_000)
        client.close()
        self.assertEqual(wrong, [])

    def test_what_is_empty_has_a_mapping_of_nothing(self) -> None:
        m = self.client.alloc(0, "Double").map()
        self.assertEqual((m[:], m.nbytes, m.is_live, m.frozen), ([], 0, True, False))

    def test_large_and_populated(self) -> None:
        a = self.client.alloc(1 << 20, "Double", shareable=True)
        a.fill(2.5)
        for populate in (False, True):
            m = a.map(populate=populate)
            self.assertEqual((m[0], m[-1], sum(m.memoryview)), (2.5, 2.5, 2.5 * (1 << 20)))

    @unittest.skipIf(sys.version_info < (3, 12), "__buffer__ is of Python 3.12")
    def test_buffer(self) -> None:
        m = self.client.alloc(3, "Int32").map()
        memoryview(m)[1] = 7  # type: ignore[arg-type]
        self.assertEqual(m[:], [0, 7, 0])


class LifeTests(unittest.TestCase):
    """What becomes of mappings; each with a daemon of its own."""

    def setUp(self) -> None:
        self.daemon = Daemon()
        self.addCleanup(self.daemon.stop)
        self.client = smalloc.Client(self.daemon.address)
        self.addCleanup(self.client.close)
        self.array = self.client.array("a", (3, 1000), "Int32")
        self.array[1] = 7
        self.mapping = self.array.allocation.map()
        self.view = numpy.asarray(self.array) if numpy else memoryview(self.mapping.memoryview)

    def check(self, is_live: bool, exists: bool = True) -> None:
        expected = [0] * 1000 + [7] * 1000 + [0] * 1000
        self.assertEqual(self.array.tolist(), [expected[:1000], [7] * 1000, expected[:1000]])
        self.assertEqual(self.array[1, 3:5].tolist() if numpy else self.array[1, 3:5], [7, 7])
        self.assertEqual(self.mapping[:], expected)
        if numpy:
            self.assertEqual(int(self.view.sum()), 7000)
            self.assertEqual(self.array.__array__(copy=False).ctypes.data, self.view.ctypes.data)
        else:
            self.assertEqual(sum(self.view), 7000)
        self.assertEqual((self.array.is_live, self.mapping.is_live), (is_live, is_live))
        self.assertEqual(self.mapping.exists, exists)

    def test_live(self) -> None:
        self.check(True)

    def test_after_the_client_is_closed(self) -> None:
        self.client.close()
        self.check(False)
        # What is stored still reaches others.
        self.mapping[0] = 1
        with smalloc.Client(self.daemon.address) as client:
            self.assertEqual(client.get("a")[0, 0], 1)

    def test_after_the_handle_is_closed(self) -> None:
        self.array.close()
        self.check(True)

    def test_after_the_allocation_is_disposed_of(self) -> None:
        with smalloc.Client(self.daemon.address) as other:
            other.dispose("a")
        self.check(False, exists=False)
        with self.assertRaises(smalloc.NotFoundError):
            self.array[0] = 1

    def test_after_another_has_taken_the_name(self) -> None:
        with smalloc.Client(self.daemon.address) as other:
            other.put("a", b"1")
        self.check(False, exists=False)

    def test_the_next_in_its_slot_is_not_taken_for_it(self) -> None:
        state, told = self.client._connection.descriptors.state, self.mapping._told
        assert state is not None
        self.assertEqual(state.flags(told.slot, told.generation), LIVE)
        self.array.allocation.dispose()
        del self.array, self.mapping, self.view
        gc.collect()

        def is_next() -> bool:
            others.append(self.client.alloc(5000).map())
            return bool(others[-1]._told.slot == told.slot)

        others: List[smalloc.Mapping] = []
        self.assertTrue(within(5, is_next))
        self.assertEqual(state.flags(told.slot, told.generation), 0)
        self.assertTrue(all(one.is_live for one in others))

    def test_after_the_daemon_was_killed(self) -> None:
        self.daemon.kill(signal.SIGKILL)
        self.check(False)

    def test_after_the_daemon_has_ended(self) -> None:
        self.daemon.kill(signal.SIGTERM)
        self.check(False, exists=self.mapping.exists)

    def test_after_a_truncate(self) -> None:
        self.array.allocation.truncate(2000)
        self.assertEqual(self.array[1, -1], 7)
        self.assertEqual(sum(self.mapping[2000:]), 0)
        self.assertTrue(self.mapping.is_live)

    def test_an_index_of_what_another_cut_off(self) -> None:
        with smalloc.Client(self.daemon.address) as other:
            other.truncate("a", 2 * self.array.itemsize)
        row = self.array.shape[-1]
        cut: List[Any] = [(0, 2), (0, row - 1), (1, 0), (0, slice(1, 3)), (0, slice(None, None, 2))]
        cut += [slice(None, None, -1), Ellipsis]
        for index in cut:
            with self.assertRaises(smalloc.OutOfRangeError):
                self.array[index] = 6
            with self.assertRaises(smalloc.OutOfRangeError):
                self.array[index]
        self.array[0, 1] = 6
        self.array[0, :2] = [5, 6]
        self.assertEqual((self.array[0, 0], self.array[0, 1]), (5, 6))
        self.assertEqual(list(self.array[0, 1::-1]), [6, 5])
        self.assertEqual(len(self.array[0, 5:5]), 0)
        self.assertTrue(self.array.is_live)

    def test_in_a_forked_child(self) -> None:
        def body() -> None:
            assert self.mapping[1000] == 7 and self.array[1, 0] == 7
            assert not self.mapping.is_live and self.mapping.exists
            self.mapping[0] = 5
            try:
                self.client.ping()
                raise AssertionError
            except smalloc.ForkedError as error:
                assert "make a new Client" in str(error)
            with smalloc.Client(self.daemon.address) as own:
                assert own.get("a")[0, 0] == 5

        self.assertEqual(in_child(body), 0)
        self.assertEqual(self.mapping[0], 5)

    def test_nothing_closes_a_mapping_that_is_in_use(self) -> None:
        self.mapping.memoryview.release()
        self.assertFalse(hasattr(self.mapping, "close"))
        owner = self.mapping.memoryview.obj
        with self.assertRaises(BufferError):
            owner.close()
        self.check(True)
        # Nor where a view is all that is left.
        view = self.mapping.__array__() if numpy else self.mapping.memoryview
        del self.array, self.mapping, self.view
        gc.collect()
        with self.assertRaises(BufferError):
            owner.close()
        self.assertEqual(int(view[1000]), 7)

    def test_it_is_unmapped_with_the_last_that_uses_it(self) -> None:
        gc.collect()
        before = mappings()
        del self.array
        view = self.mapping.memoryview
        del self.mapping, self.view
        gc.collect()
        self.assertEqual(view[1000], 7)
        self.assertGreater(mappings(), 0)
        held = descriptors(os.getpid())
        del view
        gc.collect()
        self.assertEqual(mappings(), before - 2)
        self.assertLessEqual(descriptors(os.getpid()), held)


class PutTests(DaemonTestCase):
    def test_with_and_without_huge_pages(self) -> None:
        data = os.urandom(2 << 20) + b"12345"
        for has_huge_pages in (False, True):
            with mock.patch("smalloc._client.has_shared_huge_pages", lambda: has_huge_pages):
                array = self.client.put("a", data)
            self.assertEqual(array.tobytes(), data)
            self.assertEqual(self.client.read("a"), data)
            self.assertTrue(array.mapping is not None and array.mapping.writable)
            with self.assertRaises(smalloc.BusyError):
                self.client.freeze("a")
            del array
            self.client.freeze("a")


class LimitTests(unittest.TestCase):
    def test_the_daemon_shares_no_more(self) -> None:
        daemon = Daemon(descriptors=100)
        self.addCleanup(daemon.stop)
        with smalloc.Client(daemon.address) as client:
            mapped: List[smalloc.Array] = []
            with self.assertRaises(smalloc.ShareLimitError):
                for one in range(200):
                    mapped.append(client.array("a%d" % one, 5000, "Int8"))
            self.assertGreater(len(mapped), 10)
            # Nothing was lost by that, and put has another way.
            client.put("b", b"12345678" * 10000)
            self.assertEqual(client.read("b", 79992), b"12345678")
            unmapped = smalloc.Client(daemon.address, mapping=False)
            self.assertEqual(unmapped.get("b").tobytes(), b"12345678" * 10000)
            unmapped.close()
            for one in range(len(mapped)):
                client.dispose("a%d" % one)
            mapped.clear()
            self.assertTrue(within(2, lambda: is_shared(client)))

    def test_this_process_may_open_no_more(self) -> None:
        daemon = Daemon()
        self.addCleanup(daemon.stop)

        def body() -> None:
            clients = [smalloc.Client(daemon.address) for _ in range(3)]
            allocations = [client.alloc(5000) for client in clients]
            gc.collect()
            free = os.dup(0)
            os.close(free)
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            mapped = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, most))
            # There is room for none of the two that come with a first map, and then for one, since
            # the first connection is closed.
            for allocation in allocations[:2]:
                try:
                    allocation.map()
                    raise AssertionError
                except smalloc.ConnectionLostError as error:
                    assert "ulimit -n" in str(error), error
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + 10, most))
            # Before Python 3.13 each keeps one.
            try:
                for _ in range(20):
                    mapped.append(allocations[2].map())
                assert sys.version_info >= (3, 13)
            except smalloc.ShareLimitError as error:
                assert "ulimit -n" in str(error), error
            clients[2].ping()
            mapped.clear()
            allocations[2].map()
            clients[2].close()

        self.assertEqual(in_child(body), 0)

    def test_tcp_has_no_map(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        daemon = Daemon(port=port)
        self.addCleanup(daemon.stop)
        with smalloc.Client("tcp:127.0.0.1:%d" % port) as client:
            self.assertFalse(client.can_map)
            a = client.array("a", 3, "Int8")
            self.assertIsNone(a.mapping)
            self.assertFalse(a.frozen)
            with self.assertRaises(smalloc.UnsupportedError):
                a.allocation.map()
            a[1] = 5
            self.assertEqual((a.tolist(), a.is_live), ([0, 5, 0], True))
            with self.assertRaises((BufferError, TypeError)):
                memoryview(a)  # type: ignore[arg-type]
            a.freeze()
            self.assertTrue(a.frozen)
            with self.assertRaises(smalloc.FrozenError):
                a[0] = 1

    def test_descriptors_do_not_add_up(self) -> None:
        daemon = Daemon()
        self.addCleanup(daemon.stop)
        with smalloc.Client(daemon.address) as client:
            a = client.alloc(5000, name="a")
            a.map()
            client.put("b", bytes(70000))
            gc.collect()
            ours, theirs = descriptors(os.getpid()), descriptors(daemon.process.pid)
            for _ in range(300):
                a.map(writable=False)
                client.put("b", bytes(70000))
            gc.collect()
            self.assertEqual(descriptors(os.getpid()), ours)
            self.assertTrue(within(2, lambda: descriptors(daemon.process.pid) <= theirs), theirs)


if __name__ == "__main__":
    unittest.main()

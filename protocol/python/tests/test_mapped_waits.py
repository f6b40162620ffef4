"""Waits in mapped memory: results, what ends them, interrupts; beside requests."""

import contextlib
import ctypes
import gc
import os
import signal
import threading
import time
import unittest
from typing import Any, Callable, List
from unittest import mock

import smalloc
from smalloc import WaitResult, _futex, _waits

from support import DaemonTestCase, same_without_numpy
from test_atomics import has_libatomic
from test_mapping import within
from test_waits import Waiter

has_futexes = _futex.shared_futex() is not None and has_libatomic
needs_futexes = unittest.skipUnless(has_futexes, "the system has no futexes, or no libatomic")
# So long no wait looks at its connection: what was not told of stays unseen, and a test fails.
BLIND = 60 * 10**9


def blind() -> Any:
    return mock.patch.object(_waits, "_LOOK_INTERVAL", BLIND)


def sleeps_on_two() -> bool:
    """Whether the kernel can, after one try of it."""
    futex = _futex.shared_futex()
    if futex is None:
        return False
    words = (ctypes.c_uint32 * 2)()
    at = ctypes.addressof(words)
    futex.sleep(at, 0, at + 4, 0, time.monotonic_ns())
    return futex.sleeps_on_two


def await_sleep(waiter: Waiter) -> None:
    """Until a thread sleeps, and goes on to."""
    seen, end = 0, time.monotonic() + 20
    while seen < 5:
        time.sleep(0.04)
        assert waiter.is_alive() and time.monotonic() < end
        with open("/proc/self/task/%d/stat" % waiter.native_id) as file:
            seen = seen + 1 if file.read().rpartition(")")[2].split()[0] == "S" else 0


@same_without_numpy
class WayTestCase(DaemonTestCase):
    """Waits by futexes, on the cell and on the state word."""

    def setUp(self) -> None:
        super().setUp()
        patch = blind()
        patch.start()
        self.addCleanup(patch.stop)
        self.choose()
        self.a = self.client.alloc(4, "Int32", "a", shareable=True)
        self.m = self.a.map()

    def choose(self) -> None:
        if not has_futexes or not sleeps_on_two():
            self.skipTest("the system can't sleep on two words")

    def patched(self, what: Any, name: str, by: Any) -> None:
        patch = mock.patch.object(what, name, by)
        patch.start()
        self.addCleanup(patch.stop)

    def asleep(self, mapping: Any, *arguments: Any) -> Waiter:
        waiter = Waiter(mapping, *arguments)
        await_sleep(waiter)
        return waiter

    def ends(self, waiter: Waiter, result: WaitResult) -> None:
        self.assertEqual(waiter.ended(), (result, None))


class WaitTests(WayTestCase):
    def test_results(self) -> None:
        self.assertIs(self.m.wait(1, 5), WaitResult.DIFFERS)
        self.assertIs(self.m.wait(-1, 0, 0), WaitResult.TIMEOUT)
        self.assertIs(self.m.wait(1, 0, -3), WaitResult.TIMEOUT)
        start = time.monotonic()
        self.assertIs(self.m.wait(1, 0, 0.15), WaitResult.TIMEOUT)
        self.assertGreaterEqual(time.monotonic() - start, 0.15)
        for timeout in (None, float("inf"), 30, 1e300):
            waiter = self.asleep(self.m, 1, 0, timeout)
            self.assertEqual([self.m.notify(0), self.m.notify(1, 0), self.m.notify(-3)], [0, 0, 1])
            self.ends(waiter, WaitResult.NOTIFIED)
        self.m[1] = -1
        self.assertIs(self.m.wait(1, -1, 0), WaitResult.TIMEOUT)
        unsigned = self.client.alloc(1, "Uint32").map()
        unsigned[0] = 2**32 - 1
        self.assertIs(unsigned.wait(0, 2**32 - 1, 0), WaitResult.TIMEOUT)

    def test_what_is_refused(self) -> None:
        for bad, kind in (
            ((4, 0), smalloc.OutOfRangeError),
            ((-5, 0), smalloc.OutOfRangeError),
            ((0, 2**31), OverflowError),
            ((0, 1.5), TypeError),
            ((0, 0, float("nan")), ValueError),
            ((0, 0, "1"), TypeError),
        ):
            with self.assertRaises(kind):
                self.m.wait(*bad)
        with self.assertRaises(smalloc.OutOfRangeError):
            self.m.notify(4)
        with self.assertRaises(smalloc.InvalidArgumentError):
            self.m.notify(0, -1)
        for type in ("Int64", "Uint8", "Float"):
            other = self.client.alloc(2, type).map()
            for call in (lambda: other.wait(0, 0), lambda: other.notify(0)):
                with self.assertRaises(smalloc.InvalidArgumentError):
                    call()
        nothing = self.client.alloc(0, "Int32").map()
        with self.assertRaises(smalloc.OutOfRangeError):
            nothing.wait(0, 0)

    def test_a_count_of_threads_is_woken(self) -> None:
        waiters = [self.asleep(self.m, 2, 0) for _ in range(3)]
        self.assertEqual(self.m.notify(2, 1), 1)
        self.assertTrue(within(5, lambda: sum(one.is_alive() for one in waiters) == 2))
        # Of whole numbers there is no largest one.
        self.assertEqual(self.m.notify(2, 2**70), 2)
        for waiter in waiters:
            self.ends(waiter, WaitResult.NOTIFIED)

    def test_requests_and_mapped_ones_wake_each_other(self) -> None:
        for notify in (self.m.notify, self.a.notify):
            waiters = [self.asleep(one, 1, 0) for one in (self.a, self.m, self.a, self.m)]
            self.assertEqual(notify(1), 4)
            for waiter in waiters:
                self.ends(waiter, WaitResult.NOTIFIED)
            self.assertEqual(notify(1), 0)

    def test_a_mapping_for_reading_waits_and_notifies(self) -> None:
        read = self.a.map(writable=False)
        waiter = self.asleep(read, 1, 0)
        self.assertEqual(self.m.notify(1), 1)
        self.ends(waiter, WaitResult.NOTIFIED)
        waiter = self.asleep(self.m, 1, 0)
        self.assertEqual(read.notify(1), 1)
        self.ends(waiter, WaitResult.NOTIFIED)

    def test_what_is_gone_ends_it(self) -> None:
        def replace() -> None:
            self.client.alloc(4, "Int32", "b").rename("a", replace=True)

        def truncate() -> None:
            self.client.open("a").truncate(1)

        ways: List[Callable[[], None]] = [lambda: self.client.dispose("a"), replace, truncate]
        for end in ways:
            waiter = self.asleep(self.m, 1, 0)
            end()
            self.ends(waiter, WaitResult.DISPOSED)
            self.assertEqual(self.m.exists, end is truncate)
            self.is_gone()
            if end is not truncate:
                with contextlib.suppress(smalloc.NotFoundError):
                    self.client.dispose("a")
                self.a = self.client.alloc(4, "Int32", "a", shareable=True)
                self.m = self.a.map()

    def is_gone(self) -> None:
        self.assertIs(self.m.wait(1, 0), WaitResult.DISPOSED)
        self.assertEqual(self.m.notify(1), 0)

    def test_an_interrupt_ends_it(self) -> None:
        kept = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, kept)
        moments: List[float] = []

        def interrupt() -> None:
            time.sleep(0.3)
            moments.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with self.assertRaises(KeyboardInterrupt):
            self.m.wait(0, 0)
        self.assertLess(time.monotonic() - moments[0], 1)
        thread.join()
        self.assertTrue(self.client.is_live)
        self.assertIs(self.m.wait(0, 7), WaitResult.DIFFERS)
        waiter = self.asleep(self.m, 0, 0)
        self.assertEqual(self.m.notify(0), 1)
        self.ends(waiter, WaitResult.NOTIFIED)


class StateTests(WayTestCase):
    """What changes beside the cell wakes a thread, which looks again; only where it can be seen."""

    def test_a_truncate_behind_the_cell(self) -> None:
        waiter = self.asleep(self.m, 1, 0, 30)
        self.a.truncate(2)
        self.ends(waiter, WaitResult.NOTIFIED)
        self.assertIs(self.m.wait(1, 0, 0), WaitResult.TIMEOUT)

    def test_a_freeze(self) -> None:
        del self.m
        gc.collect()
        self.m = self.a.map(writable=False)
        waiter = self.asleep(self.m, 1, 0, 30)
        self.a.freeze()
        self.ends(waiter, WaitResult.NOTIFIED)
        self.assertIs(self.m.wait(1, 0, 0), WaitResult.TIMEOUT)

    def test_what_happens_as_it_is_about_to_sleep(self) -> None:
        def change() -> None:
            self.m.atomic_store(1, 1)
            self.m.notify(1)

        ways: List[Any] = [
            (change, WaitResult.DIFFERS),
            (lambda: self.a.truncate(1), WaitResult.DISPOSED),
            (lambda: self.client.dispose("b"), WaitResult.DISPOSED),
        ]
        for happen, result in ways:
            self.a = self.client.alloc(4, "Int32", "b")
            self.m = self.a.map()
            look = _waits.MappedWaits._next_look
            did: List[bool] = []

            def late(self: Any, now: int) -> int:
                if not did:
                    did.append(True)
                    happen()
                return look(self, now)

            with mock.patch.object(_waits.MappedWaits, "_next_look", late):
                start = time.monotonic()
                self.assertIs(self.m.wait(1, 0, 20), result)
                # It finds the same when its time is up.
                self.assertLess(time.monotonic() - start, 10)
            self.assertEqual(did, [True])
            with contextlib.suppress(smalloc.NotFoundError):
                self.client.dispose("b")

    def test_no_request_is_sent(self) -> None:
        self.assertEqual(self.m.wait(0, 0, 0.01), WaitResult.TIMEOUT)
        before = len(os.listdir("/proc/self/fd"))
        waiter = self.asleep(self.m, 0, 0)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        # The handles of this program, and no wait.
        self.assertEqual(self.client.stat("a").handles, 1)
        self.client.close()
        self.assertEqual(self.m.notify(0), 1)
        self.ends(waiter, WaitResult.NOTIFIED)

    def test_a_closed_handle_is_told_where_requests_wait(self) -> None:
        with smalloc.Client(self.daemon.address) as other:
            by_request = self.asleep(other.open("a"), 0, 0)
            mapped = self.asleep(self.m, 0, 0)
            self.a.close()
            with self.assertRaises(smalloc.ClosedError):
                self.m.notify(0)
            self.ends(mapped, WaitResult.NOTIFIED)
            self.assertEqual(other.open("a").notify(0), 1)
            self.ends(by_request, WaitResult.NOTIFIED)

    def test_a_signals_handler_may_change_the_cell(self) -> None:
        kept = signal.signal(signal.SIGUSR1, lambda *_: self.m.atomic_store(0, 1))
        self.addCleanup(signal.signal, signal.SIGUSR1, kept)
        timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        timer.start()
        self.assertIs(self.m.wait(0, 0, 20), WaitResult.DIFFERS)
        timer.join()


class SliceTests(WaitTests):
    """Where the system can't sleep on two words: by slices."""

    def choose(self) -> None:
        futex = _futex.shared_futex()
        if futex is None or not has_futexes:
            self.skipTest("the system has no futexes")
        self.patched(futex, "sleeps_on_two", False)
        # A notify without a change is missed between two slices.
        self.patched(_futex, "_SLICE", BLIND)

    def test_what_is_gone_ends_it(self) -> None:
        self.patched(_futex, "_SLICE", 100_000_000)
        super().test_what_is_gone_ends_it()


class RequestTests(WaitTests):
    """Where the system has nothing of it."""

    def choose(self) -> None:
        self.patched(_waits, "shared_futex", lambda: None)

    def is_gone(self) -> None:
        for call in (lambda: self.m.wait(1, 0), lambda: self.m.notify(1)):
            with self.assertRaises((smalloc.NotFoundError, smalloc.OutOfRangeError)):
                call()


class FoundTests(unittest.TestCase):
    def test_systems_without_it(self) -> None:
        find = _futex.shared_futex.__wrapped__
        names = mock.Mock(machine="i686")
        with mock.patch("os.uname", return_value=names):
            self.assertIsNone(find())
        with mock.patch("ctypes.CDLL", side_effect=OSError):
            self.assertIsNone(find())


if __name__ == "__main__":
    unittest.main()

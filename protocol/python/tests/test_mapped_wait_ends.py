"""Waits in mapped memory of several processes, of which some are killed; connections that end."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import struct
import time
import unittest
from typing import Any, Callable, Optional

import smalloc
from smalloc import WaitResult, _futex

from support import Daemon, DaemonTestCase, same_without_numpy
from test_ends import in_child
from test_mapped_waits import await_sleep, blind, needs_futexes
from test_mapping import within
from test_waits import Waiter

TURNS = 2000


def take_turns(address: str, mine: int, is_mapped: bool) -> None:
    """For a process of its own: count one cell up in turns with another process."""
    with blind(), smalloc.Client(address, timeout=60) as client:
        a = client.open("turns")
        cells = a.map() if is_mapped else a
        for turn in range(mine, TURNS, 2):
            while True:
                seen = cells.atomic_load(1)
                if seen == turn:
                    break
                assert cells.wait(1, seen, 30) is not WaitResult.TIMEOUT
            cells.atomic_add(1, 1)
            cells.notify(1)


def notify_on(address: str) -> None:
    """For a process that is killed: notify without end."""
    cells = smalloc.Client(address).open("a").map()
    while True:
        cells.atomic_add(0, 1)
        cells.notify(0)


def sleep_on(address: str) -> None:
    """For a process that is killed: sleep."""
    cells = smalloc.Client(address).open("a").map()
    cells.atomic_add(3, 1)
    while True:
        cells.wait(0, 0)


def refuse_waitv() -> None:
    """Have the system refuse futex_waitv to this process, as a sandbox that knows no such call."""
    # Load the call's number; skip one unless it is that; EPERM; allow.
    program = b"".join(
        struct.pack("<HBBI", *one)
        for one in (
            (0x20, 0, 0, 0), (0x15, 0, 1, 449), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000),
        )
    )  # fmt: skip
    code = ctypes.create_string_buffer(program, len(program))
    filter = struct.pack("<HxxxxxxQ", 4, ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(38, ctypes.c_ulong(1), 0, 0, 0) == 0
    assert prctl(22, ctypes.c_ulong(2), ctypes.c_char_p(filter), 0, 0) == 0


def wait_in_a_sandbox(address: str) -> None:
    """For a process of its own: wait for a notify, and for the end of the allocation."""
    refuse_waitv()
    with blind(), smalloc.Client(address, timeout=60) as client:
        cells = client.open("a").map()
        cells.atomic_add(3, 1)
        assert cells.wait(0, 0, 30) is WaitResult.NOTIFIED
        futex = _futex.shared_futex()
        assert futex is not None and not futex.sleeps_on_two
        cells.atomic_add(3, 1)
        start = time.monotonic()
        assert cells.wait(0, 0, 30) is WaitResult.DISPOSED
        assert time.monotonic() - start < 20


@needs_futexes
@same_without_numpy
class ProcessTests(DaemonTestCase):
    def started(self, target: Callable[..., None], *arguments: Any) -> Any:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=target, args=(self.daemon.address, *arguments))
        process.start()

        def stop() -> None:
            process.kill()
            process.join()

        self.addCleanup(stop)
        return process

    def test_two_processes_take_turns(self) -> None:
        for ways in ((True, True), (True, False)):
            turns = self.client.alloc(2, "Uint32", "turns")
            players = [self.started(take_turns, mine, way) for mine, way in enumerate(ways)]
            for player in players:
                player.join(90)
                self.assertEqual(player.exitcode, 0)
            self.assertEqual(turns[:], [0, TURNS])
            self.client.dispose("turns")

    def test_a_notifier_that_is_killed(self) -> None:
        cells = self.client.alloc(4, "Int32", "a").map()
        for _ in range(3):
            notifier = self.started(notify_on)
            before = cells.atomic_load(0)
            woken = 0
            while woken < 50:
                seen = cells.atomic_load(0)
                result = cells.wait(0, seen, 20)
                self.assertIsNot(result, WaitResult.TIMEOUT)
                woken += 1
            self.assertNotEqual(cells.atomic_load(0), before)
            notifier.kill()
            notifier.join()
            seen = cells.atomic_load(0)
            self.assertIs(cells.wait(0, seen, 0.2), WaitResult.TIMEOUT)

    def test_threads_of_a_process_that_is_killed_take_no_wake_up_of_others(self) -> None:
        a = self.client.alloc(4, "Int32", "a")
        cells = a.map()
        sleepers = [self.started(sleep_on) for _ in range(2)]
        self.assertTrue(within(20, lambda: cells[3] == 2))
        with blind():
            waiter = Waiter(cells, 0, 0)
            await_sleep(waiter)
            for sleeper in sleepers:
                sleeper.kill()
                sleeper.join()
            self.assertEqual(cells.notify(0), 1)
            self.assertEqual(waiter.ended(), (WaitResult.NOTIFIED, None))

    def test_a_sandbox_that_knows_no_futex_waitv(self) -> None:
        a = self.client.alloc(4, "Int32", "a")
        cells = a.map()
        process = self.started(wait_in_a_sandbox)
        self.assertTrue(within(20, lambda: cells[3] == 1))
        self.assertTrue(within(10, lambda: cells.notify(0) == 1))
        self.assertTrue(within(20, lambda: cells[3] == 2))
        time.sleep(0.2)
        self.client.dispose("a")
        process.join(20)
        self.assertEqual(process.exitcode, 0)


@needs_futexes
@same_without_numpy
class ConnectionTests(unittest.TestCase):
    def setUp(self) -> None:
        self.daemon = Daemon()
        self.addCleanup(self.daemon.stop)
        self.client = smalloc.Client(self.daemon.address)
        self.addCleanup(self.client.close)
        self.cells = self.client.alloc(2, "Int32", "a").map()

    def asleep_until(self, end: Callable[[], object]) -> Optional[BaseException]:
        waiters = [Waiter(self.cells, place, 0) for place in (0, 0, 1)]
        for waiter in waiters:
            await_sleep(waiter)
        start = time.monotonic()
        end()
        errors = [waiter.ended()[1] for waiter in waiters]
        self.assertLess(time.monotonic() - start, 2)
        self.assertEqual(len({type(error) for error in errors}), 1)
        return errors[0]

    def test_a_daemon_that_is_killed(self) -> None:
        error = self.asleep_until(self.daemon.kill)
        self.assertIsInstance(error, smalloc.ConnectionLostError)
        self.assertFalse(self.client.is_live)
        start = time.monotonic()
        with self.assertRaises(smalloc.ConnectionLostError):
            self.cells.wait(0, 0)
        self.assertLess(time.monotonic() - start, 2)
        self.assertIs(self.cells.wait(0, 1), WaitResult.DIFFERS)
        self.assertEqual(self.cells.notify(0), 0)

    def test_a_daemon_that_stops(self) -> None:
        error = self.asleep_until(lambda: self.daemon.kill(signal.SIGTERM))
        self.assertIsInstance(error, smalloc.ConnectionLostError)

    def test_a_client_that_is_closed(self) -> None:
        self.assertIsInstance(self.asleep_until(self.client.close), smalloc.ClosedError)

    def test_a_forked_child(self) -> None:
        self.assertIs(self.cells.wait(0, 0, 0.01), WaitResult.TIMEOUT)

        def body() -> None:
            assert self.cells.wait(0, 1) is WaitResult.DIFFERS
            with contextlib.suppress(smalloc.ForkedError):
                self.cells.wait(0, 0, 10)
                os._exit(3)
            # It wakes those of its parent.
            self.cells.atomic_store(0, 1)
            assert self.cells.notify(0) == 1

        waiter = Waiter(self.cells, 0, 0)
        await_sleep(waiter)
        self.assertEqual(in_child(body), 0)
        self.assertEqual(waiter.ended(), (WaitResult.NOTIFIED, None))


if __name__ == "__main__":
    unittest.main()

"""Python's waits in mapped memory and the Swift library's, mapped and by requests, either way."""

import subprocess
import time
import unittest
from typing import Any
from unittest import mock

from smalloc import WaitResult, _waits

from support import DaemonTestCase, same_without_numpy, scaled, worker_path
from test_both import WAYS, BothTestCase
from test_mapped_waits import BLIND, await_sleep, needs_futexes
from test_mapping import within
from test_waits import Waiter

TURNS = scaled(2000)


@needs_futexes
@same_without_numpy
class EitherWayTests(BothTestCase):
    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch.object(_waits, "_LOOK_INTERVAL", BLIND)
        patch.start()
        self.addCleanup(patch.stop)
        self.a = self.client.alloc(4, "Int32", "a")
        self.cells = self.a.map()

    def asleep(self, cells: Any) -> Waiter:
        waiter = Waiter(cells, 1, 0, 30)
        await_sleep(waiter)
        return waiter

    def test_swift_wakes_python(self) -> None:
        for way in WAYS:
            waiter = self.asleep(self.cells)
            self.assertEqual(self.worker.ask("atomic", way, "a", 1, "add", 5), "0")
            self.assertTrue(waiter.is_alive())
            self.assertEqual(self.worker.ask("notify", way, "a", 1), "1")
            self.assertEqual(waiter.ended(), (WaitResult.NOTIFIED, None))
            self.assertEqual(self.worker.ask("atomic", way, "a", 1, "store", 0), "ok")

    def test_python_wakes_swift(self) -> None:
        for way in WAYS:
            for _ in range(20):
                self.worker.send("wait", way, "a", 1, 0, 20_000)
                # Until it sleeps, there is none to be woken; once it does, it is one.
                self.assertTrue(within(10, lambda: self.cells.notify(1) == 1))
                self.assertEqual(self.worker.receive(), "notified")
                self.worker.send("wait", way, "a", 1, 0, 20_000)
                self.cells.atomic_store(1, 7)
                self.cells.notify(1)
                self.assertIn(self.worker.receive(), ("differs", "notified"))
                self.cells.atomic_store(1, 0)

    def test_both_wait_on_one_cell(self) -> None:
        for way in WAYS:
            waiter = self.asleep(self.cells)
            self.worker.send("wait", way, "a", 1, 0, 20_000)
            time.sleep(0.3)
            self.assertEqual(self.cells.notify(1), 2)
            self.assertEqual(self.worker.receive(), "notified")
            self.assertEqual(waiter.ended(), (WaitResult.NOTIFIED, None))

    def test_what_swift_does_with_the_allocation_is_seen_in_a_sleep(self) -> None:
        read = self.client.open("a").map(writable=False)
        del self.cells
        for line, result in (
            ("truncate a 3", WaitResult.NOTIFIED),
            ("freeze a", WaitResult.NOTIFIED),
            ("dispose a", WaitResult.DISPOSED),
        ):
            waiter = self.asleep(read)
            self.assertEqual(self.worker.ask(line), "ok")
            self.assertEqual(waiter.ended(), (result, None), line)


@needs_futexes
@same_without_numpy
class TurnTests(DaemonTestCase):
    def test_no_wake_up_is_lost_between_the_two(self) -> None:
        """Swift's follows element 0, and says so in element 1."""
        a = self.client.alloc(4, "Int32", "turns")
        cells = a.map()
        worker = subprocess.Popen([worker_path(), "follow", self.daemon.address, "turns", "1"])
        try:
            # Its first words: it has seen 0, and waits.
            self.assertTrue(within(20, lambda: self.client.stat("turns").handles == 2))
            late = 0
            with mock.patch.object(_waits, "_LOOK_INTERVAL", BLIND):
                for turn in range(1, TURNS + 1):
                    start = time.monotonic()
                    cells.atomic_store(0, turn)
                    cells.notify(0)
                    while (seen := cells.atomic_load(1)) != turn:
                        result = cells.wait(1, seen, 30)
                        self.assertNotIn(result, (WaitResult.TIMEOUT, WaitResult.DISPOSED))
                    # Swift's looks after a second, and so would find what Python did not tell.
                    late += time.monotonic() - start > 0.9
            self.assertLess(late, 5)
            self.client.dispose("turns")
            self.assertEqual(worker.wait(20), 0)
        finally:
            worker.kill()
            worker.wait()


if __name__ == "__main__":
    unittest.main()

"""Waits: results, other threads' calls meanwhile, interrupts, ends; between two processes."""

import multiprocessing
import os
import signal
import socket
import struct
import threading
import time
import unittest
from random import Random
from typing import Any, Callable, List, Optional, Tuple

import smalloc
from smalloc import WaitResult
from smalloc._wire import Operation

from support import Daemon, DaemonTestCase, seeded
from test_hostile import HostileTestCase
from test_mapping import within

TURNS = 500


class Waiter(threading.Thread):
    """A wait in a thread of its own, and what came of it."""

    def __init__(self, allocation: smalloc.Allocation, *arguments: Any) -> None:
        super().__init__(daemon=True)
        self.allocation, self.arguments = allocation, arguments
        self.result: Optional[WaitResult] = None
        self.error: Optional[BaseException] = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.allocation.wait(*self.arguments)
        except BaseException as error:
            self.error = error

    def ended(self) -> Tuple[Optional[WaitResult], Optional[BaseException]]:
        self.join(20)
        assert not self.is_alive()
        return self.result, self.error


def take_turns(address: str, mine: int) -> None:
    """For a process of its own: count one cell up in turns with another process."""
    with smalloc.Client(address, timeout=60) as client:
        a = client.open("turns")
        for turn in range(mine, 2 * TURNS, 2):
            while True:
                seen = a.atomic_load(0)
                if seen == turn:
                    break
                assert a.wait(0, seen, 30) is not WaitResult.TIMEOUT
            a.atomic_add(0, 1)
            a.notify(0)


def await_and_answer(address: str) -> None:
    """For a process of its own: wait, mapped, for a value of another, and answer it."""
    with smalloc.Client(address, timeout=60) as client:
        a = client.open("a")
        while a.wait(0, 0, 30) is WaitResult.NOTIFIED and a[0] == 0:
            pass
        cells = a.map()
        cells.atomic_store(1, cells.atomic_load(0) + 1)
        a.notify(1)


class WaitTests(DaemonTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.a = self.client.alloc(4, "Int32", "a")

    def handles(self) -> int:
        """Waits under way count as handles do; spec section 7.6."""
        with smalloc.Client(self.daemon.address) as other:
            return other.stat("a").handles

    def waiting(self, count: int = 1) -> None:
        self.assertTrue(within(5, lambda: self.handles() == 1 + count))

    def test_results(self) -> None:
        self.assertIs(self.a.wait(1, 5), WaitResult.DIFFERS)
        self.assertIs(self.a.wait(-1, 0, 0), WaitResult.TIMEOUT)
        self.assertIs(self.a.wait(1, 0, -3), WaitResult.TIMEOUT)
        start = time.monotonic()
        self.assertIs(self.a.wait(1, 0, 0.15), WaitResult.TIMEOUT)
        self.assertGreaterEqual(time.monotonic() - start, 0.15)
        waiter = Waiter(self.a, 1, 0)
        self.waiting()
        self.assertEqual([self.a.notify(0), self.a.notify(1, 0), self.a.notify(1)], [0, 0, 1])
        self.assertEqual(waiter.ended(), (WaitResult.NOTIFIED, None))
        waiter = Waiter(self.a, 1, 0, float("inf"))
        self.waiting()
        self.client.dispose("a")
        self.assertEqual(waiter.ended(), (WaitResult.DISPOSED, None))
        # A result is true, whichever it is.
        self.assertTrue(all(WaitResult))

    def test_what_is_refused(self) -> None:
        for bad, kind in (
            ((4, 0), smalloc.OutOfRangeError),
            ((0, 2**31), OverflowError),
            ((0, 1.5), TypeError),
            ((0, 0, float("nan")), ValueError),
        ):
            with self.assertRaises(kind):
                self.a.wait(*bad)
        with self.assertRaises(smalloc.OutOfRangeError):
            self.a.notify(4)
        with self.assertRaises(smalloc.InvalidArgumentError):
            self.a.notify(0, -1)
        for type in ("Int64", "Uint8", "Float"):
            other = self.client.alloc(2, type)
            for call in (lambda: other.wait(0, 0), lambda: other.notify(0)):
                with self.assertRaises(smalloc.InvalidArgumentError):
                    call()
        self.a.close()
        with self.assertRaises(smalloc.ClosedError):
            self.a.wait(0, 0)
        unsigned = self.client.alloc(1, "Uint32")
        unsigned[0] = 2**32 - 1
        self.assertIs(unsigned.wait(0, 2**32 - 1, 0), WaitResult.TIMEOUT)
        negative = self.client.alloc(1, "Int32")
        negative[0] = -1
        self.assertIs(negative.wait(0, -1, 0), WaitResult.TIMEOUT)

    def test_other_threads_use_the_client_meanwhile(self) -> None:
        waiters = [Waiter(self.a, place, 0) for place in (0, 0, 1)]
        self.waiting(3)
        start = time.monotonic()
        for turn in range(200):
            self.a[2] = turn
            self.assertEqual(self.a[2], turn)
        self.client.write("a", bytes(8), 8)
        # No call of these waits for a wait.
        self.assertLess(time.monotonic() - start, 5)
        self.assertTrue(self.client.is_live)
        self.assertEqual(self.a.notify(0, 1), 1)
        self.assertTrue(within(5, lambda: waiters[0].is_alive() != waiters[1].is_alive()))
        self.assertEqual([self.a.notify(0), self.a.notify(1)], [1, 1])
        for waiter in waiters:
            self.assertEqual(waiter.ended(), (WaitResult.NOTIFIED, None))
        self.assertEqual(self.handles(), 1)

    @seeded
    def test_many_threads_wait_and_notify_on_one_client(self, random: Random) -> None:
        counts: List[int] = [random.randint(20, 60) for _ in range(4)]

        def follow(place: int) -> None:
            seen = 0
            while seen < counts[place]:
                self.a.wait(place, seen, 10)
                seen = self.a.atomic_load(place)

        def lead(place: int) -> None:
            for _ in range(counts[place]):
                self.a.atomic_add(place, 1)
                self.a.notify(place)

        threads = [
            threading.Thread(target=what, args=(place,), daemon=True)
            for place in range(4)
            for what in (follow, follow, lead)
        ]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            self.assertFalse(thread.is_alive())
        # None has slept on after its wait was over.
        self.assertLess(time.monotonic() - start, 9)
        self.assertEqual(self.a[:], counts)
        self.assertTrue(self.client.is_live)

    def test_no_descriptor_is_left(self) -> None:
        self.a.wait(0, 0, 0)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            self.a.wait(0, 0, 0)
            self.a.wait(0, 1)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_a_daemon_that_is_asked_for_longer_than_the_clients_time(self) -> None:
        with smalloc.Client(self.daemon.address, timeout=0.1) as client:
            self.assertIs(client.open("a").wait(0, 0, 0.5), WaitResult.TIMEOUT)
            self.assertTrue(client.is_live)

    def test_an_interrupt_takes_the_wait_back_and_leaves_the_client(self) -> None:
        kept = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, kept)
        other = Waiter(self.a, 1, 0)
        self.waiting()

        def interrupt() -> None:
            within(5, lambda: self.handles() == 3)
            # It has sent the request, and sleeps by then.
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with self.assertRaises(KeyboardInterrupt):
            self.a.wait(0, 0)
        thread.join()
        self.assertTrue(self.client.is_live)
        self.waiting()
        self.assertEqual([self.a.notify(0), self.a.notify(1)], [0, 1])
        self.assertEqual(other.ended(), (WaitResult.NOTIFIED, None))
        self.client.ping()
        self.assertIs(self.a.wait(0, 7), WaitResult.DIFFERS)

    def test_a_signals_handler_may_use_the_client_while_it_waits(self) -> None:
        told = []

        def handle(*_: Any) -> None:
            told.append(self.a.notify(0))

        kept = signal.signal(signal.SIGUSR1, handle)
        self.addCleanup(signal.signal, signal.SIGUSR1, kept)

        def send() -> None:
            within(5, lambda: self.handles() == 2)
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGUSR1)

        thread = threading.Thread(target=send)
        thread.start()
        self.assertIs(self.a.wait(0, 0, 20), WaitResult.NOTIFIED)
        thread.join()
        self.assertEqual(told, [1])

    def test_close_ends_a_wait(self) -> None:
        waiter = Waiter(self.a, 0, 0)
        self.waiting()
        self.client.close()
        self.assertIsInstance(waiter.ended()[1], smalloc.ClosedError)


class ProcessTests(DaemonTestCase):
    def run_all(self, *targets: Tuple[Callable[..., None], Tuple[Any, ...]]) -> None:
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=one, args=arguments) for one, arguments in targets]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            self.assertEqual(process.exitcode, 0)

    def test_two_processes_take_turns(self) -> None:
        turns = self.client.alloc(1, "Uint32", "turns")
        address = self.daemon.address
        self.run_all((take_turns, (address, 0)), (take_turns, (address, 1)))
        self.assertEqual(turns[0], 2 * TURNS)

    def test_a_process_is_woken_and_wakes(self) -> None:
        a = self.client.alloc(2, "Int32", "a")
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=await_and_answer, args=(self.daemon.address,))
        process.start()
        # It waits, beside the handles of this program and of its own.
        self.assertTrue(within(20, lambda: self.client.stat("a").handles == 3))
        a.map().atomic_store(0, 41)
        self.assertEqual(a.notify(0), 1)
        while a.atomic_load(1) == 0:
            self.assertIsNot(a.wait(1, 0, 20), WaitResult.TIMEOUT)
        self.assertEqual(a[1], 42)
        process.join(20)
        self.assertEqual(process.exitcode, 0)


class EndTests(unittest.TestCase):
    def waiter(self) -> Tuple[Daemon, smalloc.Client, Waiter]:
        daemon = Daemon()
        self.addCleanup(daemon.stop)
        client = smalloc.Client(daemon.address)
        self.addCleanup(client.close)
        a = client.alloc(1, "Int32", "a")
        waiter = Waiter(a, 0, 0)
        self.assertTrue(within(5, lambda: client.stat("a").handles == 2))
        return daemon, client, waiter

    def test_a_daemon_that_stops(self) -> None:
        daemon, client, waiter = self.waiter()
        daemon.kill(signal.SIGTERM)
        self.assertIsInstance(waiter.ended()[1], smalloc.CancelledError)
        self.assertFalse(client.is_live)

    def test_a_daemon_that_is_killed(self) -> None:
        daemon, client, waiter = self.waiter()
        daemon.kill()
        self.assertIsInstance(waiter.ended()[1], smalloc.ConnectionLostError)
        self.assertFalse(client.is_live)


class HostileWaitTests(HostileTestCase):
    def broken(self, *answers: Callable[[Any], bytes]) -> smalloc.SmallocError:
        def answer(connection: socket.socket) -> None:
            self.greet(connection)
            header = self.request(connection)
            connection.sendall(self.reply(header, handle=1, type=5, size=16))
            header = self.request(connection)
            for one in answers:
                connection.sendall(one(header))
            connection.recv(1)

        client = self.client_of(self.served(answer), timeout=5)
        a = client.open("a")
        with self.assertRaises(smalloc.SmallocError) as caught:
            a.wait(0, 0, 5)
        return caught.exception

    def test_replies_that_make_no_sense(self) -> None:
        for wrong in (
            lambda header: self.reply(header, size=4),
            lambda header: self.reply(header, size=2**64 - 1),
            lambda header: self.reply(header, operation=Operation.NOTIFY),
            lambda header: self.reply(header, cookie=header.cookie + 1),
            lambda header: b"\xe5" * 40,
        ):
            self.assertIsInstance(self.broken(wrong), smalloc.ProtocolError)

    def test_statuses(self) -> None:
        for status, kind in (
            (0x8014, smalloc.CancelledError),
            (0x8015, smalloc.LimitError),
            (0x8008, smalloc.UnsupportedError),
            (0xC006, smalloc.ConnectionLostError),
        ):
            error = self.broken(lambda header: self.reply(header, b"why", status=status))
            self.assertIs(type(error), kind)

    def test_an_atomic_that_tells_what_its_type_does_not_hold(self) -> None:
        for payload in (b"", bytes(7), bytes(9), struct.pack("<Q", 2**31), b"\xff" * 4 + bytes(4)):

            def answer(connection: socket.socket) -> None:
                self.greet(connection)
                header = self.request(connection)
                connection.sendall(self.reply(header, handle=1, type=5, size=16))
                header = self.request(connection)
                connection.sendall(self.reply(header, payload, size=8))
                connection.recv(1)

            client = self.client_of(self.served(answer), timeout=5)
            with self.assertRaises(smalloc.ProtocolError):
                client.open("a").atomic_load(0)

    def test_a_wait_that_is_answered_after_its_cancel(self) -> None:
        class Interrupt(BaseException):
            pass

        def interrupt(*_: Any) -> None:
            raise Interrupt

        taken_back, answered = threading.Event(), threading.Event()

        def answer(connection: socket.socket) -> None:
            self.greet(connection)
            header = self.request(connection)
            connection.sendall(self.reply(header, handle=1, type=5, size=16))
            waited = self.request(connection)
            # It has sent the request, and sleeps by then.
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGUSR1)
            header = self.request(connection)
            assert header.operation == Operation.CANCEL
            connection.sendall(self.reply(header, size=1))
            assert taken_back.wait(5)
            connection.sendall(self.reply(waited, b"taken back", status=0x8014))
            answered.set()
            header = self.request(connection)
            connection.sendall(self.reply(header))
            connection.recv(1)

        kept = signal.signal(signal.SIGUSR1, interrupt)
        self.addCleanup(signal.signal, signal.SIGUSR1, kept)
        client = self.client_of(self.served(answer), timeout=5)
        a = client.open("a")
        with self.assertRaises(Interrupt):
            a.wait(0, 0)
        taken_back.set()
        self.assertTrue(answered.wait(5))
        self.assertTrue(client.is_live)
        client.ping()

    def test_a_daemon_that_is_silent(self) -> None:
        def answer(connection: socket.socket) -> None:
            self.greet(connection)
            header = self.request(connection)
            connection.sendall(self.reply(header, handle=1, type=5, size=16))
            self.request(connection)
            # The ping, by which the client finds out.
            assert self.request(connection).operation == Operation.PING
            connection.recv(1)

        client = self.client_of(self.served(answer), timeout=0.1)
        a = client.open("a")
        with self.assertRaises(smalloc.TimedOutError):
            a.wait(0, 0)


if __name__ == "__main__":
    unittest.main()

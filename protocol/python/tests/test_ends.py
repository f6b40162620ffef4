"""How connections end: daemons that die or refuse, forks, interrupts, handles."""

import asyncio
import errno
import gc
import os
import pickle
import signal
import socket
import threading
import time
import unittest
import unittest.mock
import warnings
import weakref
from typing import Any, Callable, List

import smalloc
from smalloc import _shared, _wire, aio
from smalloc._connection import Connection
from smalloc._wire import Operation

from support import Daemon, DaemonTestCase


class DeathTests(unittest.TestCase):
    def started(self, *options: str) -> Daemon:
        daemon = Daemon(*options)
        self.addCleanup(daemon.stop)
        return daemon

    def test_a_killed_daemon(self) -> None:
        daemon = self.started()
        client = smalloc.Client(daemon.address)
        a = client.alloc(4, name="a")
        array = client.get("a")
        self.assertTrue(client.is_live)
        daemon.kill()
        self.assertFalse(client.is_live)
        for call in (
            client.ping,
            a.read_bytes,
            lambda: client.open("a"),
            lambda: list(client.list()),
            client.stats,
            client.hello,
            lambda: client.put("a", b"1"),
            array.freeze,
            a.dispose,
        ):
            with self.assertRaises(smalloc.ConnectionLostError) as caught:
                call()
            self.assertIn(daemon.address, str(caught.exception))
            self.assertIn("a new Client", str(caught.exception))
        # What is mapped stays.
        self.assertEqual((array.tolist(), array[0], array.is_live), ([0, 0, 0, 0], 0, False))
        a.close()
        client.close()
        with self.assertRaises(smalloc.ConnectionLostError):
            smalloc.Client(daemon.address)

    def test_what_can_not_be_sent_ends_the_connection(self) -> None:
        """The rest of a frame is not left out: the daemon would take the next for it."""
        send, sent = socket.socket.sendmsg, [0]

        def refuse(self: socket.socket, buffers: List[memoryview]) -> int:
            sent[0] += 1
            if sent[0] == 1:
                return send(self, [buffers[0][:20]])
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

        async def ping() -> None:
            async with aio.Client(daemon.address, timeout=2) as client:
                with unittest.mock.patch("socket.socket.sendmsg", refuse):
                    await client.ping()

        def ping_blocking() -> None:
            with smalloc.Client(daemon.address, timeout=2) as client:
                with unittest.mock.patch("socket.socket.sendmsg", refuse):
                    client.ping()

        daemon = self.started()
        for call in (ping_blocking, lambda: asyncio.run(ping())):
            sent[0] = 0
            with self.assertRaises(smalloc.ConnectionLostError) as caught:
                call()
            self.assertIn(os.strerror(errno.ENOBUFS), str(caught.exception))

    def test_a_lost_connection_keeps_nothing_of_the_call_that_found_out(self) -> None:
        class Buffer(bytearray):
            pass

        daemon = self.started()
        client = smalloc.Client(daemon.address)
        self.addCleanup(client.close)
        a = client.alloc(100_000)
        daemon.kill()
        buffer = Buffer(100_000)
        kept = weakref.ref(buffer)
        # assertRaises would clear the frames by itself.
        try:
            a.readinto(buffer)
            self.fail("the daemon is dead")
        except smalloc.ConnectionLostError:
            pass
        del buffer
        self.assertIsNone(kept())

    def test_a_daemon_that_is_killed_during_a_call(self) -> None:
        daemon = self.started()
        client = smalloc.Client(daemon.address)
        self.addCleanup(client.close)
        a = client.alloc(200_000_000)
        threading.Timer(0.05, daemon.kill).start()
        with self.assertRaises(smalloc.ConnectionLostError):
            for _ in range(1000):
                a.read_bytes()
        self.assertFalse(client.is_live)

    def test_a_daemon_that_stops_says_so(self) -> None:
        daemon = self.started()
        client, other = smalloc.Client(daemon.address), smalloc.Client(daemon.address)
        self.addCleanup(client.close)
        self.addCleanup(other.close)
        daemon.kill(signal.SIGTERM)
        with self.assertRaises(smalloc.ConnectionLostError) as caught:
            client.ping()
        self.assertEqual(caught.exception.status, "shuttingDown")
        with self.assertRaises(smalloc.ConnectionLostError) as caught:
            client.ping()
        self.assertIn("shuttingDown", str(caught.exception))
        # Also where the end was noticed without a call.
        self.assertFalse(other.is_live)
        with self.assertRaises(smalloc.ConnectionLostError) as caught:
            other.ping()
        self.assertIn("shuttingDown", str(caught.exception))

    def test_a_daemon_that_comes_back_is_reached_by_what_is_unpickled(self) -> None:
        daemon = self.started()
        with smalloc.Client(daemon.address) as client:
            data = pickle.dumps(client.put("a", b"1"))
            pickle.loads(data).close()
        daemon.kill()
        again = Daemon.__new__(Daemon)
        with unittest.mock.patch("tempfile.mkdtemp", return_value=daemon.folder):
            again.__init__()  # type: ignore[misc]
        self.addCleanup(again.stop)
        with smalloc.Client(daemon.address) as client:
            client.put("a", b"2")
        self.assertEqual(pickle.loads(data).tobytes(), b"2")

    def test_a_full_daemon_refuses_with_its_reason(self) -> None:
        daemon = self.started("--connections-max", "1")
        # The client that saw it start may still be counted.
        deadline = time.monotonic() + 10
        while True:
            try:
                first = smalloc.Client(daemon.address)
                break
            except smalloc.CannotConnectError:
                self.assertLess(time.monotonic(), deadline)
        for _ in range(20):
            with self.assertRaises(smalloc.CannotConnectError) as caught:
                smalloc.Client(daemon.address)
            self.assertEqual(caught.exception.status, "connectionLimit")
        first.ping()
        first.close()

    def test_an_idle_connection_is_closed_with_its_reason(self) -> None:
        daemon = self.started("--idle-timeout", "100ms")
        client = smalloc.Client(daemon.address)
        deadline = time.monotonic() + 10
        while client.is_live and time.monotonic() < deadline:
            time.sleep(0.02)
        with self.assertRaises(smalloc.ConnectionLostError) as caught:
            client.ping()
        self.assertIn("idleTimeout", str(caught.exception))


class CloseTests(DaemonTestCase):
    def test_a_closed_client(self) -> None:
        a = self.client.alloc(1, name="a")
        self.client.close()
        self.client.close()
        self.assertFalse(self.client.is_live)
        for call in (self.client.ping, a.read_bytes):
            with self.assertRaises(smalloc.ClosedError):
                call()
        a.close()

    def test_an_interrupt_ends_the_connection_and_says_so(self) -> None:
        class Interrupt(Exception):
            pass

        def interrupt(*_: Any) -> None:
            raise Interrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        a = self.client.alloc(300_000_000)
        with self.assertRaises(Interrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            for _ in range(1000):
                a.read_bytes()
        # It may have come between two calls, where it breaks nothing.
        try:
            self.client.ping()
        except smalloc.ConnectionLostError as error:
            self.assertIn("Interrupt", str(error))
            self.assertFalse(self.client.is_live)

    def test_an_interrupt_in_the_middle_of_a_reply(self) -> None:
        a = self.client.alloc(4, name="a")
        with unittest.mock.patch.object(Connection, "_wait", side_effect=KeyboardInterrupt):
            with self.assertRaises(KeyboardInterrupt):
                a.read_bytes()
        self.assertFalse(self.client.is_live)
        with self.assertRaises(smalloc.ConnectionLostError) as caught:
            self.client.open("a")
        self.assertIn("KeyboardInterrupt", str(caught.exception))

    def test_a_signals_handler_in_a_call_is_refused_and_does_not_hang(self) -> None:
        found: List[str] = []

        def handle(*_: Any) -> None:
            try:
                self.client.ping()
                found.append("done")
            except smalloc.SmallocError as error:
                found.append(str(error))
            self.assertTrue(self.client.is_live)

        before = signal.signal(signal.SIGALRM, handle)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        a = self.client.alloc(100_000_000)
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        deadline = time.monotonic() + 20
        while not any("middle" in one for one in found) and time.monotonic() < deadline:
            a.read_bytes()
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.assertTrue(any("middle" in one for one in found), found)
        self.client.ping()

    def test_handles_that_the_collector_finds_are_closed(self) -> None:
        self.client.create("a", 1)
        for _ in range(3000):
            ring: List[Any] = [self.client.open("a")]
            ring.append(ring)
        del ring
        gc.collect()
        self.client.ping()
        self.assertEqual(self.client.stat("a").handles, 0)

    def test_a_client_that_is_dropped_closes_its_connection_at_once(self) -> None:
        count = int(self.client.stats()["connections"])
        other = smalloc.Client(self.daemon.address)
        a, array = other.alloc(1, name="a"), other.get("a")
        self.addCleanup(gc.enable)
        gc.disable()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del a, array, other
        deadline = time.monotonic() + 10
        while self.client.stats()["connections"] != count and time.monotonic() < deadline:
            time.sleep(0.005)
        self.assertEqual(self.client.stats()["connections"], count)

    def test_a_closed_handle_is_not_another_allocation(self) -> None:
        # The daemon gives numbers again: a call under way with a handle that is closed must not
        # reach what has its number now.
        stop = threading.Event()
        wrong: List[bytes] = []
        current: List[smalloc.Allocation] = [self.client.alloc(1)]

        def read() -> None:
            while not stop.is_set():
                try:
                    data = current[0].read_bytes()
                except (smalloc.ClosedError, smalloc.NotFoundError):
                    continue
                if data != b"\0":
                    wrong.append(data)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            for _ in range(500):
                current[0].close()
                other = self.client.alloc(1)
                other.write(b"\xff")
                other.close()
                current[0] = self.client.alloc(1)
        finally:
            stop.set()
            thread.join(20)
        self.assertEqual(wrong, [])


def in_child(body: Callable[[], None]) -> int:
    """Run something in a forked process; give its exit code, 0 where it went well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -2


class ForkTests(DaemonTestCase):
    def test_a_child_is_refused_its_parents_client_and_makes_its_own(self) -> None:
        a = self.client.alloc(4, name="a")

        def body() -> None:
            assert not self.client.is_live
            for call in (self.client.ping, a.read_bytes, lambda: self.client.open("a")):
                try:
                    call()
                    raise AssertionError
                except smalloc.ForkedError as error:
                    assert "new Client" in str(error)
            self.client.close()
            a.close()
            with smalloc.Client(self.daemon.address) as own:
                own.write("a", b"5678")

        self.assertEqual(in_child(body), 0)
        self.assertEqual(a.read_bytes(), b"5678")

    def test_a_fork_in_the_middle_of_another_threads_call_does_not_hang(self) -> None:
        a = self.client.alloc(50_000_000)
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                a.read_bytes()

        thread = threading.Thread(target=work)
        thread.start()

        def body() -> None:
            try:
                self.client.ping()
                raise AssertionError
            except smalloc.ForkedError:
                pass
            with smalloc.Client(self.daemon.address) as own:
                own.ping()

        try:
            for _ in range(5):
                self.assertEqual(in_child(body), 0)
        finally:
            stop.set()
            thread.join(20)
        self.client.ping()

    def test_a_fork_while_another_thread_connects_for_a_pickle_does_not_hang(self) -> None:
        data = pickle.dumps(self.client.put("a", b"1"))
        with _shared._lock:
            code = in_child(lambda: pickle.loads(data).close())
        self.assertEqual(code, 0)

    def test_a_child_does_not_keep_its_parents_connection(self) -> None:
        count = int(self.client.stats()["connections"])
        other = smalloc.Client(self.daemon.address)
        other.alloc(1)
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(send)
            os.read(receive, 1)
            os._exit(0)
        try:
            other.close()
            deadline = time.monotonic() + 10
            while self.client.stats()["connections"] != count and time.monotonic() < deadline:
                time.sleep(0.005)
            self.assertEqual(self.client.stats()["connections"], count)
        finally:
            os.close(send)
            os.close(receive)
            os.waitpid(child, 0)


class ErrorTests(unittest.TestCase):
    def test_every_error_is_pickled_as_it_is(self) -> None:
        for status in smalloc.Status:
            if status:
                error = smalloc._errors.error_of(status, "words", "a")
                again = pickle.loads(pickle.dumps(error))
                self.assertIs(type(again), type(error))
                self.assertEqual(str(again), str(error))
                self.assertEqual(
                    (again.code, again.message, again.allocation), (int(status), "words", "a")
                )

    def test_every_status_of_the_protocol_has_a_kind(self) -> None:
        plain = {
            s.name
            for s in smalloc.Status
            if s and type(smalloc._errors.error_of(s, "")) is smalloc.SmallocError
        }
        # Of lines of text, which this client does not send.
        self.assertEqual(plain, {"LINE_TOO_LONG"})
        self.assertEqual(Operation.QUIT, _wire.Operation.QUIT)


if __name__ == "__main__":
    unittest.main()

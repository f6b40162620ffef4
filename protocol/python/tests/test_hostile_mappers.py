"""Clients that do to the memory that they have mapped whatever the kernel lets them do."""

import ctypes
import mmap
import os
import signal
import threading
import time
import unittest
from typing import Callable

from smalloc import _wire
from smalloc._wire import Operation, Request

from peers import F_ADD_SEALS, F_SETLEASE, SEAL_FUTURE_WRITE, SEAL_GROW, SEAL_SEAL, SEAL_SHRINK
from peers import SEAL_WRITE, Child, Peer, PeerTestCase, error_of, fallocate, libc, mapped
from peers import unmapped
from support import same_without_numpy
from test_mapping import within

OUT_OF_MEMORY, BUSY, FROZEN = 0x800E, 0x8012, 0x8013
# Modes of fallocate.
KEEP_SIZE, PUNCH, COLLAPSE, ZERO, INSERT = 1, 2 | 1, 8, 16, 32


def sealed(file: int, seals: int) -> int:
    """Give 0, or -1 where the kernel refuses it."""
    return int(libc.fcntl(file, F_ADD_SEALS, seals))


def leased(file: int, kind: int) -> int:
    return int(libc.fcntl(file, F_SETLEASE, kind))


F_RDLCK, F_WRLCK, F_UNLCK = 0, 1, 2


@same_without_numpy
class SealTests(PeerTestCase):
    def test_seals_of_a_client(self) -> None:
        """They bind the client; the daemon serves all the same, or refuses with a reason."""
        for seals in (
            SEAL_SHRINK,
            SEAL_GROW,
            SEAL_SEAL,
            SEAL_FUTURE_WRITE,
            SEAL_FUTURE_WRITE | SEAL_SEAL,
            SEAL_SHRINK | SEAL_GROW | SEAL_SEAL,
        ):
            peer = self.made()
            file = peer.map("a")
            start = mapped(file, self.SIZE, mmap.PROT_READ | mmap.PROT_WRITE)
            self.assertEqual(sealed(file, seals), 0, seals)
            self.check_requests(peer, seals)
            # While this map can write, nobody is told that the bytes can't change.
            self.assertIn(self.status(peer, Operation.FREEZE), (BUSY, OUT_OF_MEMORY), seals)
            unmapped(start, self.SIZE)
            os.close(file)
            status = self.status(peer, Operation.FREEZE)
            if status == 0:
                self.assertEqual(peer.call(_wire.fill(0, 4, b"x", b"a")).header.status, FROZEN)
                self.check_unwritable(peer)
            self.check_others()
            self.assertEqual(self.status(peer, Operation.DISPOSE), 0, seals)
        self.check_nothing_left()

    def test_no_client_can_seal_the_daemon_out(self) -> None:
        peer = self.made()
        file = peer.map("a")
        # The daemon has it mapped for writing.
        self.assertEqual(sealed(file, SEAL_WRITE), -1)
        reader = peer.map("a", writable=False)
        for seals in (SEAL_WRITE, SEAL_SEAL, SEAL_FUTURE_WRITE):
            self.assertEqual(sealed(reader, seals), -1)
        self.check_requests(peer, 0)
        os.close(reader)
        os.close(file)
        self.assertEqual(self.status(peer, Operation.FREEZE), 0)
        self.check_unwritable(peer)
        self.client.dispose("a")
        self.check_nothing_left()

    def test_seals_that_come_while_it_is_frozen(self) -> None:
        """Whatever the moment: what is said to be frozen has bytes that nobody can change."""
        for _ in range(40):
            peer = self.made(size=200_000)
            file = peer.map("a")
            stop = threading.Event()

            def seal() -> None:
                while not stop.is_set() and sealed(file, SEAL_WRITE) != 0:
                    pass

            thread = threading.Thread(target=seal)
            thread.start()
            statuses = [self.status(peer, Operation.FREEZE) for _ in range(20)]
            stop.set()
            thread.join(20)
            self.assertLessEqual(set(statuses), {0, BUSY})
            if 0 in statuses:
                self.check_unwritable(peer)
            os.close(file)
            self.assertEqual(self.status(peer, Operation.DISPOSE), 0)
            peer.close()
        self.check_nothing_left()

    def status(self, peer: Peer, operation: Operation) -> int:
        return peer.call(Request(operation, name=b"a")).header.status

    def check_requests(self, peer: Peer, seals: int) -> None:
        for request in (
            _wire.write(4, memoryview(b"1234"), b"a"),
            _wire.fill(8, 100, b"x", b"a"),
            _wire.copy(0, 5000, 50_000, b"a", b"a"),
            Request(Operation.STAT, name=b"a"),
        ):
            self.assertEqual(peer.call(request).header.status, 0, seals)
        self.assertEqual(peer.call(_wire.read(50_000, 12, b"a")).payload, b"\7" * 4 + b"1234xxxx")
        answer = peer.call(_wire.map_memory(True, False, b"a"))
        self.assertIn(answer.header.status, (0, BUSY))
        for one in answer.files:
            os.close(one)

    def check_unwritable(self, peer: Peer) -> None:
        file = peer.map("a", writable=False)
        again = os.open("/proc/self/fd/%d" % file, os.O_RDWR)
        self.assertNotEqual(error_of(mapped, again, 4096, mmap.PROT_READ | mmap.PROT_WRITE), 0)
        self.assertNotEqual(error_of(os.pwrite, again, b"x", 0), 0)
        self.assertNotEqual(fallocate(again, PUNCH, 0, 4096), 0)
        os.close(again)
        os.close(file)


@same_without_numpy
class LeaseTests(PeerTestCase):
    def setUp(self) -> None:
        super().setUp()
        # What breaks a lease is told to its owner by this.
        kept = signal.signal(signal.SIGIO, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGIO, kept)

    def test_a_lease_that_is_never_given_back(self) -> None:
        """The kernel would have an open wait for 45 seconds: the daemon does not."""
        for kind in (F_RDLCK, F_WRLCK):
            peer = self.made()
            writes = peer.map("a")
            file = os.open("/proc/self/fd/%d" % writes, os.O_RDONLY)
            os.close(writes)
            # The daemon may be about to close its own.
            self.assertTrue(within(2, lambda: leased(file, kind) == 0))
            start = time.monotonic()
            for request, allowed in (
                (Request(Operation.STAT, name=b"a"), {0}),
                (_wire.map_memory(True, False, b"a"), {BUSY}),
                (_wire.map_memory(False, False, b"a"), {0} if kind == F_RDLCK else {BUSY}),
                (Request(Operation.FREEZE, name=b"a"), {0, BUSY}),
                (_wire.read(0, self.SIZE, b"a"), {0}),
                (_wire.fill(0, self.SIZE, b"x", b"a"), {0, FROZEN}),
                (Request(Operation.DISPOSE, name=b"a"), {0}),
            ):
                answer = peer.call(request)
                for one in answer.files:
                    os.close(one)
                self.assertIn(answer.header.status, allowed, (kind, request.operation))
            self.assertLess(time.monotonic() - start, 5)
            self.check_others()
            self.assertTrue(within(2, lambda: self.held() == self.SIZE))
            os.close(file)
            peer.close()
            self.assertTrue(within(2, lambda: self.held() == 0))
        self.check_nothing_left()

    def test_leases_that_come_and_go_while_the_daemon_asks(self) -> None:
        peer = self.made()
        file = peer.map("a")

        def lease(tell: Callable[[], None]) -> None:
            tell()
            while True:
                again = os.open("/proc/self/fd/%d" % file, os.O_RDONLY | os.O_NONBLOCK)
                for kind in (F_RDLCK, F_WRLCK, F_UNLCK):
                    leased(again, kind)
                os.close(again)

        start = mapped(file, self.SIZE, mmap.PROT_READ | mmap.PROT_WRITE)
        children = [Child(lease) for _ in range(2)]
        for child in children:
            self.addCleanup(child.kill)
        os.close(file)
        told = set()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            # A client has it mapped for writing all the time.
            told.add(self.client.stat("a").maps)
            answer = peer.call(_wire.map_memory(True, False, b"a"))
            self.assertIn(answer.header.status, (0, BUSY))
            for one in answer.files:
                os.close(one)
            self.assertEqual(
                peer.call(Request(Operation.FREEZE, name=b"a")).header.status, BUSY
            )
        self.assertEqual(told, {2})
        self.client.dispose("a")
        self.check_others()
        for child in children:
            self.assertEqual(child.kill(), -9)
        self.assertTrue(within(2, lambda: self.held() == self.SIZE), self.held())
        # Nothing was taken for free that is mapped.
        self.assertEqual(ctypes.string_at(start, self.SIZE), b"\7" * self.SIZE)
        unmapped(start, self.SIZE)
        self.check_nothing_left()


@same_without_numpy
class SizeTests(PeerTestCase):
    def test_no_client_can_change_the_size(self) -> None:
        peer = self.made()
        file = peer.map("a")
        for size in (0, 1, self.SIZE - 1, self.SIZE + 1, 1 << 40):
            self.assertNotEqual(error_of(os.ftruncate, file, size), 0)
            self.assertNotEqual(
                error_of(os.truncate, "/proc/self/fd/%d" % file, size), 0
            )
        self.assertNotEqual(fallocate(file, 0, self.SIZE, self.SIZE), 0)
        self.assertNotEqual(fallocate(file, COLLAPSE, 0, 4096), 0)
        self.assertNotEqual(fallocate(file, INSERT, 0, 4096), 0)
        self.assertNotEqual(error_of(os.pwrite, file, b"x", self.SIZE), 0)
        self.assertNotEqual(
            error_of(lambda: os.close(os.open("/proc/self/fd/%d" % file, os.O_RDWR | os.O_TRUNC))),
            0,
        )
        self.assertEqual(os.fstat(file).st_size, self.SIZE)
        self.assertEqual(self.client.read("a"), b"\7" * self.SIZE)
        os.close(file)
        self.client.dispose("a")
        self.check_nothing_left()

    def test_holes_are_zeros(self) -> None:
        peer = self.made()
        file = peer.map("a")
        self.assertEqual(fallocate(file, PUNCH, 4096, 8192), 0)
        fallocate(file, ZERO, 65536, 4096)
        self.assertEqual(fallocate(file, 0, 0, self.SIZE), 0)
        data = self.client.read("a")
        self.assertEqual(data[:4096] + data[12288:65536], b"\7" * (65536 - 8192))
        self.assertEqual(data[4096:12288], bytes(8192))
        os.close(file)
        self.client.dispose("a")
        self.check_nothing_left()

    def test_holes_that_are_made_while_the_daemon_is_at_it(self) -> None:
        self.at_it(lambda file, size: fallocate(file, PUNCH, 0, size) and None)

    def test_pages_that_are_given_back_while_the_daemon_is_at_it(self) -> None:
        MADV_REMOVE = 9

        def remove(file: int, size: int) -> None:
            start = mapped(file, size, mmap.PROT_READ | mmap.PROT_WRITE)
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), MADV_REMOVE)
            unmapped(start, size)

        self.at_it(remove)

    def test_bytes_that_are_stored_while_the_daemon_is_at_it(self) -> None:
        def store(file: int, size: int) -> None:
            with mmap.mmap(file, size) as memory:
                for _ in range(5):
                    memory[:] = os.urandom(1) * size

        self.at_it(store)

    def at_it(self, body: Callable[[int, int], None]) -> None:
        """Two clients do something to a map, and the daemon reads, copies, tells and freezes it."""
        size = 2 << 20
        peer = self.made(size=size)
        self.client.create("b", size)
        file = peer.map("a")

        def run(tell: Callable[[], None]) -> None:
            tell()
            while True:
                body(file, size)

        children = [Child(run) for _ in range(2)]
        for child in children:
            self.addCleanup(child.kill)
        # While this stands, nobody may be told that it is frozen.
        writable = mapped(file, size, mmap.PROT_READ | mmap.PROT_WRITE)
        text = self.peer(greets=False)
        lines = text.socket.makefile("rb")
        end = time.monotonic() + 1
        rounds = 0
        while rounds < 3 or time.monotonic() < end:
            rounds += 1
            self.assertEqual(len(self.client.read("a")), size)
            self.client.write("a", b"x" * 100_000, 5)
            for request in (
                _wire.copy(0, size, 0, b"b", b"a"),
                _wire.copy(0, size - 99, 99, b"a", b"a"),
                _wire.fill(0, size, b"abc" + bytes(5), b"a"),
                Request(Operation.STAT, name=b"a"),
            ):
                self.assertEqual(peer.call(request).header.status, 0)
            self.assertEqual(peer.call(Request(Operation.FREEZE, name=b"a")).header.status, BUSY)
            text.socket.sendall(b"read a 0 60000 hex\nread a 0 60000\n")
            self.assertEqual(len(lines.readline()), len("OK hex:\n") + 120_000)
            words = lines.readline().split()
            self.assertEqual((words[0], len(words)), (b"OK", 60_001))
        self.check_others()
        lines.close()
        for child in children:
            self.assertEqual(child.kill(), -9)
        os.close(file)
        unmapped(writable, size)
        # Those that could write are dead: it can be frozen, and is.
        self.client.freeze("a")
        self.assertEqual(self.client.read("a"), self.client.read("a"))
        for name in ("a", "b"):
            self.client.dispose(name)
        self.check_nothing_left()


@same_without_numpy
class UserTests(PeerTestCase):
    @unittest.skipIf(os.geteuid() != 0, "only root can be another user")
    def test_another_user_cannot_write_to_what_it_may_read(self) -> None:
        peer = self.made()
        file = peer.map("a", writable=False)

        def attack(tell: Callable[[], None]) -> None:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            path = "/proc/self/fd/%d" % file
            assert os.pread(file, 4, 0) == b"\7" * 4
            for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
                assert error_of(os.open, path, flags) == 13, flags
            assert error_of(os.chmod, path, 0o666) == 1
            assert error_of(os.fchmod, file, 0o666) == 1
            assert error_of(os.truncate, path, 0) == 13
            assert error_of(mapped, file, 4096, mmap.PROT_READ | mmap.PROT_WRITE) == 13
            assert error_of(os.pwrite, file, b"x", 0) == 9
            assert fallocate(file, PUNCH, 0, 4096) == 9
            assert sealed(file, SEAL_SEAL) == -1
            tell()

        child = Child(attack)
        self.addCleanup(child.kill)
        self.assertEqual(self.client.read("a"), b"\7" * self.SIZE)
        self.assertEqual(child.kill(), -9)
        os.close(file)
        self.client.dispose("a")
        self.check_nothing_left()


if __name__ == "__main__":
    unittest.main()

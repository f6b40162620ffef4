"""Clients that keep what they were given, in every way that the kernel has: it is counted until
the last hold of it is gone, and no longer."""

import ctypes
import gc
import mmap
import os
import select
import socket
import time
import unittest
from typing import Callable, List, Tuple

from smalloc import _wire
from smalloc._wire import Operation, Request

from peers import Child, PeerTestCase, libc, mapped, unmapped
from support import same_without_numpy
from test_mapping import within

# What Python 3.9 has no name for.
O_PATH = 0o10000000
SPLICE_F_NONBLOCK = 2


@same_without_numpy
class HolderTests(PeerTestCase):
    """Each holds one allocation's memory, which is disposed of then, in one way."""

    def check_counted(self, hold: Callable[[int], Callable[[], None]]) -> None:
        """`hold` takes hold of a descriptor's memory, and gives what lets go of it."""
        peer = self.made()
        file = peer.map("a")
        let_go = hold(file)
        os.close(file)
        peer.call(Request(Operation.DISPOSE, name=b"a"))
        peer.close()
        self.check_held()
        self.assertGreaterEqual(self.client.stats()["memory_used_bytes"], self.SIZE)
        # The daemon looks for what has gone about once a second.
        time.sleep(1.2)
        self.assertEqual(self.held(), self.SIZE)
        # Nothing of it is in others' memory.
        with self.client.alloc(self.SIZE, shareable=True) as fresh:
            self.assertEqual(fresh.read_bytes(), bytes(self.SIZE))
            fresh.map().write(b"\x55" * self.SIZE)
        self.check_others()
        let_go()
        self.check_nothing_left()

    def check_held(self) -> None:
        """This allocation's memory alone is counted.

        Others' that has just gone is counted for a moment, until the kernel has told the daemon.
        """
        self.assertTrue(within(2, lambda: self.held() == self.SIZE), self.held())

    def test_a_mapping_and_no_descriptor(self) -> None:
        def hold(file: int) -> Callable[[], None]:
            start = mapped(file, self.SIZE, mmap.PROT_READ | mmap.PROT_WRITE)

            def let_go() -> None:
                self.assertEqual(ctypes.string_at(start, self.SIZE), b"\7" * self.SIZE)
                unmapped(start, self.SIZE)

            return let_go

        self.check_counted(hold)

    def test_a_mapping_of_one_page_of_many(self) -> None:
        def hold(file: int) -> Callable[[], None]:
            start = mapped(file, 4096)
            return lambda: unmapped(start, 4096)

        self.check_counted(hold)

    def test_duplicates(self) -> None:
        def hold(file: int) -> Callable[[], None]:
            files = [os.dup(file) for _ in range(20)]

            def let_go() -> None:
                for one in files[1:]:
                    os.close(one)
                time.sleep(1.2)
                self.check_held()
                self.assertEqual(os.pread(files[0], 4, 0), b"\7" * 4)
                os.close(files[0])

            return let_go

        self.check_counted(hold)

    def test_a_descriptor_that_only_names_the_file(self) -> None:
        def hold(file: int) -> Callable[[], None]:
            path = os.open("/proc/self/fd/%d" % file, O_PATH)

            def let_go() -> None:
                # It shows nothing by itself, so the pages have gone; opened again by way of it the
                # file gets new ones, which are counted still.
                again = os.open("/proc/self/fd/%d" % path, os.O_RDWR)
                os.close(path)
                self.assertEqual(os.pread(again, self.SIZE, 0), bytes(self.SIZE))
                os.pwrite(again, b"\11" * self.SIZE, 0)
                time.sleep(1.2)
                self.check_held()
                self.check_others()
                os.close(again)

            return let_go

        self.check_counted(hold)

    def test_another_process_to_which_it_was_sent(self) -> None:
        def hold(file: int) -> Callable[[], None]:
            ours, theirs = socket.socketpair()

            def keep(tell: Callable[[], None]) -> None:
                os.close(file)
                ours.close()
                _, files, _, _ = socket.recv_fds(theirs, 1, 1)
                assert os.pread(files[0], 4, 0) == b"\7" * 4
                tell()

            # Sent before the child is there, so that nothing waits for another.
            socket.send_fds(ours, [b"x"], [file])
            child = Child(keep)
            self.addCleanup(child.kill)
            ours.close()
            theirs.close()
            return lambda: self.assertEqual(child.kill(), -9)

        self.check_counted(hold)

    def test_forked_children_that_have_it_mapped(self) -> None:
        def hold(file: int) -> Callable[[], None]:
            start = mapped(file, self.SIZE, mmap.PROT_READ | mmap.PROT_WRITE)

            def keep(tell: Callable[[], None]) -> None:
                os.close(file)
                ctypes.memset(start, 8, 4)
                tell()

            children = [Child(keep) for _ in range(3)]
            for one in children:
                self.addCleanup(one.kill)
            self.assertEqual(ctypes.string_at(start, 5), b"\10\10\10\10\7")
            unmapped(start, self.SIZE)

            def let_go() -> None:
                for one in children:
                    self.check_held()
                    self.assertEqual(one.kill(), -9)

            return let_go

        self.check_counted(hold)

    def test_a_message_that_is_not_received(self) -> None:
        def hold(file: int) -> Callable[[], None]:
            pair = socket.socketpair()
            socket.send_fds(pair[0], [b"x"], [file] * 50)
            return lambda: [one.close() for one in pair] and None

        self.check_counted(hold)

    def test_a_message_in_a_socket_that_is_in_it_itself(self) -> None:
        def hold(file: int) -> Callable[[], None]:
            pair = socket.socketpair()
            # No descriptor leads to it any more: only the kernel's collector finds it, when
            # another socket is closed, and that is let go of here.
            other = socket.socketpair()
            socket.send_fds(other[0], [b"x"], [file])
            socket.send_fds(pair[0], [b"x"], [file, pair[0].fileno(), pair[1].fileno()])
            for one in pair:
                one.close()
            return lambda: [one.close() for one in other] and None

        self.check_counted(hold)

    def test_what_is_on_its_way_to_a_client_that_does_not_receive(self) -> None:
        peer = self.made()
        peer.send(_wire.map_memory(True, False, b"a"))
        self.assertEqual(select.select([peer.socket], [], [], 5)[0], [peer.socket])
        self.client.dispose("a")
        self.assertTrue(within(2, lambda: self.held() == self.SIZE))
        time.sleep(1.2)
        self.check_held()
        peer.close()
        self.check_nothing_left()

    def test_every_way_at_once(self) -> None:
        """The last one counts, whichever it is, and each allocation is counted by itself."""
        sizes = [self.SIZE * (one + 1) for one in range(6)]
        holds: List[Callable[[], None]] = []
        for index, size in enumerate(sizes):
            peer = self.made("a", size)
            file = peer.map("a", writable=index % 2 == 0)
            start, path = mapped(file, size), os.open("/proc/self/fd/%d" % file, O_PATH)
            pair = socket.socketpair()
            socket.send_fds(pair[0], [b"x"], [file])
            child = Child(lambda tell: tell())
            self.addCleanup(child.kill)
            ways: List[Callable[[], object]] = [
                lambda start=start, size=size: unmapped(start, size),
                lambda path=path: os.close(path),
                lambda pair=pair: [one.close() for one in pair],
                lambda child=child: child.kill(),
                lambda file=file: os.close(file),
            ]
            # Each allocation has another last one. The child has all that was there before it.
            ways = ways[index % 5 :] + ways[: index % 5]
            holds.append(lambda ways=ways: [way() for way in ways[:-1]] and None)
            holds.append(ways[-1])
            peer.call(Request(Operation.DISPOSE, name=b"a"))
            peer.close()
        self.assertTrue(within(2, lambda: self.held() == sum(sizes)), self.held())
        for one in holds:
            one()
        self.check_nothing_left()


@same_without_numpy
class PipeTests(PeerTestCase):
    """Pages in a pipe are no hold of the file: they are the pipe's, and nobody else gets them."""

    def piped(self, file: int, move: str) -> Tuple[int, int, int]:
        """Move pages of a file into a pipe; give how many bytes, and the pipe's ends."""
        receive, send = os.pipe()
        size = 64 << 10
        if move == "splice":
            offset = ctypes.c_longlong(0)
            count = libc.splice(
                file, ctypes.byref(offset), send, None, ctypes.c_size_t(size), SPLICE_F_NONBLOCK
            )
        elif move == "sendfile":
            count = os.sendfile(send, file, 0, size)
        else:
            start = mapped(file, size)
            vector = (ctypes.c_void_p * 2)(start, size)
            count = libc.vmsplice(send, vector, ctypes.c_ulong(1), SPLICE_F_NONBLOCK)
            unmapped(start, size)
        self.assertGreater(count, 0, move)
        return count, receive, send

    def test_pages_in_a_pipe(self) -> None:
        for move in ("splice", "sendfile", "vmsplice"):
            peer = self.made()
            file = peer.map("a")
            count, receive, send = self.piped(file, move)
            os.close(file)
            peer.call(Request(Operation.DISPOSE, name=b"a"))
            # They are not the daemon's any more, and not in what others get.
            self.assertTrue(within(2, lambda: self.held() == 0), move)
            for _ in range(20):
                fresh = self.client.alloc(self.SIZE, shareable=True)
                mapping = fresh.map()
                self.assertEqual(bytes(mapping.memoryview), bytes(self.SIZE), move)
                mapping.write(b"\x55" * self.SIZE)
                del mapping
                fresh.close()
            self.assertEqual(os.read(receive, count), b"\7" * count, move)
            os.close(receive)
            os.close(send)
        gc.collect()
        self.check_nothing_left()

    def test_freezing_what_is_in_a_pipe(self) -> None:
        for move in ("splice", "vmsplice"):
            peer = self.made()
            file = peer.map("a")
            count, receive, send = self.piped(file, move)
            os.close(file)
            # The kernel does not say that nobody can write to it while pages are in hand.
            status = peer.call(Request(Operation.FREEZE, name=b"a")).header.status
            self.assertIn(status, (0, 0x8012), move)
            self.check_others()
            os.read(receive, count)
            os.close(receive)
            os.close(send)
            self.client.freeze("a")
            self.assertEqual(self.client.read("a"), b"\7" * self.SIZE)
            self.client.dispose("a")
        self.check_nothing_left()

    def test_a_truncate_takes_nothing_out_of_a_pipe_and_puts_nothing_in(self) -> None:
        peer = self.made()
        file = peer.map("a")
        count, receive, send = self.piped(file, "splice")
        self.client.open("a").truncate(100)
        self.assertEqual(os.read(receive, count)[:100], b"\7" * 100)
        self.assertTrue(within(2, lambda: os.pread(file, 4, 4096) == bytes(4)))
        os.close(receive)
        os.close(send)
        os.close(file)
        self.client.dispose("a")
        self.check_nothing_left()


if __name__ == "__main__":
    unittest.main()

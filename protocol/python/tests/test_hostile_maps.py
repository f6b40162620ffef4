"""Replies to map that no daemon sends: nothing is mapped, and no descriptor is left open."""

import gc
import os
import socket
import struct
import tempfile
import unittest
from typing import Any, List, Tuple

import smalloc

from test_hostile import HostileTestCase
from test_mapping import within

PAGE = os.sysconf("SC_PAGE_SIZE")


def file_of(size: int) -> int:
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return os.dup(file.fileno())


class HostileMapTests(HostileTestCase):
    """Each has a server that answers alloc with 100 bytes, and map as it says."""

    def mapped(
        self, sizes: List[int], told: Tuple[int, ...] = (1, 1, 2), payload: bytes = b"",
        **header: Any,
    ) -> smalloc.Mapping:  # fmt: skip
        payload = payload or struct.pack("<%dI" % len(told), *told)

        def answer(connection: socket.socket) -> None:
            self.greet(connection)
            connection.sendall(self.reply(self.request(connection), handle=1, type=2, size=100))
            fields = dict({"type": 2, "size": 100}, **header)
            frame = self.reply(self.request(connection), payload, **fields)
            files = [file_of(size) for size in sizes]
            try:
                if files:
                    # Ahead of the rest, as may be.
                    socket.send_fds(connection, [frame[:1]], files)
                connection.sendall(frame[1:] if files else frame)
            finally:
                for one in files:
                    os.close(one)
            connection.recv(1)

        client = self.client_of(self.served(answer), timeout=5)
        self.allocation = client.alloc(100)
        gc.collect()
        self.before = mapped_files()
        return self.allocation.map()

    def refused(self, *args: Any, **options: Any) -> str:
        with self.assertRaises(smalloc.SmallocError) as caught:
            self.mapped(*args, **options)
        gc.collect()
        # The state memory's mapping, and its descriptor, are the connection's from there on; the
        # server closes its own in a moment.
        self.assertTrue(within(2, lambda: mapped_files() <= self.before + 2))
        self.allocation.client.close()
        return str(caught.exception)

    def test_what_is_well_formed_is_taken(self) -> None:
        m = self.mapped([PAGE, 64])
        self.assertEqual((m[99], m.nbytes, m.exists), (0, 100, False))

    def test_too_few_and_too_many_descriptors(self) -> None:
        self.assertIn("1 came", self.refused([PAGE]))
        self.assertIn("0 came", self.refused([]))
        self.refused([PAGE, 64, PAGE])
        self.refused([PAGE, 64] + [PAGE] * 60)
        for told in (0, 1, 3, 2**32 - 1):
            self.assertIn("descriptors", self.refused([PAGE, 64], (1, 1, told)))
        self.assertIn("descriptors", self.refused([PAGE, 64], size=0))
        self.refused([PAGE, 64], (0, 0, 0), size=0)

    def test_a_file_that_is_too_short(self) -> None:
        self.assertIn("too short", self.refused([99, 64]))
        self.assertIn("too short", self.refused([PAGE, 64], offset=PAGE))
        for size in (2**40, 2**63, 2**64 - 1):
            self.refused([PAGE, 64], size=size)
        for offset in (2**63, 2**64 - PAGE, 2**64 - 1):
            self.refused([PAGE, 64], offset=offset)

    def test_other_nonsense(self) -> None:
        self.refused([2 * PAGE, 64], offset=100)
        self.refused([PAGE, 64], payload=b"1234567")
        self.refused([PAGE, 64], type=3)
        for size in (0, 15):
            self.assertIn("state memory", self.refused([PAGE, size]))

    def test_slots_that_are_not_there(self) -> None:
        for slot in (0, 3, 4, 5, 2**32 - 1):
            m = self.mapped([PAGE, 64], (slot, 1, 2))
            self.assertEqual((m.exists, m.is_live, m.frozen), (slot == 0, slot == 0, False))

    def test_descriptors_that_no_map_asked_for_are_dropped(self) -> None:
        def answer(connection: socket.socket) -> None:
            self.greet(connection)
            frame = self.reply(self.request(connection))
            file = file_of(PAGE)
            for _ in range(20):
                socket.send_fds(connection, [frame[:1]], [file] * 10)
                frame = frame[1:]
            connection.sendall(frame)
            os.close(file)
            connection.recv(1)

        client = self.client_of(self.served(answer))
        gc.collect()
        before = mapped_files()
        client.ping()
        self.assertTrue(within(2, lambda: mapped_files() <= before))


def mapped_files() -> int:
    """Open descriptors and mappings of files that this test has made."""
    count = 0
    for one in os.listdir("/proc/self/fd"):
        try:
            count += "(deleted)" in os.readlink("/proc/self/fd/" + one)
        except OSError:
            pass
    with open("/proc/self/maps") as maps:
        return count + sum("(deleted)" in line for line in maps)


if __name__ == "__main__":
    unittest.main()

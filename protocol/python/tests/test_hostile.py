"""Peers that answer what no daemon does: nothing of it hangs, crashes or is believed."""

import os
import socket
import tempfile
import threading
import time
import unittest
from random import Random
from typing import Any, Callable

import smalloc
from smalloc._wire import Header

from support import seeded


class HostileTestCase(unittest.TestCase):
    """A server that answers as each test says."""

    def served(self, answer: Callable[[socket.socket], None]) -> str:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "s")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                try:
                    answer(connection)
                except OSError:
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self.addCleanup(listener.close)
        self.addCleanup(thread.join, 20)
        return "unix:" + path

    @staticmethod
    def reply(header: Header, payload: bytes = b"", **changes: Any) -> bytes:
        base = Header(0xE6, 1, header.operation, 0, 0, 0, 0, header.cookie, 0, len(payload), 0, 0)
        return base._replace(**changes).encode() + payload

    def client_of(self, address: str, **options: Any) -> smalloc.Client:
        client = smalloc.Client(address, **options)
        self.addCleanup(client.close)
        return client

    def greet(self, connection: socket.socket) -> None:
        header = self.request(connection)
        connection.sendall(self.reply(header, bytes(8 * 3)))

    @staticmethod
    def request(connection: socket.socket) -> Header:
        data = b""
        while len(data) < 40:
            more = connection.recv(40 - len(data))
            if not more:
                raise OSError
            data += more
        header = Header.decode(data)
        size = header.payload_size
        while size:
            size -= len(connection.recv(size))
        return header


class HostileTests(HostileTestCase):
    def test_no_answer_in_time(self) -> None:
        def answer(connection: socket.socket) -> None:
            self.greet(connection)
            connection.recv(1000)
            connection.recv(1000)

        client = self.client_of(self.served(answer), timeout=0.1)
        with self.assertRaises(smalloc.TimedOutError) as caught:
            client.ping()
        self.assertIsInstance(caught.exception, TimeoutError)
        self.assertFalse(client.is_live)
        with self.assertRaises(smalloc.ConnectionLostError):
            client.ping()

    def test_an_answer_while_it_polls_and_after_it(self) -> None:
        def answer(connection: socket.socket) -> None:
            self.greet(connection)
            for wait in (0, 0.001, 0.05, 0, 10):
                header = self.request(connection)
                time.sleep(min(wait, 1.5))
                if wait < 1:
                    connection.sendall(self.reply(header))
            connection.recv(1)

        for busy_poll in (0.02, 1.0):
            client = self.client_of(self.served(answer), timeout=0.5, busy_poll=busy_poll)
            for _ in range(4):
                client.ping()
            with self.assertRaises(smalloc.TimedOutError):
                client.ping()

    def test_no_hello_in_time(self) -> None:
        def silent(connection: socket.socket) -> None:
            while connection.recv(1000):
                pass

        with self.assertRaises(smalloc.TimedOutError):
            smalloc.Client(self.served(silent), timeout=0.1)

    def test_what_is_no_smallocd(self) -> None:
        for line in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n", b"\0" * 9):
            with self.assertRaises(smalloc.ProtocolError) as caught:
                smalloc.Client(self.served(lambda connection: connection.sendall(line)))
            self.assertIn("no smallocd", str(caught.exception))
        with self.assertRaises(smalloc.CannotConnectError) as refused:
            smalloc.Client(
                self.served(
                    lambda connection: connection.sendall(
                        b"ERR connectionLimit Error: full\x1b[2J\n"
                    )
                )
            )
        self.assertEqual(refused.exception.message, "full?[2J")

    def broken(
        self, answer: Callable[[socket.socket, Header], None], call: Callable[[smalloc.Client], Any]
    ) -> None:
        def serve(connection: socket.socket) -> None:
            self.greet(connection)
            answer(connection, self.request(connection))

        client = self.client_of(self.served(serve), timeout=5)
        with self.assertRaises(
            (smalloc.ProtocolError, smalloc.ConnectionLostError, smalloc.OutOfMemoryError)
        ):
            call(client)

    def test_replies_that_make_no_sense(self) -> None:
        entry = b"\4\0\0\0\0\0\0\0\2\1 "
        for changes, payload, call in (
            ({"cookie": 99}, b"", lambda c: c.ping()),
            ({"operation": 3}, b"", lambda c: c.ping()),
            ({"version": 2}, b"", lambda c: c.ping()),
            ({"magic": 0xE5}, b"", lambda c: c.ping()),
            ({"name_size": 3}, b"", lambda c: c.ping()),
            ({"payload_size": 2**32 - 1}, b"", lambda c: c.ping()),
            ({"cookie": 0, "operation": 0}, b"", lambda c: c.ping()),
            ({"cookie": 0, "operation": 0, "status": 0xC006}, b"bye", lambda c: c.ping()),
            ({}, b"123", lambda c: c.read("a", 0, 4)),
            ({}, b"12345", lambda c: c.read("a", 0, 4)),
            ({}, b"1", lambda c: c.read("a", 0, 100_000)),
            ({}, b"1" * 5, lambda c: c.read_many([("a", 0, 4)])),
            ({}, b"", lambda c: c.open("a")),
            ({"handle": 1, "type": 8, "size": 7}, b"", lambda c: c.open("a")),
            ({"handle": 1, "type": 2, "size": 2**64 - 1}, b"1", lambda c: c.read(c.open("a"), 0)),
            ({}, b"", lambda c: c.stat("a")),
            ({"type": 8, "size": 7}, bytes(24), lambda c: c.stat("a")),
            ({}, b"\xff" * 24, lambda c: c.stat("a")),
            ({"name_size": 1}, b" " + bytes(24), lambda c: c.stat("a")),
            ({"size": 1}, entry, lambda c: list(c.list())),
            ({"size": 2}, entry[:-1] + b"a", lambda c: list(c.list())),
            ({"size": 1}, entry[:-1], lambda c: list(c.list())),
        ):
            with self.subTest(changes=changes, payload=payload[:8]):
                self.broken(
                    lambda connection, header: connection.sendall(
                        self.reply(header, payload, **changes)
                    ),
                    call,
                )

    def test_an_unknown_status_goes_by_its_bits(self) -> None:
        def answer(connection: socket.socket) -> None:
            self.greet(connection)
            for status in (0x8123, 0xC123):
                header = self.request(connection)
                connection.sendall(self.reply(header, b"words", status=status))

        client = self.client_of(self.served(answer))
        with self.assertRaises(smalloc.SmallocError) as caught:
            client.ping()
        self.assertEqual((caught.exception.code, caught.exception.status), (0x8123, "0x8123"))
        self.assertTrue(client.is_live)
        with self.assertRaises(smalloc.ConnectionLostError) as lost:
            client.ping()
        self.assertEqual((lost.exception.code, lost.exception.message), (0xC123, "words"))
        self.assertFalse(client.is_live)

    def test_replies_in_another_order_are_matched_by_their_cookies(self) -> None:
        def answer(connection: socket.socket) -> None:
            self.greet(connection)
            headers = [self.request(connection) for _ in range(20)]
            for header in reversed(headers):
                connection.sendall(self.reply(header, b"%4d" % header.offset))

        client = self.client_of(self.served(answer))
        read = client.read_many(("a", at, 4) for at in range(20))
        self.assertEqual(read, [b"%4d" % at for at in range(20)])

    def test_more_numbers_and_unknown_types_than_known(self) -> None:
        def answer(connection: socket.socket) -> None:
            header = self.request(connection)
            connection.sendall(self.reply(header, (1 << 20).to_bytes(8, "little") * 30))
            header = self.request(connection)
            connection.sendall(self.reply(header, bytes(8 * 20), type=99, size=5))
            header = self.request(connection)
            connection.sendall(self.reply(header, handle=1, type=99, size=5))
            header = self.request(connection)
            connection.sendall(self.reply(header, b"12345", type=99, size=5))

        client = self.client_of(self.served(answer))
        self.assertEqual(client.limits.ranges_max, 1 << 20)
        stat = client.stat("a")
        self.assertEqual((stat.type.number, stat.length), (99, 5))
        a = client.open("a")
        self.assertEqual(a.read_bytes(), b"12345")
        with self.assertRaises(TypeError):
            a[0] = 1

    @seeded
    def test_random_bytes_never_hang_or_crash(self, random: Random) -> None:
        for _ in range(150):

            def answer(connection: socket.socket) -> None:
                self.greet(connection)
                header = self.request(connection)
                data = bytearray(self.reply(header, b"1234", type=2, size=4, handle=1) * 2)
                for _ in range(random.randint(1, 6)):
                    data[random.randrange(len(data))] = random.choice((0, 1, 255, 0xE6))
                connection.sendall(data)

            client = self.client_of(self.served(answer), timeout=1)
            try:
                random.choice(
                    (
                        lambda: client.read("a", 0, 4),
                        lambda: client.stat("a"),
                        client.stats,
                        lambda: list(client.list()),
                        lambda: client.open("a").read_bytes(),
                        lambda: client.put("a", b"1"),
                    )
                )()
            except smalloc.SmallocError:
                pass


if __name__ == "__main__":
    unittest.main()

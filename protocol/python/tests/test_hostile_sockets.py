"""Clients that misuse what carries descriptors: they take none, send some, or leave at once."""

import os
import re
import select
import socket
import time
import unittest
from typing import Callable, List

import smalloc
from smalloc import _wire
from smalloc._wire import Operation, Request

from peers import Child, Peer, PeerTestCase
from support import Daemon, same_without_numpy
from test_mapping import descriptors, within


def in_flight(peer: Peer) -> int:
    """Descriptors that have been sent to a client and that it has not received."""
    with open("/proc/self/fdinfo/%d" % peer.socket.fileno()) as info:
        found = re.search(r"^scm_fds:\s*(\d+)", info.read(), re.MULTILINE)
    if found is None:
        raise unittest.SkipTest("this kernel does not tell what is in flight")
    return int(found.group(1))


def sent_to_the_full(peer: Peer, data: bytes, patience: float = 0.3) -> int:
    """Send until nothing more is taken for a while; give how many bytes were."""
    sent = 0
    peer.socket.setblocking(False)
    while sent < len(data) and select.select([], [peer.socket], [], patience)[1]:
        sent += peer.socket.send(data[sent : sent + 65536])
    peer.socket.settimeout(20)
    return sent


@same_without_numpy
class UnreceivedTests(PeerTestCase):
    def test_ten_thousand_maps_of_which_none_is_received(self) -> None:
        peer = self.made(size=10_000)
        frames = b"".join(
            peer.frame(_wire.map_memory(True, False, b"a")) for _ in range(10_000)
        )
        sent = sent_to_the_full(peer, frames)
        # It is not read any more once so many are under way.
        self.assertLess(sent, len(frames))
        self.assertTrue(within(2, lambda: in_flight(peer) > 10))
        self.assertLessEqual(in_flight(peer), 16)
        # The connection, the allocation, and what waits to be sent.
        self.assertLessEqual(self.open_files(), self.files + 5)
        self.check_others()
        # One that goes on gets them all, in their order.
        whole = sent // (len(frames) // 10_000)
        for cookie in range(whole):
            answer = peer.receive()
            self.assertEqual((answer.header.status, len(answer.files)), (0, 1 if cookie else 2))
            for one in answer.files:
                os.close(one)
        peer.close()
        self.client.dispose("a")
        self.check_nothing_left()

    def test_clients_that_receive_nothing_and_are_closed(self) -> None:
        for _ in range(20):
            peer = self.made(size=10_000)
            frame = peer.frame(_wire.map_memory(True, False, b"a"))
            sent_to_the_full(peer, frame * 2000, 0.02)
            self.check_others()
            peer.close()
            self.client.dispose("a")
        self.check_nothing_left()

    def test_descriptors_in_flight_of_a_client_that_is_killed(self) -> None:
        self.made(size=10_000).close()
        address = self.daemon.address

        def ask(tell: Callable[[], None]) -> None:
            peer = Peer(address)
            sent_to_the_full(peer, peer.frame(_wire.map_memory(True, False, b"a")) * 500, 0.1)
            kept.append(peer)
            tell()

        kept: List[Peer] = []

        for _ in range(5):
            child = Child(ask)
            self.assertEqual(child.kill(), -9)
        self.client.dispose("a")
        self.check_nothing_left()

    def test_many_that_receive_nothing_beside_one_that_does(self) -> None:
        """What is on its way to clients is limited for all of them together, and then refused."""
        daemon = Daemon(descriptors=300)
        self.addCleanup(daemon.stop)
        with smalloc.Client(daemon.address) as client:
            client.create("a", 10_000)
            client.get("a")
            before = descriptors(daemon.process.pid)
            idle: List[Peer] = []
            most = int(client.stats()["limit_connections"])
            for _ in range(most - 1):
                # They are connected, and connect, whatever the others do.
                idle.append(Peer(daemon.address))
                self.addCleanup(idle[-1].close)
                sent_to_the_full(
                    idle[-1], idle[-1].frame(_wire.map_memory(True, False, b"a")) * 40, 0
                )
            self.assertLess(descriptors(daemon.process.pid) - before, most + 16)
            start = time.monotonic()
            self.assertEqual(client.read("a"), bytes(10_000))
            # As many are on their way as may be: it is told so, and goes on by requests.
            with self.assertRaises(smalloc.ShareLimitError):
                client.open("a").map()
            client.write("a", b"\7", 5)
            self.assertEqual(client.read("a", 5, 1), b"\7")
            self.assertLess(time.monotonic() - start, 2)
            for peer in idle:
                peer.close()
            self.assertTrue(within(2, lambda: client.stats()["connections"] == 1))
            mapping = client.open("a").map()
            self.assertEqual(mapping[5], 7)
            del mapping
            self.assertTrue(within(2, lambda: descriptors(daemon.process.pid) <= before))
            self.assertIsNone(daemon.process.poll())

@same_without_numpy
class SentTests(PeerTestCase):
    """Clients that send descriptors to the daemon, which wants none: they are closed at once."""

    def check_closed(self, peer: Peer, data: bytes, count: int = 1) -> None:
        """What is attached to bytes that the daemon has received is closed with them."""
        receive, send = os.pipe()
        socket.send_fds(peer.socket, [data], [send] * count)
        os.close(send)
        # The end of the pipe: no process has the other end any more.
        self.assertEqual(select.select([receive], [], [], 2)[0], [receive])
        self.assertEqual(os.read(receive, 1), b"")
        os.close(receive)

    def test_with_frames(self) -> None:
        peer = self.made()
        for count in (1, 2, 253):
            for _ in range(20):
                frame = peer.frame(Request(Operation.PING))
                self.check_closed(peer, frame, count)
                self.assertEqual(peer.receive().header.status, 0)
                # Half a frame, and the rest.
                frame = peer.frame(_wire.write(0, memoryview(b"1234"), b"a"))
                self.check_closed(peer, frame[:20], count)
                self.check_closed(peer, frame[20:], count)
                self.assertEqual(peer.receive().header.status, 0)
        self.assertEqual(self.client.read("a", 0, 5), b"1234\7")
        self.client.dispose("a")
        self.check_nothing_left()

    def test_with_the_bytes_of_a_large_write(self) -> None:
        """These are received by another way than frames are."""
        peer = self.made()
        data = bytes(range(256)) * 3000
        frame = peer.frame(_wire.write(0, memoryview(data), b"a"))
        at = 0
        while at < len(frame):
            self.check_closed(peer, frame[at : at + 50_000], 100)
            at += 50_000
        self.assertEqual(peer.receive().header.status, 0)
        self.assertEqual(self.client.read("a", 0, len(data)), data)
        self.client.dispose("a")
        self.check_nothing_left()

    def test_with_lines(self) -> None:
        peer = self.peer(greets=False)
        for _ in range(20):
            self.check_closed(peer, b"ping\n", 253)
            self.assertEqual(peer.socket.recv(100), b"OK pong\n")
        self.check_nothing_left()

    def test_the_first_bytes_of_a_connection(self) -> None:
        for data in (b"\xe5", b"p", b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 100):
            peer = self.peer(greets=False)
            self.check_closed(peer, data, 253)
            self.check_others()
        self.check_nothing_left()

    def test_the_daemons_own_memory_sent_back_to_it(self) -> None:
        peer = self.made()
        file = peer.map("a")
        self.client.dispose("a")
        socket.send_fds(peer.socket, [peer.frame(Request(Operation.PING))], [file] * 253)
        os.close(file)
        self.assertEqual(peer.receive().header.status, 0)
        self.check_nothing_left()

    def test_what_the_daemon_does_not_receive(self) -> None:
        """It is held while it lies in the socket, and goes with it."""
        peer = self.made()
        file = peer.map("a")
        self.client.dispose("a")
        # It is not read from: its replies are not.
        self.client.put("large", bytes(4 << 20))
        sent_to_the_full(peer, peer.frame(_wire.read(0, 4 << 20, b"large")) * 4000)
        peer.socket.settimeout(0.3)
        try:
            while True:
                socket.send_fds(peer.socket, [b"\xe5"], [file] * 100)
        except OSError:
            pass
        os.close(file)
        self.assertLessEqual(self.open_files(), self.files + 5)
        self.check_others()
        peer.close()
        self.client.dispose("large")
        self.check_nothing_left()


@same_without_numpy
class LeavingTests(PeerTestCase):
    def test_maps_that_are_closed_at_once(self) -> None:
        for turn in range(300):
            peer = self.peer()
            self.peers.pop()
            request = _wire.alloc(2, 5000, b"" if turn % 2 else b"b%d" % turn)
            handle = peer.call(request).header.handle
            answer = peer.call(_wire.map_memory(True, turn % 3 == 0), handle)
            self.assertEqual(answer.header.status, 0)
            for one in answer.files:
                os.close(one)
            if turn % 5 == 0:
                peer.send(Request(Operation.UNMAP), handle)
                peer.send(Request(Operation.CLOSE), handle)
                peer.send(_wire.map_memory(True, False), handle)
            peer.close()
        for turn in range(0, 300, 2):
            self.client.dispose("b%d" % turn)
        self.check_nothing_left()

    def test_replies_that_come_when_the_client_has_gone(self) -> None:
        self.made(size=3 << 20).close()
        for turn in range(200):
            peer = self.peer()
            self.peers.pop()
            # The first of each name moves it, which takes a while.
            name = b"c%d" % turn
            peer.socket.sendall(
                peer.frame(_wire.alloc(2, 200_000, name, no_handle=True))
                + peer.frame(_wire.fill(0, 200_000, b"x", name))
                + peer.frame(_wire.map_memory(True, True, name)) * 3
            )
            peer.close()
        names = [one.name for one in self.client.list("c")]
        for name in names:
            self.client.dispose(name)
        self.client.dispose("a")
        self.check_nothing_left()


if __name__ == "__main__":
    unittest.main()

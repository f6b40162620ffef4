"""Clients that are killed at any moment of any call: nothing of them is left, anywhere.

Here they speak bare frames, so that each moment is met; test_sharing kills such as use the library.
"""

import contextlib
import os
import random
import signal
import struct
import sys
import tempfile
import time
import unittest
import unittest.mock
from typing import Any, Callable, Dict, List, Set, Tuple

import smalloc
from smalloc import _wire
from smalloc._wire import Operation, Request

from peers import Peer, PeerTestCase, mapped
from support import IS_NIGHTLY, same_without_numpy, scaled, seeded
from test_hostile_sockets import sent_to_the_full
from test_mapping import within
from test_sharing import work

KILLS = 10_000 if IS_NIGHTLY else scaled(200)
MIB = 1 << 20
LARGE = 3 * MIB
BUSY = 0x8012

Way = Callable[[Peer, random.Random], object]


def requests(source: random.Random) -> List[Request]:
    """Give one request of each kind that a client may be killed in."""
    at, size = source.randrange(1000), source.choice((1, 3000, 70_000, LARGE - 1000))
    data = memoryview(bytes(size))
    name = b"shared/%d" % source.randrange(3)
    return [
        _wire.alloc(2, size, shareable=source.random() < 0.5),
        Request(Operation.OPEN, name=b"large"),
        Request(Operation.STAT, name=b"large"),
        _wire.list_names(b"", 0, 0),
        _wire.read(at, size, b"large"),
        _wire.read_ranges([(at, size)] * 30, b"large"),
        _wire.write(at, data, b"large"),
        _wire.write_ranges([(at, size)], data, b"large"),
        _wire.fill(at, size, b"abc", b"large"),
        _wire.copy(at, size, 1000 - at, b"large", b"large"),
        _wire.rename(name, True, name),
        _wire.map_memory(source.random() < 0.5, source.random() < 0.5, b"large"),
        Request(Operation.UNMAP, name=b"large"),
        Request(Operation.FREEZE, name=b"large"),
        Request(Operation.NOTIFY, name=b"cells", size=1),
        Request(Operation.ATOMIC, name=b"cells", payload=struct.pack("<B7xQQ", 3, 1, 0)),
    ]


def wait(peer: Peer, source: random.Random) -> None:
    """Wait for ever, some requests at once."""
    for _ in range(source.randrange(1, 20)):
        place = 4 * source.randrange(100)
        peer.send(
            Request(
                Operation.WAIT, name=b"cells", offset=place, size=_wire.U64_MAX, payload=bytes(4)
            )
        )
    if source.random() < 0.3:
        peer.send(Request(Operation.CANCEL, payload=struct.pack("<Q", 3)))


def mapping(peer: Peer, source: random.Random) -> None:
    """Have memory mapped, that of others and some of one's own, and write to it."""
    size = source.choice((5000, 70_000, LARGE))
    shareable = source.random() < 0.5
    handle = peer.call(_wire.alloc(2, size, shareable=shareable)).header.handle
    answer = peer.call(_wire.map_memory(True, False), handle)
    os.pwrite(answer.files[0], b"x" * size, 0)
    mapped(answer.files[0], size, 3)
    # While another client's freeze is refused, so is this.
    for _ in range(100):
        answer = peer.call(_wire.map_memory(source.random() < 0.5, False, b"large"))
        if answer.header.status == 0:
            mapped(answer.files[0], LARGE)
            break
        assert answer.header.status == BUSY, hex(answer.header.status)
    if source.random() < 0.5:
        peer.send(Request(Operation.DISPOSE), handle)


def half_a_frame(peer: Peer, source: random.Random) -> None:
    frame = peer.frame(source.choice(requests(source)))
    peer.socket.sendall(frame[: source.randrange(1, min(len(frame), 200))])


def half_of_the_data(peer: Peer, source: random.Random) -> None:
    """Be in the middle of a write, with work behind it."""
    frame = peer.frame(_wire.write(0, memoryview(bytes(LARGE)), b"large"))
    peer.socket.sendall(frame[: source.randrange(40, len(frame))])


def before_the_reply(peer: Peer, source: random.Random) -> None:
    # The daemon does not read on where replies are not read.
    for request in source.sample(requests(source), 3):
        sent_to_the_full(peer, peer.frame(request), 0.02)


def half_of_the_reply(peer: Peer, source: random.Random) -> None:
    peer.send(_wire.read(0, LARGE, b"large"))
    peer.socket.recv(source.randrange(1, 100_000))


def descriptors_in_flight(peer: Peer, source: random.Random) -> None:
    frame = peer.frame(_wire.map_memory(True, False, b"large"))
    sent_to_the_full(peer, frame * source.randrange(1, 60), 0)


def nothing_received(peer: Peer, source: random.Random) -> None:
    frame = peer.frame(_wire.read(0, 60_000, b"large"))
    sent_to_the_full(peer, frame * source.randrange(1, 300), 0)


def promoting(peer: Peer, source: random.Random) -> None:
    """Have memory moved to where it can be shared, which takes a moment."""
    handle = peer.call(_wire.alloc(2, LARGE)).header.handle
    peer.call(_wire.fill(0, LARGE, b"x"), handle)
    peer.send(_wire.map_memory(True, source.random() < 0.5), handle)


def freezing(peer: Peer, source: random.Random) -> None:
    handle = peer.call(_wire.alloc(2, LARGE, shareable=True)).header.handle
    answer = peer.call(_wire.map_memory(False, False), handle)
    mapped(answer.files[0], LARGE)
    peer.send(Request(Operation.FREEZE), handle)


def replacing(peer: Peer, source: random.Random) -> None:
    """Put something in the place of what others use."""
    name = b"shared/%d" % source.randrange(3)
    handle = peer.call(_wire.alloc(2, 100, shareable=True)).header.handle
    peer.socket.sendall(peer.frame(_wire.rename(name, True), handle))


def text(peer: Peer, source: random.Random) -> None:
    """Speak in lines: a wait, and half a line behind it."""
    peer = Peer("unix:" + str(peer.socket.getpeername()), greets=False)
    kept.append(peer)
    line = b"wait cells %d 0 -1\nfill large 0 3000000 7\ndispose shared/1" % source.randrange(9)
    peer.socket.sendall(line[source.choice((0, line.index(b"\n") + 1)) :])


def library(peer: Peer, source: random.Random) -> None:
    """Use the library for a moment, as programs do."""
    while True:
        with contextlib.suppress(smalloc.NotFoundError):
            # Others put something else under the name meanwhile, or dispose of it.
            work("unix:" + str(peer.socket.getpeername()), source.randrange(2**32))


kept: List[Peer] = []
WAYS: Tuple[Way, ...] = (
    wait, mapping, half_a_frame, half_of_the_data, before_the_reply, half_of_the_reply,
    descriptors_in_flight, nothing_received, promoting, freezing, replacing, text, library,
)  # fmt: skip


def drained(pipe: int) -> bytes:
    try:
        return os.read(pipe, 65536)
    except BlockingIOError:
        return b""


def figures(process: int) -> int:
    """Bytes of memory that a process has."""
    with open("/proc/%d/statm" % process) as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@same_without_numpy
class KillTests(PeerTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        # What programs leave in a folder for such things is found in this one.
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        environment = unittest.mock.patch.dict(os.environ, {"TMPDIR": folder.name})
        environment.start()
        cls.addClassCleanup(environment.stop)
        super().setUpClass()

    def setUp(self) -> None:
        super().setUp()
        self.client.create("cells", 1000, "Int32")
        for one in range(3):
            self.client.create("shared/%d" % one, 100)
        # What is frozen is so for good, so that this can't be.
        self.large = self.client.array("large", LARGE, "Uint8")
        self.addCleanup(delattr, self, "large")
        # Each with how many seconds it has.
        self.running: List[Tuple[int, float]] = []
        self.addCleanup(self.end_all)

    def end_all(self) -> None:
        """Leave no child where a test fails."""
        for child, _ in self.running:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    @seeded
    def test_clients_that_are_killed_leave_nothing(self, random: random.Random) -> None:
        before, files = self.client.stats(), self.files_anywhere()
        memory, open_files = figures(self.daemon.process.pid), self.open_files()
        receive, send = os.pipe()
        os.set_blocking(receive, False)
        self.addCleanup(os.close, receive)
        self.addCleanup(os.close, send)
        told = b""
        for one in range(KILLS):
            way, seed = one % len(WAYS), random.randrange(2**32)
            by_itself = WAYS[way] is not library and random.random() < 0.6
            child = os.fork()
            if child == 0:
                self.be_killed(way, seed, by_itself, send)
            self.running.append((child, 20 if by_itself else random.random() * 0.03))
            if len(self.running) >= 4:
                self.end(*self.running.pop(0))
            if one % 100 == 99:
                self.check_others()
                told += drained(receive)
        while self.running:
            self.end(*self.running.pop(0))
        told += drained(receive)
        # Each moment was met, and by most: the rest was killed earlier.
        counts = {WAYS[way].__name__: told.count(bytes((way,))) for way in range(len(WAYS))}
        self.assertGreater(min(counts.values()), KILLS / len(WAYS) / 3, counts)
        found: Dict[str, Any] = {}

        def is_as_before() -> bool:
            found.update(self.client.stats())
            found["files"], found["open files"] = self.files_anywhere(), self.open_files()
            found["waits and handles"] = self.client.stat("cells").handles
            found["rss"] = figures(self.daemon.process.pid)
            return (
                all(found[key] == before[key] for key in ("allocations", "connections"))
                and found["memory_held_bytes"] == 0
                # Those that all share may have memory that can be shared by now.
                and found["open files"] <= open_files + 4
                and found["files"] <= files
                and found["waits and handles"] == 0
                and found["memory_used_bytes"] <= int(before["memory_used_bytes"]) + 64 * MIB
                and found["rss"] <= memory + 64 * MIB
            )

        self.assertTrue(within(2, is_as_before), (before, memory, open_files, files, found))
        self.assertEqual(self.client.open("cells").notify(0), 0)
        for name in ("cells", "shared/0", "shared/1", "shared/2", "large"):
            self.client.dispose(name)
        self.check_others()

    def be_killed(self, way: int, seed: int, by_itself: bool, send: int) -> None:
        """For a child: get to a moment, tell so, and end there or wait for the end."""
        try:
            source = random.Random(seed)
            peer = Peer(self.daemon.address)
            if WAYS[way] is library:
                # It does not end.
                os.write(send, bytes((way,)))
            WAYS[way](peer, source)
            os.write(send, bytes((way,)))
            if by_itself:
                os.kill(os.getpid(), signal.SIGKILL)
            while True:
                signal.pause()
        except BaseException as error:
            print(WAYS[way].__name__, repr(error), file=sys.stderr)
        finally:
            # It ends by being killed only.
            os._exit(1)

    def end(self, child: int, patience: float) -> None:
        """Kill a child, if it does not do so itself in its time."""
        limit = time.monotonic() + patience
        while time.monotonic() < limit:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                break
            time.sleep(0.001)
        else:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        self.assertEqual((os.WIFSIGNALED(status), status & 0x7F), (True, signal.SIGKILL))

    def files_anywhere(self) -> Set[str]:
        """Give the files that a client or the daemon could have left by some name."""
        found: Set[str] = set()
        for folder in (self.daemon.folder, os.environ["TMPDIR"], "/dev/shm", "/dev/mqueue"):
            if os.path.isdir(folder):
                found |= {
                    os.path.join(folder, one)
                    for one in os.listdir(folder)
                    # Python's own, of whatever runs beside this.
                    if not one.startswith("sem.mp-")
                }
        return found


if __name__ == "__main__":
    unittest.main()

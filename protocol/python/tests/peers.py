"""What the tests of hostile clients share: a client of bare frames, processes, system calls."""

import ctypes
import errno
import mmap
import os
import signal
import socket
import time
from typing import Any, Callable, List, NamedTuple, Optional

import smalloc
from smalloc import _wire
from smalloc._wire import Header, Operation, Request

from support import DaemonTestCase
from test_mapping import descriptors, within

libc = ctypes.CDLL(None, use_errno=True)

F_SETLEASE, F_ADD_SEALS = 1024, 1033
SEAL_SEAL, SEAL_SHRINK, SEAL_GROW, SEAL_WRITE, SEAL_FUTURE_WRITE = 1, 2, 4, 8, 16


class Answer(NamedTuple):
    """One reply, and the descriptors that have come with it, which are the test's."""

    header: Header
    payload: bytes
    files: List[int]


class Peer:
    """A connection that says what a test has it say, and receives when a test says so."""

    def __init__(self, address: str, greets: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._cookie = 0
        self._input = b""
        self._files: List[int] = []
        try:
            self.socket.settimeout(20)
            self.socket.connect(address[len("unix:") :])
            if greets:
                answer = self.call(_wire.hello(b"peer"))
                if answer.header.status != 0:
                    raise ConnectionRefusedError
        except BaseException:
            self.socket.close()
            raise

    def frame(self, request: Request, handle: int = 0) -> bytes:
        self._cookie += 1
        data = b"" if request.data is None else bytes(request.data)
        return request.encode(self._cookie, handle) + data

    def send(self, request: Request, handle: int = 0) -> None:
        self.socket.sendall(self.frame(request, handle))

    def receive(self) -> Answer:
        header = Header.decode(self._take(_wire.HEADER_SIZE))
        payload = self._take(header.payload_size)
        count = 0
        if header.operation == Operation.MAP and header.status == 0:
            count = _wire.decode_mapped(payload).descriptors
        files, self._files = self._files[:count], self._files[count:]
        return Answer(header, payload, files)

    def call(self, request: Request, handle: int = 0) -> Answer:
        self.send(request, handle)
        return self.receive()

    def map(self, name: str, writable: bool = True) -> int:
        """Give a descriptor of an allocation's memory, and keep nothing else of it."""
        answer = self.call(_wire.map_memory(writable, False, name.encode()))
        assert answer.header.status == 0, hex(answer.header.status)
        for one in answer.files[1:]:
            os.close(one)
        return answer.files[0]

    def close(self) -> None:
        for one in self._files:
            os.close(one)
        self._files = []
        self.socket.close()

    def _take(self, size: int) -> bytes:
        while len(self._input) < size:
            data, files, _, _ = socket.recv_fds(self.socket, 65536, 253)
            if not data or data[0] < 0x80 and not self._input:
                # A refusal is a line of text.
                raise ConnectionRefusedError(data)
            self._input += data
            self._files += files
        taken, self._input = self._input[:size], self._input[size:]
        return taken


class PeerTestCase(DaemonTestCase):
    """Tests with clients that do what they should not, beside one that must not notice it.

    When a test has ended the daemon must be as it was before: as many descriptors, no memory that
    clients hold, the other client's bytes as they were.
    """

    SIZE = 1 << 20

    def setUp(self) -> None:
        super().setUp()
        self.others = bytes(range(256)) * 300
        self.client.put("others", self.others)
        # Others' memory is mapped before and after.
        self.neighbour = self.client.get("others")
        self.addCleanup(delattr, self, "neighbour")
        # What another test has left for a moment.
        self.assertTrue(within(4, lambda: self.held() == 0))
        self.files = self.open_files()
        self.peers: List[Peer] = []

    def peer(self, greets: bool = True) -> Peer:
        peer = Peer(self.daemon.address, greets)
        self.peers.append(peer)
        self.addCleanup(peer.close)
        return peer

    def made(self, name: str = "a", size: Optional[int] = None, type: int = 2) -> Peer:
        """Give a new client, and an allocation full of sevens."""
        peer = self.peer()
        size = self.SIZE if size is None else size
        request = _wire.alloc(type, size, name.encode(), no_handle=True)
        self.assertEqual(peer.call(request).header.status, 0)
        self.assertEqual(peer.call(_wire.fill(0, size, b"\7", name.encode())).header.status, 0)
        return peer

    def open_files(self) -> int:
        return descriptors(self.daemon.process.pid)

    def held(self) -> int:
        return int(self.client.stats()["memory_held_bytes"])

    def check_others(self) -> None:
        """The daemon lives and answers at once, and the other client's bytes are right."""
        start = time.monotonic()
        self.assertEqual(self.client.read("others"), self.others)
        self.assertLess(time.monotonic() - start, 5)
        assert self.neighbour.mapping is not None
        self.assertEqual(bytes(self.neighbour.mapping.memoryview), self.others)
        self.assertIsNone(self.daemon.process.poll())

    def check_nothing_left(self) -> None:
        """Within 2 seconds nothing is left of clients that are gone."""
        self.check_others()
        for peer in self.peers:
            peer.close()
        found: Any = ()

        def is_as_before() -> bool:
            nonlocal found
            found = (self.held(), self.open_files())
            return bool(found[0] == 0 and found[1] <= self.files)

        self.assertTrue(within(2, is_as_before), "%s, before: 0, %d" % (found, self.files))


class Child:
    """A forked process that does something, says so, and goes on or waits until it is killed."""

    def __init__(self, body: Callable[[Callable[[], None]], None]) -> None:
        """`body` is given what says that it is ready. What it returns from is a wait."""
        receive, send = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            try:
                os.close(receive)
                body(lambda: os.write(send, b"r") and None)
                while True:
                    signal.pause()
            finally:
                os._exit(1)
        os.close(send)
        try:
            if os.read(receive, 1) != b"r":
                raise AssertionError("the child has failed")
        finally:
            os.close(receive)

    def kill(self) -> int:
        """Kill it; give its exit code, which is that of the signal where it was still there."""
        if not self.process:
            return 0
        os.kill(self.process, signal.SIGKILL)
        _, status = os.waitpid(self.process, 0)
        self.process = 0
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def mapped(file: int, size: int, prot: int = mmap.PROT_READ) -> int:
    """Map a file and give the address. A mmap of Python's would keep a descriptor, too."""
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t) + (ctypes.c_int,) * 3 + (
        ctypes.c_long,
    )  # fmt: skip
    start = libc.mmap(None, size, prot, mmap.MAP_SHARED, file, 0)
    if start in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "mmap")
    return int(start)


def unmapped(start: int, size: int) -> None:
    libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t(size))


def fallocate(file: int, mode: int, offset: int, size: int) -> int:
    """Give 0, or the number of the error."""
    long = ctypes.c_long
    if libc.fallocate(file, mode, long(offset), long(size)) == 0:
        return 0
    return ctypes.get_errno()


def error_of(call: Callable[..., Any], *arguments: Any) -> int:
    """Give the number of the error that a system call fails with; 0 where it does not."""
    try:
        call(*arguments)
        return 0
    except OSError as error:
        return error.errno or errno.EIO

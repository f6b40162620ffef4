"""The server that a client under test talks to, and the driver by which it is made to."""

from __future__ import annotations

import json
import os
import queue
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .._wire import HEADER_SIZE, Header, Operation
from ._breaches import breach
from ._findings import Refused, operation_name, shown
from ._model import GREETING, Model, Session

# Seconds that a driver's answer may take.
ANSWER_TIMEOUT = 40.0
_SEND_TIMEOUT = 10.0
# Of what is sent at a time, bytes that are sent one by one where replies are cut, and the seconds
# between them.
_CUT_SIZE = 200
_CUT_PAUSE = 0.0002


class Special(NamedTuple):
    """What is answered in the place of what a server would: bytes, and whether the end follows."""

    data: bytes
    closes: bool = False


# Is given the request and how many of its operation there were before; None: as a server would.
Answer = Callable[[Header, bytes, int], Optional[Special]]


class Script(NamedTuple):
    """How a server behaves in one scenario."""

    greeting: Tuple[int, ...] = GREETING
    # A line that a connection is refused with.
    refusal: bytes = b""
    # Whether replies are sent byte by byte.
    is_cut: bool = False
    answers: Dict[Operation, Answer] = {}


class _Peer:
    def __init__(self, socket: socket.socket, session: Session) -> None:
        self.socket = socket
        self.session = session
        self.input = b""
        self.counts: Dict[int, int] = {}


class Server:
    """A server on a Unix socket, in a thread of its own. It behaves as its script says."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="smalloc-conform-")
        path = os.path.join(self._folder, "s")
        self.address = "unix:" + path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(16)
        self._lock = threading.Lock()
        self._script = Script()
        self._model = Model()
        self._peers: List[_Peer] = []
        # Those of earlier scenarios. Their sockets are closed by the thread that waits for them.
        self._ended: List[_Peer] = []
        self._breaches: List[Tuple[str, str, str]] = []
        self._wakes, self._wake = socket.socketpair()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self, script: Script) -> None:
        """Forget everything, end all connections, and behave as `script` says from here on."""
        with self._lock:
            self._ended += self._peers
            self._peers = []
            self._script, self._model, self._breaches = script, Model(), []
        self._wake.send(b"\0")

    def breaches(self) -> List[Tuple[str, str, str]]:
        """Give what the client's frames were against: words, the section, and the frame."""
        with self._lock:
            return list(self._breaches)

    def await_wait(self, timeout: float) -> None:
        """Go on once a request waits, or so many seconds have gone."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with self._lock:
                if self._model.waiters:
                    return
            time.sleep(0.002)

    def close(self) -> None:
        """End all connections, and the thread."""
        self._is_closed = True
        self._wake.send(b"\0")
        self._thread.join(5)
        for one in (self._listener, self._wake, self._wakes, *(p.socket for p in self._peers)):
            one.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self) -> None:
        while not self._is_closed:
            with self._lock:
                sockets = [peer.socket for peer in self._peers]
            ready, _, _ = select.select([self._listener, self._wakes, *sockets], [], [], 1.0)
            with self._lock:
                if self._wakes in ready:
                    self._wakes.recv(64)
                for peer in self._ended:
                    peer.socket.close()
                self._ended = []
                if self._listener in ready:
                    self._accept()
                for peer in [one for one in self._peers if one.socket in ready]:
                    self._receive(peer)
                for peer in list(self._peers):
                    self._flush(peer)

    def _accept(self) -> None:
        found, _ = self._listener.accept()
        found.settimeout(_SEND_TIMEOUT)
        session = Session(self._model)
        session.greeting = self._script.greeting
        peer = _Peer(found, session)
        self._peers.append(peer)
        if self._script.refusal:
            self._send(peer, self._script.refusal)
            self._end(peer)

    def _receive(self, peer: _Peer) -> None:
        try:
            data = peer.socket.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self._end(peer)
            return
        peer.input += data
        while len(peer.input) >= HEADER_SIZE:
            header = Header.decode(peer.input)
            end = HEADER_SIZE + header.payload_size
            found = breach(header, peer.session.is_greeted)
            if found is not None:
                name = operation_name(header.operation)
                self._breaches.append(
                    ("%s: %s" % (name, found[0]), found[1], shown(peer.input[:end]))
                )
                if header.magic != 0xE5:
                    self._end(peer)
                    return
            if len(peer.input) < end:
                return
            payload, peer.input = peer.input[HEADER_SIZE:end], peer.input[end:]
            if not self._serve(peer, header, payload):
                return

    def _serve(self, peer: _Peer, header: Header, payload: bytes) -> bool:
        count = peer.counts.get(header.operation, 0)
        peer.counts[header.operation] = count + 1
        special: Optional[Special] = None
        answer = self._script.answers.get(header.operation)  # type: ignore[call-overload]
        if answer is not None:
            special = answer(header, payload, count)
        if special is None:
            peer.session.serve(header, payload)
            return True
        peer.session.replies.append(special.data)
        if special.closes:
            self._flush(peer)
            self._end(peer)
            return False
        return True

    def _flush(self, peer: _Peer) -> None:
        replies, peer.session.replies = peer.session.replies, []
        if replies:
            self._send(peer, b"".join(replies))

    def _send(self, peer: _Peer, data: bytes) -> None:
        try:
            if self._script.is_cut:
                for at in range(min(len(data), _CUT_SIZE)):
                    peer.socket.sendall(data[at : at + 1])
                    time.sleep(_CUT_PAUSE)
                data = data[_CUT_SIZE:]
            peer.socket.sendall(data)
        except OSError:
            # The client has gone, as it may.
            pass

    def _end(self, peer: _Peer) -> None:
        if peer in self._peers:
            self._peers.remove(peer)
            peer.socket.close()


class Silence(Exception):
    """The driver gives no answer."""


class Driver:
    """A program that does with a client what it is told, a line of JSON each way."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: Optional[subprocess.Popen[str]] = None
        self._lines: queue.Queue[str] = queue.Queue()

    def ask(self, request: Dict[str, Any]) -> Any:
        """Have it do something; give its answer. Raises Silence, and Refused where it can't run."""
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None and process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = self._lines.get(timeout=ANSWER_TIMEOUT)
        except (OSError, ValueError):
            line = ""
        except queue.Empty:
            self.close()
            raise Silence("no answer within %d seconds" % ANSWER_TIMEOUT) from None
        if not line:
            self.close()
            raise Silence("the driver has ended with %s" % process.returncode)
        try:
            return json.loads(line)
        except ValueError:
            raise Silence("it says %r, which is no JSON" % line) from None

    def close(self) -> None:
        """End it. The next question starts it anew."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for one in (process.stdin, process.stdout):
            if one is not None:
                try:
                    one.close()
                except OSError:
                    pass

    def _start(self) -> None:
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                universal_newlines=True, bufsize=1,
            )  # fmt: skip
        except OSError as error:
            raise Refused("%s can't be started: %s" % (self._command[0], error)) from error
        self._process = process
        self._lines = queue.Queue()
        threading.Thread(target=_read, args=(process, self._lines), daemon=True).start()


def _read(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.put(line)
    except ValueError:
        # It was closed here.
        pass
    lines.put("")

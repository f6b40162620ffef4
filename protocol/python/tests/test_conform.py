"""smalloc-conform: this daemon and its clients pass, and planted faults are found."""

import contextlib
import io
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from typing import Callable, List, Optional, Tuple

import smalloc
from smalloc._wire import HEADER_SIZE, Header, Operation
from smalloc.conform import main
from smalloc.conform._cli import find_protocol
from smalloc.conform._transcripts import Transcript, matches

from support import PROTOCOL, ROOT, Daemon, same_without_numpy

DRIVER = [sys.executable, "-m", "smalloc.conform.driver"]


def conform(*arguments: str) -> Tuple[int, str]:
    """Run the command; give its exit code and what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(["--protocol", str(PROTOCOL), "--quiet", *arguments])
    return code, said.getvalue()


class Proxy:
    """Stands before a daemon, and changes what it says by the chunk."""

    def __init__(self, path: str, change: Callable[[bytes], bytes]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "p")
        self._daemon = path
        self._change = change
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(64)
        self._is_closed = False
        self._sockets: List[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._is_closed = True
        for one in (self._listener, *self._sockets):
            one.close()
        self.folder.cleanup()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            daemon = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            daemon.connect(self._daemon)
            self._sockets += [client, daemon]
            for one, other, change in (
                (client, daemon, None),
                (daemon, client, self._change),
            ):
                threading.Thread(target=self._pump, args=(one, other, change), daemon=True).start()

    @staticmethod
    def _pump(
        one: socket.socket, other: socket.socket, change: Optional[Callable[[bytes], bytes]]
    ) -> None:
        data = b""
        with contextlib.suppress(OSError):
            while True:
                more, files, _, _ = socket.recv_fds(one, 65536, 16)
                data += more
                whole = whole_of(data) if more and change else len(data)
                changed, data = data[:whole], data[whole:]
                if change:
                    changed = change(changed)
                if changed or files:
                    socket.send_fds(other, [changed], files)
                for file in files:
                    os.close(file)
                if not more:
                    break
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)


def whole_of(data: bytes) -> int:
    """Bytes that are whole replies; of text all."""
    if data[:1] != b"\xe6":
        return len(data)
    at = 0
    while at + HEADER_SIZE <= len(data):
        end = at + HEADER_SIZE + Header.decode(data, at).payload_size
        if end > len(data):
            break
        at = end
    return at


def each_reply(change: Callable[[Header, bytes], bytes]) -> Callable[[bytes], bytes]:
    """Give what changes the replies in whole ones, one by one; text stays."""

    def changed(data: bytes) -> bytes:
        if data[:1] != b"\xe6":
            return data
        replies: List[bytes] = []
        while len(data) >= HEADER_SIZE:
            header = Header.decode(data)
            end = HEADER_SIZE + header.payload_size
            replies.append(change(header, data[:end]))
            data = data[end:]
        return b"".join(replies) + data

    return changed


@same_without_numpy
class ServerTests(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon("--memory-max", "1G")
        cls.addClassCleanup(cls.daemon.stop)

    def through(self, change: Callable[[bytes], bytes]) -> Tuple[int, str]:
        proxy = Proxy(self.daemon.path, change)
        self.addCleanup(proxy.close)
        return conform("server", "unix:" + proxy.path)

    def test_the_daemon_conforms(self) -> None:
        code, said = conform("server", self.daemon.address)
        self.assertEqual(code, 0, said)
        self.assertRegex(said, r"^conforms: \d{3,} played, nothing differs\n$")
        with smalloc.Client(self.daemon.address) as client:
            self.assertEqual(client.stats()["allocations"], 0)

    def test_it_conforms_over_tcp(self) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        daemon = Daemon("--memory-max", "1G", port=port)
        self.addCleanup(daemon.stop)
        code, said = conform("server", "tcp:127.0.0.1:%d" % port)
        self.assertEqual(code, 0, said)
        self.assertIn("; not played: 1\n", said)

    def test_a_proxy_that_changes_nothing_conforms(self) -> None:
        code, said = self.through(lambda data: data)
        self.assertEqual(code, 0, said)

    def test_a_wrong_order_of_errors_is_found(self) -> None:
        def change(header: Header, frame: bytes) -> bytes:
            if header.operation != Operation.FILL or header.status != 0x8001:
                return frame
            # As a server says that looks at the pattern before it looks for the allocation.
            changed = header._replace(status=0x8007, type=1, payload_size=4)
            return changed.encode() + b"what"

        code, said = self.through(each_reply(change))
        self.assertEqual(code, 1)
        self.assertIn("§ 7.10 fill", said)
        self.assertIn("expected status noData, type 0", said)
        self.assertIn("got      status invalidArgument, type 1", said)

    def test_a_wrong_message_is_found(self) -> None:
        change = each_reply(lambda _, frame: frame.replace(b"> kMaxLength", b"> maxlength!"))
        code, said = self.through(change)
        self.assertEqual(code, 1)
        self.assertIn("§ 7.3 alloc", said)
        self.assertIn("n > maxlength!", said)

    def test_a_reply_that_stays_away_is_found(self) -> None:
        def change(header: Header, frame: bytes) -> bytes:
            # The end follows, so that nothing has to be waited for.
            return b"" if header.operation == Operation.QUIT and not header.status else frame

        code, said = self.through(each_reply(change))
        self.assertEqual(code, 1)
        self.assertIn("§ 7.16 quit", said)
        self.assertIn("the connection ended where a reply was due", said)

    def test_a_wrong_line_is_found(self) -> None:
        code, said = self.through(lambda data: data.replace(b"OK pong", b"OK bong"))
        self.assertEqual(code, 1)
        self.assertIn("transcripts/01-hello-ping.txt:3, one by one (spec.md, § 7.2 ping)", said)
        self.assertIn("got      OK bong", said)

    def test_bytes_that_are_written_wrong_are_found(self) -> None:
        self.assertEqual(self.through(lambda data: data.replace(b"e+16", b"e16"))[0], 1)

    def test_a_server_that_holds_anything_is_left_alone(self) -> None:
        with smalloc.Client(self.daemon.address) as client:
            client.create("precious", 4)
            try:
                code, said = conform("server", self.daemon.address)
                self.assertEqual((code, client.stat("precious").length), (2, 4))
                self.assertIn("holds 1 allocations, such as precious", said)
            finally:
                client.dispose("precious")
            kept = client.alloc(4)
            code, said = conform("server", self.daemon.address)
            self.assertEqual(code, 2, said)
            self.assertIn("holds 1 anonymous", said)
            kept.dispose()

    def test_what_can_not_run_ends_with_2(self) -> None:
        self.assertEqual(conform("server", "unix:/nowhere/at/all")[0], 2)
        self.assertEqual(conform("server", "nonsense")[0], 2)
        self.assertEqual(conform("client", "--", "/nowhere/at/all")[0], 2)

    def test_vectors_are_found_from_below_the_project_and_where_they_are_told(self) -> None:
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(str(PROTOCOL / "python"))
        self.assertEqual(find_protocol(None), PROTOCOL)
        os.chdir("/")
        self.assertIsNone(find_protocol(None))
        self.assertEqual(find_protocol(str(PROTOCOL)), PROTOCOL)
        self.assertIsNone(find_protocol("/tmp"))

    def test_the_command_is_installed(self) -> None:
        command = pathlib.Path(sys.executable).parent / "smalloc-conform"
        if not command.exists():
            self.skipTest("the package is not installed")
        said = subprocess.run(
            [str(command), "--protocol", str(PROTOCOL), "--quiet", "server", self.daemon.address],
            stdout=subprocess.PIPE, universal_newlines=True,
        )  # fmt: skip
        self.assertEqual((said.returncode, said.stdout[:9]), (0, "conforms:"))


class TranscriptTests(unittest.TestCase):
    def test_patterns(self) -> None:
        self.assertTrue(matches("OK 1 2", "OK *"))
        self.assertTrue(matches("OK", "OK*"))
        self.assertTrue(matches("a.b", "a.b"))
        self.assertFalse(matches("axb", "a.b"))
        self.assertFalse(matches("OK 1", "ERR*"))

    def test_what_is_no_directive_is_refused(self) -> None:
        with self.assertRaises(ValueError):
            Transcript("x", "C: ping\nping\n")


# What is wrong with a client whose driver is started with these lines before it.
IGNORES_COOKIES = """
from smalloc._connection import Connection
def oldest(self, cookie):
    found = [*self._waits, *self._pendings]
    return min(found) if found else cookie
claim, accept = Connection._claim, Connection._accept
def any_claim(self, header):
    return claim(self, header._replace(cookie=oldest(self, header.cookie)))
def any_accept(self, reply):
    header = reply.header._replace(cookie=oldest(self, reply.header.cookie))
    accept(self, reply._replace(header=header))
Connection._claim, Connection._accept = any_claim, any_accept
"""
FILLS_FIELDS = """
from smalloc import _wire
encode = _wire.Request.encode
def wrong(self, *rest):
    if self.operation == _wire.Operation.DISPOSE:
        self.size = 7
    return encode(self, *rest)
_wire.Request.encode = wrong
"""
GOES_BY_MESSAGES = """
from smalloc import _session, _errors
of = _errors.error_of
def by_message(code, message, allocation=None):
    return of(0x8001 if "people" in message else code, message, allocation)
_session.error_of = by_message
"""
SKIPS_HELLO = """
from smalloc import Client
Client.hello = lambda self: None
"""
@same_without_numpy
class ClientTests(unittest.TestCase):
    def check(self, command: List[str]) -> str:
        code, said = conform("client", "--", *command)
        self.assertEqual(code, 0, said)
        self.assertRegex(said, r"conforms: \d\d played, nothing differs")
        return said

    def with_fault(self, fault: str) -> str:
        start = "\nfrom smalloc.conform import driver\ndriver.main()\n"
        code, said = conform("client", "--", sys.executable, "-c", fault + start)
        self.assertEqual(code, 1, said)
        return said

    def test_the_client_conforms(self) -> None:
        self.assertNotIn("not played", self.check(DRIVER))

    def test_the_swift_library_conforms(self) -> None:
        for face in ("async", "blocking"):
            with self.subTest(face):
                path = ROOT / ".build" / "debug" / "conform-driver"
                if not os.access(str(path), os.X_OK):
                    self.skipTest("the driver of the Swift library is not built")
                said = self.check([str(path), face])
                # A call of this face has the connection for itself.
                self.assertEqual("; not played: 2" in said, face == "blocking", said)

    def test_a_client_that_ignores_cookies_is_found(self) -> None:
        said = self.with_fault(IGNORES_COOKIES)
        self.assertIn("differs: a wait is answered after what was asked behind it", said)
        self.assertIn("differs: a cookie that no request has (spec.md, § 4.4", said)

    def test_a_client_that_fills_fields_is_found(self) -> None:
        said = self.with_fault(FILLS_FIELDS)
        self.assertIn("§ 5.1, § 7.12 dispose", said)
        self.assertIn("dispose: its field size is 7, and must be 0", said)

    def test_a_client_that_goes_by_messages_is_found(self) -> None:
        self.assertIn("differs: the status busy (spec.md, § 5.2", self.with_fault(GOES_BY_MESSAGES))

    def test_a_client_that_says_no_hello_is_found(self) -> None:
        self.assertIn("(spec.md, § 4.3)", self.with_fault(SKIPS_HELLO))

    def test_a_driver_that_says_nothing_is_found(self) -> None:
        from smalloc.conform import _scripted

        patience, _scripted.ANSWER_TIMEOUT = _scripted.ANSWER_TIMEOUT, 0.02
        self.addCleanup(setattr, _scripted, "ANSWER_TIMEOUT", patience)
        code, said = conform("client", "--", sys.executable, "-c", "import time; time.sleep(99)")
        self.assertEqual(code, 1)
        self.assertIn("no answer within", said)
        code, said = conform("client", "--", sys.executable, "-c", "print('what', flush=True)")
        self.assertEqual(code, 1)

    def test_what_a_driver_does_not_do_is_told(self) -> None:
        said = self.check([
            sys.executable, "-c",
            "from smalloc.conform import driver\n"
            "del driver.Drives.do_freeze\n"
            "driver.main()",
        ])  # fmt: skip
        self.assertIn("; not played: 2", said)


class ModelTests(unittest.TestCase):
    def test_the_server_that_clients_are_held_to_answers_as_the_vectors_say(self) -> None:
        """All but what needs mappings, and what tells times, limits and counters."""
        import json

        from smalloc.conform._model import Model, Session

        frames = json.loads((PROTOCOL / "vectors" / "frames.json").read_text())
        session, same = Session(Model()), 0
        for request, reply in zip(frames[::2], frames[1::2]):
            data, wanted = bytes.fromhex(request["hex"]), bytes.fromhex(reply["hex"])
            header = Header.decode(data)
            if reply["fields"]["status"] != "ok" or header.operation in (18, 19):
                continue
            session.serve(header, data[HEADER_SIZE:])
            got = b"".join(session.replies)
            session.replies.clear()
            if not reply.get("payloadVaries") and not reply.get("varies"):
                # Which handles are given is a server's own choice.
                self.assertEqual(got[:16] + got[20:], wanted[:16] + wanted[20:], reply["name"])
                same += 1
        self.assertGreater(same, 60)


if __name__ == "__main__":
    unittest.main()

"""The vectors of the protocol against a daemon, sent and taken by this package's own frames."""

import socket
import unittest
from typing import Any, Dict, List, Optional

from smalloc import SmallocError, _wire
from smalloc._errors import error_of
from smalloc._wire import Header, Reply, ReplyReader

from support import Daemon, protocol_file
from test_wire import OPERATIONS, STATUSES, header_of


class Wire:
    """A connection that sends given bytes and takes replies one by one."""

    def __init__(self, daemon: Daemon) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(daemon.path)
        self.reader = ReplyReader()
        self.ready: List[Reply] = []

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def next(self) -> Optional[Reply]:
        """The next reply; None at the end."""
        while not self.ready:
            try:
                count = self.socket.recv_into(self.reader.room())
            except ConnectionResetError:
                return None
            if count == 0:
                return None
            self.ready += self.reader.advance(count, lambda _: None)
        return self.ready.pop(0)

    def hello(self) -> None:
        self.send(_wire.hello(b"").encode(1))
        reply = self.next()
        assert reply is not None and reply.header.status == 0


class VectorTests(unittest.TestCase):
    def fresh(self) -> Wire:
        daemon = Daemon("--memory-max", "1G")
        self.addCleanup(daemon.stop)
        wire = Wire(daemon)
        self.addCleanup(wire.socket.close)
        return wire

    def check(self, reply: Optional[Reply], frame: Dict[str, Any]) -> None:
        assert reply is not None, frame["name"]
        expected, data = header_of(frame["fields"]), bytearray.fromhex(frame["hex"])
        got = bytearray(reply.header.encode() + reply.payload)
        for at, size in frame.get("varies", []):
            got[at : at + size] = data[at : at + size]
        if frame.get("payloadVaries"):
            got, data = got[:20] + got[24:40], data[:20] + data[24:40]
        self.assertEqual(got.hex(), data.hex(), frame["name"])
        if expected.status:
            error = error_of(reply.header.status, reply.payload.decode())
            self.assertIsInstance(error, SmallocError)
            self.assertEqual(error.status, frame["fields"]["status"])

    def test_each_request_gets_its_reply(self) -> None:
        wire = self.fresh()
        for frame in protocol_file("vectors/frames.json"):
            if frame["direction"] == "request":
                wire.send(bytes.fromhex(frame["hex"]))
            else:
                self.check(wire.next(), frame)

    def test_all_at_once(self) -> None:
        wire = self.fresh()
        frames = protocol_file("vectors/frames.json")
        wire.send(b"".join(bytes.fromhex(f["hex"]) for f in frames if f["direction"] == "request"))
        for frame in frames:
            if frame["direction"] == "reply":
                self.check(wire.next(), frame)

    def test_malformed(self) -> None:
        daemon = Daemon()
        self.addCleanup(daemon.stop)
        for vector in protocol_file("vectors/malformed.json"):
            with self.subTest(vector["name"]):
                wire = Wire(daemon)
                self.addCleanup(wire.socket.close)
                if vector["hello"]:
                    wire.hello()
                data = bytes.fromhex(vector["hex"])
                wire.send(data)
                if vector.get("end"):
                    wire.socket.shutdown(socket.SHUT_WR)
                if vector["status"] is not None:
                    reply = wire.next()
                    assert reply is not None
                    self.assertEqual(reply.header.status, STATUSES[vector["status"]])
                    self.assertEqual(reply.header.closes, vector["closes"])
                    if len(data) >= 40 and data[0] == 0xE5:
                        sent = Header.decode(data)
                        self.assertEqual(reply.header.operation, sent.operation)
                        self.assertEqual(reply.header.cookie, sent.cookie)
                if vector["closes"]:
                    self.assertIsNone(wire.next())
                elif not vector.get("end"):
                    if not vector["hello"]:
                        wire.hello()
                    wire.send(_wire.Request(_wire.Operation(OPERATIONS["ping"])).encode(9))
                    reply = wire.next()
                    assert reply is not None
                    self.assertEqual((reply.header.status, reply.header.cookie), (0, 9))


if __name__ == "__main__":
    unittest.main()

"""Who is connected, what was slow: as the daemon tells, and as hostile bytes would."""

import asyncio
import os
import struct
import unittest
from typing import Any

import smalloc
from smalloc import Cause, Mode, Transport, aio
from smalloc._monitoring import decode_clients, decode_slowlog
from smalloc._wire import FrameError, Header, Reply

from support import DaemonTestCase, protocol_file
from test_wire import header_of


class MonitoringTests(DaemonTestCase):
    options = ["--slowlog-threshold", "0ms"]

    def test_clients(self) -> None:
        kept = self.client.alloc(4)
        with smalloc.Client(self.daemon.address) as other:
            other.ping()
            found = self.client.clients()
            self.assertEqual(len(found), 2)
            ours = min(found, key=lambda one: one.id)
            self.assertEqual((ours.mode, ours.transport), (Mode.BINARY, Transport.UNIX))
            self.assertEqual((ours.user, ours.process), (os.getuid(), os.getpid()))
            self.assertEqual((ours.handles, ours.maps, ours.is_paused), (1, 0, False))
            self.assertRegex(ours.software, r"^smalloc-python/")
            self.assertGreaterEqual(ours.requests, 2)
            self.assertGreater(ours.bytes_read, 80)
        kept.dispose()

    def test_slowlog(self) -> None:
        self.client.alloc(1 << 20, name="a")
        self.client.fill("a", b"x")
        log = self.client.slowlog()
        self.assertEqual(log.threshold, 0)
        self.assertTrue(log.requests)
        self.assertEqual(
            [one.id for one in log.requests], sorted((o.id for o in log.requests), reverse=True)
        )
        self.assertLessEqual(len(self.client.slowlog(2).requests), 2)
        for one in log.requests:
            self.assertLess(one.duration, 60)
            self.assertIsInstance(one.operation, str)

    def test_with_asyncio(self) -> None:
        async def test() -> None:
            async with aio.Client(self.daemon.address) as client:
                found = await client.clients()
                self.assertEqual(len(found), 2)
                self.assertRegex(max(found, key=lambda one: one.id).software, "aio")
                self.assertEqual((await client.slowlog(1)).threshold, 0)

        asyncio.run(test())


class DecodeTests(unittest.TestCase):
    def reply(self, name: str) -> Reply:
        (frame,) = [one for one in protocol_file("vectors/frames.json") if one["name"] == name]
        return Reply(header_of(frame["fields"]), bytes.fromhex(frame["hex"])[40:])

    def test_the_vectors(self) -> None:
        (one,) = decode_clients(self.reply("clients reply"))
        self.assertEqual((one.user, one.process, one.age, one.handles), (1000, 4711, 60, 3))
        self.assertEqual((one.bytes_read, one.bytes_written, one.requests), (4096, 8192, 90))
        self.assertEqual(one.software, "me/1")
        log = decode_slowlog(self.reply("slowlog reply"))
        (slow,) = log.requests
        self.assertEqual((log.threshold, slow.operation, slow.duration), (0.1, "fill", 0.25))
        self.assertEqual((slow.cause, slow.name, slow.size), (Cause.WORK, "fixed", 1 << 30))
        self.assertEqual(slow.time.isoformat(), "2026-11-18T11:06:40.123000+00:00")

    def test_hostile_bytes(self) -> None:
        header = Header(0xE6, 1, 26, 0, 0, 0, 0, 1, 0, 0, 0, 1)
        whole = struct.pack("<HBBBB2x10Q", 88, 9, 9, 1, 0, 1, *([2**64 - 1] * 9))
        (one,) = decode_clients(Reply(header, whole))
        # Kinds that nobody knows yet are numbers; longer entries are skipped to their ends.
        self.assertEqual((one.mode, one.transport, one.user), (9, 9, None))
        longer = struct.pack("<H", 90) + whole[2:] + b"xy"
        self.assertEqual(len(decode_clients(Reply(header._replace(size=2), longer + whole))), 2)
        cases: Any = [
            whole[:-1],
            struct.pack("<H", 0) + whole[2:],
            struct.pack("<H", 89) + whole[2:],
            whole[:5] + b"\1" + whole[6:],
            whole + whole,
        ]
        for bad in cases:
            with self.assertRaises(FrameError):
                decode_clients(Reply(header, bad))
        late = struct.pack("<HBBB3x4Q", 40, 10, 0, 0, 1, 2**64 - 1, 0, 0)
        with self.assertRaises(FrameError):
            decode_slowlog(Reply(header, late))


if __name__ == "__main__":
    unittest.main()

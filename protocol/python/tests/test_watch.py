"""Watching names: events, cursors, what is missed; threads, tasks, interrupts, ends."""

import asyncio
import os
import signal
import threading
import time
import unittest
from random import Random
from typing import Any, Dict, List, Optional

import smalloc
from smalloc import Event, EventKind, aio
from smalloc._watching import decode_events
from smalloc._wire import FrameError

from support import Daemon, DaemonTestCase, scaled, seeded


class WatchTests(DaemonTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.other = smalloc.Client(self.daemon.address)
        self.addCleanup(self.other.close)

    def told(self, watch: smalloc.Watch) -> List[Event]:
        """All that can be had without waiting."""
        return list(iter(lambda: watch.next(0), None))  # type: ignore[arg-type]

    def test_each_kind(self) -> None:
        watch = self.client.watch("w/")
        self.other.create("before/w/", 1)
        a = self.other.alloc(4, name="w/a")
        a.truncate(2)
        a.freeze()
        a.rename("w/b")
        self.other.create("w/c", 1)
        a.rename("w/c", replace=True)
        self.other.alloc(1).rename("w/d")
        self.other.put("w/d", [1], "int8")
        a.dispose()
        self.assertEqual(
            self.told(watch),
            [
                Event(EventKind.ALLOCATED, "w/a"),
                Event(EventKind.TRUNCATED, "w/a"),
                Event(EventKind.FROZEN, "w/a"),
                Event(EventKind.RENAMED, "w/a", "w/b"),
                Event(EventKind.ALLOCATED, "w/c"),
                Event(EventKind.REPLACED, "w/b", "w/c"),
                Event(EventKind.ALLOCATED, "w/d"),
                Event(EventKind.REPLACED, "w/d", "w/d"),
                Event(EventKind.DISPOSED, "w/c"),
            ],
        )
        self.assertIsNone(watch.next(0))

    def test_it_waits(self) -> None:
        watch = self.client.watch()
        start = time.monotonic()
        self.assertIsNone(watch.next(0.1))
        self.assertGreaterEqual(time.monotonic() - start, 0.1)
        threading.Timer(0.05, self.other.create, ("a", 4)).start()
        self.assertEqual(next(watch), Event(EventKind.ALLOCATED, "a"))
        # Others use the client meanwhile.
        found: List[Event] = []
        thread = threading.Thread(target=lambda: found.append(next(watch)))
        thread.start()
        time.sleep(0.05)
        self.client.dispose("a")
        thread.join(10)
        self.assertEqual(found, [Event(EventKind.DISPOSED, "a")])

    def test_cursors(self) -> None:
        watch = self.client.watch()
        for name in "abc":
            self.other.create(name, 1)
        self.assertEqual(next(watch).name, "a")
        # The rest of what has come is not lost.
        again = self.client.watch(cursor=watch.cursor)
        self.assertEqual([one.name for one in self.told(again)][-2:], ["b", "c"])
        self.assertEqual([one.name for one in self.told(watch)], ["b", "c"])
        self.assertEqual(self.told(self.client.watch(cursor=watch.cursor)), [])
        foreign = self.client.watch(cursor=5)
        self.assertEqual(foreign.next(60), Event(EventKind.MISSED, missed=None))
        self.assertIsNone(foreign.next(0))

    def test_what_is_missed(self) -> None:
        watch = self.client.watch("x")
        for _ in range(8200):
            self.other.create("a", 1)
            self.other.dispose("a")
        self.other.create("x", 1)
        first = next(watch)
        self.assertEqual(first.kind, EventKind.MISSED)
        assert first.missed is not None
        self.assertGreaterEqual(first.missed, 8200 * 2 + 1 - 16384)
        self.assertEqual(next(watch), Event(EventKind.ALLOCATED, "x"))

    @seeded
    def test_a_list_and_events_are_what_is_there(self, random: Random) -> None:
        names: Dict[str, None] = {}
        watch = self.client.watch("r/")
        for _ in range(scaled(300)):
            name = "r/%d" % random.randrange(10)
            try:
                what = random.randrange(3)
                if what == 0:
                    self.other.create(name, 1)
                elif what == 1:
                    self.other.dispose(name)
                else:
                    self.other.rename(name, "r/%d" % random.randrange(10), bool(name[2:] > "5"))
            except (smalloc.NotFoundError, smalloc.AlreadyExistsError):
                pass
        for event in self.told(watch):
            if event.kind is EventKind.ALLOCATED:
                names[event.name] = None
            elif event.kind is EventKind.DISPOSED:
                del names[event.name]
            else:
                names.pop(event.name, None)
                assert event.new_name is not None
                names[event.new_name] = None
        self.assertEqual(sorted(names), sorted(one.name for one in self.client.list("r/")))

    def test_prefixes(self) -> None:
        for bad in ("no name", "\x01", "a" * 256, "\u00e9"):
            with self.assertRaises(smalloc.InvalidNameError):
                self.client.watch(bad)

    def test_ctrl_c_loses_nothing(self) -> None:
        kept = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, kept)
        watch = self.client.watch()
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with self.assertRaises(KeyboardInterrupt):
            next(watch)
        self.other.create("a", 1)
        self.assertEqual(watch.next(5), Event(EventKind.ALLOCATED, "a"))

    def test_the_daemon_stops(self) -> None:
        daemon = Daemon()
        self.addCleanup(daemon.stop)
        errors: List[Optional[BaseException]] = []
        with smalloc.Client(daemon.address) as client:
            watch = client.watch()

            def run() -> None:
                try:
                    next(watch)
                except BaseException as error:
                    errors.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            time.sleep(0.1)
            daemon.kill(signal.SIGTERM)
            thread.join(20)
        kinds = (smalloc.CancelledError, smalloc.ConnectionLostError)
        self.assertIsInstance(errors[0], kinds)

    def test_tasks(self) -> None:
        async def test() -> None:
            async with aio.Client(self.daemon.address) as client:
                watch = await client.watch("t/")
                self.assertIsNone(await watch.next(0.01))
                task: Any = asyncio.ensure_future(watch.next(None))
                await client.ping()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                for number in range(5):
                    await client.create("t/%d" % number, 1)
                names: List[str] = []
                async for event in watch:
                    names.append(event.name)
                    if len(names) == 5:
                        break
                self.assertEqual(names, ["t/%d" % number for number in range(5)])
                again = await client.watch("t/", cursor=watch.cursor)
                task = asyncio.ensure_future(again.next(None))
                await client.dispose("t/3")
                self.assertEqual(await task, Event(EventKind.DISPOSED, "t/3"))

        asyncio.run(test())


class DecodeTests(unittest.TestCase):
    def test_events(self) -> None:
        payload = b"\x01\x05\x00cam/1\x03\x03\x05newcam/2\x63\x01\x02abc\x02\x01\x00d"
        self.assertEqual(
            decode_events(payload),
            [
                Event(EventKind.ALLOCATED, "cam/1"),
                Event(EventKind.RENAMED, "new", "cam/2"),
                # A kind that nobody knows yet is left out.
                Event(EventKind.DISPOSED, "d"),
            ],
        )
        for at in range(1, len(payload)):
            try:
                decode_events(payload[:at])
            except FrameError:
                pass
        for bad in (b"\x01", b"\x01\x02\x00a", b"\x01\x01\x00\x01", b"\x03\x01\x01a"):
            with self.assertRaises(FrameError):
                decode_events(bad)


if __name__ == "__main__":
    unittest.main()

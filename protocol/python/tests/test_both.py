"""This client and the Swift library at the same allocations, each in a process of its own.

What one has written the other reads, by the socket, in text and mapped; either wakes the other.
"""

import gc
import os
import struct
import subprocess
import threading
import time
import unittest
from random import Random
from typing import Any, List

import smalloc
from smalloc import ElementType, WaitResult, _wire
from smalloc._cells import AtomicAction, atomic

from peers import Peer
from support import IS_NIGHTLY, DaemonTestCase, Worker, same_without_numpy, scaled, seeded
from support import worker_path
from test_mapping import within

TYPES = [ElementType.of_number(number) for number in range(1, 17)]
WHOLE = [one for one in TYPES if one.number in (1, 2, 3, 4, 5, 6, 10, 11)]
# Numbers that every type with a sign, or without, holds as they are.
SOME = [0, 1, 2, 100, 127, 3, 7]
SIGNED = [0, 1, -1, 100, -128, 127, 3]
WAYS = ("socket", "map")


def some_values(type: ElementType, source: Random) -> List[Any]:
    if type.name == "Bool":
        return [source.random() < 0.5 for _ in range(7)]
    if type.name.startswith("Complex"):
        return [complex(a, -b) for a, b in zip(source.sample(SIGNED, 7), SIGNED)]
    if type.name.startswith("Uint"):
        return source.sample(SOME, 7)
    return source.sample(SIGNED, 7)


class BothTestCase(DaemonTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.worker = Worker(self.daemon.address)
        self.addCleanup(self.worker.close)
        self.text = Peer(self.daemon.address, greets=False).socket
        self.addCleanup(self.text.close)
        self.lines = self.text.makefile("rb")
        self.addCleanup(self.lines.close)

    def told(self, line: str) -> str:
        self.text.sendall(line.encode() + b"\n")
        return self.lines.readline().decode().rstrip("\n")


@same_without_numpy
class ElementTests(BothTestCase):
    @seeded
    def test_elements_of_every_type_in_every_way(self, random: Random) -> None:
        for type in TYPES:
            a = self.client.alloc(7, type, "a")
            for way in WAYS:
                # Python writes, by requests and mapped.
                for mapped in (False, True):
                    values = some_values(type, random)
                    if mapped:
                        a.map()[:] = values
                    else:
                        a.write(type.pack(values))
                    self.assertEqual(
                        self.worker.ask("read", way, "a"), type.pack(values).hex(), (type, way)
                    )
                    self.assertEqual(self.read_as_text(type), values, type)
                # Swift writes.
                values = some_values(type, random)
                data = type.pack(values)
                self.assertEqual(self.worker.ask("write", way, "a", data.hex()), "ok")
                self.assertEqual((a[:], a.map()[:]), (values, values), (type, way))
                self.assertEqual(self.read_as_text(type), values, type)
                # Text writes.
                values = some_values(type, random)
                words = " ".join(self.word(one) for one in values)
                self.assertEqual(self.told("write a 0 " + words), "OK", (type, words))
                self.assertEqual(self.worker.ask("read", way, "a"), type.pack(values).hex(), type)
                self.assertEqual((a[:], a.map()[:]), (values, values), type)
            self.client.dispose("a")

    @staticmethod
    def word(value: Any) -> str:
        if isinstance(value, complex):
            return "%r,%r" % (value.real, value.imag)
        return str(int(value))

    def read_as_text(self, type: ElementType) -> List[Any]:
        words = self.told("read a").split()
        self.assertEqual(words[0], "OK")
        if type.name.startswith("Complex"):
            return [complex(*(float(part) for part in one.split(","))) for one in words[1:]]
        return [float(one) if "." in one else int(one) for one in words[1:]]

    def test_shapes_metadata_put_and_get(self) -> None:
        for shape in ((), (6,), (2, 3), (3, 1, 2), (0, 4)):
            length = 1
            for one in shape:
                length *= one
            data = struct.pack("<%df" % length, *range(length))
            told = ",".join(str(one) for one in shape)
            # Swift puts.
            metadata = bytes(range(len(shape) * 20))
            answer = self.worker.ask(
                "put", "a", "float", told or "-", metadata.hex() or "-", data.hex() or "-"
            )
            self.assertEqual(answer, "ok")
            array = self.client.get("a")
            self.assertEqual((array.shape, array.type.name), (shape, "Float"))
            self.assertEqual(array.tobytes(), data)
            self.assertEqual(self.client.stat("a").metadata, metadata)
            # Python puts.
            made = self.client.array("b", shape, "Int16", b"\x00\xffmine")
            self.assertEqual(made.shape, shape)
            self.assertEqual(
                self.worker.ask("stat", "b"),
                "int16 %d %s %s" % (length, told, b"\x00\xffmine".hex()),
            )
            if length:
                made.fill(3)
                read = self.worker.ask("read", "map", "b")
                self.assertEqual(read, (b"\3\0" * length).hex())
            self.client.dispose("b")
        # What is put in the place of another is another.
        array = self.client.put("a", b"12")
        self.assertEqual(self.worker.ask("hold", "a"), "ok")
        self.assertEqual(self.worker.ask("put", "a", "uint8", "3", "-", "010203"), "ok")
        self.assertEqual(self.worker.ask("held"), "false 0 3132")
        self.assertFalse(array.is_live)
        self.assertEqual(self.client.get("a").tobytes(), b"\1\2\3")

    def test_freeze_truncate_and_dispose_are_seen_by_the_other(self) -> None:
        for by_swift in (False, True):
            a = self.client.alloc(4, "Uint16", "a")
            a.write(struct.pack("<4H", 1, 2, 3, 4))
            mapping = a.map(writable=False)
            self.assertEqual(self.worker.ask("hold", "a"), "ok")
            self.assertEqual(self.worker.ask("held"), "true 4 0100020003000400")
            if by_swift:
                self.assertEqual(self.worker.ask("truncate", "a", 3), "ok")
            else:
                a.truncate(3)
            self.assertEqual(self.worker.ask("held")[:7], "true 3 ")
            self.assertEqual(self.client.stat("a").length, 3)
            if by_swift:
                self.assertEqual(self.worker.ask("freeze", "a"), "ok")
            else:
                a.freeze()
            self.assertTrue(mapping.frozen and a.frozen)
            with self.assertRaises(smalloc.FrozenError):
                a.write(b"xx")
            for way in WAYS:
                self.assertEqual(self.worker.ask("write", way, "a", "000000000000"), "error frozen")
                self.assertEqual(self.worker.ask("read", way, "a"), "010002000300")
            if by_swift:
                self.assertEqual(self.worker.ask("dispose", "a"), "ok")
            else:
                self.client.dispose("a")
            self.assertEqual((mapping.is_live, mapping.exists), (False, False))
            self.assertEqual(self.worker.ask("held")[:8], "false 0 ")
            with self.assertRaises(smalloc.NotFoundError):
                a.read_bytes()
            self.assertEqual(self.worker.ask("read", "socket", "a"), "error noData")
            self.assertEqual(self.worker.ask("drop"), "ok")
            del mapping

    def test_a_writable_map_of_the_other_is_in_the_way_of_a_freeze(self) -> None:
        a = self.client.alloc(4, "Uint16", "a")
        mapping = a.map()
        self.assertEqual(self.worker.ask("freeze", "a"), "error busy")
        mapping[0] = 1
        del mapping
        gc.collect()
        self.assertEqual(self.worker.ask("freeze", "a"), "ok")


@same_without_numpy
class CellTests(BothTestCase):
    @seeded
    def test_atomics_on_one_cell_from_both_sides(self, random: Random) -> None:
        for type in WHOLE:
            self.client.alloc(3, type, "a")
            a = self.client.open("a")
            mapping = a.map()
            size = 8 * type.itemsize
            low = 0 if type.name.startswith("Uint") else -(1 << size - 1)
            value = 0
            for turn in range(60):
                operand, expected = (low + random.randrange(1 << size) for _ in range(2))
                action = random.choice(
                    ["load", "store", "exchange", "add", "subtract", "and", "or", "xor", "compare"]
                )
                if action == "compare" and random.random() < 0.5:
                    expected = value
                old = self.act(random.randrange(4), a, mapping, action, operand, expected)
                if action != "store":
                    self.assertEqual(old, value, (type, action))
                value = self.after(action, value, operand, expected, low, size)
                self.assertEqual(self.act(turn % 4, a, mapping, "load", 0, 0), value, type)
            self.assertEqual((mapping[0], mapping[2]), (0, 0))
            del mapping
            self.client.dispose("a")

    def act(
        self, side: int, a: Any, mapping: Any, action: str, operand: int, expected: int
    ) -> int:  # fmt: skip
        """Do it with cell 1: 0 and 1 are Python, by requests and mapped, 2 and 3 are Swift."""
        if side >= 2:
            numbers = [expected, operand] if action == "compare" else [operand]
            told = self.worker.ask("atomic", WAYS[side - 2], "a", 1, action, *numbers)
            return 0 if told == "ok" else int(told)
        who = (a, mapping)[side]
        if action == "compare":
            return int(who.atomic_compare_exchange(1, expected, operand))
        arguments = () if action == "load" else (operand,)
        return int(getattr(who, "atomic_" + action)(1, *arguments) or 0)

    @staticmethod
    def after(action: str, value: int, operand: int, expected: int, low: int, size: int) -> int:
        value = {
            "load": value,
            "store": operand,
            "exchange": operand,
            "add": value + operand,
            "subtract": value - operand,
            "and": value & operand,
            "or": value | operand,
            "xor": value ^ operand,
            "compare": operand if value == expected else value,
        }[action]
        return (value - low) % (1 << size) + low

    def test_swift_wakes_python(self) -> None:
        a = self.client.alloc(4, "Int32", "a")
        for way in WAYS:
            found: List[WaitResult] = []
            thread = threading.Thread(target=lambda: found.append(a.wait(2, 0, 20)))
            thread.start()
            # An Allocation's wait is a request, which the daemon tells of.
            self.assertTrue(within(5, lambda: self.handles() == 2))
            self.assertEqual(self.worker.ask("atomic", way, "a", 2, "add", 5), "0")
            self.assertEqual(self.worker.ask("notify", way, "a", 2), "1")
            thread.join(20)
            self.assertEqual(found, [WaitResult.NOTIFIED])
            self.assertEqual(self.worker.ask("atomic", way, "a", 2, "store", 0), "ok")

    def handles(self) -> int:
        with smalloc.Client(self.daemon.address) as other:
            return other.stat("a").handles

    def test_python_wakes_swift(self) -> None:
        for way in WAYS:
            a = self.client.alloc(4, "Int32", "a")
            mapping = a.map()
            for store in (a.atomic_store, mapping.atomic_store):
                self.assertEqual(self.worker.ask("wait", way, "a", 1, 5, 0), "differs")
                self.assertEqual(self.worker.ask("wait", way, "a", 1, 0, 1), "timeout")
                self.worker.send("wait", way, "a", 1, 0, 20_000)
                # Until it sleeps, there is none to be woken; once it does, it is one.
                self.assertTrue(within(10, lambda: a.notify(1) == 1))
                self.assertEqual(self.worker.receive(), "notified")
                self.worker.send("wait", way, "a", 1, 0, 20_000)
                store(1, 7)
                a.notify(1)
                # It has found the new value, or was there to be woken.
                self.assertIn(self.worker.receive(), ("differs", "notified"))
                store(1, 0)
            self.worker.send("wait", way, "a", 1, 0, 20_000)
            self.assertTrue(within(10, lambda: a.notify(1) == 1))
            self.assertEqual(self.worker.receive(), "notified")
            self.worker.send("wait", way, "a", 1, 0, 20_000)
            time.sleep(0.1)
            del mapping
            self.client.dispose("a")
            self.assertEqual(self.worker.receive(), "disposed")


@same_without_numpy
class SumTests(DaemonTestCase):
    def test_four_processes_add_a_million_each(self) -> None:
        """Two have the cell mapped, by the Swift library; two send requests."""
        count = 1_000_000 if IS_NIGHTLY else scaled(100_000)
        cells = self.client.alloc(8, "Int64", "cells")
        workers = [
            subprocess.Popen(
                [worker_path(), "count", self.daemon.address, "cells", "5", str(count)]
            )
            for _ in range(2)
        ]
        children = [self.adding(count) for _ in range(2)]
        try:
            # One for each, and this one.
            self.assertTrue(within(20, lambda: self.client.stats()["connections"] == 5))
            cells.atomic_store(0, 1)
            for worker in workers:
                self.assertEqual(worker.wait(600), 0)
            while children:
                _, status = os.waitpid(children[0], 0)
                children.pop(0)
                self.assertEqual(status, 0)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
            for child in children:
                os.kill(child, 9)
                os.waitpid(child, 0)
        self.assertEqual(cells[:], [1, 0, 0, 0, 0, 4 * count, 0, 0])

    def adding(self, count: int) -> int:
        """Fork a process that adds by requests, many under way at once."""
        child = os.fork()
        if child:
            return child
        try:
            peer = Peer(self.daemon.address)
            load = atomic(0, AtomicAction.LOAD)
            load.name = b"cells"
            while struct.unpack("<q", peer.call(load).payload) == (0,):
                time.sleep(0.0001)
            request = atomic(40, AtomicAction.ADD, 1)
            request.name = b"cells"
            frame, size = peer.frame(request), _wire.HEADER_SIZE + 8
            while count:
                batch = min(count, 500)
                peer.socket.sendall(frame * batch)
                left = batch * size
                while left:
                    left -= len(peer.socket.recv(left))
                count -= batch
            os._exit(0)
        finally:
            os._exit(1)


if __name__ == "__main__":
    unittest.main()

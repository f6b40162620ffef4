"""Frames as bytes: the vectors both ways, replies however they are cut, hostile replies."""

import unittest
from random import Random
from typing import Any, Dict, List, Optional

from smalloc import _wire
from smalloc._wire import Claim, FrameError, Header, Operation, Reply, ReplyReader, Request

from support import protocol_file, seeded

FRAMES = protocol_file("vectors/frames.json")
BY_NAME = {frame["name"]: frame for frame in FRAMES}
STATUSES = {one["name"]: one["number"] for one in protocol_file("values.json")["statuses"]}
OPERATIONS = {one["name"]: one["number"] for one in protocol_file("values.json")["operations"]}


def header_of(fields: Dict[str, Any]) -> Header:
    return Header(
        fields["magic"],
        fields["version"],
        OPERATIONS[fields["operation"]],
        fields["flags"],
        STATUSES[fields["status"]],
        fields["nameSize"],
        fields["type"],
        int(fields["cookie"]),
        fields["handle"],
        fields["payloadSize"],
        int(fields["offset"]),
        int(fields["size"]),
    )


def feed(claim: Claim, data: bytes, sizes: List[int]) -> List[Reply]:
    """Give bytes to a fresh reader in parts of these sizes, as far as there is room for them."""
    reader, replies = ReplyReader(), []
    at, turn = 0, 0
    while at < len(data):
        room = reader.room()
        count = min(sizes[turn % len(sizes)], len(room), len(data) - at)
        room[:count] = data[at : at + count]
        replies += reader.advance(count, claim)
        at += count
        turn += 1
    return replies


class CodecTests(unittest.TestCase):
    def test_vectors_both_ways(self) -> None:
        self.assertGreater(len(FRAMES), 200)
        for frame in FRAMES:
            data = bytes.fromhex(frame["hex"])
            header = header_of(frame["fields"])
            self.assertEqual(Header.decode(data), header, frame["name"])
            self.assertEqual(header.encode(), data[:40], frame["name"])
            self.assertEqual(header.payload_size, len(data) - 40, frame["name"])

    def test_requests_are_those_of_the_vectors(self) -> None:
        data = lambda text: memoryview(bytes.fromhex(text))  # noqa: E731
        built = {
            "hello": _wire.hello(b"example/1.0"),
            "ping": Request(Operation.PING),
            "alloc": _wire.alloc(2, 4, b"a"),
            "alloc anonymous": _wire.alloc(8, 24),
            "alloc without a handle": None,
            "write": _wire.write(0, data("00010203")),
            "write vectored": None,
            "read": _wire.read(0, 4),
            "read by name": None,
            "read vectored": _wire.read_ranges([(2, 2), (0, 1)]),
            "open": Request(Operation.OPEN, name=b"a"),
            "stat": Request(Operation.STAT, name=b"a"),
            "list": _wire.list_names(b"a", 0, 100),
            "fill": _wire.fill(0, 4, b"\xff"),
            "copy": _wire.copy(2, 2, 0),
            "copy by names": None,
            "dispose": Request(Operation.DISPOSE),
            "truncate": Request(Operation.TRUNCATE, size=3),
            "rename": _wire.rename(b"doubles", False, b"d"),
            "rename in the place of another": None,
            "stats": Request(Operation.STATS),
            "close": Request(Operation.CLOSE),
            "quit": Request(Operation.QUIT),
        }
        for name, request in built.items():
            frame = BY_NAME[name]
            header = header_of(frame["fields"])
            whole = bytes.fromhex(frame["hex"])
            if request is None:
                request = rebuilt(header, whole[40:])
            dest = 0
            if header.operation == Operation.COPY:
                at = 40 + header.name_size
                dest = int.from_bytes(whole[at + 8 : at + 12], "little")
            encoded = request.encode(header.cookie, header.handle, dest)
            if request.data is not None:
                encoded += request.data
            self.assertEqual(encoded.hex(), frame["hex"], name)

    def test_all_plain_requests_of_the_vectors_can_be_built(self) -> None:
        count = 0
        for frame in FRAMES:
            if frame["direction"] != "request":
                continue
            header = header_of(frame["fields"])
            whole = bytes.fromhex(frame["hex"])
            dest = 0
            if header.operation == Operation.COPY:
                at = 40 + header.name_size
                dest = int.from_bytes(whole[at + 8 : at + 12], "little")
            request = rebuilt(header, whole[40:])
            encoded = request.encode(header.cookie, header.handle, dest)
            if request.data is not None:
                encoded += request.data
            self.assertEqual(encoded.hex(), frame["hex"], frame["name"])
            count += 1
        self.assertGreater(count, 100)


def rebuilt(header: Header, payload: bytes) -> Request:
    """Build the request of a vector by the builders, from what its fields mean."""
    name, rest = payload[: header.name_size], payload[header.name_size :]
    operation = Operation(header.operation)
    vectored = operation in (Operation.READ, Operation.WRITE) and header.flags & 1
    if vectored and header.size and len(rest) >= 16 * header.size:
        numbers = _wire.decode_numbers(rest[: 16 * header.size])
        ranges = list(zip(numbers[::2], numbers[1::2]))
        if operation is Operation.READ:
            return _wire.read_ranges(ranges, name)
        return _wire.write_ranges(ranges, memoryview(rest[16 * header.size :]), name)
    if operation is Operation.ALLOC:
        no_handle, shareable = header.flags & 2 == 2, header.flags & 4 == 4
        leased = header.flags & 16 == 16
        return _wire.alloc(header.type, header.size, name, no_handle, shareable, rest, leased)
    if operation is Operation.READ and not vectored:
        return _wire.read(header.offset, header.size, name)
    if operation is Operation.WRITE and not vectored:
        return _wire.write(header.offset, memoryview(rest), name)
    if operation is Operation.FILL:
        return _wire.fill(header.offset, header.size, rest, name)
    if operation is Operation.LIST:
        return _wire.list_names(name, header.offset, header.size)
    if operation is Operation.RENAME:
        return _wire.rename(rest, header.flags == 1, name)
    if operation is Operation.COPY:
        dest_offset = int.from_bytes(rest[:8], "little")
        return _wire.copy(header.offset, header.size, dest_offset, rest[16:], name)
    if operation is Operation.HELLO:
        return _wire.hello(rest)
    if operation is Operation.MAP:
        return _wire.map_memory(header.flags & 1 == 1, header.flags & 2 == 2, name)
    return Request(
        operation,
        flags=header.flags,
        type=header.type,
        name=name,
        offset=header.offset,
        size=header.size,
        payload=rest,
    )


class ReaderTests(unittest.TestCase):
    @seeded
    def test_replies_are_the_same_however_they_are_cut(self, random: Random) -> None:
        stream = b"".join(
            bytes.fromhex(frame["hex"]) for frame in FRAMES if frame["direction"] == "reply"
        )
        # One that is received where it belongs, and one that is not.
        for size in (100_000, 20_000):
            stream += Header(0xE6, 1, 8, 0, 0, 0, 2, 7, 0, size, 0, size).encode() + b"x" * size
        whole = feed(lambda _: None, stream, [1 << 20])
        self.assertEqual(len(whole), len([f for f in FRAMES if f["direction"] == "reply"]) + 2)
        for sizes in ([1], [39, 1], [40], [41], [3, 50, 17], [65536, 1]):
            self.assertEqual(feed(lambda _: None, stream, sizes), whole, sizes)
        for _ in range(20):
            sizes = [random.randint(1, 5000) for _ in range(50)]
            self.assertEqual(feed(lambda _: None, stream, sizes), whole)

    def test_a_payload_goes_into_the_claimed_memory(self) -> None:
        for size in (0, 1, 16384, 16385, 200_000):
            for sizes in ([1 << 20], [7919], [40, 16384]):
                data = bytes(range(256)) * (size // 256 + 1)
                memory = bytearray(size)
                frame = Header(0xE6, 1, 8, 0, 0, 0, 2, 7, 0, size, 0, size).encode() + data[:size]
                view = memoryview(memory)
                replies = feed(lambda _: view, frame * 2, sizes)
                self.assertEqual([reply.payload for reply in replies], [b"", b""])
                self.assertEqual(memory, data[:size])

    @seeded
    def test_hostile_bytes_are_refused_and_take_no_memory(self, random: Random) -> None:
        def bounded(header: Header) -> Optional[memoryview]:
            if header.payload_size > 1 << 16:
                raise FrameError("too large")
            return None

        good = bytearray.fromhex(BY_NAME["read reply"]["hex"])
        for change, why in ((b"\xe5", "magic"), (b"E", "text")):
            with self.assertRaises(FrameError, msg=why):
                feed(bounded, change + good[1:], [1])
        for at, value in ((1, 2), (6, 5), (23, 0xFF)):
            bad = bytearray(good)
            bad[at] = value
            with self.assertRaises(FrameError, msg=str(at)):
                feed(bounded, bytes(bad), [1000])
        for _ in range(3000):
            stream = bytearray(good * 3)
            for _ in range(random.randint(1, 4)):
                stream[random.randrange(len(stream))] = random.randrange(256)
            try:
                for reply in feed(bounded, bytes(stream), [random.randint(1, 200)]):
                    self.assertEqual(len(reply.payload), reply.header.payload_size)
            except FrameError:
                pass

    def test_entries_that_do_not_fill_their_page_are_refused(self) -> None:
        payload = bytes.fromhex(BY_NAME["list reply"]["hex"])[40:]
        self.assertEqual(_wire.decode_entries(payload, 1), [(4, 2, b"a")])
        for bad, count in ((payload[:-1], 1), (payload, 2), (payload, 0), (payload + b"\0" * 9, 2)):
            with self.assertRaises(FrameError):
                _wire.decode_entries(bad, count)


if __name__ == "__main__":
    unittest.main()

"""What is opened and used in one round trip: whatever number its handle gets."""

import contextlib
import gc
import os
import socket
import struct
import threading
import unittest
from random import Random
from typing import Any, Dict, Iterator, List

import smalloc
from smalloc._opening import HandleNumbers
from smalloc._wire import Operation

from support import DaemonTestCase, seeded
from test_hostile import HostileTestCase
from test_hostile_maps import PAGE, file_of, mapped_files
from test_mapping import within


class HandleNumberTests(unittest.TestCase):
    @seeded
    def test_it_is_never_the_number_of_an_open_handle(self, random: Random) -> None:
        numbers, is_open = HandleNumbers(), set()  # type: ignore[var-annotated]
        for _ in range(20_000):
            self.assertNotIn(numbers.next, is_open)
            if is_open and random.random() < (0.48 if len(is_open) < 100 else 1):
                closed = random.choice(sorted(is_open))
                is_open.remove(closed)
                numbers.closed(closed)
                continue
            number = numbers.next
            while random.random() < 0.1 or number in is_open:
                number = random.randint(1, 200)
            is_open.add(number)
            numbers.opened(number)


class RoundTripTests(DaemonTestCase):
    @contextlib.contextmanager
    def exchanges(self, count: int) -> Iterator[None]:
        """Count how often requests are sent and waited for."""
        connection, found = self.client._connection, []
        exchange = connection.exchange

        def counted(*args: Any, **options: Any) -> Any:
            found.append(args)
            return exchange(*args, **options)

        connection.exchange = counted  # type: ignore[method-assign]
        try:
            yield
        finally:
            connection.exchange = exchange  # type: ignore[method-assign]
        self.assertEqual(len(found), count)

    def test_each_takes_so_many(self) -> None:
        client = self.client
        with self.exchanges(1):
            made = client.array("a", (2, 3), "float32")
        with self.exchanges(1):
            found = client.array("a", (2, 3), "float32")
        with self.exchanges(1):
            got = client.get("a")
        with self.exchanges(1):
            read_only = client.get("a", writable=False)
        made[0] = 4
        for one in (found, got, read_only):
            self.assertEqual((one.shape, one[0, 2], one.is_live), ((2, 3), 4, True))
        with self.exchanges(2):
            client.put("b", bytes(100_000))
        # The second closes it.
        with self.exchanges(2), self.assertRaises(smalloc.MismatchError):
            client.array("a", (3, 3), "float32")
        del made, found, got, read_only, one
        gc.collect()
        self.assertEqual(client.stat("a").handles, 0)
        client.get("a").freeze()
        with self.exchanges(2):
            self.assertTrue(client.get("a").frozen)

    @seeded
    def test_the_daemons_numbers_are_foretold(self, random: Random) -> None:
        handles = self.client._connection.handles
        for one in range(5):
            self.client.create("a%d" % one, 1)
        held: List[smalloc.Allocation] = []
        for _ in range(1000):
            what = random.randrange(5)
            if held and what < 2:
                held.pop(random.randrange(len(held))).close()
            elif held and what == 2:
                # Without a request of its own.
                del held[random.randrange(len(held))]
            elif what == 3:
                with contextlib.suppress(smalloc.NotFoundError):
                    self.client.open("none")
            else:
                # What was abandoned is closed first.
                self.client.ping()
                foretold = handles.next
                opened = self.client.open("a%d" % random.randrange(5))
                self.assertEqual(opened.handle.number, foretold)
                held.append(opened)

    def test_an_array_and_its_memory_belong_together(self) -> None:
        stop, wrong = threading.Event(), []  # type: ignore[var-annotated]

        def replace() -> None:
            with smalloc.Client(self.daemon.address) as client:
                length = 0
                while not stop.is_set():
                    length = length % 50 + 1
                    try:
                        client.put("a", [length] * length, "Int32")
                        with contextlib.suppress(smalloc.MismatchError, smalloc.NotFoundError):
                            client.array("b", length % 2 + 7, "Int32")
                            client.dispose("b")
                    except smalloc.SmallocError as error:
                        wrong.append(error)

        self.client.put("a", [1], "Int32")
        thread = threading.Thread(target=replace)
        thread.start()
        try:
            for _ in range(1500):
                found = self.client.get("a")
                self.assertEqual(found.tolist(), [found.length] * found.length)
                with contextlib.suppress(smalloc.NotFoundError):
                    data = found.allocation.tolist()
                    self.assertEqual(data, [found.length] * found.length)
                with contextlib.suppress(smalloc.MismatchError, smalloc.NotFoundError):
                    self.assertEqual(self.client.array("b", 7, "Int32").tolist(), [0] * 7)
                    self.client.dispose("b")
        finally:
            stop.set()
            thread.join(20)
        self.assertEqual([str(one) for one in wrong], [])


class OtherNumberTests(HostileTestCase):
    """Servers that give handles numbers of their own choice."""

    def client_and_log(self, numbers: List[int], lies: bool = False) -> Any:
        """Each handle is one to an allocation of 6 Int8, all of them 7.

        A server that `lies` answers what goes by other handles, too.
        """
        log: List[str] = []

        def answer(connection: socket.socket) -> None:
            header = self.request(connection)
            connection.sendall(self.reply(header, struct.pack("<3Q", 1, 1, 1 << 0 | 1 << 6)))
            is_first = True
            handles: Dict[int, Any] = {}
            while True:
                header = self.request(connection)
                operation = Operation(header.operation)
                log.append("%s %d" % (operation.name, header.handle))
                fields: Any = handles.get(header.handle, {"type": 1, "size": 6})
                if operation in (Operation.OPEN, Operation.ALLOC):
                    if operation is Operation.ALLOC:
                        fields = {"type": header.type, "size": header.size}
                    handles[numbers[0]] = fields
                    reply = self.reply(header, handle=numbers.pop(0), **fields)
                elif header.handle not in handles and not lies:
                    reply = self.reply(header, status=0x8001)
                elif operation is Operation.STAT:
                    told = [0, 1, 1, 0, 0, 0, 0, 0, 2, 2, 3, 0, 0, 0, 0, 0, 0, 0]
                    reply = self.reply(header, struct.pack("<18Q", *told), **fields)
                elif operation is Operation.MAP:
                    files = [file_of(size) for size in (fields["size"] + PAGE, 64)[: 1 + is_first]]
                    os.pwrite(files[0], b"\7" * 6, 0)
                    payload = struct.pack("<3I", 1, 1, len(files))
                    is_first = False
                    reply = self.reply(header, payload, **fields)
                    socket.send_fds(connection, [reply[:1]], files)
                    reply = reply[1:]
                    for one in files:
                        os.close(one)
                else:
                    reply = self.reply(header)
                connection.sendall(reply)

        return self.client_of(self.served(answer), timeout=5), log

    def test_what_was_foretold_wrong_is_asked_for_again(self) -> None:
        client, log = self.client_and_log([9, 4, 300, 9])
        for number in (9, 4, 300):
            log.clear()
            array = client.get("a")
            self.assertEqual(array.tolist(), [[7, 7, 7], [7, 7, 7]])
            self.assertEqual(array.allocation.handle.number, number)
            self.assertIn("MAP %d" % number, log)
            # Held, so that its number is not free.
            setattr(self, "array%d" % number, array)
        put = client.put("b", b"\7" * 100_000)
        self.assertEqual(put.tobytes(), b"\7" * 100_000)

    def test_what_goes_by_other_numbers_is_not_believed(self) -> None:
        gc.collect()
        before = mapped_files()
        client, log = self.client_and_log([9], lies=True)
        array = client.get("a")
        self.assertEqual(log, ["OPEN 0", "STAT 1", "MAP 1", "STAT 9", "MAP 9"])
        gc.collect()
        # The state memory is one of them, mapped and, before Python 3.13, open.
        self.assertTrue(within(2, lambda: mapped_files() <= before + 4), (mapped_files(), before))
        self.assertEqual(array.tolist(), [[7, 7, 7], [7, 7, 7]])

    def test_a_handle_without_a_number(self) -> None:
        client, _ = self.client_and_log([0])
        with self.assertRaises(smalloc.ProtocolError):
            client.get("a")


if __name__ == "__main__":
    unittest.main()

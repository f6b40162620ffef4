"""Freezing: what is sealed can't be changed any more, by anybody."""

import threading
import unittest

import smalloc

from support import DaemonTestCase


class FreezeTests(DaemonTestCase):
    def test_freeze(self) -> None:
        a = self.client.alloc(4, "Int32", "a")
        a[0] = 1
        self.assertFalse(a.frozen)
        m = a.map()
        with self.assertRaises(smalloc.BusyError) as caught:
            a.freeze()
        self.assertEqual(caught.exception.status, "busy")
        m[1] = 2
        reader = a.map(writable=False)
        self.assertFalse(reader.frozen)
        del m
        a.freeze()
        self.assertTrue(a.frozen and reader.frozen)
        a.freeze()
        self.client.freeze("a")
        for change in (
            lambda: a.write(b"1234"),
            lambda: a.fill(1),
            lambda: a.truncate(1),
            lambda: self.client.alloc(4, "Int32").copy_onto(a),
            a.map,
            lambda: reader.write(b"1234"),
        ):
            with self.assertRaises(smalloc.FrozenError):
                change()
        self.assertEqual((a[:], reader[:]), ([1, 2, 0, 0], [1, 2, 0, 0]))
        with self.assertRaises(smalloc.NotFoundError):
            self.client.freeze("nothing")

    def test_an_array_freezes_though_it_is_mapped_itself(self) -> None:
        a = self.client.array("a", (2, 3), "Int16")
        a[1] = 5
        self.assertFalse(a.frozen)
        a.freeze()
        self.assertTrue(a.frozen)
        self.assertEqual(a[1, 0], 5)
        with self.assertRaises(smalloc.FrozenError):
            a[0] = 1
        with self.assertRaises(smalloc.FrozenError):
            a.fill(1)
        got = self.client.get("a", (2, 3))
        self.assertTrue(got.frozen and not got.mapping.writable)
        self.client.close()
        self.assertEqual(a[1, 1], 5)

    def test_another_programs_mapping_is_in_the_way(self) -> None:
        a = self.client.array("a", 3, "Int16")
        with smalloc.Client(self.daemon.address) as other:
            theirs = other.get("a")
            with self.assertRaises(smalloc.BusyError):
                a.freeze()
            self.assertTrue(a.mapping.writable)
            a[0] = 3
            del theirs
            a.freeze()
            self.assertEqual(other.get("a")[0], 3)

    def test_readers_that_come_while_it_is_frozen(self) -> None:
        stop, wrong = threading.Event(), []  # type: ignore[var-annotated]

        def read() -> None:
            with smalloc.Client(self.daemon.address) as client:
                while not stop.is_set():
                    try:
                        client.get("a", writable=False)[0]
                    except smalloc.SmallocError as error:
                        wrong.append(error)

        self.client.put("a", bytes(100_000))
        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(100):
                self.client.put("a", bytes(100_000)).freeze()
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
        self.assertEqual([str(one) for one in wrong], [])


if __name__ == "__main__":
    unittest.main()

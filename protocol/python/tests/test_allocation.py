"""Elements of allocations, by index and slice, in every type."""

import array
import math
import unittest
from random import Random
from typing import Any

import smalloc
from smalloc import ElementType

from support import DaemonTestCase, needs_numpy, numpy, seeded

# Values that each type holds exactly.
EXACT = {
    "Int8": [-128, 127, 0, -1],
    "Uint8": [0, 255, 1, 2],
    "Int16": [-32768, 32767, 0, -1],
    "Uint16": [0, 65535, 1, 2],
    "Int32": [-(2**31), 2**31 - 1, 0, -1],
    "Uint32": [0, 2**32 - 1, 1, 2],
    "Float": [0.5, -math.inf, 2.0**-149, 3.0],
    "Double": [0.1, 5e-324, -math.inf, 2.0**1023],
    "Uint8Clamped": [0, 255, 1, 2],
    "Int64": [-(2**63), 2**63 - 1, 2**53 + 1, 0],
    "Uint64": [0, 2**64 - 1, 2**53 + 1, 1],
    "Float16": [0.5, 65504.0, 2.0**-24, -math.inf],
    "Bfloat16": [1.0, 2.0**127, -0.5, math.inf],
    "Bool": [True, False, True, True],
    "ComplexFloat": [1 + 2j, 0.5j, -1 + 0j, 0j],
    "ComplexDouble": [0.1 - 5e-324j, 1j, 2 + 0j, 0j],
}


class AllocationTests(DaemonTestCase):
    def check_type(self, type: str) -> None:
        values: Any = EXACT[type]
        a = self.alloc_or_skip(8, type)
        self.assertIs(a.type, ElementType.of(type))
        self.assertEqual((a.length, a.nbytes), (8, 8 * a.itemsize))
        self.assertEqual(a[:], [0] * 8)
        a[2:6] = values
        self.assertEqual(a[2:6], values)
        self.assertEqual(a[:], [0, 0, *values, 0, 0])
        for at, value in enumerate(values):
            a[at] = value
            self.assertEqual(a[at], value)
            a[-1] = value
            self.assertEqual((a[7], a[-1]), (value, value))
        self.assertEqual(list(a), a.tolist())
        self.assertEqual(a[::-2], a[:][::-2])
        self.assertEqual([type_of.__class__ for type_of in a[:4]], [v.__class__ for v in values])
        a[1::3] = values[:3]
        self.assertEqual(a[1::3], values[:3])
        a.fill(values[0], 1, 6)
        self.assertEqual(a[1:7], [values[0]] * 6)
        a[:] = values[1]
        self.assertEqual(a[:], [values[1]] * 8)

    def test_stores_follow_the_rules(self) -> None:
        a = self.client.alloc(2, "Int8")
        a[0] = 300
        a[1] = -1.9
        self.assertEqual(a[:], [44, -1])
        c = self.client.alloc(2, "Uint8Clamped")
        c[:] = [300, 2.5]
        self.assertEqual(c[:], [255, 2])

    def test_buffers_of_the_type_are_written_as_they_are(self) -> None:
        a = self.client.alloc(3, "Double")
        a[:] = array.array("d", [0.1, 0.2, 0.3])
        self.assertEqual(a[:], [0.1, 0.2, 0.3])
        # Of another type by their numbers.
        a[:] = array.array("i", [1, 2, 3])
        self.assertEqual(a[:], [1.0, 2.0, 3.0])
        a[:] = b"\x04\x05\x06"
        self.assertEqual(a[:], [4.0, 5.0, 6.0])
        a[:] = memoryview(array.array("d", range(6)))[::2]
        self.assertEqual(a[:], [0.0, 2.0, 4.0])
        a[:] = (number for number in range(3))
        self.assertEqual(a[:], [0.0, 1.0, 2.0])

    def test_indices_outside(self) -> None:
        a = self.client.alloc(3)
        for index in (3, -4, 2**70):
            with self.assertRaises(IndexError):
                a[index]
            with self.assertRaises(IndexError):
                a[index] = 1
        with self.assertRaises(TypeError):
            a["0"]  # type: ignore[call-overload]
        self.assertEqual(a[5:9], [])
        a[5:9] = []
        for values in ([1], [1, 2, 3, 4]):
            with self.assertRaises(ValueError):
                a[:] = values
        empty = self.client.alloc(0, "Double")
        self.assertEqual((empty[:], list(empty), empty.read_bytes()), ([], [], b""))
        with self.assertRaises(IndexError):
            empty[0]
        self.assertTrue(empty)

    def test_bytes(self) -> None:
        a = self.client.alloc(4, "Int16")
        a.write(b"\1\0\2\0", 1)
        self.assertEqual(a[:], [0, 1, 2, 0])
        self.assertEqual(a.read_bytes(1, 2), b"\1\0\2\0")
        buffer = array.array("h", [0, 0])
        self.assertEqual(a.readinto(buffer, 1), 4)
        self.assertEqual(buffer.tolist(), [1, 2])
        a.fill(b"\7\0\x08\0")
        self.assertEqual(a[:], [7, 8, 7, 8])
        for call in (
            lambda: a.write(b"123"),
            lambda: a.readinto(bytearray(3)),
            lambda: a.fill(b"", 0, 1),
        ):
            with self.assertRaises(smalloc.InvalidArgumentError):
                call()
        for call in (
            lambda: a.write(bytes(10)),
            lambda: a.read_bytes(5),
            lambda: a.read_bytes(-1),
            lambda: a.read_bytes(2, 3),
            lambda: a.fill(0, 3, 2),
            lambda: a.read_bytes(0, -1),
        ):
            with self.assertRaises(smalloc.OutOfRangeError):
                call()
        for bad in (b"1234", memoryview(bytearray(8))[::2], 5):
            with self.assertRaises(TypeError):
                a.readinto(bad)
        self.assertEqual(a[:], [7, 8, 7, 8])

    def test_another_client_truncates(self) -> None:
        a = self.client.alloc(100, name="a")
        with smalloc.Client(self.daemon.address) as other:
            other.truncate("a", 10)
        with self.assertRaises(smalloc.OutOfRangeError):
            a.read_bytes()
        a.stat()
        self.assertEqual((len(a), len(a.read_bytes())), (10, 10))

    @seeded
    def test_a_random_history_against_a_list(self, random: Random) -> None:
        a = self.client.alloc(200, "Int32")
        model = [0] * 200
        for _ in range(600):
            start, stop = random.randint(-210, 210), random.randint(-210, 210)
            step = random.choice((1, 1, 1, 2, -1, -3, 7))
            if random.random() < 0.5:
                values = [random.randint(-(2**31), 2**31 - 1) for _ in model[start:stop:step]]
                a[start:stop:step] = values
                if step == 1 and not values:
                    continue
                model[start:stop:step] = values
            self.assertEqual(a[start:stop:step], model[start:stop:step])
        self.assertEqual(list(a), model)

    @needs_numpy
    def test_numpys_arrays_are_buffers(self) -> None:
        a = self.client.alloc(6, "Float")
        values = numpy.arange(6, dtype="f4")
        a[:] = values
        self.assertEqual(a[:], values.tolist())
        a[:3] = values[::2]
        a[3] = numpy.float32(9.5)
        self.assertEqual(a[:4], [0, 2, 4, 9.5])
        a[:2] = numpy.array([7, 8])
        self.assertEqual(a[:2], [7, 8])
        into = numpy.zeros((2, 3), "f4")
        a.readinto(into)
        self.assertEqual(into.reshape(-1).tolist(), a[:])
        pairs = numpy.zeros(3, "c8")
        a.readinto(pairs)
        self.assertEqual(pairs.view("f4").tolist(), a[:])
        a.write(pairs[:1], 4)
        self.assertEqual(a[4:], a[:2])


def _add_types() -> None:
    for name in EXACT:

        def test(self: AllocationTests, name: str = name) -> None:
            self.check_type(name)

        setattr(AllocationTests, "test_elements_of_" + name, test)


_add_types()

if __name__ == "__main__":
    unittest.main()

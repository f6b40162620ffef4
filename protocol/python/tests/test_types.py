"""Stores as spec section 3.4 says, and element types by all their names."""

import array
import math
import pickle
import struct
import unittest
from random import Random
from typing import Any, List

from smalloc import ElementType, UnknownTypeError

from support import needs_numpy, numpy, seeded

NAN, INF = math.nan, math.inf


class StoreTests(unittest.TestCase):
    def stored(self, type: str, *values: Any) -> List[Any]:
        element = ElementType.of(type)
        return element.unpack(element.pack(values))

    def test_integers_wrap_around(self) -> None:
        self.assertEqual(
            self.stored("Int8", 300, -129, 1.9, -1.9, NAN, INF), [44, 127, 1, -1, 0, 0]
        )
        self.assertEqual(self.stored("Uint16", -1, 65536, 7), [65535, 0, 7])
        self.assertEqual(self.stored("Uint32", 4294967296, -1), [0, 4294967295])
        self.assertEqual(self.stored("Int32", 1e20, -(2**31)), [1661992960, -(2**31)])
        # First taken as a double, which has 53 bits.
        self.assertEqual(self.stored("Uint8", 2**53 + 1, 10**400, -(10**400)), [0, 0, 0])

    def test_clamped_rounds_ties_to_even(self) -> None:
        values = [NAN, -1, 256, 0.5, 1.5, 2.5, 254.5, 0.50001, INF, -INF]
        self.assertEqual(self.stored("Uint8Clamped", *values), [0, 0, 255, 0, 2, 2, 254, 1, 255, 0])

    def test_floats(self) -> None:
        self.assertEqual(self.stored("Float", 1e39, -1e39, 0.5), [INF, -INF, 0.5])
        self.assertEqual(self.stored("Double", 10**400, 5e-324), [INF, 5e-324])
        self.assertEqual(ElementType.FLOAT.pack([-0.0]), b"\x00\x00\x00\x80")
        odd = struct.unpack("<d", b"\x01\x00\x00\x00\x00\x00\xf8\xff")[0]
        self.assertEqual(ElementType.DOUBLE.pack([odd]).hex(), "000000000000f87f")
        self.assertEqual(ElementType.FLOAT.pack([1.0, odd]).hex(), "0000803f0000c07f")
        self.assertEqual(ElementType.FLOAT16.pack([odd, 65520, 65519]).hex(), "007e007cff7b")

    @seeded
    def test_bfloat16_is_the_nearest_ties_to_even(self, random: Random) -> None:
        bits = lambda value: ElementType.BFLOAT16.pack([value])[::-1].hex()  # noqa: E731
        self.assertEqual(bits(1.0), "3f80")
        self.assertEqual(bits(1 + 2**-8), "3f80")
        self.assertEqual(bits(1 + 3 * 2**-8), "3f82")
        # A hair over the tie, which a Float does not see.
        self.assertEqual(bits(1 + 2**-8 + 2**-40), "3f81")
        self.assertEqual(bits(1 + 3 * 2**-8 - 2**-40), "3f81")
        self.assertEqual([bits(NAN), bits(INF), bits(-1e39)], ["7fc0", "7f80", "ff80"])
        self.assertEqual(bits(9.2e-41), "0001")
        for _ in range(5000):
            exact = struct.unpack("<d", random.randbytes(8))[0]
            if exact != exact:
                continue
            number = struct.unpack("<f", b"\0\0" + ElementType.BFLOAT16.pack([exact]))[0]
            if math.isinf(number) or abs(exact) < 1e-37:
                continue
            step = 2.0 ** (math.frexp(number)[1] - 8)
            self.assertLessEqual(abs(number - exact), step / 2, exact)

    def test_wide_integers_are_exact(self) -> None:
        for type, values in (
            ("Int64", [-(2**63), 2**63 - 1, 2**53 + 1]),
            ("Uint64", [0, 2**64 - 1, 2**53 + 1]),
        ):
            self.assertEqual(self.stored(type, *values), values)
        for bad in (2**63, -(2**63) - 1):
            with self.assertRaises(OverflowError):
                self.stored("Int64", bad)
        with self.assertRaises(TypeError):
            self.stored("Int64", 1.0)

    def test_bool_and_complex(self) -> None:
        self.assertEqual(self.stored("Bool", 0, 1, -0.0, True), [False, True, False, True])
        self.assertEqual(ElementType.BOOL.unpack(b"\x00\x02\xff"), [False, True, True])
        for bad in (2, NAN, 0.5):
            with self.assertRaises(ValueError):
                self.stored("Bool", bad)
        self.assertEqual(self.stored("ComplexFloat", 1 + 2j, 3), [1 + 2j, 3])
        self.assertEqual(self.stored("ComplexFloat", 1e39j)[0].imag, INF)
        self.assertEqual(self.stored("ComplexDouble", 0.1 - 5e-324j), [0.1 - 5e-324j])

    def test_what_is_no_number_is_refused(self) -> None:
        for type in ("Int8", "Double", "Float", "Uint8Clamped", "Bfloat16", "Bool", "ComplexFloat"):
            for bad in ("1", b"1", None, [1], 1j if "Complex" not in type else "1"):
                with self.assertRaises(TypeError, msg=(type, bad)):
                    self.stored(type, bad)

    @seeded
    def test_every_pattern_of_bits_reads_back(self, random: Random) -> None:
        for number in range(1, 17):
            type = ElementType.of_number(number)
            data = random.randbytes(type.itemsize * 1000)
            if type is ElementType.BOOL:
                data = bytes(byte & 1 for byte in data)
            numbers = type.unpack(data)
            again = type.unpack(type.pack(numbers))
            self.assertEqual(repr(numbers), repr(again), type)


class NameTests(unittest.TestCase):
    def test_names(self) -> None:
        for told, name in (
            ("Double", "Double"),
            ("float64", "Double"),
            ("<f8", "Double"),
            ("f4", "Float"),
            (float, "Double"),
            (int, "Int64"),
            (bool, "Bool"),
            (complex, "ComplexDouble"),
            (9, "Uint8Clamped"),
            ("uint8", "Uint8"),
            ("bfloat16", "Bfloat16"),
        ):
            self.assertEqual(ElementType.of(told).name, name)

    def test_what_is_no_type_is_refused(self) -> None:
        for bad in ("float", "double", "", ">f8", 0, 17, -1, True, None, object(), [], "S3"):
            with self.assertRaises(UnknownTypeError, msg=repr(bad)):
                ElementType.of(bad)

    def test_a_type_that_is_not_known_is_bytes(self) -> None:
        type = ElementType.of_number(200)
        self.assertFalse(type.is_known)
        self.assertEqual((type.number, type.itemsize), (200, 1))

    def test_a_pickled_type_is_the_same_one(self) -> None:
        self.assertIs(pickle.loads(pickle.dumps(ElementType.FLOAT)), ElementType.FLOAT)

    def test_formats_of_buffers(self) -> None:
        for letter in "bBhHiIqQfd":
            one = array.array(letter, [1])
            type = ElementType.of_format(memoryview(one).format, one.itemsize)
            assert type is not None
            self.assertEqual(type.unpack(one.tobytes()), [1], letter)
        self.assertIsNone(ElementType.of_format(">d", 8))
        self.assertIsNone(ElementType.of_format("T{d:a:}", 8))

    @needs_numpy
    def test_dtypes(self) -> None:
        for number in range(1, 17):
            type = ElementType.of_number(number)
            if type.typestr and type is not ElementType.UINT8_CLAMPED:
                dtype = numpy.dtype(type.typestr)
                self.assertIs(ElementType.of(dtype), type)
                self.assertIs(ElementType.of(dtype.type), type)
                self.assertEqual(dtype.itemsize, type.itemsize)
                ones = numpy.ones(3, dtype)
                self.assertEqual(type.pack(ones.tolist()), ones.tobytes(), type)
        for bad in ("longdouble", "S3", ">f8", "M8[s]", "f4,f8"):
            with self.assertRaises(UnknownTypeError, msg=bad):
                ElementType.of(numpy.dtype(bad))


if __name__ == "__main__":
    unittest.main()

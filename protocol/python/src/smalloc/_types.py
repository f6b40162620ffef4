"""Element types: their numbers, sizes, names, and how numbers become elements and come back.

The table is that of spec section 3.3, the rules of stores those of section 3.4. Types 10 to 16
are newer: a daemon that does not have them answers `unknownType`.
"""

from __future__ import annotations

import math
import operator
import struct
import sys
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from ._errors import Status, UnknownTypeError

_CLASS = type
Number = Union[int, float, bool, complex]
# Makes the bytes of one element of a number.
_Store = Callable[["ElementType", Any], bytes]


class ElementType:
    """One element type. There is one object for each, `ElementType.DOUBLE`, so `is` compares.

    `number` is that of the protocol, `name` the protocol's name (`Double`), `itemsize` the bytes
    of an element, 1 to 16, and `typestr` numpy's notation (`<f8`), None where numpy has no such
    type. An allocation may have a type that this client does not know (`is_known` is False): its
    elements are taken as bytes.
    """

    __slots__ = ("number", "name", "itemsize", "typestr", "is_known", "_format", "_store")

    INT8: ElementType
    UINT8: ElementType
    INT16: ElementType
    UINT16: ElementType
    INT32: ElementType
    UINT32: ElementType
    FLOAT: ElementType
    DOUBLE: ElementType
    UINT8_CLAMPED: ElementType
    INT64: ElementType
    UINT64: ElementType
    FLOAT16: ElementType
    BFLOAT16: ElementType
    BOOL: ElementType
    COMPLEX_FLOAT: ElementType
    COMPLEX_DOUBLE: ElementType

    def __init__(
        self, number: int, name: str, itemsize: int, typestr: Optional[str], format: str,
        is_known: bool = True,
    ) -> None:  # fmt: skip
        self.number = number
        self.name = name
        self.itemsize = itemsize
        self.typestr = typestr
        self.is_known = is_known
        # The letter of the module struct. Bfloat16 has none, a complex number is two of them.
        self._format = format
        self._store: _Store = _STORES.get(
            name, _store_integer if format in _INTEGERS else _store_float
        )

    def __repr__(self) -> str:
        return "<ElementType %s>" % self.name

    def __reduce__(self) -> Tuple[Any, Tuple[int]]:
        return ElementType.of_number, (self.number,)

    @staticmethod
    def of_number(number: int) -> ElementType:
        """Give the type of a number on the wire; one that is not known here is taken as bytes."""
        known = _BY_NUMBER.get(number)
        if known is None:
            known = ElementType(number, "type %d" % number, 1, "|u1", "B", is_known=False)
        return known

    @staticmethod
    def of(type: Any) -> ElementType:
        """Give the type that `type` means.

        That is an ElementType; a number of the protocol; the protocol's name (`"Double"`), in
        just these letters; numpy's name or notation (`"float64"`, `"<f8"`, `"f8"`); a dtype or a
        scalar type of numpy; or Python's `int` (Int64), `float` (Double), `bool` and `complex`.
        Just `"float"` means one thing here and another in numpy, and is refused.

        Raises UnknownTypeError.
        """
        if isinstance(type, ElementType):
            return type
        found: Optional[ElementType] = None
        if isinstance(type, str):
            found = _BY_NAME.get(type)
        elif isinstance(type, int) and not isinstance(type, bool):
            found = _BY_NUMBER.get(type)
        elif isinstance(type, _CLASS) and type in _BY_CLASS:
            found = _BY_CLASS[type]
        elif type is not None:
            # Whoever has a dtype has numpy loaded.
            numpy = sys.modules.get("numpy")
            if numpy is not None:
                try:
                    dtype = numpy.dtype(type)
                except TypeError:
                    pass
                else:
                    if dtype.byteorder != (">" if sys.byteorder == "little" else "="):
                        found = _BY_NAME.get(dtype.name)
        if found is None:
            raise UnknownTypeError(
                Status.UNKNOWN_TYPE, "unknown external array data type: %r" % (type,)
            )
        return found

    @staticmethod
    def of_format(format: str, itemsize: int) -> Optional[ElementType]:
        """Give the type of a buffer's elements by the notation of the module struct, if any is.

        None for what is no number, and for numbers with their bytes in the other order.
        """
        order, letters = "@", format
        if format[:1] in ("@", "=", "<", ">", "!"):
            order, letters = format[0], format[1:]
        little = sys.byteorder == "little" if order in "@=" else order == "<"
        if not little and itemsize > 1:
            return None
        kind = _KINDS.get(letters)
        return None if kind is None else _BY_NAME.get("%s%d" % (kind, itemsize))

    @property
    def format(self) -> Optional[str]:
        """One letter of the module struct for an element, if there is one."""
        return None if "Complex" in self.name else self._format or None

    def pack(self, values: Sequence[Any]) -> bytes:
        """Store numbers, as spec section 3.4 says: give their elements' bytes.

        Numbers are first taken as doubles; what does not fit an integer type wraps around, is
        clamped for Uint8Clamped, and becomes infinite for the floats. Int64 and Uint64 take
        integers only, exactly, Bool takes 0 and 1, and the complex types two such numbers.

        Raises TypeError for what is no number, OverflowError for an integer that Int64 or Uint64
        does not hold, ValueError for another number than 0 and 1 into Bool.
        """
        if self._format and "Complex" not in self.name and self._format != "?":
            try:
                # Integers that fit are stored as they are, and so are doubles; struct refuses
                # all else. It takes NaNs as they are, which the rules do not.
                packed = struct.pack("<%d%s" % (len(values), self._format), *values)
            except (struct.error, OverflowError, TypeError):
                pass
            else:
                if self._format in _INTEGERS or not _has_nan(values):
                    return packed
        return b"".join([self._store(self, value) for value in values])

    def unpack(self, data: Union[bytes, bytearray, memoryview]) -> List[Number]:
        """Give elements' numbers. Raises struct.error where `data` is no whole number of them."""
        count = len(data) // self.itemsize
        if self is ElementType.BFLOAT16:
            # A Bfloat16 is the upper half of a Float.
            wide = bytearray(2 * len(data))
            wide[2::4] = data[::2]
            wide[3::4] = data[1::2]
            return list(struct.unpack("<%df" % count, wide))
        if "Complex" in self.name:
            parts = struct.unpack("<%d%s" % (2 * count, self._format), data)
            return [complex(*pair) for pair in zip(parts[::2], parts[1::2])]
        return list(struct.unpack("<%d%s" % (count, self._format), data))


def _has_nan(values: Iterable[Any]) -> bool:
    return any(value != value for value in values)


def _double(value: Any) -> float:
    """Take a number as a double. Texts are none, though Python would read them."""
    if isinstance(value, float):
        return float(value)
    if not (hasattr(value, "__float__") or hasattr(value, "__index__")) or isinstance(
        value, (str, bytes, bytearray)
    ):
        raise TypeError("a number is needed, not %s" % type(value).__name__)
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _store_integer(type: ElementType, value: Any) -> bytes:
    number = _double(value)
    whole = int(number) if math.isfinite(number) else 0
    return (whole & ((1 << 8 * type.itemsize) - 1)).to_bytes(type.itemsize, "little")


def _store_clamped(type: ElementType, value: Any) -> bytes:
    number = _double(value)
    if number != number:
        return b"\x00"
    # Python rounds ties to even, as the rule does.
    return bytes([round(min(max(number, 0.0), 255.0))])


def _store_wide_integer(type: ElementType, value: Any) -> bytes:
    try:
        whole = operator.index(value)
    except TypeError:
        raise TypeError("%s takes integers only, not %r" % (type.name, value)) from None
    try:
        return struct.pack("<" + type._format, whole)
    except struct.error:
        raise OverflowError("%d does not fit %s" % (whole, type.name)) from None


_NAN = {"e": b"\x00\x7e", "f": b"\x00\x00\xc0\x7f", "d": b"\x00\x00\x00\x00\x00\x00\xf8\x7f"}


def _pack_float(format: str, number: float) -> bytes:
    """Round to the nearest, ties to even; too large becomes infinite. There is one NaN."""
    if number != number:
        return _NAN[format]
    try:
        return struct.pack("<" + format, number)
    except OverflowError:
        return struct.pack("<" + format, math.copysign(math.inf, number))


def _store_float(type: ElementType, value: Any) -> bytes:
    return _pack_float(type._format, _double(value))


def _store_bfloat16(type: ElementType, value: Any) -> bytes:
    number = _double(value)
    narrow = _pack_float("f", number)
    (bits,) = struct.unpack("<I", narrow)
    (rounded,) = struct.unpack("<f", narrow)
    if number != number:
        return b"\xc0\x7f"
    # Rounding twice, to Float and then to Bfloat16, may miss the nearest. So the first step cuts
    # off, and notes in the last bit that it did: the second step then sees which side of a tie
    # the number is on.
    if rounded != number and not math.isinf(rounded):
        if abs(rounded) > abs(number):
            bits -= 1
        bits |= 1
    bits += 0x7FFF + ((bits >> 16) & 1)
    upper: int = bits >> 16
    return upper.to_bytes(2, "little")


def _store_bool(type: ElementType, value: Any) -> bytes:
    number = _double(value)
    if number not in (0, 1):
        raise ValueError("%s takes 0, 1, False and True, not %r" % (type.name, value))
    return b"\x01" if number else b"\x00"


def _store_complex(type: ElementType, value: Any) -> bytes:
    if hasattr(value, "__complex__") or isinstance(value, complex):
        value = complex(value)
        return _pack_float(type._format, value.real) + _pack_float(type._format, value.imag)
    return _pack_float(type._format, _double(value)) + _pack_float(type._format, 0.0)


_INTEGERS = "bBhHiIqQ"
_STORES: Dict[str, _Store] = {
    "Uint8Clamped": _store_clamped,
    "Int64": _store_wide_integer,
    "Uint64": _store_wide_integer,
    "Bfloat16": _store_bfloat16,
    "Bool": _store_bool,
    "ComplexFloat": _store_complex,
    "ComplexDouble": _store_complex,
}

# Number, name, bytes, numpy's notation and name, and the letter of the module struct.
_TABLE: Tuple[Tuple[int, str, int, Optional[str], str, str], ...] = (
    (1, "Int8", 1, "|i1", "int8", "b"),
    (2, "Uint8", 1, "|u1", "uint8", "B"),
    (3, "Int16", 2, "<i2", "int16", "h"),
    (4, "Uint16", 2, "<u2", "uint16", "H"),
    (5, "Int32", 4, "<i4", "int32", "i"),
    (6, "Uint32", 4, "<u4", "uint32", "I"),
    (7, "Float", 4, "<f4", "float32", "f"),
    (8, "Double", 8, "<f8", "float64", "d"),
    (9, "Uint8Clamped", 1, "|u1", "", "B"),
    (10, "Int64", 8, "<i8", "int64", "q"),
    (11, "Uint64", 8, "<u8", "uint64", "Q"),
    (12, "Float16", 2, "<f2", "float16", "e"),
    (13, "Bfloat16", 2, None, "bfloat16", ""),
    (14, "Bool", 1, "|b1", "bool", "?"),
    (15, "ComplexFloat", 8, "<c8", "complex64", "f"),
    (16, "ComplexDouble", 16, "<c16", "complex128", "d"),
)

_BY_NUMBER: Dict[int, ElementType] = {}
_BY_NAME: Dict[str, ElementType] = {}
for _number, _name, _size, _typestr, _numpy_name, _format in _TABLE:
    _type = ElementType(_number, _name, _size, _typestr, _format)
    _BY_NUMBER[_number] = _type
    _BY_NAME[_name] = _type
    if _numpy_name:
        _BY_NAME[_numpy_name] = _type
        if _typestr is not None:
            _BY_NAME[_typestr] = _BY_NAME[_typestr[1:]] = _type

for _attribute, _number in (
    ("INT8", 1), ("UINT8", 2), ("INT16", 3), ("UINT16", 4), ("INT32", 5), ("UINT32", 6),
    ("FLOAT", 7), ("DOUBLE", 8), ("UINT8_CLAMPED", 9), ("INT64", 10), ("UINT64", 11),
    ("FLOAT16", 12), ("BFLOAT16", 13), ("BOOL", 14), ("COMPLEX_FLOAT", 15),
    ("COMPLEX_DOUBLE", 16),
):  # fmt: skip
    setattr(ElementType, _attribute, _BY_NUMBER[_number])

_BY_CLASS: Dict[Any, ElementType] = {
    int: ElementType.INT64,
    float: ElementType.DOUBLE,
    bool: ElementType.BOOL,
    complex: ElementType.COMPLEX_DOUBLE,
}

# Letters of buffers' formats by their kind; how many bytes they are the buffer itself says.
_KINDS: Dict[str, str] = {
    **dict.fromkeys("bhilqn", "i"),
    **dict.fromkeys("BHILQN", "u"),
    **dict.fromkeys("efd", "f"),
    "?": "b",
    "Zf": "c",
    "Zd": "c",
}

"""What an allocation is described by, beside its type: a shape and metadata; spec section 3.9."""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional, Sequence, Tuple

from ._cells import milliseconds_of
from ._errors import InvalidArgumentError, Status
from ._shapes import Shape, length_of, shape_of
from ._wire import METADATA_SIZE_MAX, RANK_MAX, U64_MAX, FrameError

# Numbers behind the first three of a reply to stat: flags, maps, lease, what is left of it, owner,
# rank, eight dimensions, the size of the metadata.
NUMBERS = 6 + RANK_MAX + 1
_LEASE = struct.Struct("<QH")


class Description(NamedTuple):
    """`shape` is None where there is none, which is not the same as having one dimension.

    `lease` is in milliseconds, None where there is none.
    """

    shape: Optional[Tuple[int, ...]] = None
    metadata: bytes = b""
    lease: Optional[int] = None

    @staticmethod
    def of(
        shape: Optional[Shape], metadata: bytes, lease: Optional[float] = None
    ) -> Description:
        """Take what a program describes an allocation by. Raises InvalidArgumentError, TypeError.
        """
        data = bytes(memoryview(metadata))
        if len(data) > METADATA_SIZE_MAX:
            raise InvalidArgumentError(
                Status.INVALID_ARGUMENT, "metadata has at most %d bytes" % METADATA_SIZE_MAX
            )
        milliseconds = None if lease is None else milliseconds_of(lease)
        return Description(None if shape is None else shape_of(shape), data, milliseconds)

    def check(self, length: int) -> Description:
        """Give it, for an allocation of `length` elements. Raises InvalidArgumentError."""
        if self.shape is not None and length_of(self.shape) != length:
            raise InvalidArgumentError(
                Status.INVALID_ARGUMENT,
                "shape %s has %d elements, and the length is %d"
                % (self.shape, length_of(self.shape), length),
            )
        return self

    def encode(self) -> bytes:
        """Give what alloc's payload holds behind the name; nothing where there is nothing to say.
        """
        if self.shape is None and not self.metadata and not self.lease:
            return b""
        dims = () if self.shape is None else self.shape
        rank = U64_MAX if self.shape is None else len(dims)
        numbers = struct.pack("<%dQ" % (1 + len(dims)), rank, *dims)
        return numbers + _LEASE.pack(self.lease or 0, len(self.metadata)) + self.metadata


def decode_description(
    numbers: Sequence[int], rest: bytes, length: Optional[int]
) -> Description:
    """Take the numbers of a reply to stat from its rank on, and the bytes behind the last of them.

    `length` is elements, None where the client does not know how large they are: then there is no
    shape. Raises FrameError for one of another length, and for metadata that is cut short.
    """
    rank, dims, size = numbers[0], tuple(numbers[1 : 1 + RANK_MAX]), numbers[1 + RANK_MAX]
    if size > METADATA_SIZE_MAX or size > len(rest):
        raise FrameError("metadata of %d bytes can't be in a reply to stat" % size)
    if rank == U64_MAX or length is None:
        return Description(None, rest[:size])
    if rank > RANK_MAX or length_of(dims[:rank]) != length:
        raise FrameError("a shape of %d dimensions is not that of %d elements" % (rank, length))
    return Description(dims[:rank], rest[:size])

"""Selections of elements, against nested lists that are indexed one axis after another."""

import unittest
from random import Random
from typing import Any, List, Tuple

from smalloc import OutOfRangeError
from smalloc._index import select

from support import seeded


def nested(shape: Tuple[int, ...], start: int = 0) -> Any:
    if not shape:
        return start
    stride = 1
    for length in shape[1:]:
        stride *= length
    return [nested(shape[1:], start + at * stride) for at in range(shape[0])]


def pick(values: Any, index: List[Any]) -> Any:
    if not index:
        return values
    if isinstance(index[0], slice):
        return [pick(value, index[1:]) for value in values[index[0]]]
    return pick(values[index[0]], index[1:])


def flat(values: Any) -> List[int]:
    return (
        [one for value in values for one in flat(value)] if isinstance(values, list) else [values]
    )


class IndexTests(unittest.TestCase):
    @seeded
    def test_selections(self, random: Random) -> None:
        for _ in range(4000):
            shape = tuple(random.choice((0, 1, 1, 2, 3, 5)) for _ in range(random.randint(0, 4)))
            index: List[Any] = []
            for length in shape[: random.randint(0, len(shape))]:
                if length and random.random() < 0.3:
                    index.append(random.randrange(-length, length))
                else:
                    ends = [random.choice((None, random.randint(-6, 6))) for _ in range(2)]
                    index.append(slice(*ends, random.choice((None, 1, 1, 2, -1, -2, 3))))
            selection = select(shape, tuple(index))
            places: List[int] = []
            if selection.size:
                for start in selection.blocks():
                    places += range(start, start + selection.block)
            expected = flat(pick(nested(shape), index))
            self.assertEqual(places, expected, (shape, index))
            self.assertEqual(selection.size, len(expected))
            self.assertEqual(selection.end, max(expected, default=-1) + 1)

    def test_what_lies_together_is_one_block(self) -> None:
        whole = slice(None)
        for shape, index, blocks in (
            ((4, 5), (), 1),
            ((4, 5), 2, 1),
            ((4, 5), slice(1, 3), 1),
            ((4, 5), (whole, 2), 4),
            ((4, 5), (2, slice(1, 4)), 1),
            ((4, 1, 5), (slice(1, 3), 0), 1),
            ((3, 1), (whole, 0), 1),
            ((4, 5), (slice(1, 3), slice(0, 4)), 2),
            ((4,), slice(None, None, -1), 4),
            ((4, 5), (Ellipsis, slice(None)), 1),
            ((2, 3, 4), (Ellipsis, 0), 6),
        ):
            selection = select(shape, index)
            self.assertEqual(len(list(selection.blocks())), blocks, (shape, index))

    def test_other_indices_are_refused(self) -> None:
        for index in (1.0, "a", None, True, [0], (0, None)):
            with self.assertRaises(TypeError, msg=repr(index)):
                select((3, 3), index)
        for index in (3, -4, (0, 3), (0, 0, 0), (Ellipsis, Ellipsis)):
            with self.assertRaises(IndexError, msg=repr(index)) as caught:
                select((3, 3), index)
            self.assertIsInstance(caught.exception, OutOfRangeError)


if __name__ == "__main__":
    unittest.main()

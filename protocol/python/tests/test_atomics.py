"""Atomics: exact in every integer type, by requests and in mapped memory, and together."""

import multiprocessing
import random as random_module
import threading
import unittest
from random import Random
from typing import Any, Dict
from unittest import mock

import smalloc
from smalloc import ElementType, _atomics, _mapping

from support import DaemonTestCase, seeded

CELLS = ("Int8", "Uint8", "Int16", "Uint16", "Int32", "Uint32", "Int64", "Uint64")
COUNT = 20_000
has_libatomic = _atomics.instructions(ElementType.UINT64) is not None
needs_libatomic = unittest.skipUnless(has_libatomic, "the system has no libatomic")


def low_and_high(type: ElementType) -> Any:
    bits = 8 * type.itemsize
    low = -(1 << (bits - 1)) if type.name[0] == "I" else 0
    return low, low + (1 << bits) - 1


def add(address: str, is_mapped: bool, seed: int) -> None:
    """For a process of its own: add up to COUNT, in steps of 1, to one cell."""
    source = random_module.Random(seed)
    with smalloc.Client(address, timeout=60) as client:
        a = client.open("a")
        cells = a.map() if is_mapped else a
        for _ in range(COUNT):
            cells.atomic_add(1, 1)
            if source.random() < 0.1:
                cells.atomic_subtract(1, 5)
                cells.atomic_add(1, 5)


class ActionTests(DaemonTestCase):
    def cells(self, type: str) -> Any:
        return self.client.alloc(3, type)

    @seeded
    def test_every_action_is_exact_in_every_type(self, random: Random) -> None:
        for name in CELLS:
            type = ElementType.of(name)
            low, high = low_and_high(type)
            wrapped = lambda number: (number - low) % (high - low + 1) + low  # noqa: E731
            cells, held = self.cells(name), 0
            changes: Dict[str, Any] = {
                "exchange": lambda held, value: value,
                "add": lambda held, value: held + value,
                "subtract": lambda held, value: held - value,
                "and": lambda held, value: held & value,
                "or": lambda held, value: held | value,
                "xor": lambda held, value: held ^ value,
            }
            for _ in range(60):
                action = random.choice([*changes, "store", "compare"])
                value = random.choice((low, high, 0, 1, random.randint(low, high)))
                if action == "store":
                    self.assertIsNone(cells.atomic_store(-2, value))
                    held = value
                elif action == "compare":
                    expected = random.choice((held, random.randint(low, high)))
                    self.assertEqual(cells.atomic_compare_exchange(1, expected, value), held)
                    held = value if expected == held else held
                else:
                    old = getattr(cells, "atomic_" + action)(1, value)
                    self.assertEqual(old, held, (name, action))
                    held = wrapped(changes[action](held, value))
                self.assertEqual(cells.atomic_load(1), held, (name, action, value))
            self.assertEqual([cells[0], cells[1], cells[2]], [0, held, 0], name)

    def test_values_that_a_type_does_not_hold_are_refused(self) -> None:
        for name in CELLS:
            cells = self.cells(name)
            low, high = low_and_high(ElementType.of(name))
            for bad in (low - 1, high + 1):
                with self.assertRaises(OverflowError):
                    cells.atomic_add(0, bad)
                with self.assertRaises(OverflowError):
                    cells.atomic_compare_exchange(0, bad, 0)
            for bad in (1.0, "1", None):
                with self.assertRaises(TypeError):
                    cells.atomic_store(0, bad)
            for index in (3, -4):
                with self.assertRaises(smalloc.OutOfRangeError):
                    cells.atomic_add(index, 1)
            self.assertEqual(cells[:], [0, 0, 0])

    def test_other_types_have_none(self) -> None:
        for name in ("Uint8Clamped", "Float", "Double", "Bool", "Float16", "ComplexDouble"):
            with self.assertRaises(smalloc.InvalidArgumentError):
                self.cells(name).atomic_load(0)

    def test_what_is_frozen_is_loaded_and_not_changed(self) -> None:
        a = self.client.alloc(2, "Int64", "a")
        a[1] = -5
        a.freeze()
        for cells in (a, a.map(writable=False)):
            self.assertEqual(cells.atomic_load(1), -5)
            with self.assertRaises(smalloc.FrozenError):
                cells.atomic_add(1, 1)

    def test_what_is_gone(self) -> None:
        a = self.client.alloc(2, "Int64", "a")
        self.client.dispose("a")
        with self.assertRaises(smalloc.NotFoundError):
            a.atomic_add(0, 1)


class MappedActionTests(ActionTests):
    def cells(self, type: str) -> Any:
        return self.client.alloc(3, type).map()

    @needs_libatomic
    def test_no_request_is_sent(self) -> None:
        cells = self.cells("Int64")
        self.client.close()
        self.assertEqual([cells.atomic_add(0, 7), cells.atomic_load(0)], [0, 7])

    def test_a_mapping_for_reading_is_not_changed(self) -> None:
        cells = self.client.alloc(3, "Int64", shareable=True).map(writable=False)
        self.assertEqual(cells.atomic_load(0), 0)
        with self.assertRaises(TypeError):
            cells.atomic_add(0, 1)


class WithoutLibatomicTests(ActionTests):
    """A mapping asks the daemon where the processor's own can't be had."""

    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch.object(_mapping, "instructions", lambda _: None)
        patch.start()
        self.addCleanup(patch.stop)

    def cells(self, type: str) -> Any:
        return self.client.alloc(3, type).map()


class LibatomicTests(unittest.TestCase):
    def test_a_system_without_it_is_told_so(self) -> None:
        with mock.patch("ctypes.PyDLL", side_effect=OSError):
            self.assertIsNone(_atomics.instructions.__wrapped__(ElementType.INT32))


class TogetherTests(DaemonTestCase):
    @seeded
    def test_four_processes_two_mapped_and_two_by_requests(self, random: Random) -> None:
        a = self.client.alloc(3, "Uint64", "a")
        start = 2**64 - COUNT
        a.atomic_store(1, start)
        context = multiprocessing.get_context("spawn")
        adders = [
            context.Process(target=add, args=(self.daemon.address, mapped, random.randrange(2**32)))
            for mapped in (True, True, False, False)
        ]
        for adder in adders:
            adder.start()
        for adder in adders:
            adder.join(120)
            self.assertEqual(adder.exitcode, 0)
        # Over its highest value, and exact.
        self.assertEqual(a[:], [0, 3 * COUNT, 0])

    def test_threads_of_one_mapping(self) -> None:
        cells = self.client.alloc(1, "Int32").map()
        threads = [
            threading.Thread(target=lambda: [cells.atomic_add(0, 1) for _ in range(2000)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(cells[0], 8000)


if __name__ == "__main__":
    unittest.main()

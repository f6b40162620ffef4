"""The numbers of this package are those of values.json."""

import dataclasses
import re
import unittest

from smalloc import ElementType, Limits, Status, WaitResult, _wire
from smalloc._cells import AtomicAction

from support import PROTOCOL, protocol_file

VALUES = protocol_file("values.json")


def snake(name: str) -> str:
    return re.sub("([A-Z])", r"_\1", name).upper().replace("__", "_")


def spec_section(heading: str) -> str:
    text = (PROTOCOL / "spec.md").read_text().split("\n" + heading, 1)[1]
    return text.split("\n## ", 1)[0].split("\n### ", 1)[0]


class ValuesTests(unittest.TestCase):
    def test_constants(self) -> None:
        for name in (
            "protocolVersion",
            "requestMagic",
            "replyMagic",
            "headerSize",
            "nameSizeMax",
            "rangesMax",
            "atomicSizeMax",
            "fillPatternSizeMax",
            "waitsMax",
            "rankMax",
            "metadataSizeMax",
        ):
            self.assertEqual(getattr(_wire, snake(name)), VALUES[name], name)

    def test_element_types(self) -> None:
        for one in VALUES["elementTypes"]:
            type = ElementType.of_number(one["number"])
            self.assertTrue(type.is_known, one)
            self.assertEqual((type.name, type.itemsize), (one["name"], one["size"]))
            self.assertIs(ElementType.of(one["name"]), type)

    def test_operations(self) -> None:
        told = {snake(one["name"]): one["number"] for one in VALUES["operations"]}
        self.assertEqual({one.name: one.value for one in _wire.Operation}, told)

    def test_flags(self) -> None:
        told = {(snake(one["name"]), one["value"]) for one in VALUES["requestFlags"]}
        kinds = (_wire.Flag, _wire.RenameFlag, _wire.OpenFlag, _wire.MapFlag)
        ours = {(one.name, one.value) for flags in kinds for one in flags}
        self.assertEqual(ours, told)

    def test_features(self) -> None:
        rows = re.findall(r"^\| (\d+) \| (\w+) \|", spec_section("### 8.6"), re.MULTILINE)
        told = {snake(name): int(bit) for bit, name in rows}
        self.assertEqual({one.name: one.value for one in _wire.Feature}, told)
        told = {snake(one["name"]): one["bit"] for one in VALUES["features"]}
        self.assertEqual({one.name: one.value for one in _wire.Feature}, told)

    def test_actions_and_results(self) -> None:
        told = {snake(one["name"]): one["number"] for one in VALUES["atomicActions"]}
        self.assertEqual({one.name: one.value for one in AtomicAction}, told)
        told = {snake(one["name"]): one["number"] for one in VALUES["waitResults"]}
        self.assertEqual({one.name: one.value for one in WaitResult}, told)

    def test_statuses(self) -> None:
        told = {one["name"]: one["number"] for one in VALUES["statuses"]}
        ours = {one.symbol: one.value for one in Status if one < 0xF000}
        self.assertEqual(ours, told)
        for one in VALUES["statuses"]:
            if one["number"]:
                closes = one["number"] & _wire.STATUS_CLOSES != 0
                self.assertEqual(closes, one["closes"], one["name"])

    def test_limits(self) -> None:
        ours = [field.name.upper() for field in dataclasses.fields(Limits)]
        self.assertEqual(ours, [snake(name) for name in VALUES["helloFields"]])


if __name__ == "__main__":
    unittest.main()

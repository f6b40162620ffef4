"""What differs from the protocol, where, and which section of the specification says so."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, TextIO

from .._errors import Status, symbol_of
from .._wire import Operation

_STATUSES = {one.symbol: one for one in Status}
# Statuses that come of a frame before its operation is looked at, and of a line likewise.
_OF_FRAMES = frozenset(
    ("malformedFrame", "unsupportedVersion", "helloRequired", "frameTooLarge", "malformedRequest")
    + ("unknownOperation", "unsupportedFlags")
)
_OF_LINES = frozenset(
    ("lineTooLong", "notSmalloc", "unknownOperation", "invalidArgument", "incompleteLine")
)
_DATA_VERBS = frozenset(("write", "fill", "atomic", "wait"))


class Refused(Exception):
    """Nothing is played: the server, or the driver, is not such that it can be."""


class Finding(NamedTuple):
    """One difference. `details` are lines of a label and a text."""

    where: str
    section: str
    details: Dict[str, str]

    def text(self) -> str:
        """Give it as it is printed."""
        lines = ["differs: %s (spec.md, %s)" % (self.where, self.section)]
        lines += ["  %-9s%s" % (label, text) for label, text in self.details.items()]
        return "\n".join(lines)


class Report:
    """Collects findings, counts what was played, and tells meanwhile what is being played."""

    def __init__(self, output: Optional[TextIO]) -> None:
        self.findings: List[Finding] = []
        self.notes: List[str] = []
        self.played = 0
        self._output = output

    def say(self, text: str) -> None:
        """Tell what is being played."""
        if self._output is not None:
            print(text, file=self._output, flush=True)

    def note(self, text: str) -> None:
        """Tell what is not played, now and at the end."""
        self.notes.append(text)
        self.say(text)

    def add(self, where: str, section: str, **details: str) -> None:
        """Note a difference."""
        self.findings.append(Finding(where, section, details))

    def summary(self) -> str:
        """Give the last line."""
        skipped = "; not played: %d" % len(self.notes) if self.notes else ""
        if not self.findings:
            return "conforms: %d played, nothing differs%s" % (self.played, skipped)
        return "differs: %d of %d played%s" % (len(self.findings), self.played, skipped)


def operation_name(number: int) -> str:
    """Give an operation's name, `hello`; of one that is not known its number."""
    try:
        return Operation(number).name.lower()
    except ValueError:
        return "operation %d" % number


def status_name(code: int) -> str:
    """Give a status' name, of success `ok`."""
    return symbol_of(code)


def section_of(operation: str, *statuses: str) -> str:
    """Give the sections on an operation, and on what comes before it where a status says so."""
    sections: List[str] = []
    if any(one in _OF_FRAMES for one in statuses):
        sections.append("§ 5.3")
    number = Operation.__members__.get(operation.upper())
    if number is not None:
        sections.append("§ 7.%d %s" % (number, operation))
    return ", ".join(sections) or "§ 5"


def section_of_line(line: str, *replies: str) -> str:
    """Give the sections on the request that a line is, and on lines where a reply says so."""
    sections: List[str] = []
    words = line.split()
    verb = words[0].lower() if words else ""
    if any(one.split()[1:2] and one.split()[1] in _OF_LINES for one in replies):
        sections.append("§ 6.4")
    number = Operation.__members__.get(verb.upper())
    if number is not None:
        sections.append("§ 7.%d %s" % (number, verb))
        if verb in _DATA_VERBS:
            sections.append("§ 6.2")
        elif verb == "read":
            sections.append("§ 6.3")
    elif verb == "help":
        sections.append("§ 6.5")
    return ", ".join(sections) or "§ 6.1, § 6.4"


def shown(data: Any) -> str:
    """Give bytes as hex, cut short where they are many."""
    text = bytes(data).hex(" ", 4)
    return text if len(text) <= 400 else "%s ... (%d bytes)" % (text[:400], len(data))


def status_code(name: str) -> int:
    """Give a status' number."""
    return int(_STATUSES[name])

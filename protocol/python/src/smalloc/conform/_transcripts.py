"""Text sessions, as protocol/README.md describes them, and how they are played."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, List, NamedTuple, Optional

from ._findings import Report, section_of_line

if TYPE_CHECKING:
    from ._server import Line


class Step(NamedTuple):
    """One directive, the line of the file that it stands in, and its text or bytes."""

    kind: str
    number: int
    text: str
    data: bytes = b""


class Transcript:
    """One text session. Raises ValueError for a line that is no directive."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.steps: List[Step] = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line or line.startswith("#"):
                continue
            kind, _, rest = line.partition(": ")
            if line == "C:":
                self.steps.append(Step("C", number, "", b"\n"))
            elif kind == "C":
                self.steps.append(Step("C", number, rest, rest.encode("utf-8") + b"\n"))
            elif kind == "X":
                data = bytes.fromhex(rest)
                self.steps.append(Step("C", number, data.decode("utf-8", "replace"), data))
            elif kind in ("S", "S+"):
                self.steps.append(Step(kind, number, rest))
            elif line in ("EOF", "CLOSED"):
                self.steps.append(Step(line, number, ""))
            else:
                raise ValueError("%s:%d is no directive" % (name, number))
        if self.steps[-1].kind != "CLOSED":
            last = self.steps[-1].number
            if all(one.kind != "EOF" for one in self.steps):
                self.steps.append(Step("EOF", last, ""))
            self.steps.append(Step("CLOSED", last, ""))


def matches(line: str, pattern: str) -> bool:
    """Whether a line is as a pattern says; `*` stands for any characters, or none."""
    parts = [re.escape(part) for part in pattern.split("*")]
    return re.fullmatch(".*".join(parts), line, re.DOTALL) is not None


def play_transcript(line: Line, transcript: Transcript, way: str, report: Report) -> None:
    """Play one session, up to the first difference."""
    from ._server import Ended

    report.played += 1
    waits = way == "one by one"
    if not waits:
        data = b"".join(one.data for one in transcript.steps if one.kind == "C")
        if way == "byte by byte":
            for at in range(len(data)):
                line.send(data[at : at + 1])
        else:
            line.send(data)
        if any(one.kind == "EOF" for one in transcript.steps):
            line.end()
    asked = ""
    # A line that has come and belongs to the next step.
    ahead: Optional[str] = None
    step = transcript.steps[0]
    got = ""
    try:
        for step in transcript.steps:
            got = ""
            if step.kind == "C":
                asked = step.text
                if waits:
                    line.send(step.data)
            elif step.kind == "EOF":
                if waits:
                    line.end()
            elif step.kind == "S":
                got, ahead = ahead if ahead is not None else line.line(), None
                if not matches(got, step.text):
                    break
            elif step.kind == "S+":
                got, ahead = ahead if ahead is not None else line.line(), None
                if not matches(got, step.text):
                    break
                while ahead is None:
                    more = line.line()
                    ahead = None if matches(more, step.text) else more
            else:
                got = ahead or ""
                got += line.rest().decode("utf-8", "replace")
                if got:
                    break
        else:
            return
    except Ended as error:
        got = str(error)
    expected = step.text if step.kind.startswith("S") else "the end"
    report.add(
        "transcripts/%s:%d, %s" % (transcript.name, step.number, way),
        section_of_line(_request_before(transcript, step, asked), expected, got),
        sent=repr(asked), expected=expected, got=got,
    )  # fmt: skip


def _request_before(transcript: Transcript, step: Step, asked: str) -> str:
    """Give the request that a step is the answer to."""
    before = [
        one.text for one in transcript.steps
        if one.kind == "C" and one.number < step.number and one.text.strip()
    ]  # fmt: skip
    return before[-1] if before else asked

"""Plays a server to a client: what it is asked to do, how the server answers, and what is right."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple, Union

from .._wire import Feature, Header, Operation
from ._findings import Report
from ._model import FEATURES, GREETING, error_reply, reply
from ._scripted import Answer, Driver, Script, Server, Silence, Special


# Seconds until a wait in the background must have come.
_WAIT_TIMEOUT = 5.0


class Fails(NamedTuple):
    """An error is right: one of these, or any where none is named."""

    statuses: Tuple[str, ...] = ()


class Either(NamedTuple):
    """One of several is right."""

    choices: Tuple[Any, ...]


class Anything(NamedTuple):
    """Whatever comes is right, but silence."""


class Step(NamedTuple):
    """What the driver is told to do, and what is right."""

    request: Dict[str, Any]
    expected: Any = None


class Scenario(NamedTuple):
    """One play. `section` is where the specification says what is right."""

    name: str
    section: str
    steps: Sequence[Step]
    script: Script = Script()
    # What is right to answer the attempt to connect.
    connects: Any = None


def do(what: str, expected: Any = None, /, **arguments: Any) -> Step:
    """Give a step; by default what is done gives nothing, and no error."""
    return Step({"do": what, **arguments}, expected)


def play_client(
    command: Sequence[str], values: Dict[str, Any], report: Report
) -> None:
    """Play all scenarios to the client behind a driver. Raises Refused where that can't run."""
    server, driver = Server(), Driver(command)
    try:
        for scenario in [*SCENARIOS, *_of_statuses(values)]:
            report.say(scenario.name)
            _play(server, driver, scenario, report)
    finally:
        driver.close()
        server.close()


def _play(server: Server, driver: Driver, scenario: Scenario, report: Report) -> None:
    server.begin(scenario.script)
    report.played += 1
    connect = do("connect", scenario.connects, address=server.address)
    for step in (connect, *scenario.steps):
        try:
            answer = driver.ask(step.request)
            if step.request.get("background") and "ok" in answer:
                # What is asked next must not overtake it.
                server.await_wait(_WAIT_TIMEOUT)
        except Silence as error:
            answer = str(error)
        if isinstance(answer, dict) and answer.get("unsupported"):
            report.note("%s: the driver does not do %r" % (scenario.name, step.request["do"]))
            break
        if not _is_right(answer, step.expected):
            report.add(
                scenario.name, scenario.section, asked=str(step.request),
                expected=_told(step.expected), got=str(answer),
            )  # fmt: skip
            break
    for words, section, frame in server.breaches():
        report.add(scenario.name, section, sent=frame, got=words)


def _is_right(answer: Any, expected: Any) -> bool:
    if isinstance(expected, Either):
        return any(_is_right(answer, one) for one in expected.choices)
    if not isinstance(answer, dict) or ("ok" in answer) == ("error" in answer):
        return False
    if isinstance(expected, Anything):
        return True
    if isinstance(expected, Fails):
        if "error" not in answer:
            return False
        return not expected.statuses or answer["error"] in expected.statuses
    return "ok" in answer and bool(answer["ok"] == expected)


def _told(expected: Any) -> str:
    if isinstance(expected, Either):
        return " or ".join(_told(one) for one in expected.choices)
    if isinstance(expected, Fails):
        names = " or ".join(expected.statuses)
        return "the error %s" % names if names else "an error"
    if isinstance(expected, Anything):
        return "an answer"
    return str({"ok": expected})


# What is answered out of the ordinary


def _always(make: Any) -> Answer:
    def answer(header: Header, payload: bytes, count: int) -> Special:
        made: Union[bytes, Special] = make(header)
        return made if isinstance(made, Special) else Special(made)

    return answer


def _first(make: Any) -> Answer:
    def answer(header: Header, payload: bytes, count: int) -> Any:
        return _always(make)(header, payload, count) if count == 0 else None

    return answer


def _error(code: int, message: str = "its words are for people", kind: int = 0) -> Any:
    return lambda header: Special(
        error_reply(header.operation, header.cookie, code, kind, message), code & 0x4000 != 0
    )


def _changed(at: int, value: int) -> Any:
    """Answer a ping with one byte of the header changed."""

    def make(header: Header) -> bytes:
        data = bytearray(reply(header.operation, header.cookie))
        data[at] = value
        return bytes(data)

    return make


def _ping(make: Any) -> Script:
    return Script(answers={Operation.PING: _first(make)})


def _stat_with_more(header: Header, payload: bytes, count: int) -> Special:
    numbers = b""
    for one in (1795420800000, 1, 0, 0, 0, 2**64 - 1, 2**64 - 1, 1000, 2**64 - 1, *(9 * [0])):
        numbers += one.to_bytes(8, "little")
    numbers += (77).to_bytes(8, "little")
    return Special(reply(6, header.cookie, b"a" + numbers, type=2, size=4, name_size=1))


def _old_stat(header: Header, payload: bytes, count: int) -> Special:
    numbers = b"".join(one.to_bytes(8, "little") for one in (1795420800000, 1, 0))
    return Special(reply(6, header.cookie, b"a" + numbers, type=2, size=4, name_size=1))


def _list_of_a_new_type(header: Header, payload: bytes, count: int) -> Special:
    entries = (4).to_bytes(8, "little") + b"\x02\x01a" + (8).to_bytes(8, "little") + b"\x63\x01b"
    return Special(reply(7, header.cookie, entries, size=2))


def _greeting(features: int = FEATURES, frame_size: int = GREETING[7]) -> Tuple[int, ...]:
    return (*GREETING[:2], features, *GREETING[3:7], frame_size, *GREETING[8:])


# Scenarios


_ALLOC = do("alloc", name="a", type="Uint8", length=4)
_CELL = do("alloc", name="f", type="Int32", length=2)
_LIVES = [do("ping")]
_IS_LOST = [do("ping", Fails())]

_EXAMPLE: List[Step] = [
    _ALLOC,
    do("alloc", name="b", type="Uint8", length=4),
    do("write", name="a", start=0, hex="00010203"),
    do("write", name="b", start=0, hex="00020406"),
    do("copy", source="b", start=2, dest="a", destStart=0, count=2),
    do("read", "04060203", name="a", start=0, count=4),
]

_EVERYTHING: List[Step] = [
    *_EXAMPLE,
    do("stat", {"type": "Uint8", "length": 4}, name="a"),
    do("open", {"type": "Uint8", "length": 4}, name="b"),
    do("read", "0602", name="a", start=1, count=2),
    do("read", "", name="a", start=4, count=0),
    do("fill", name="b", start=1, count=2, hex="ff"),
    do("read", "00ffff06", name="b", start=0, count=4),
    do("list", [["a", "Uint8", 4], ["b", "Uint8", 4]], prefix=""),
    do("list", [["b", "Uint8", 4]], prefix="b"),
    do("list", [], prefix="c"),
    do("truncate", name="a", length=3),
    do("stat", {"type": "Uint8", "length": 3}, name="a"),
    do("rename", name="a", to="c", replace=False),
    do("stat", Fails(("noData",)), name="a"),
    do("rename", Fails(("alreadyExists",)), name="c", to="b", replace=False),
    do("rename", name="c", to="b", replace=True),
    do("stat", {"type": "Uint8", "length": 3}, name="b"),
    do("freeze", name="b"),
    do("write", Fails(("frozen",)), name="b", start=0, hex="01"),
    do("dispose", name="b"),
    do("stat", Fails(("noData",)), name="b"),
    do("alloc", name="d", type="Double", length=2),
    do("write", name="d", start=1, hex="000000000000f03f"),
    do("read", "000000000000f03f", name="d", start=1, count=1),
    do("stats", "4711", key="pid"),
    do("ping"),
]

_ERRORS: List[Step] = [
    do("open", Fails(("noData",)), name="nothing"),
    do("alloc", Fails(("invalidName",)), name="with space", type="Uint8", length=1),
    do("alloc", Fails(("invalidName",)), name="n" * 256, type="Uint8", length=1),
    do("alloc", Fails(("tooLarge",)), name="a", type="Uint8", length=(1 << 30) + 1),
    _ALLOC,
    do("alloc", Fails(("alreadyExists",)), name="a", type="Uint8", length=4),
    do("read", Fails(("outOfRange",)), name="a", start=5, count=0),
    do("read", Fails(("outOfRange",)), name="a", start=3, count=2),
    do("write", Fails(("outOfRange",)), name="a", start=3, hex="0102"),
    do("fill", Fails(("outOfRange",)), name="a", start=0, count=5, hex="01"),
    do("truncate", Fails(("outOfRange",)), name="a", length=5),
    do("atomic", Fails(("invalidArgument",)), name="d", index=0, action="add", value=1),
]
# No such type has atomics.
_ERRORS.insert(-1, do("alloc", name="d", type="Double", length=1))

_CELLS: List[Step] = [
    _CELL,
    do("atomic", 0, name="f", index=1, action="add", value=5),
    do("atomic", 5, name="f", index=1, action="sub", value=6),
    do("atomic", -1, name="f", index=1, action="exchange", value=12),
    do("atomic", 12, name="f", index=1, action="and", value=10),
    do("atomic", 8, name="f", index=1, action="or", value=1),
    do("atomic", 9, name="f", index=1, action="xor", value=3),
    do("atomic", 10, name="f", index=1, action="compareExchange", expected=9, value=4),
    do("atomic", 10, name="f", index=1, action="compareExchange", expected=10, value=4),
    do("atomic", 4, name="f", index=1, action="store", value=-2147483648),
    do("atomic", -2147483648, name="f", index=1, action="load"),
    do("read", "0000000000000080", name="f", start=0, count=2),
    do("wait", "differs", name="f", index=0, value=1, milliseconds=100),
    do("wait", "timeout", name="f", index=0, value=0, milliseconds=10),
    do("notify", 0, name="f", index=0),
]

_WAITS: List[Step] = [
    _ALLOC,
    do("write", name="a", start=0, hex="01020304"),
    _CELL,
    do("wait", name="f", index=0, value=0, milliseconds=60000, background=True),
    do("ping"),
    do("read", "01020304", name="a", start=0, count=4),
    do("atomic", 0, name="f", index=0, action="store", value=7),
    do("notify", 1, name="f", index=0),
    do("result", "notified"),
    do("wait", name="f", index=1, value=0, milliseconds=60000, background=True),
    do("read", "01020304", name="a", start=0, count=4),
    do("dispose", name="f"),
    do("result", "disposed"),
    do("ping"),
]

# Larger than one frame may be.
_LARGE = "5a" * 100000

SCENARIOS: List[Scenario] = [
    Scenario("the example of the document", "§ 1, § 7", _EXAMPLE),
    Scenario("every operation", "§ 7", _EVERYTHING),
    Scenario("errors have their status", "§ 5.2, § 8.4", _ERRORS),
    Scenario("atomics, and waits that need not wait", "§ 7.20 to 7.22", _CELLS),
    Scenario("a wait is answered after what was asked behind it", "§ 4.4", _WAITS),
    Scenario("replies byte by byte", "§ 5.1", _EVERYTHING, Script(is_cut=True)),
    Scenario("waits, with replies byte by byte", "§ 4.4", _WAITS, Script(is_cut=True)),
    Scenario("a hello with more numbers, and new features", "§ 7.1, § 9", [
        *_EXAMPLE,
    ], Script(greeting=(*_greeting(FEATURES | 1 << 40), 1, 2, 3, 4, 5, 6))),
    Scenario(
        "a hello with the first numbers only", "§ 7.1", [_ALLOC, *_LIVES],
        Script(greeting=(*GREETING[:2], 0, *GREETING[3:8])),
    ),
    Scenario("a daemon of the base alone", "§ 8.6, § 9", _EXAMPLE, Script(greeting=_greeting(0))),
    Scenario(
        "more numbers at the end of stat", "§ 7.6, § 9",
        [_ALLOC, do("stat", {"type": "Uint8", "length": 4}, name="a"), *_LIVES],
        Script(answers={Operation.STAT: _stat_with_more}),
    ),
    Scenario(
        "stat without the feature types", "§ 7.6",
        [_ALLOC, do("stat", {"type": "Uint8", "length": 4}, name="a"), *_LIVES],
        Script(
            greeting=_greeting(FEATURES & ~(1 << Feature.TYPES)),
            answers={Operation.STAT: _old_stat},
        ),
    ),
    Scenario(
        "a list with an element type that is not known", "§ 9",
        [do("list", Anything(), prefix=""), *_LIVES],
        Script(answers={Operation.LIST: _list_of_a_new_type}),
    ),
    Scenario(
        "data over the size of a frame", "§ 3.7, § 4.4",
        [
            do("alloc", name="a", type="Uint8", length=100000),
            do("write", Either((None, Fails(("frameTooLarge",)))), name="a", start=0, hex=_LARGE),
            do(
                "read", Either((_LARGE, Fails(("frameTooLarge",)))),
                name="a", start=0, count=100000,
            ),
            *_LIVES,
        ],
        Script(greeting=_greeting(frame_size=65536)),
    ),
    Scenario(
        "a refusal in text", "§ 4.2", [],
        Script(refusal=b"ERR connectionLimit Error: as many connections as there may be\n"),
        Fails(("connectionLimit",)),
    ),
    Scenario(
        "a server of another protocol", "§ 4.2", [], Script(refusal=b"SSH-2.0-x\r\n"), Fails()
    ),
    Scenario(
        "a status that is not known", "§ 5.2", [do("ping", Fails()), *_LIVES], _ping(_error(0x8123))
    ),
    Scenario(
        "a closing status that is not known", "§ 5.2", [do("ping", Fails()), *_IS_LOST],
        _ping(_error(0xC123)),
    ),
    Scenario(
        "a message that is no text", "§ 5.2", [do("ping", Fails(("busy",))), *_LIVES],
        _ping(lambda header: reply(header.operation, header.cookie, b"\x1b[2J\xff\xfe\0")[:4]
              + b"\x12\x80" + reply(header.operation, header.cookie, b"\x1b[2J\xff\xfe\0")[6:]),
    ),
    Scenario(
        "a cookie that no request has", "§ 4.4, § 5.1", [do("ping", Fails()), *_IS_LOST],
        _ping(lambda header: reply(header.operation, (header.cookie + 1) % (1 << 64))),
    ),
    Scenario(
        "a reply that comes twice", "§ 4.4", [do("ping", Anything()), *_IS_LOST],
        _ping(lambda header: 2 * reply(header.operation, header.cookie)),
    ),
    Scenario(
        "a reply to another operation", "§ 5.1", [do("ping", Fails()), *_IS_LOST],
        _ping(lambda header: reply(Operation.STATS, header.cookie)),
    ),
    Scenario("a reply with a wrong magic", "§ 5.1", [do("ping", Fails()), *_IS_LOST],
             _ping(_changed(0, 0xE5))),
    Scenario("a reply of another version", "§ 5.1", [do("ping", Fails()), *_IS_LOST],
             _ping(_changed(1, 9))),
    Scenario(
        "a reply that tells 4 GiB and ends", "§ 10", [do("ping", Fails()), *_IS_LOST],
        _ping(lambda header: Special(
            reply(header.operation, header.cookie)[:20] + b"\xff\xff\xff\xff" + bytes(1000), True
        )),
    ),
    Scenario(
        "the end within a reply", "§ 4.5", [do("ping", Fails()), *_IS_LOST],
        _ping(lambda header: Special(reply(header.operation, header.cookie)[:39], True)),
    ),
    Scenario(
        "the end in the place of a reply", "§ 4.5", [do("ping", Fails()), *_IS_LOST],
        _ping(lambda header: Special(b"", True)),
    ),
    Scenario(
        "an unsolicited reply behind another one", "§ 4.5", [do("ping", Anything()), *_IS_LOST],
        _ping(lambda header: Special(
            reply(header.operation, header.cookie)
            + error_reply(0, 0, 0xC006, 0, "the daemon is stopping"), True
        )),
    ),
    Scenario(
        "a short read", "§ 7.8",
        [_ALLOC, do("read", Fails(), name="a", start=0, count=4)],
        Script(answers={
            Operation.READ: _always(
                lambda header: reply(8, header.cookie, b"abc", type=2, size=3)
            )
        }),
    ),
]  # fmt: skip


def _of_statuses(values: Dict[str, Any]) -> Iterator[Scenario]:
    """Give a scenario for each status that travels in a reply."""
    kinds = {one["name"]: one["number"] for one in values["errorClasses"]}
    for one in values["statuses"]:
        if one["number"] == 0 or one["number"] >= 0xF000:
            continue
        answer = _error(one["number"], kind=kinds[one["class"]])
        steps = [do("ping", Fails(() if one["closes"] else (one["name"],)))]
        yield Scenario(
            "the status " + one["name"], "§ 5.2, § 8.4",
            steps + (_IS_LOST if one["closes"] else _LIVES), _ping(answer),
        )  # fmt: skip

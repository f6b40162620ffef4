"""Plays vectors and transcripts against a server."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import threading
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .._address import Address, UnixAddress, connect, parse_address
from .._wire import HEADER_SIZE, Header, Operation, Request, hello
from ._findings import Refused, Report, operation_name, section_of, shown, status_name
from ._transcripts import Transcript, play_transcript

# In seconds: how long an answer may take, and how long what has ended may still be counted.
TIMEOUT = 10.0
_SETTLING = 5.0
# Frames of thousands of bytes are cut in their first bytes only.
_DRIPPED_SIZE = 100
_FILES_MAX = 16
_PING = Request(Operation.PING)


class Ended(Exception):
    """The server has ended the connection, or does not answer."""


class Line:
    """A connection that sends given bytes, and takes bytes, frames and lines."""

    def __init__(self, address: Address) -> None:
        self.socket = connect(address, TIMEOUT)
        self.socket.settimeout(TIMEOUT)
        self._is_unix = isinstance(address, UnixAddress)
        self._input = b""
        # Descriptors that have come, all told.
        self.files = 0

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send; what the server does not take any more shows in what it answers."""
        try:
            self.socket.sendall(data)
        except OSError:
            pass

    def drip(self, data: bytes) -> None:
        """Send byte by byte, of long data only the first ones."""
        many = len(data) > 10 * _DRIPPED_SIZE
        dripped = _DRIPPED_SIZE if many else len(data)
        for at in range(dripped):
            self.send(data[at : at + 1])
        if many:
            self.send(data[dripped:])

    def end(self) -> None:
        """End this side."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def frame(self) -> Tuple[Header, bytes]:
        """Take a reply. Raises Ended."""
        header = Header.decode(self._take(HEADER_SIZE))
        return header, self._take(header.payload_size)

    def line(self) -> str:
        """Take a line, without its end. Raises Ended."""
        while b"\n" not in self._input:
            if not self._receive():
                raise Ended("the connection ended after %r" % self._input)
        line, _, self._input = self._input.partition(b"\n")
        return line.decode("utf-8", "replace")

    def rest(self) -> bytes:
        """Take all to the end. Raises Ended where there is none in time."""
        while self._receive():
            pass
        rest, self._input = self._input, b""
        return rest

    def _take(self, size: int) -> bytes:
        while len(self._input) < size:
            if not self._receive():
                so_far = shown(self._input) or "nothing"
                raise Ended("the connection ended where a reply was due; it said %s" % so_far)
        taken, self._input = self._input[:size], self._input[size:]
        return taken

    def _receive(self) -> bool:
        try:
            if self._is_unix:
                data, files, _, _ = socket.recv_fds(self.socket, 65536, _FILES_MAX)
                self.files += len(files)
                for one in files:
                    os.close(one)
            else:
                data = self.socket.recv(65536)
        except socket.timeout:
            raise Ended(
                "no answer, and no end, within %d seconds; it said %s"
                % (TIMEOUT, shown(self._input) or "nothing")
            ) from None
        except OSError:
            data = b""
        self._input += data
        return bool(data)


def play_server(address: str, folder: pathlib.Path, report: Report) -> None:
    """Play all that there is against a server that holds nothing, and leave nothing there.

    Raises Refused where it holds anything, CannotConnectError.
    """
    where = parse_address(address)
    _check_empty(where)
    frames = json.loads((folder / "vectors" / "frames.json").read_text())
    malformed = json.loads((folder / "vectors" / "malformed.json").read_text())
    if not isinstance(where, UnixAddress):
        count = sum(1 for one in frames if one.get("unixSocket") and one["direction"] == "request")
        report.note("not over TCP: %d requests of frames.json" % count)
        frames = [one for one in frames if not one.get("unixSocket")]
    try:
        for way in ("one by one", "byte by byte", "all at once"):
            report.say("vectors/frames.json, %s" % way)
            _play_frames(where, frames, way, report)
            _clear(where)
        report.say("vectors/malformed.json")
        for vector in malformed:
            _play_malformed(where, vector, report)
        _clear(where)
        for path in sorted((folder / "transcripts").glob("*.txt")):
            report.say("transcripts/%s" % path.name)
            transcript = Transcript(path.name, path.read_text())
            for way in ("one by one", "byte by byte", "all at once"):
                with Line(where) as line:
                    play_transcript(line, transcript, way, report)
                _clear(where)
    finally:
        _clear(where)


def _ask(address: Address, request: str) -> List[str]:
    """Ask in text; give all lines, the last of which is OK."""
    with Line(address) as line:
        line.send(request.encode("ascii") + b"\n")
        lines: List[str] = []
        try:
            while not lines or lines[-1].split(" ")[0] not in ("OK", "ERR"):
                lines.append(line.line())
        except Ended as error:
            why = "%s does not answer `%s` in text: %s" % (address, request, error)
            raise Refused(why) from None
        if lines[-1].startswith("ERR"):
            raise Refused("%s answers `%s` with %s" % (address, request, lines[-1]))
        return lines


def _names(address: Address) -> List[str]:
    return [one.split(" ")[1] for one in _ask(address, "list") if one.startswith("ITEM ")]


def _check_empty(address: Address) -> None:
    names = _names(address)
    if names:
        raise Refused(
            "%s holds %d allocations, such as %s: it has to be one that holds nothing, and that "
            "nobody uses, since what is played disposes of what it finds" % (
                address, len(names), names[0],
            )
        )  # fmt: skip
    # Anonymous ones are in no list.
    told = [one.split(" ") for one in _ask(address, "stats") if one.startswith("STAT allocations ")]
    if told and told[0][2] != "0":
        raise Refused("%s holds %s anonymous allocations" % (address, told[0][2]))


def _clear(address: Address) -> None:
    """Dispose of what was left, until nothing is counted any more."""
    end = time.monotonic() + _SETTLING
    while True:
        for name in _names(address):
            try:
                _ask(address, "dispose " + name)
            except Refused:
                # It has gone by itself, with a connection that has ended.
                pass
        told = [one for one in _ask(address, "stats") if one.startswith("STAT allocations ")]
        if not _names(address) and told in ([], ["STAT allocations 0"]):
            return
        if time.monotonic() > end:
            return
        time.sleep(0.01)


# Frames


def _pairs(frames: List[Dict[str, Any]]) -> Iterator[Tuple[Dict[str, Any], Dict[str, Any]]]:
    """Give each request with its reply, which follows it."""
    return zip(frames[::2], frames[1::2])


def _play_frames(
    address: Address, frames: List[Dict[str, Any]], way: str, report: Report
) -> None:
    with Line(address) as line:
        sender: Optional[threading.Thread] = None
        if way == "all at once":
            data = b"".join(bytes.fromhex(request["hex"]) for request, _ in _pairs(frames))
            # A server stops reading where its replies are not taken.
            sender = threading.Thread(target=line.send, args=(data,), daemon=True)
            sender.start()
        files = 0
        for request, reply in _pairs(frames):
            where = "vectors/frames.json, %s, \"%s\"" % (way, reply["name"])
            sent = bytes.fromhex(request["hex"])
            if way == "one by one":
                line.send(sent)
            elif way == "byte by byte":
                line.drip(sent)
            report.played += 1
            operation = request["fields"]["operation"]
            try:
                header, payload = line.frame()
            except Ended as error:
                report.add(
                    where, section_of(str(operation), reply["fields"]["status"]), sent=shown(sent),
                    expected=str(reply["fields"]["status"]),
                    got="%s; the rest is not played" % error,
                )  # fmt: skip
                return
            _compare(where, request, reply, header, payload, report)
            if header.operation == Operation.MAP and header.status == 0 and len(payload) >= 12:
                files += int.from_bytes(payload[8:12], "little")
        if sender is not None:
            sender.join(TIMEOUT)
        try:
            rest = line.rest()
        except Ended as error:
            report.add("vectors/frames.json, %s, the end" % way, "§ 7.16 quit", got=str(error))
            return
        if rest:
            report.add("vectors/frames.json, %s, the end" % way, "§ 7.16 quit", got=shown(rest))
        if files != line.files:
            report.add(
                "vectors/frames.json, %s, descriptors" % way, "§ 7.18 map",
                expected="%d, as the replies tell" % files, got=str(line.files),
            )  # fmt: skip


def _compare(
    where: str, request: Dict[str, Any], reply: Dict[str, Any], header: Header, payload: bytes,
    report: Report,
) -> None:  # fmt: skip
    wanted = bytearray.fromhex(reply["hex"])
    expected = Header.decode(wanted)
    got = bytearray(header.encode() + payload)
    for at, size in reply.get("varies", []):
        got[at : at + size] = wanted[at : at + size]
    varies = bool(reply.get("payloadVaries"))
    if varies:
        got[20:24] = wanted[20:24]
        del got[HEADER_SIZE:], wanted[HEADER_SIZE:]
    if got == wanted:
        return
    details = {"sent": shown(bytes.fromhex(request["hex"]))}
    names = (status_name(expected.status), status_name(header.status))
    changed = Header.decode(got)
    fields = [
        (name, _told(name, one), _told(name, other))
        for name, one, other in zip(Header._fields, expected, changed)
        if one != other
    ]
    details["expected"] = ", ".join("%s %s" % (name, one) for name, one, _ in fields)
    details["got"] = ", ".join("%s %s" % (name, other) for name, _, other in fields)
    if got[HEADER_SIZE:] != wanted[HEADER_SIZE:]:
        said = _payload(expected, bytes(wanted[HEADER_SIZE:]))
        details["expected"] += (", " if fields else "") + "payload " + said
        details["got"] += (", " if fields else "") + "payload " + _payload(changed, payload)
    section = section_of(str(request["fields"]["operation"]), *names)
    report.add(where, section, **details)


def _told(name: str, number: int) -> str:
    if name == "status":
        return status_name(number)
    if name == "operation":
        return operation_name(number)
    return str(number)


def _payload(header: Header, payload: bytes) -> str:
    if header.is_error:
        return '"%s"' % payload.decode("utf-8", "replace")
    return shown(payload) or "nothing"


# What is malformed


def _play_malformed(address: Address, vector: Dict[str, Any], report: Report) -> None:
    where = "vectors/malformed.json, \"%s\"" % vector["name"]
    data = bytes.fromhex(vector["hex"])
    sent = Header.decode(data) if len(data) >= HEADER_SIZE and data[0] == 0xE5 else None
    status: Optional[str] = vector["status"]
    operation = operation_name(sent.operation) if sent is not None else ""
    section = section_of(operation, status or "malformedFrame")
    report.played += 1
    with Line(address) as line:
        try:
            if vector["hello"]:
                line.send(hello(b"conform").encode(1))
                line.frame()
            line.send(data)
            if vector.get("end"):
                line.end()
            if status is not None:
                header, payload = line.frame()
                wrong = _wrong(header, payload, sent, data[:1], status)
                if wrong is not None:
                    report.add(where, section, sent=shown(data), expected=status, got=wrong)
                    return
            if vector["closes"]:
                rest = line.rest()
                if rest:
                    report.add(
                        where, "§ 4.5, " + section, sent=shown(data), expected="the end",
                        got=shown(rest),
                    )  # fmt: skip
            elif not vector.get("end"):
                line.send((hello(b"") if not vector["hello"] else _PING).encode(9))
                header, _ = line.frame()
                if (header.status, header.cookie) != (0, 9):
                    report.add(
                        where, "§ 5.2", sent=shown(data), expected="the connection goes on",
                        got=status_name(header.status),
                    )  # fmt: skip
        except Ended as error:
            ends = "the end" if vector["closes"] else "the connection goes on"
            expected = ends if status is None else "%s, then %s" % (status, ends)
            report.add(where, section, sent=shown(data), expected=expected, got=str(error))


def _wrong(
    header: Header, payload: bytes, sent: Optional[Header], magic: bytes, status: str
) -> Optional[str]:
    """Say what is wrong with an error; None: nothing is."""
    if header.magic != 0xE6 or header.version != 1:
        return "no reply: %s" % shown(header.encode())
    if status_name(header.status) != status:
        return "%s, \"%s\"" % (status_name(header.status), payload.decode("utf-8", "replace"))
    if not payload:
        return "no message"
    if magic != b"\xe5" and (header.operation, header.cookie) != (0, 0):
        return "operation %d and cookie %d, not 0" % (header.operation, header.cookie)
    if sent is not None and (header.operation, header.cookie) != (sent.operation, sent.cookie):
        return "operation %d and cookie %d, not the request's" % (header.operation, header.cookie)
    if any((header.flags, header.name_size, header.handle, header.offset, header.size)):
        return "a field is not 0: %s" % shown(header.encode())
    return None

#!/usr/bin/env python3
"""Writes a first corpus for the session fuzzer: corpus.py PROTOCOL-FOLDER TARGET-FOLDER."""
import json
import pathlib
import sys

protocol, target = map(pathlib.Path, sys.argv[1:3])
target.mkdir(parents=True, exist_ok=True)
frames = json.loads((protocol / "vectors/frames.json").read_text())
requests = [bytes.fromhex(f["hex"]) for f in frames if f["direction"] == "request"]
hello = requests[0]
whole = b"\xff"  # in one piece
(target / "session").write_bytes(whole + b"".join(requests)[:60_000])
for number, request in enumerate(requests):
    (target / f"frame-{number}").write_bytes(whole + hello + request)
for number, entry in enumerate(json.loads((protocol / "vectors/malformed.json").read_text())):
    start = hello if entry["hello"] else b""
    (target / f"malformed-{number}").write_bytes(whole + start + bytes.fromhex(entry["hex"]))
for path in sorted((protocol / "transcripts").glob("*.txt")):
    text = b""
    for line in path.read_text().split("\n"):
        if line.startswith("C: "):
            text += line[3:].encode() + b"\n"
        elif line.startswith("X: "):
            text += bytes.fromhex(line[3:])
    (target / path.stem).write_bytes(whole + text)

"""The command line: what is played against what, and what is printed."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import List, Optional

from .._errors import SmallocError
from ._findings import Finding, Refused, Report
from ._scenarios import play_client
from ._server import play_server


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command; give 0 where nothing differs, 1 where something does, 2 where it can't run.
    """
    parser = argparse.ArgumentParser(
        prog="smalloc-conform",
        description="Holds a server or a client to the smalloc protocol, and prints what differs.",
    )
    parser.add_argument(
        "--protocol",
        metavar="FOLDER",
        help="the project's folder `protocol`, with vectors and transcripts; looked for in the "
        "current folder and those above it where it is not told",
    )
    parser.add_argument("--quiet", action="store_true", help="print the differences alone")
    kinds = parser.add_subparsers(dest="kind", required=True)
    server = kinds.add_parser("server", help="play vectors and transcripts against a server")
    server.add_argument("address", help="unix:PATH or tcp:HOST:PORT; it must hold nothing")
    client = kinds.add_parser("client", help="be the server of a client that a driver drives")
    client.add_argument("command", nargs="+", help="what starts the driver, after --")
    told = parser.parse_args(arguments)

    folder = find_protocol(told.protocol)
    if folder is None:
        print(
            "smalloc-conform: no vectors here: --protocol tells the project's folder `protocol`",
            file=sys.stderr,
        )
        return 2
    report = Report(None if told.quiet else sys.stdout)
    try:
        if told.kind == "server":
            play_server(told.address, folder, report)
        else:
            play_client(told.command, json.loads((folder / "values.json").read_text()), report)
    except (SmallocError, OSError, Refused) as error:
        print("smalloc-conform: %s" % error, file=sys.stderr)
        return 2
    for finding in report.findings:
        print(finding.text())
    print(report.summary())
    return 1 if report.findings else 0


def find_protocol(told: Optional[str]) -> Optional[pathlib.Path]:
    """Give the folder that has vectors/frames.json; None where there is none."""
    if told is not None:
        candidates = [pathlib.Path(told)]
    else:
        here = pathlib.Path.cwd()
        candidates = [here, *(one / "protocol" for one in (here, *here.parents))]
    for one in candidates:
        if (one / "vectors" / "frames.json").is_file():
            return one
    return None


__all__ = ["Finding", "find_protocol", "main"]

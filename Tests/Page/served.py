"""A real daemon that serves the page, for tests and for the README's picture."""

import json
import pathlib
import socket
import sys
import urllib.request

PYTHON = pathlib.Path(__file__).resolve().parents[2] / "protocol/python"
sys.path[:0] = [str(PYTHON / "src"), str(PYTHON / "tests")]

import smalloc
from support import Daemon


class Served(Daemon):
    """A daemon with its page at `url`, as a context manager."""

    def __init__(self, *options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        super().__init__("--http", f"tcp:127.0.0.1:{port}", "--http-names", "yes", *options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def fetch(self, path):
        """An answer of the listener: its headers and its text."""
        with urllib.request.urlopen(self.url + path, timeout=20) as answer:
            return answer.headers, answer.read().decode()

    def document(self, path):
        return json.loads(self.fetch(path)[1])

    def text(self, lines, at_once=100):
        """Sends lines of text mode, some of them together, and gives a line of reply for each."""
        replies = []
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(self.path)
            with connection.makefile("rwb") as file:
                for start in range(0, len(lines), at_once):
                    some = lines[start : start + at_once]
                    file.write("".join(line + "\n" for line in some).encode())
                    file.flush()
                    replies += [file.readline().decode().rstrip() for _ in some]
        return replies

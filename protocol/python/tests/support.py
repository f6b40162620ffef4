"""What the tests share: a daemon of their own, the project's folders, seeds, numpy if there."""

import functools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from typing import Any, Callable, List, Optional

import smalloc

TESTS = pathlib.Path(__file__).resolve().parent
PACKAGE = TESTS.parent
PROTOCOL = PACKAGE.parent
ROOT = PROTOCOL.parent

try:
    import numpy
except ImportError:
    numpy: Any = None  # type: ignore[no-redef]

needs_numpy = unittest.skipIf(numpy is None, "numpy is not installed")
# For what takes seconds and has nothing to do with numpy: `run` has an environment without it.
same_without_numpy = unittest.skipIf(numpy is not None, "it is the same without numpy")


# `make nightly` sets these. As in the Swift tests, 1 is the scale of `make test`.
IS_NIGHTLY = "SMALLOC_NIGHTLY" in os.environ
_SCALE = max(float(os.environ.get("SMALLOC_SCALE") or 1), 0.01)


def scaled(count: int) -> int:
    """How often to do what is done so often in `make test`."""
    return max(1, int(count * _SCALE))


def protocol_file(path: str) -> Any:
    return json.loads((PROTOCOL / path).read_text())


def seeded(test: Callable[[Any, random.Random], None]) -> Callable[[Any], None]:
    """Give a test a random source; tell its seed where the test fails, take it by SMALLOC_SEED."""

    @functools.wraps(test)
    def run(self: unittest.TestCase) -> None:
        seed = int(os.environ.get("SMALLOC_SEED") or random.randrange(2**32))
        try:
            test(self, random.Random(seed))
        except unittest.SkipTest:
            raise
        except BaseException:
            print("%s failed with SMALLOC_SEED=%d" % (self.id(), seed), file=sys.stderr)
            raise

    return run


def daemon_path() -> str:
    told = os.environ.get("SMALLOCD")
    paths = (
        [told]
        if told
        else [str(ROOT / ".build" / one / "smallocd") for one in ("debug", "release")]
    )
    for path in paths:
        if os.access(path, os.X_OK):
            return path
    raise RuntimeError("there is no daemon at %s: make build, or tell $SMALLOCD" % paths)


def worker_path() -> str:
    """Give the program that uses the Swift library for tests. Skips the test where it is not built.
    """
    path = ROOT / ".build" / "debug" / "mapped-worker"
    if not os.access(str(path), os.X_OK):
        raise unittest.SkipTest("the program of the Swift library is not built")
    return str(path)


class Worker:
    """A process that does with the Swift library what it is told."""

    def __init__(self, address: str) -> None:
        self.process = subprocess.Popen(
            [worker_path(), "serve", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            universal_newlines=True,
            bufsize=1,
        )

    def send(self, *words: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(str(one) for one in words) + "\n")

    def receive(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("the program has ended: %s" % self.process.wait(10))
        return line.rstrip("\n")

    def ask(self, *words: object) -> str:
        self.send(*words)
        return self.receive()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Daemon:
    """A daemon on a socket in a folder of its own; also on a TCP port where one is told.

    `descriptors` is how many it may open, 0: as many as this process.
    """

    def __init__(self, *options: str, port: int = 0, descriptors: int = 0) -> None:
        self.folder = tempfile.mkdtemp(prefix="smalloc-")
        self.path = os.path.join(self.folder, "s")
        self.address = "unix:" + self.path
        listen = ["--listen", self.address]
        if port:
            listen += ["--listen", "tcp:127.0.0.1:%d" % port]
        self._log = open(os.path.join(self.folder, "log"), "wb")
        self.process = subprocess.Popen(
            (["prlimit", "--nofile=%d" % descriptors] if descriptors else [])
            + [daemon_path(), *listen, *options],
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )
        end = time.monotonic() + 20
        while True:
            try:
                smalloc.Client(self.address).close()
                return
            except smalloc.CannotConnectError:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.stop(signal.SIGKILL)
                    raise
                time.sleep(0.01)

    def kill(self, how: int = signal.SIGKILL) -> None:
        """End the process and keep the folder."""
        if self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(10)

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.kill(how)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class DaemonTestCase(unittest.TestCase):
    """Tests with one daemon for all of a class, and a client for each, which leaves nothing."""

    options: List[str] = []
    # Whether arrays are mapped, or reached by requests as over TCP.
    mapping = True
    daemon: Daemon
    client: smalloc.Client

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon(*cls.options)
        cls.addClassCleanup(cls.daemon.stop)

    def setUp(self) -> None:
        self.client = smalloc.Client(self.daemon.address, timeout=20, mapping=self.mapping)
        self.addCleanup(self.client.close)
        self.addCleanup(self.clear)

    def clear(self) -> None:
        with smalloc.Client(self.daemon.address) as client:
            for found in list(client.list()):
                client.dispose(found.name)

    def alloc_or_skip(self, length: int, type: str, name: Optional[str] = None) -> Any:
        """Allocate elements of a type that not every daemon has yet."""
        try:
            return self.client.alloc(length, type, name)
        except smalloc.UnknownTypeError:
            self.skipTest("this daemon has no %s" % type)

"""The package as a whole: its README, its documentation, its tidiness."""

import ast
import asyncio
import contextlib
import inspect
import io
import os
import pathlib
import re
import struct
import subprocess
import sys
import threading
import unittest
from typing import Any, Dict, Iterator, Tuple
from unittest import mock

import smalloc

from support import PACKAGE, ROOT, TESTS, DaemonTestCase, needs_numpy, numpy

SOURCES = sorted([*PACKAGE.glob("src/smalloc/**/*.py"), *PACKAGE.glob("examples/*.py")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def block_with(text: str, path: pathlib.Path) -> str:
    (block,) = [one for one in BLOCK.findall(path.read_text()) if text in one]
    return str(block)


class ReadmeTests(DaemonTestCase):
    def test_the_first_example(self) -> None:
        example = BLOCK.findall((PACKAGE / "README.md").read_text())[0]
        said = io.StringIO()
        with mock.patch.dict(os.environ, {"SMALLOC_ADDRESS": self.daemon.address}):
            with contextlib.redirect_stdout(said):
                exec(compile(example, "README.md", "exec"), {})
        array, names = said.getvalue().splitlines()
        self.assertIn("# " + array, example)
        self.assertEqual(sorted(ast.literal_eval(names)), ["a", "b"])
        self.assertEqual(list(self.client.list()), [])

    def test_the_second_example(self) -> None:
        example = block_with("data = a.read_bytes(1, 2)", PACKAGE / "README.md")
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(example, "README.md", "exec"), {"client": self.client})
        self.assertIn("# " + said.getvalue().strip(), example)

    @needs_numpy
    def test_the_example_of_sharing(self) -> None:
        example = block_with("view = numpy.asarray", PACKAGE / "README.md")
        names: Dict[str, Any] = {"client": self.client, "numpy": numpy}
        exec(compile(example, "README.md", "exec"), names)
        names["same"][1, 2] = 5
        self.assertEqual((names["view"][0, 255], names["view"][1, 2]), (1, 5))

    def test_the_example_of_waiting(self) -> None:
        example = block_with("flags.atomic_add(0, 1)", PACKAGE / "README.md")
        names: Dict[str, Any] = {"client": self.client}
        exec(compile(example, "README.md", "exec"), names)
        self.assertEqual((names["seen"], names["flags"][:]), (1, [1, 0]))

    def test_the_example_of_watching(self) -> None:
        example = block_with("client.watch(", PACKAGE / "README.md")
        said = io.StringIO()
        timer = threading.Timer(0.2, self.client.create, ("cam/1", 4))
        timer.start()
        with contextlib.redirect_stdout(said):
            exec(compile(example, "README.md", "exec"), {"client": self.client})
        timer.join()
        self.assertIn("# " + said.getvalue().strip(), example)

    def test_the_example_of_asyncio(self) -> None:
        example = block_with("async def main(client)", PACKAGE / "README.md")
        names: Dict[str, Any] = {"smalloc": smalloc}
        exec(compile(example, "README.md", "exec"), names)
        with mock.patch.dict(os.environ, {"SMALLOC_ADDRESS": self.daemon.address}):
            self.assertIs(asyncio.run(names["run"]()), smalloc.WaitResult.NOTIFIED)
        self.assertEqual(self.client.get("frame")[0, 639], 1)

    @needs_numpy
    def test_the_two_programs_of_the_projects_readme(self) -> None:
        size = 1 << 22
        environment = dict(
            os.environ,
            SMALLOC_ADDRESS=self.daemon.address,
            FRAME_SIZE=str(size),
            PYTHONPATH=os.pathsep.join(sys.path),
        )
        said = [
            subprocess.run(
                [sys.executable, "-c", block_with(name, ROOT / "README.md")],
                env=environment,
                stdout=subprocess.PIPE,
                check=True,
                universal_newlines=True,
            ).stdout
            for name in ("# producer.py", "# consumer.py")
        ]
        self.assertEqual(said, ["", "%d 1.5 1.5\n" % size])
        # What the second stored into its view is in the daemon.
        self.assertEqual(self.client.read("frame", 0, 8), struct.pack("<2f", 2.5, 1.5))

    @needs_numpy
    def test_the_example_of_the_projects_readme(self) -> None:
        example = BLOCK.findall((ROOT / "README.md").read_text())[0]
        with mock.patch.dict(os.environ, {"SMALLOC_ADDRESS": self.daemon.address}):
            names: Dict[str, Any] = {}
            exec(compile(example, "README.md", "exec"), names)
            names["client"].close()
        with self.client.get("image", (480, 640)) as image:
            self.assertEqual(image[0, :6].tolist(), [4, 6, 2, 3, 0, 0])

    def test_the_example_of_a_pool(self) -> None:
        environment = dict(
            os.environ,
            SMALLOC_ADDRESS=self.daemon.address,
            PYTHONPATH=os.pathsep.join(sys.path),
        )
        for how, told in (("spawn", "spawned"), ("fork", "forked")):
            said = subprocess.run(
                [sys.executable, "-W", "ignore", str(PACKAGE / "examples" / "pool.py"), how],
                env=environment,
                stdout=subprocess.PIPE,
                check=True,
                timeout=60,
                universal_newlines=True,
            ).stdout.splitlines()
            rows = list(range(8))
            self.assertEqual(said[0], "%s 28 ['%s']" % (how, told))
            self.assertEqual(ast.literal_eval(said[1]), [row + 100 for row in rows])
            self.assertEqual(ast.literal_eval(said[2]), rows)
        self.assertEqual(list(self.client.list()), [])

    def test_errors_are_in_the_readme(self) -> None:
        text = (PACKAGE / "README.md").read_text()
        for name in smalloc.__all__:
            if name.endswith("Error"):
                self.assertIn("| %s |" % name if name != "SmallocError" else name, text)


def documented() -> Iterator[Tuple[str, Any]]:
    for module, name in [
        *((smalloc, name) for name in smalloc.__all__),
        *((smalloc.aio, name) for name in smalloc.aio.__all__),
    ]:
        one = getattr(module, name)
        if inspect.isclass(one):
            yield name, one
            for part, value in vars(one).items():
                if not part.startswith("_") and (
                    inspect.isfunction(value) or isinstance(value, (property, staticmethod))
                ):
                    yield "%s.%s" % (name, part), getattr(one, part)


class TidyTests(unittest.TestCase):
    def test_everything_public_is_documented(self) -> None:
        names = [name for name, _ in documented()]
        self.assertGreater(len(names), 60)
        for name, one in documented():
            text = inspect.getdoc(one) or ""
            self.assertTrue(text.split("\n")[0].rstrip().endswith((".", ":")), name)

    def test_files_are_short_and_say_what_they_are_for(self) -> None:
        self.assertGreater(len(SOURCES), 10)
        for path in [*SOURCES, *sorted(TESTS.glob("*.py"))]:
            lines = path.read_text().splitlines()
            self.assertLessEqual(len(lines), 500, path)
            self.assertTrue(lines[0].startswith('"""'), path)
            for number, line in enumerate(lines, 1):
                self.assertLessEqual(len(line), 100, "%s:%d" % (path, number))

    def test_the_version_is_told_once(self) -> None:
        told = re.search(r'^version = "(.*)"$', (PACKAGE / "pyproject.toml").read_text(), re.M)
        assert told is not None
        self.assertEqual(smalloc.__version__, told.group(1))


if __name__ == "__main__":
    unittest.main()

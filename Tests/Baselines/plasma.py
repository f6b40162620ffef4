"""The Python client beside Plasma, pyarrow's store of objects in shared memory, in one run.

    Tests/Baselines/plasma.sh SMALLOCD [--pairs 9] [--favour] [--huge-pages advise]

Each work is done by both in turns, in pairs, and a ratio is the median of the pairs' ratios.
Servers are on the first processor, the client is on the last. A first cycle is that of fresh
servers and connections, which are started for each pair. It ends with 1 where a mark is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import os
import pathlib
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from typing import Any, Callable, Iterator, List, NamedTuple, NoReturn, Optional, Tuple

warnings.simplefilter("ignore")

import numpy  # noqa: E402
import pyarrow.plasma as plasma  # noqa: E402
import smalloc  # noqa: E402

SHARED_HUGE_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
SERVERS, CLIENT = {0}, {os.cpu_count() - 1}  # type: ignore[operator]
KIB, MIB = 1 << 10, 1 << 20
# Bytes that Plasma may take: two objects of 64 MiB, and what it loses to fragments.
PLASMA_SIZE = 1 << 30
Step = Callable[[], object]


class Both:
    """Both servers, fresh, in a folder of their own, and a client of each."""

    def __init__(self, daemon: str, nice: int, plasma_folder: Optional[str]) -> None:
        self.folder = tempfile.mkdtemp(prefix="smalloc-plasma-")
        self._processes: List[subprocess.Popen[bytes]] = []
        self._count = 0
        try:
            ours, theirs = os.path.join(self.folder, "s"), os.path.join(self.folder, "p")
            self._start([daemon, "--listen", "unix:" + ours], nice)
            store = os.path.join(os.path.dirname(sys.executable), "plasma_store")
            where = ["-d", plasma_folder] if plasma_folder else []
            self._start([store, "-m", str(PLASMA_SIZE), "-s", theirs, *where], nice)
            self.ours = within(20, lambda: smalloc.Client("unix:" + ours))
            self.ours_busy = smalloc.Client("unix:" + ours, busy_poll=50e-6)
            within(20, lambda: os.stat(theirs))
            self.theirs: Any = within(20, lambda: plasma.connect(theirs))
        except BaseException:
            self.stop()
            raise

    def _start(self, command: List[str], nice: int) -> None:
        def prepare() -> None:
            os.sched_setaffinity(0, SERVERS)
            os.setpriority(os.PRIO_PROCESS, 0, nice)

        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, preexec_fn=prepare, stdout=quiet, stderr=quiet)
        self._processes.append(process)

    def object_id(self) -> Any:
        """Give an object's id that was not given yet."""
        self._count += 1
        return plasma.ObjectID(b"%020d" % self._count)

    def stop(self) -> None:
        """Stop the servers by their process' ids."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def within(seconds: float, attempt: Callable[[], Any]) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except (smalloc.CannotConnectError, OSError):
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


class Work(NamedTuple):
    """One work: makes the two steps that are measured, of servers that are fresh or not.

    `mark` is of a time's ratio, at most, where `is_rate` is False; of a rate's, at least, where it
    is True; None where there is none. `seconds` is what one side of a pair takes; 0: one step.
    """

    name: str
    steps: Callable[[Both], Tuple[Step, Step]]
    mark: Optional[float] = None
    is_rate: bool = False
    seconds: float = 0.1


# 1. What exists is mapped.


def mapped_arrays(both: Both) -> Tuple[Step, Step]:
    ours, theirs = both.ours, both.theirs
    _, object_id = stored(both)
    return (
        lambda: numpy.asarray(ours.get("array")),
        lambda: numpy.frombuffer(theirs.get_buffers([object_id])[0], "f8"),
    )


def mapped_arrays_for_reading(both: Both) -> Tuple[Step, Step]:
    ours, (_, theirs) = both.ours, mapped_arrays(both)
    return lambda: numpy.asarray(ours.get("array", writable=False)), theirs


def mapped_arrays_busily(both: Both) -> Tuple[Step, Step]:
    ours, (_, theirs) = both.ours_busy, mapped_arrays(both)
    return lambda: numpy.asarray(ours.get("array")), theirs


def mapped_objects(both: Both) -> Tuple[Step, Step]:
    ours, theirs = both.ours, both.theirs
    array, _ = stored(both)
    object_id = theirs.put(array)
    return lambda: numpy.asarray(ours.get("array")), lambda: theirs.get(object_id)


def mapped_buffers(both: Both) -> Tuple[Step, Step]:
    ours, theirs = both.ours, both.theirs
    _, object_id = stored(both)
    return lambda: ours.open("array").map(), lambda: theirs.get_buffers([object_id])


def mapped_and_read(both: Both) -> Tuple[Step, Step]:
    ours, theirs = mapped_arrays(both)

    def read_all(array: Any) -> Any:
        return array.sum()

    return lambda: read_all(ours()), lambda: read_all(theirs())


def stored(both: Both) -> Tuple[Any, Any]:
    """Store the same 1 MiB in both; give it, and Plasma's id of it."""
    array = numpy.arange(MIB // 8, dtype="f8")
    both.ours.put("array", array)
    object_id = both.object_id()
    numpy.frombuffer(both.theirs.create(object_id, MIB), "f8")[:] = array
    both.theirs.seal(object_id)
    return array, object_id


# 2. Made, mapped, touched, unmapped and freed.


def cycles(size: int, by_hand: bool = False) -> Callable[[Both], Tuple[Step, Step]]:
    def steps(both: Both) -> Tuple[Step, Step]:
        ours, theirs = both.ours, both.theirs

        def our_cycle() -> None:
            if by_hand:
                allocation = ours.alloc(size, "Uint8", "cycle", shareable=True)
                mapping = allocation.map()
            else:
                array = ours.array("cycle", size, "uint8")
                allocation, mapping = array.allocation, array.mapping
                del array
            mapping[0]
            del mapping
            allocation.dispose()

        def their_cycle() -> None:
            object_id = both.object_id()
            # Its buffer goes first: what is in use is not deleted.
            created = theirs.create(object_id, size)
            theirs.seal(object_id)
            del created
            (buffer,) = theirs.get_buffers([object_id])
            memoryview(buffer)[0]
            del buffer
            theirs.delete([object_id])

        return our_cycle, their_cycle

    return steps


# 3. Put over and over.


def puts(by_hand: bool, size: int = 64 * MIB) -> Callable[[Both], Tuple[Step, Step]]:
    def steps(both: Both) -> Tuple[Step, Step]:
        ours, theirs = both.ours, both.theirs
        array = numpy.arange(size // 8, dtype="f8")
        old: List[Any] = []

        def create() -> Any:
            object_id = both.object_id()
            numpy.copyto(numpy.frombuffer(theirs.create(object_id, size), "f8"), array)
            theirs.seal(object_id)
            return object_id

        def their_put() -> None:
            old.append(create() if by_hand else theirs.put(array))
            if len(old) > 1:
                theirs.delete([old.pop(0)])

        return lambda: ours.put("put", array), their_put

    return steps


SIZES = ((64 * KIB, "64 KiB"), (MIB, "1 MiB"), (64 * MIB, "64 MiB"))
WORKS = [
    Work("map/array", mapped_arrays, 0.7),
    Work("map/array for reading", mapped_arrays_for_reading, 0.7),
    Work("map/array, busy_poll", mapped_arrays_busily),
    Work("map/array, get()", mapped_objects, 0.7),
    Work("map/memory", mapped_buffers, 0.7),
    Work("map/array, and read all", mapped_and_read),
    *(Work("cycle/" + text, cycles(size), 2.0, True) for size, text in SIZES),
    Work("cycle/1 MiB, alloc()", cycles(MIB, True), None, True),
    *(Work("cycle/first of " + text, cycles(size), 2.0, True, 0) for size, text in SIZES),
    Work("put/64 MiB", puts(True), 1.0, True, 0.4),
    Work("put/64 MiB, put()", puts(False), 1.0, True, 0.4),
    Work("put/first of 64 MiB", puts(True), 1.0, True, 0),
]
LEGEND = """\
map/array              numpy.asarray(client.get(name))
                       and numpy.frombuffer(get_buffers([id])[0])
map/array for reading  the same with writable=False        and the same
map/array, busy_poll   the same by Client(busy_poll=50e-6)  and the same
map/array, get()       numpy.asarray(client.get(name))  and get(id) of what Plasma's put made
map/memory             client.open(name).map()  and get_buffers([id])
map/..., and read all  as map/array, then array.sum()
cycle/...              array(name, ...), which makes and maps it, first byte, unmap, dispose
                       and create, seal, get_buffers, first byte, release, delete
cycle/..., alloc()     alloc(..., shareable=True).map() for array(...)
put/...                client.put(name, array)
                       and create, numpy.copyto, seal, delete the last one
put/..., put()         the same and put(array), delete the last one
What is mapped is 1 MiB, and unmapped or released before the next. Times are microseconds of one
step; the ratio is of times (map: smaller is better) or of rates (cycle, put: larger is
better), the median (least to most) of the pairs. first: by fresh servers and connections."""


def measure(step: Step, seconds: float) -> float:
    """Give microseconds a step."""
    count, start = 0, time.perf_counter()
    while True:
        step()
        count += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return elapsed / count * 1e6


def compare(work: Work, pairs: int, start: Callable[[], Both]) -> List[Tuple[float, float]]:
    times: List[Tuple[float, float]] = []
    both: Optional[Both] = None
    try:
        for pair in range(pairs):
            if both is None:
                both = start()
                ours, theirs = work.steps(both)
                # Once each, so that what is measured is the steady state.
                for step in (ours, theirs) if work.seconds else ():
                    measure(step, work.seconds / 4)
            if pair % 2:
                second, first = measure(theirs, work.seconds), measure(ours, work.seconds)
            else:
                first, second = measure(ours, work.seconds), measure(theirs, work.seconds)
            times.append((first, second))
            if not work.seconds:
                del ours, theirs
                both.stop()
                both = None
        return times
    finally:
        if both is not None:
            both.stop()


def tell(work: Work, times: List[Tuple[float, float]]) -> bool:
    ratios = [theirs / ours if work.is_rate else ours / theirs for ours, theirs in times]
    ratio = statistics.median(ratios)
    is_met, mark, word = True, "", ""
    if work.mark is not None:
        is_met = ratio >= work.mark if work.is_rate else ratio <= work.mark
        mark = "%s %.1f" % (">=" if work.is_rate else "<=", work.mark)
        word = "ok" if is_met else "MISSED"
    spread = "(%.2f to %.2f)" % (min(ratios), max(ratios))
    print("%-24s %10.0f %10.0f   %5.2f %-16s %-6s  %s" % (
        work.name, statistics.median(one for one, _ in times),
        statistics.median(one for _, one in times), ratio, spread, mark, word,
    ), flush=True)  # fmt: skip
    return is_met


def tell_floor(both: Both) -> None:
    """Tell what one request takes by a bare socket: less than that no client can."""
    with socket.socket(socket.AF_UNIX) as bare:
        bare.connect(os.path.join(both.folder, "s"))
        header = struct.Struct("<BBBBHBBQIIQQ")

        def ask(operation: int, payload: bytes = b"") -> None:
            size = len(payload)
            bare.sendmsg((header.pack(0xE5, 1, operation, 0, 0, 0, 0, 1, 0, size, 0, 0), payload))
            bare.recvmsg(65536)

        ask(1, b"floor")
        floor = statistics.median(measure(lambda: ask(2), 0.05) for _ in range(9))
    client = statistics.median(measure(both.ours.ping, 0.05) for _ in range(9))
    print("A round trip: %.0f us by a bare socket in Python, %.0f by client.ping()" % (
        floor, client,
    ))  # fmt: skip


@contextlib.contextmanager
def shared_huge_pages(wanted: Optional[str]) -> Iterator[Optional[str]]:
    """Set them for as long as this lasts, if that is asked for; give a folder for Plasma's memory.

    What files of a mounted folder get is its own: Plasma gets one that has huge pages, too.
    """
    if wanted is None:
        yield None
        return
    before = SHARED_HUGE_PAGES.read_text().split("[")[1].split("]")[0]
    folder = tempfile.mkdtemp(prefix="smalloc-plasma-")
    is_mounted = False
    try:
        SHARED_HUGE_PAGES.write_text(wanted)
        command = ["mount", "-t", "tmpfs", "-o", "huge=always,size=4G", "plasma", folder]
        is_mounted = subprocess.run(command, check=False).returncode == 0
        yield folder if is_mounted else None
    finally:
        SHARED_HUGE_PAGES.write_text(before)
        if is_mounted:
            subprocess.run(["umount", folder], check=False)
        os.rmdir(folder)


def leave(number: int, _: object) -> NoReturn:
    # What is to be put back is put back on the way out.
    sys.exit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("daemon", help="the smallocd to measure")
    parser.add_argument("--pairs", type=int, default=9, help="of both sides, at least 7 to judge")
    parser.add_argument("--works", action="append", help="only these: 'map/*'")
    parser.add_argument("--favour", action="store_true", help="a better priority for all; root's")
    parser.add_argument(
        "--huge-pages", choices=["advise", "within_size", "always", "never"],
        help="set shared huge pages for this run, and put them back; root's",
    )  # fmt: skip
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, leave)
    nice = -15 if options.favour else 0
    if options.favour:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    os.sched_setaffinity(0, CLIENT)
    if SERVERS == CLIENT:
        print("There is one processor: servers and client share it, and nothing is judged")
    works = [
        work for work in WORKS
        if not options.works or any(fnmatch.fnmatch(work.name, one) for one in options.works)
    ]  # fmt: skip
    with shared_huge_pages(options.huge_pages) as folder:

        def start() -> Both:
            return Both(options.daemon, nice, folder)

        force = SHARED_HUGE_PAGES.read_text().strip() if SHARED_HUGE_PAGES.exists() else "none"
        print("Shared huge pages: %s; Plasma's memory: %s" % (
            force, "a folder of tmpfs with huge=always" if folder else "/dev/shm as it is",
        ))  # fmt: skip
        both = start()
        try:
            tell_floor(both)
        finally:
            both.stop()
        print("%-24s %10s %10s   %-22s %-6s" % ("work", "smalloc", "Plasma", "ratio", "mark"))
        met = [tell(work, compare(work, options.pairs, start)) for work in works]
    print(LEGEND)
    is_judged = SERVERS != CLIENT and options.pairs >= 7
    return 0 if all(met) or not is_judged else 1


if __name__ == "__main__":
    sys.exit(main())

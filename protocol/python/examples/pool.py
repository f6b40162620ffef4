"""A pool of processes at work on one shared array, which is sent to none of them.

Each worker opens the array by its name, which is all that a pickle of it holds, maps the memory,
and writes its rows where all others see them. It makes no difference how the workers are started:

    python pool.py spawn
    python pool.py fork

A forked worker has its parent's memory, but not its connection: what it opens by a pickle goes by a
connection of its own, and a client that it has from its parent raises ForkedError.
"""

import multiprocessing
import sys
from typing import Any, Dict, Tuple

import smalloc

ROWS, COLUMNS = 8, 1000

# The parent's client. A forked worker has it, too.
clients: Dict[str, smalloc.Client] = {}


def fill(work: Tuple[Any, int]) -> int:
    """Write one row of an array that came by its name."""
    array, row = work
    array[row] = [row] * COLUMNS
    return row


def fill_by_name(row: int) -> str:
    """Write the same row once more, of what has the name; tell of a client that was inherited."""
    told = "spawned"
    if "parent" in clients:
        try:
            clients["parent"].ping()
        except smalloc.ForkedError:
            told = "forked"
    with smalloc.Client() as client:
        same = client.get("rows")
        same[row, 0] = same[row, 0] + 100
    return told


def main(how: str) -> None:
    """Have workers fill an array, by its pickle and by its name; print what is in it then."""
    with smalloc.Client() as client:
        clients["parent"] = client
        rows = client.array("rows", (ROWS, COLUMNS), "int32")
        with multiprocessing.get_context(how).Pool(4) as pool:
            done = pool.map(fill, [(rows, row) for row in range(ROWS)])
            told = set(pool.map(fill_by_name, range(ROWS)))
        print(how, sum(done), sorted(told))
        print([int(rows[row, 0]) for row in range(ROWS)])
        print([int(rows[row, COLUMNS - 1]) for row in range(ROWS)])
        client.dispose("rows")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "spawn")

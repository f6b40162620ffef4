#!/usr/bin/env python3
"""Makes the picture of the page that the README shows: picture.png, beside this file.

A daemon gets some allocations and some clients with work to do, and its page is photographed.
"""

import pathlib
import subprocess
import threading
import time

import served
import smalloc
import webdriver

PICTURE = pathlib.Path(__file__).with_name("picture.png")
WIDTH, HEIGHT, SCALE = 1180, 1010, 1.5
SIZE_MAX = 150_000

# What the names begin with, how many allocations, elements of the first, type; each next one has a
# bit less.
WORK = (
    ("weights/layer", 24, 12 << 20, "Bfloat16"),
    ("camera/left", 30, 4_147_200, "Uint8"),
    ("batches/next", 16, 4 << 20, "Float"),
    ("tokens/shard", 12, 5 << 20, "Int32"),
    ("camera/right", 30, 4_147_200, "Uint8"),
    ("counters/worker", 64, 1024, "Int64"),
    ("maps/tile", 200, 131_072, "Float"),
    ("audio/chunk", 400, 48_000, "Float"),
    ("results/run", 40, 65_536, "Double"),
    ("index/part", 8, 1 << 20, "Uint32"),
    ("faces/crop", 90, 49_152, "Uint8"),
    ("tests/fixture", 20, 100_000, "Int16"),
)


def fill(client):
    for place, count, length, type in WORK:
        for index in range(count):
            size = max(length - index * length // (2 * count), 1)
            # Touched, so that it is resident.
            client.alloc(size, type, f"{place}{index}").fill(1)


def work(address, stop, place, index, size):
    """A program that reads and writes until it is stopped, as fast as its place in the list."""
    with smalloc.Client(address, mapping=False) as client:
        allocation = client.open(f"{place}{index}")
        while not stop.wait(0.001 * (index + 1)):
            data = allocation.read_bytes(0, min(size, allocation.length))
            if index % 2:
                allocation.write(data)


def main():
    stop = threading.Event()
    with (
        webdriver.Browser() as browser,
        served.Served("--memory-max", "2G") as daemon,
        smalloc.Client(daemon.address) as client,
    ):
        fill(client)
        held = client.array("scratch/old", 12 << 20, "float32")
        held[:] = 1
        client.dispose("scratch/old")
        daemon.text(["read nobody", "alloc weights/layer0 4", "write camera/left0 9000000 1"])
        programs = [
            threading.Thread(target=work, args=(daemon.address, stop, place, index, 1 << 16))
            for index, (place, *_) in enumerate(WORK[:6])
        ]
        for program in programs:
            program.start()
        try:
            browser.size(WIDTH, HEIGHT, SCALE)
            browser.open(daemon.url)
            time.sleep(9)
            picture = browser.picture()
        finally:
            stop.set()
            for program in programs:
                program.join()
        del held
    quantised = subprocess.run(
        ["pngquant", "--speed", "1", "--strip", "-"],
        input=picture,
        stdout=subprocess.PIPE,
        check=True,
    )
    PICTURE.write_bytes(quantised.stdout)
    print(f"{PICTURE.name} has {len(quantised.stdout)} bytes")
    if len(quantised.stdout) > SIZE_MAX:
        raise SystemExit(f"it may have {SIZE_MAX}")


if __name__ == "__main__":
    main()

#!/bin/bash
# The Swift client beside an asynchronous client on SwiftNIO that speaks to Redis, in alternating
# rounds: 64-byte reads, one at a time and with 1,000 tasks on one connection. Servers on the first
# processor, clients on the last.
#
#     Tests/Baselines/nio.sh SMALLOC_BENCH NIO_CLIENT [ROUNDS]
set -euo pipefail

bench=$1 nio=$2 rounds=${3:-5} seconds=1
last=$(($(nproc) - 1))
folder=$(mktemp -d)
redis-server --port 0 --unixsocket "$folder/socket" --save '' --appendonly no --dir "$folder" \
    --pidfile '' > "$folder/log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
taskset -pc 0 "$server" > /dev/null
for _ in $(seq 100); do
    [ -S "$folder/socket" ] && break
    sleep 0.05
done

for round in $(seq "$rounds"); do
    echo "round $round of $rounds" >&2
    for tasks in 1 1000; do
        rate=$(taskset -c "$last" "$nio" "$folder/socket" "$tasks" "$seconds")
        echo "nio/$tasks $rate" >> "$folder/rates"
    done
    "$bench" run --servers smallocd --rounds 1 --seconds "$seconds" --json "$folder/json" \
        --points 'read/64B/1x1' --points 'client/async/1x1000' > /dev/null 2>&1
    python3 - "$folder/json" >> "$folder/rates" << 'END'
import json, sys
names = {("read/64B/1x1", "Swift client"): "blocking/1",
         ("client/async/1x1000", "Swift client"): "executor/1000",
         ("client/async/1x1000", "Swift client, plain tasks"): "plain/1000",
         ("client/async/1x1000", "Swift client, batches of 16"): "batches/1000"}
for series in json.load(open(sys.argv[1]))["series"]:
    name = names.get((series["point"], series["server"]))
    if name:
        print(name, series["samples"][0]["figure"])
END
done

python3 - "$folder/rates" << 'END'
import collections, statistics, sys
rates = collections.defaultdict(list)
for line in open(sys.argv[1]):
    name, rate = line.split()
    rates[name].append(float(rate))
print("64-byte reads a second, medians; the ratio to SwiftNIO's, median (least to most) of the rounds")
for name, base in [("nio/1", None), ("blocking/1", "nio/1"), ("nio/1000", None),
                   ("plain/1000", "nio/1000"), ("executor/1000", "nio/1000"),
                   ("batches/1000", "nio/1000")]:
    text = f"{name:15}{statistics.median(rates[name]):12,.0f}"
    if base:
        ratios = [a / b for a, b in zip(rates[name], rates[base])]
        text += f"   {statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
    print(text)
END

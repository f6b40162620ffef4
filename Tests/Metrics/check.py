"""Reads /metrics as collectors do, and looks for what the dashboard and the alerts ask for."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


def fetch(path: str, accept: str) -> str:
    connection = UnixConnection(path)
    connection.request("GET", "/metrics", headers={"Accept": accept})
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    text = answer.read().decode()
    connection.close()
    return text


def use(path: str) -> None:
    """Has the daemon do something of everything that metrics count."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(path)
        for line in [
            "alloc a/1 100", "alloc b\"c\\d/1 5000000", "fill b\"c\\d/1 0 5000000 7", "ping",
            "read a/1", "read none", "alloc a/1 1", "truncate a/1 10", "nonsense", "stats",
        ]:
            client.sendall(line.encode() + b"\n")
        client.sendall(b"quit\n")
        while client.recv(65536):
            pass


def check(families: list) -> dict:
    found = {family.name: family for family in families}
    assert len(found) == len(families), "a family is told twice"
    for family in families:
        assert family.name.startswith("smalloc_"), family.name
        assert family.documentation and family.type != "unknown", family.name
    requests = {s.labels["operation"]: s.value for s in found["smalloc_requests"].samples}
    assert requests["ping"] == 1 and requests["fill"] == 1, requests
    refusals = {s.labels["status"]: s.value for s in found["smalloc_refusals"].samples}
    assert refusals == {"noData": 1, "alreadyExists": 1, "unknownOperation": 1}, refusals
    spaces = {s.labels["namespace"]: s.value for s in found["smalloc_namespace_bytes"].samples}
    assert spaces == {"a": 10, 'b"c\\d': 5000000, "other": 0}, spaces
    durations = found["smalloc_request_duration_seconds"]
    assert durations.type == "histogram"
    fill = [s for s in durations.samples if s.labels["operation"] == "fill"]
    buckets = [s for s in fill if s.name.endswith("_bucket")]
    assert len(buckets) == 26 and buckets[-1].labels["le"] == "+Inf" and buckets[-1].value == 1
    return found


def main() -> None:
    daemon = os.environ.get("SMALLOCD", ROOT + "/.build/debug/smallocd")
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [daemon, "--listen", f"unix:{folder}/s", "--http", f"unix:{folder}/h"],
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(200):
                try:
                    use(folder + "/s")
                    break
                except OSError:
                    time.sleep(0.05)
            time.sleep(0.2)
            text = fetch(folder + "/h", "*/*")
            check(list(plain(text)))
            check(list(openmetrics(fetch(folder + "/h", "application/openmetrics-text"))))
            names = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
            for file in ["grafana.json", "alerts.yaml"]:
                with open(f"{ROOT}/deploy/{file}") as stream:
                    asked = set(re.findall(r"smalloc_\w+", stream.read()))
                assert asked, file
                missing = {name for name in asked if name.removesuffix("_bucket") not in names}
                assert not missing, f"{file}: {missing}"
            with open(f"{ROOT}/deploy/grafana.json") as stream:
                json.load(stream)
            promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
            if promtool:
                subprocess.run([promtool, "check", "metrics"], input=text.encode(), check=True)
                rules = [promtool, "check", "rules", ROOT + "/deploy/alerts.yaml"]
                subprocess.run(rules, check=True)
            else:
                print("metrics: promtool is not here, its checks are skipped")
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, "the daemon's end"
    print("metrics: read by the parsers of Prometheus and OpenMetrics")


if __name__ == "__main__":
    sys.exit(main())

"""A stand-in for the daemon's HTTP listener, for what a real daemon can't be brought to at will:
hostile answers, refusals, silence, an end.
"""

import http.server
import json
import socket
import threading
import time
from urllib.parse import parse_qs, urlsplit

import policy

UNITS = 1 << 20
OPERATIONS = ("alloc", "open", "read", "write", "copy", "dispose", "map", "atomic", "wait")

# Names that would do something if they were anything but text.
HOSTILE = (
    "<img/src=x/onerror=hit()>",
    "<script>hit()</script>",
    "\"'onmouseover='hit()'style=\"x\"",
    "javascript:hit()",
    "</button><svg/onload=hit()>",
    "__proto__",
    "constructor",
    "&lt;b&gt;&#x27;",
    "${hit()}{{hit()}}",
    "%3Cimg%20src=x%3E",
    "a" * 255,
)


def example(count=40, now=None):
    """Documents as the listener gives them, of a daemon with that many allocations in memory."""
    now = now or time.time()
    per_space = max(count // 1000, 4)
    sizes = [max(64, int(900e6 / (i + 2) ** 1.3)) for i in range(count)]
    allocations = [
        {
            "name": f"space{i // per_space}/item{i}",
            "bytes": size,
            "length": size // 4,
            "type": "Float",
            "age": 5 + i * 37.5,
            "owner": 1000,
        }
        for i, size in enumerate(sizes)
    ]
    used = sum(sizes)
    return {
        "stats.json": {
            "time": now,
            "version": "0.1.0",
            "uptime": 93784.5,
            "memory": {
                "limit": max(2 * used, 8 << 30),
                "allocated": used,
                "resident": used + 40 * UNITS,
                "warm": 200 * UNITS,
                "held": 96 * UNITS,
            },
            "allocations": {"named": count, "anonymous": 3},
            "connections": {"now": 3, "limit": 65536, "total": 812},
            "requests": {name: 1000 * (i + 1) for i, name in enumerate(OPERATIONS)},
            "refusals": {"noData": 12, "memoryLimit": 2, "outOfRange": 0},
            "latency": {
                name: {
                    "count": 1000 * (i + 1),
                    "sum": 0.1,
                    "p50": 4e-6 * (i + 1),
                    "p99": 4.2e-5 * (i + 1) ** 2,
                    "p999": 2.5e-4 * (i + 1) ** 3,
                }
                for i, name in enumerate(OPERATIONS)
            },
            "longest_turn": 0.00142,
            "names": True,
            "stats": {},
        },
        "allocations": allocations,
        "clients.json": {
            "clients": [
                {
                    "id": i,
                    "uid": 1000 if i else None,
                    "pid": 4000 + i if i else None,
                    "program": f"trainer-{i}",
                    "version": "1.4",
                    "mode": "binary",
                    "transport": "unix" if i else "tcp",
                    "age": 300.0 * (i + 1),
                    "handles": 12,
                    "waiting": 0,
                    "maps": i,
                    "paused": False,
                    "read": (3 - i) * 1000 * UNITS,
                    "written": (3 - i) * 300 * UNITS,
                    "requests": 10000 * (3 - i),
                }
                for i in range(3)
            ],
            "total": 3,
            "more": False,
        },
        "slowlog.json": {
            "threshold": 0.1,
            "entries": [
                {
                    "id": 7,
                    "time": now - 60,
                    "operation": "copy",
                    "name": "space0/item0",
                    "size": 900 * UNITS,
                    "duration": 0.2314,
                    "waited": "work",
                }
            ],
        },
    }


class StandIn:
    """Serves documents on a port of the loopback, as a context manager.

    `documents` may be changed at any time; `failing` maps a path to a status and a text; `paths` is
    what has been asked for; while `hold` is cleared nothing is answered.
    """

    def __init__(self, documents, port=0):
        self.documents = documents
        self.failing = {}
        self.paths = []
        self.hold = threading.Event()
        self.hold.set()
        self.connections = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                outer.connections.append(self.connection)

            def log_message(self, *_):
                pass

            def do_GET(self):
                outer.paths.append(self.path)
                status, kind, body = outer.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Content-Type-Options", "nosniff")
                if self.path == "/":
                    self.send_header("Content-Security-Policy", outer.policy)
                self.end_headers()
                self.wfile.write(body)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # The browser closes connections as it likes.

        self.page = policy.PAGE.read_text()
        self.policy = policy.stated(self.page) + "; frame-ancestors 'none'"
        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def answer(self, path):
        self.hold.wait(60)
        parts = urlsplit(path)
        name = parts.path[1:]
        if name == "":
            return 200, "text/html; charset=utf-8", self.page.encode()
        if name in self.failing:
            status, text = self.failing[name]
            return status, "text/plain", text.encode()
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if name == "namespaces.json":
            document = self.documents.get(name) or namespaces(self.documents["allocations"])
        elif name == "allocations.json":
            document = listed(self.documents["allocations"], **query)
        elif name in self.documents:
            document = self.documents[name]
            if name == "stats.json":
                document = {**document, "time": time.time()}
        else:
            return 404, "text/plain", b"there is no such document"
        text = document if isinstance(document, str) else json.dumps(document)
        return 200, "application/json", text.encode()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It has ended before.

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def namespaces(allocations, most=499):
    sums = {}
    for allocation in allocations:
        # Those without a namespace are among the rest.
        space = allocation["name"].rpartition("/")[0].partition("/")[0]
        entry = sums.setdefault(space, [0, 0])
        entry[0] += 1
        entry[1] += int(allocation["bytes"])
    without = sums.pop("", None)
    rows = sorted(sums.items(), key=lambda item: -item[1][1])
    rest = [entry for _, entry in rows[most:]] + ([without] if without else [])
    return {
        "namespaces": [{"name": n, "count": e[0], "bytes": e[1]} for n, e in rows[:most]],
        "other": {"count": sum(e[0] for e in rest), "bytes": sum(e[1] for e in rest)},
    }


def listed(allocations, sort="size", limit="500", prefix=""):
    found = [a for a in allocations if a["name"].startswith(prefix)]
    found.sort(key=lambda a: -(int(a["bytes"]) if sort == "size" else a["age"]))
    shown = found[: min(int(limit), 500)]
    return {"allocations": shown, "total": len(found), "more": len(found) > len(shown)}

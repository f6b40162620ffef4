"""A headless Chromium, driven by the W3C WebDriver protocol, from the standard library alone."""

import base64
import http.client
import json
import os
import shutil
import subprocess
import tempfile
import time

# Debian's names first.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ENTER, TAB, RIGHT, END = "\ue007", "\ue004", "\ue014", "\ue010"


def missing():
    """What of the browser this machine has not got, or None."""
    if not any(map(shutil.which, BROWSERS)):
        return "there is no chromium"
    if not shutil.which("chromedriver"):
        return "there is no chromedriver (Debian: chromium-driver)"
    return None


class BrowserError(Exception):
    """What the driver answered instead of a value."""


class Browser:
    """One window of one browser, with a profile of its own; a context manager that ends it."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="smalloc-page-")
        # It prints its port only when it has bound it.
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "HOME": self.folder.name, "TMPDIR": self.folder.name},
        )
        self.session = None
        try:
            self.port = self._port()
            self._start()
        except BaseException:
            self.close()
            raise

    def _port(self):
        for line in self.driver.stdout:
            if "successfully on port" in line:
                return int(line.split()[-1].rstrip("."))
        raise BrowserError("chromedriver did not start")

    def _start(self):
        arguments = [
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            "--hide-scrollbars",
            "--window-size=1280,1000",
            f"--user-data-dir={self.folder.name}/profile",
        ]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        options = {
            "binary": next(filter(None, map(shutil.which, BROWSERS))),
            "args": arguments,
        }
        capabilities = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
            "timeouts": {"script": 60000, "pageLoad": 60000, "implicit": 0},
        }
        answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.session = f"/session/{answer['sessionId']}"

    def _ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(
                method,
                path,
                body=None if method == "GET" else json.dumps(body or {}),
                headers={"Content-Type": "application/json"},
            )
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value:
            raise BrowserError(f"{path}: {value['error']}: {value['message']}")
        return value

    def ask(self, method, path, body=None):
        return self._ask(method, self.session + path, body)

    def close(self):
        try:
            if self.session:
                self._ask("DELETE", self.session)
        except (OSError, BrowserError):
            pass
        finally:
            self.driver.terminate()
            try:
                self.driver.wait(10)
            except subprocess.TimeoutExpired:
                self.driver.kill()
                self.driver.wait()
            self.driver.stdout.close()
            # The browser may still write to its profile for a moment.
            shutil.rmtree(self.folder.name, ignore_errors=True)
            self.folder._finalizer.detach()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def open(self, url):
        self.ask("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """What a function's body in JavaScript returns."""
        return self.ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def until(self, script, *arguments, seconds=30):
        """What the script returns as soon as that is true, looked for again and again."""
        end = time.monotonic() + seconds
        while True:
            value = self.run(script, *arguments)
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {script} {arguments}")
            time.sleep(0.05)

    def chrome(self, command, **parameters):
        """A command of Chromium's own protocol."""
        return self.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def size(self, width, height, scale=1):
        self.chrome(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def scheme(self, name):
        """`light` or `dark`, as the user's system would have it."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.chrome("Emulation.setEmulatedMedia", features=[feature])

    def find(self, selector):
        return self.ask("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self.ask("POST", f"/element/{self.find(selector)}/click")

    def label(self, selector):
        """The name of an element as a screen reader has it."""
        return self.ask("GET", f"/element/{self.find(selector)}/computedlabel")

    def press(self, *keys):
        actions = []
        for key in keys:
            actions += [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "k", "actions": actions}]})

    def log(self, kind):
        """What has been logged since this was asked last: `browser` or `performance`."""
        return self.ask("POST", "/se/log", {"type": kind})

    def requests(self):
        """The addresses that the browser has asked for since this was asked last."""
        messages = (json.loads(entry["message"])["message"] for entry in self.log("performance"))
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def picture(self, whole=False):
        """The page as PNG: what the window shows, or all of it."""
        answer = self.chrome("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

"""The page as a real daemon serves it."""

import os
import time

import policy
from pages import DRAWN, PageCase, setUpModule  # noqa: F401
from served import Served, smalloc
from standin import HOSTILE


class DaemonCase(PageCase):
    options = ()

    def show(self, *lines):
        """A daemon that has carried out these lines, and its page."""
        self.server = Served(*self.options)
        self.addCleanup(self.server.stop)
        self.addCleanup(self.browser.open, "about:blank")
        self.assertEqual({"OK"}, {reply.split()[0] for reply in self.server.text(lines)} or {"OK"})
        self.browser.requests()
        self.browser.log("browser")
        self.browser.open(self.server.url)
        self.browser.until(DRAWN)


class DaemonTests(DaemonCase):
    def test_the_listener_sends_the_pages_policy(self):
        self.show()
        headers, page = self.server.fetch("")
        self.assertEqual(page, policy.PAGE.read_text())
        self.assertEqual(
            headers["Content-Security-Policy"],
            policy.expected(page) + "; frame-ancestors 'none'",
        )

    def test_what_it_shows_changes_with_the_daemon(self):
        self.show("alloc cam/left 1048576 double", "alloc cam/right 4 float")
        self.shows("#allocations", "cam/left")
        self.assertIn("8.00 MiB", self.text("#map"))
        self.assertRegex(self.text("#allocations"), r"Double × 1,048,576")
        self.assertIn("2\nnamed, and 0 anonymous", self.text("#figures"))
        self.assertRegex(self.text("#memory-total"), r"8\.\d\d MiB of \S+ [GT]iB")
        self.server.text(["alloc late/comer 2097152 double", "dispose cam/right"])
        self.shows("#allocations", "late/comer")
        # The daemon counts its namespaces every few seconds.
        self.shows("#map", "late")
        self.assertNotIn("cam/right", self.text("#allocations"))
        self.server.text(["read nobody"] * 1234)
        self.shows("#refusals", "1,234")
        self.shows("#latency", "read")

    def test_a_name_is_nothing_but_text(self):
        names = [name for name in HOSTILE if len(name) < 100]
        lines = [f"alloc {name}/{name} 8" for name in names]
        self.show(*lines)
        for name in names:
            self.shows("#allocations", f"{name}/{name}")
        self.assertEqual(
            self.browser.run("return document.querySelectorAll('img, svg, b').length"), 0
        )


class SlowTests(DaemonCase):
    options = ("--slowlog-threshold", "1ms")

    def test_connections_and_what_was_slow_are_told(self):
        self.show("alloc big/one 67108864", "alloc big/two 67108864")
        with smalloc.Client(self.server.address) as client:
            self.shows("#clients", "smalloc-python")
            self.assertIn(f"pid {os.getpid()}", self.text("#clients"))
            self.assertRegex(self.text("#figures"), r"Connections\n1\n")
            client.open("big/two").write(bytes(1 << 20))
            self.shows("#clients tbody td:nth-child(2)", "1.00 MiB")
        self.server.text(["copy big/one 0 big/two 0 67108864"])
        self.shows("#slowlog", "copy")
        self.shows("#clients ~ p", "No connections.")


class EndTests(DaemonCase):
    quiet = False  # A browser logs what it can't reach.

    def test_it_says_that_the_daemon_is_gone(self):
        self.show("alloc a/b 4")
        self.server.kill()
        self.shows("#stats-error", "The daemon is gone")
        self.assertIn("a/b", self.text("#allocations"))


class ManyTests(DaemonCase):
    def test_a_hundred_thousand_allocations_hold_up_neither_page_nor_daemon(self):
        lines = [f"alloc space{i % 1000}/item{i} {64 + i % 997}" for i in range(100_000)]
        self.show(*lines)
        browser = self.browser
        first = browser.run("return performance.getEntriesByName('first drawing')[0].duration")
        before = self.server.document("stats.json")["longest_turn"]
        browser.run("document.querySelector('#allocations ~ button').click()")
        rows = "return document.querySelectorAll('#allocations tbody tr').length === 500"
        browser.until(rows)
        time.sleep(10)
        spent = browser.run("return performance.getEntriesByName('refresh')[0].duration")
        after = self.server.document("stats.json")["longest_turn"]
        boxes = browser.run("return document.querySelectorAll('#map button').length")
        print(
            f"page: of a daemon with 100,000 allocations, first drawing {first:.0f} ms, script of a"
            f" refresh {spent:.1f} ms, longest turn {before * 1e3:.2f} ms before, and"
            f" {after * 1e3:.2f} ms"
        )
        self.assertEqual(boxes, 500)
        self.assertLessEqual(first, 3000)
        self.assertLessEqual(spent, 200)
        # A turn that was longer before has nothing to do with the page.
        self.assertLessEqual(after, max(before, 0.005))

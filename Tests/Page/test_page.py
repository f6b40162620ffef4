"""The page in a browser, in front of a stand-in for the listener."""

import re
import time
import unittest

import policy
import standin
import webdriver
from pages import PageCase, setUpModule  # noqa: F401


class FileTests(unittest.TestCase):
    def test_its_policy_is_of_its_own_script_and_style(self):
        page = policy.PAGE.read_text()
        self.assertEqual(policy.stated(page), policy.expected(page), "run Tests/Page/policy.py")

    def test_it_is_small(self):
        self.assertLess(policy.PAGE.stat().st_size, 60_000)

    def test_nothing_in_it_makes_markup_of_text_or_asks_elsewhere(self):
        page = policy.PAGE.read_text()
        makers = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc"
        self.assertIsNone(re.search(makers + r"|\beval\b|new Function|javascript:|\son\w+=", page))
        self.assertEqual(set(re.findall(r"\w+://[^'\"\s]*", page)), {"http://www.w3.org/2000/svg"})


class ValueTests(PageCase):
    def test_it_shows_what_the_daemon_tells(self):
        self.show()
        self.assertIn("1.54 GiB of 8.00 GiB", self.text("#memory-total"))
        legend = self.text("#legend")
        for figure in ("Held by clients\n96.0 MiB", "Warm\n200 MiB", "Limit\n8.00 GiB"):
            self.assertIn(figure, legend)
        self.assertIn("40\nnamed, and 3 anonymous", self.text("#figures"))
        self.assertIn("1.42 ms", self.text("#figures"))
        self.assertIn("10 namespaces", self.text("#namespaces-total"))
        self.assertIn("space0/item0", self.text("#allocations"))
        self.assertIn("trainer-1 1.4", self.text("#clients"))
        self.assertRegex(self.text("#latency"), r"read\s+3,000\s+12\.0 µs\s+378 µs\s+6\.75 ms")
        self.assertRegex(self.text("#refusals"), r"noData\s+12\s+memoryLimit\s+2\s*$")
        self.assertRegex(self.text("#slowlog"), r"copy\s+space0/item0\s+231 ms\s+waited for work")
        self.assertEqual(self.text("#state"), "Live")

    def test_what_it_shows_changes_with_the_daemon(self):
        documents = self.show()
        documents["stats.json"]["memory"]["allocated"] = 3 << 30
        documents["stats.json"]["refusals"]["frozen"] = 4711
        documents["stats.json"]["requests"]["read"] += 1_000_000
        documents["allocations"].append(
            {**documents["allocations"][0], "name": "late/comer", "bytes": 2 << 30}
        )
        documents["clients.json"]["clients"][0]["program"] = "newcomer"
        documents["slowlog.json"]["entries"].insert(
            0, {**documents["slowlog.json"]["entries"][0], "operation": "fill"}
        )
        self.shows("#memory-total", "3.00 GiB of")
        self.shows("#refusals", "4,711")
        self.shows("#allocations", "late/comer")
        self.shows("#map", "late")
        self.shows("#clients", "newcomer")
        self.shows("#slowlog", "fill")
        del documents["allocations"][:]
        self.shows("#list", "No allocations that have a name.")
        self.browser.until("return document.getElementById('map').children.length === 0")

    def test_rates_are_of_two_refreshes_and_a_new_daemon_counts_from_nothing(self):
        documents = self.show()
        documents["stats.json"]["requests"]["read"] += 1_000_000
        rate = r"Requests\n[1-9][\d,]{3,}/s"
        script = "return new RegExp(arguments[0]).test(document.querySelector('dl').innerText)"
        self.browser.until(script, rate)
        documents["stats.json"]["requests"] = {"read": 5}
        documents["stats.json"]["uptime"] = 1.0
        self.shows("#figures", "Requests\n–\n5 since the start")

    def test_large_numbers_come_as_strings_and_there_may_be_no_limit(self):
        documents = standin.example()
        memory = documents["stats.json"]["memory"]
        memory["allocated"] = str(5 << 60)
        memory["limit"] = None
        documents["allocations"][0]["bytes"] = str(3 << 60)
        self.show(documents)
        self.assertIn("5.00 EiB, no limit", self.text("#memory-total"))
        self.assertIn("3.00 EiB", self.text("#allocations"))
        self.assertIn("3.00 EiB", self.text("#map"))

    def test_the_boxes_are_as_large_as_what_they_stand_for(self):
        documents = self.show()
        areas = self.browser.run(
            "return [...document.querySelectorAll('#map button')].map(b => {"
            " const {width, height} = b.getBoundingClientRect(); return width * height})"
        )
        sizes = [g["bytes"] for g in standin.namespaces(documents["allocations"])["namespaces"]]
        self.assertEqual(len(areas), len(sizes))
        for area, size in zip(areas, sizes):
            self.assertAlmostEqual(area / sum(areas), size / sum(sizes), delta=0.005)

    def test_a_click_lists_a_namespace_and_another_one_all(self):
        self.show()
        self.browser.click("#map button:nth-child(3)")
        self.shows("#shown", "space2/")
        self.shows("#allocations tbody tr:first-child", "space2/item8")
        self.assertNotIn("space0", self.text("#allocations"))
        self.assertIn("/allocations.json?sort=size&limit=10&prefix=space2%2F", self.server.paths)
        self.browser.run("document.querySelector('input[value=age]').click()")
        self.shows("#allocations tbody tr:first-child", "space2/item11")
        self.browser.click("#all")
        self.shows("#allocations tbody tr:first-child", "space9/item39")

    def test_more_rows_are_shown_when_asked_for(self):
        self.show()
        rows = "return document.querySelectorAll('#allocations tbody tr').length === arguments[0]"
        self.browser.until(rows, 10)
        self.browser.click("#allocations + p + button, #allocations + button")
        self.browser.until(rows, 40)


class HostileTests(PageCase):
    def test_a_name_is_nothing_but_text(self):
        documents = standin.example(0)
        template = standin.example(1)["allocations"][0]
        documents["allocations"] = [
            {**template, "name": f"{name[:200]}/{name}"[:255], "type": name}
            for name in standin.HOSTILE
        ]
        for index, name in enumerate(standin.HOSTILE):
            client = {**documents["clients.json"]["clients"][0], "id": index, "version": name}
            documents["clients.json"]["clients"].append({**client, "program": name, "mode": name})
            entry = {**documents["slowlog.json"]["entries"][0], "name": name, "waited": name}
            documents["slowlog.json"]["entries"].append({**entry, "operation": name})
            documents["stats.json"]["refusals"][name] = 1
            documents["stats.json"]["latency"][name] = {"count": 1, "p50": 1, "p99": 1, "p999": 1}
        documents["stats.json"]["version"] = standin.HOSTILE[0]
        self.show(documents)
        self.browser.run(
            "document.querySelectorAll('button').forEach(b => b.textContent.startsWith("
            "'Show all') && b.click())"
        )
        spaces = self.browser.run(
            "return [...document.querySelectorAll('#map button .name')].map(e => e.textContent)"
        )
        # As the grouping has it: up to the first slash.
        shown = {f"{name[:200]}/"[:255].partition("/")[0] for name in standin.HOSTILE}
        self.assertEqual(set(spaces), shown)
        for place in ("#allocations", "#clients", "#slowlog", "#refusals", "#latency"):
            for name in standin.HOSTILE:
                self.shows(place, name)
        for index in range(len(spaces)):
            self.browser.run(
                "document.querySelectorAll('#map button')[arguments[0]].click()", index
            )
            self.shows("#shown", f"{spaces[index]}/")
        time.sleep(0.3)
        tags = self.browser.run(
            "return [...document.querySelectorAll('img, svg, main script')].length"
        )
        self.assertEqual(tags, 0)
        for width in (1280, 360):
            self.fits(width)

    def test_answers_that_are_no_documents_are_told_and_the_rest_goes_on(self):
        documents = standin.example()
        documents["clients.json"] = "<img src=x onerror=hit()>"
        documents["slowlog.json"] = "{}"
        self.show(documents)
        self.shows("#clients-error", "can’t be shown")
        self.shows("#slowlog-error", "can’t be shown")
        self.assertIn("space0/item0", self.text("#allocations"))
        documents.update({k: standin.example()[k] for k in ("clients.json", "slowlog.json")})
        self.shows("#clients", "trainer-0")
        self.browser.until("return document.getElementById('clients-error').hidden")


class CanaryTests(PageCase):
    """That what must not happen would be seen."""

    quiet = False

    def test_what_the_policy_forbids_is_seen(self):
        self.show()
        self.browser.run(
            "const image = document.createElement('img');"
            "image.src = 'https://elsewhere.invalid/x';"
            "document.body.append(image);"
            "fetch('https://elsewhere.invalid/y').catch(() => 0);"
            "try { document.body.insertAdjacentHTML('beforeend', '<b onclick=hit()>') }"
            "catch { seen.push('refused') }"
            "setTimeout(() => { throw new Error('thrown') })"
        )
        self.browser.until("return window.seen.length >= 5")
        seen = " ".join(self.browser.run("return window.seen"))
        for word in ("img-src", "connect-src", "trusted-types", "refused", "error"):
            self.assertIn(word, seen)
        self.assertEqual(self.browser.run("return document.querySelectorAll('b').length"), 0)
        self.browser.run("window.seen = []")
        self.browser.run("performance.clearResourceTimings()")
        self.browser.requests()


class ErrorTests(PageCase):
    quiet = False  # A browser logs what it can't reach.

    def test_it_says_that_the_daemon_is_gone_and_goes_on_when_it_is_back(self):
        documents = self.show()
        port = self.server.port
        self.server.close()
        self.shows("#stats-error", "The daemon is gone")
        self.shows("#state", "Figures of ")
        # What was known is still there.
        self.assertIn("space0/item0", self.text("#allocations"))
        documents["stats.json"]["version"] = "0.2.0"
        self.server = standin.StandIn(documents, port)
        self.addCleanup(self.server.close)
        self.shows("#version", "0.2.0")
        self.shows("#state", "Live")
        self.browser.until("return document.getElementById('stats-error').hidden")

    def test_it_says_that_no_answer_comes_and_goes_on_when_one_does(self):
        self.show()
        self.server.hold.clear()
        self.shows("#stats-error", "The daemon has not answered for 10 seconds.")
        self.server.hold.set()
        self.browser.until("return document.getElementById('stats-error').hidden")
        self.shows("#state", "Live")

    def test_it_says_what_is_refused(self):
        self.show()
        text = "names are told only with http-names <b>"
        self.server.failing = {"allocations.json": (403, text), "stats.json": (503, "stopping")}
        self.shows("#allocations-error", f"403 {text}")
        self.shows("#stats-error", "503 stopping")
        self.server.failing = {}
        self.browser.until("return document.getElementById('allocations-error').hidden")


class RefreshTests(PageCase):
    def asked(self, seconds):
        before = self.server.paths.count("/stats.json")
        time.sleep(seconds)
        return self.server.paths.count("/stats.json") - before

    def test_it_asks_every_two_seconds_and_not_while_it_is_paused(self):
        self.show()
        self.assertIn(self.asked(8), (3, 4, 5))
        self.browser.click("#pause")
        self.shows("#state", "Paused")
        time.sleep(0.5)
        self.assertEqual(self.asked(5), 0)
        self.browser.click("#pause")
        self.shows("#state", "Live")
        self.assertGreaterEqual(self.asked(5), 1)

    def test_it_does_not_ask_while_its_tab_is_hidden(self):
        self.show()
        first = self.browser.ask("GET", "/window")
        other = self.browser.ask("POST", "/window/new", {"type": "tab"})["handle"]
        self.browser.ask("POST", "/window", {"handle": other})
        try:
            time.sleep(1)
            self.assertEqual(self.asked(5), 0)
        finally:
            self.browser.ask("DELETE", "/window")
            self.browser.ask("POST", "/window", {"handle": first})
        self.assertFalse(self.browser.run("return document.hidden"))
        self.assertGreaterEqual(self.asked(5), 1)


class SizeTests(PageCase):
    def test_a_hundred_thousand_allocations_are_drawn_in_time(self):
        documents = self.show(standin.example(100_000))
        first = self.browser.run("return performance.getEntriesByName('first drawing')[0].duration")
        self.assertLessEqual(first, 3000)
        self.assertEqual(
            self.browser.run("return document.querySelectorAll('#map button').length"), 500
        )
        self.assertIn("all others: ", self.browser.label("#map button:last-child"))
        refreshes = []
        script = (
            "const entry = performance.getEntriesByName('refresh')[0];"
            "return [entry.startTime, entry.duration]"
        )
        while len(refreshes) < 4:
            # Other sizes, so that boxes move.
            for allocation in documents["allocations"][:: len(refreshes) + 2]:
                allocation["bytes"] = allocation["bytes"] * 3 // 2 + 1
            start, spent = self.browser.run(script)
            if not refreshes or refreshes[-1][0] != start:
                refreshes.append((start, spent))
            time.sleep(0.2)
        print(
            f"page: first drawing {first:.0f} ms, script of a refresh "
            f"{max(spent for _, spent in refreshes):.1f} ms at the most"
        )
        for _, spent in refreshes:
            self.assertLessEqual(spent, 200)

    def test_more_namespaces_than_boxes_are_summed(self):
        documents = standin.example(0)
        documents["namespaces.json"] = {
            "namespaces": [{"name": f"n{i}", "count": 1, "bytes": 1000 - i} for i in range(800)],
            "other": {"count": 5, "bytes": 7},
        }
        self.show(documents)
        self.assertEqual(
            self.browser.run("return document.querySelectorAll('#map button').length"), 500
        )
        rest = sum(1000 - i for i in range(499, 800)) + 7
        self.assertEqual(
            self.browser.label("#map button:last-child").replace("\u00a0", " "),
            f"all others: {rest / 1024:.0f} KiB, 306 allocations",
        )


class FaceTests(PageCase):
    # The contrast of each text with what is behind it, where it is less than WCAG's AA asks for.
    CONTRAST = """
    const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1});
    const context = canvas.getContext('2d', {willReadFrequently: true});
    const colour = text => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = text;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(
        c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
    ).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const bad = [];
    let looked = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
        let behind = element;
        while (behind && colour(getComputedStyle(behind).backgroundColor)[3] === 0)
            behind = behind.parentElement;
        const back = light(colour(getComputedStyle(behind ?? document.body).backgroundColor));
        const fore = light(colour(getComputedStyle(element).color));
        const ratio = (Math.max(back, fore) + 0.05) / (Math.min(back, fore) + 0.05);
        looked += 1;
        if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${walker.currentNode.data.slice(0, 40)}`);
    }
    return [looked, bad, getComputedStyle(document.body).backgroundColor];
    """

    def test_light_and_dark_can_be_read(self):
        documents = self.show()
        self.server.failing = {"slowlog.json": (403, "not told")}
        self.shows("#slowlog-error", "not told")
        backs = set()
        for scheme in ("light", "dark"):
            self.browser.scheme(scheme)
            looked, bad, back = self.browser.run(self.CONTRAST)
            self.assertGreater(looked, 100)
            self.assertEqual(bad, [], scheme)
            backs.add(back)
        self.assertEqual(len(backs), 2)
        del documents, backs
        self.browser.log("browser")  # The refusal.

    def test_a_narrow_screen_is_not_scrolled_sideways(self):
        documents = self.show(standin.example(100_000))
        documents["allocations"][0]["name"] = "w" * 255
        documents["clients.json"]["clients"][0]["program"] = "W" * 64
        self.shows("#allocations", "w" * 255)
        self.shows("#clients", "W" * 64)
        for operation in documents["stats.json"]["latency"].values():
            operation["count"] += 10**10
        self.shows("#latency", "10,000,00")
        for width in (360, 320, 500, 601, 700, 781, 861, 900, 1000, 1121, 1280, 1920):
            self.fits(width)

    def test_everything_that_can_be_pressed_has_a_name(self):
        self.show()
        script = (
            "return [...document.querySelectorAll('button, input, a')]"
            ".filter(e => e.checkVisibility()).map((e, i) => { e.dataset.at = i; return i; })"
        )
        for index in self.browser.run(script):
            self.assertTrue(self.browser.label(f"[data-at='{index}']").strip(), index)
        self.assertTrue(self.browser.label("#bar").startswith("Allocated 1.54"))

    def test_the_map_is_used_by_keys(self):
        documents = self.show()
        focused = "return document.activeElement.getAttribute('aria-label') ?? ''"
        self.browser.run("document.getElementById('pause').focus()")
        # One stop for the whole map, whatever its boxes.
        self.browser.press(webdriver.TAB)
        self.assertTrue(self.browser.run(focused).startswith("space0: "))
        self.browser.press(webdriver.RIGHT, webdriver.RIGHT)
        self.assertTrue(self.browser.run(focused).startswith("space2: "))
        self.browser.press(webdriver.ENTER)
        self.shows("#shown", "space2/")
        self.assertEqual(
            self.browser.run("return document.activeElement.getAttribute('aria-pressed')"), "true"
        )
        self.browser.press(webdriver.END)
        self.assertTrue(self.browser.run(focused).startswith("space9: "))
        # The focus stays while the order of sizes changes around it.
        documents["allocations"][-1]["bytes"] = 5 << 30
        self.browser.until("return document.activeElement.title.startsWith('space9: 5.')")
        self.browser.press(webdriver.RIGHT)
        self.assertTrue(self.browser.run(focused).startswith("space0: "))
        self.browser.press(webdriver.TAB)
        self.assertEqual(self.browser.run("return document.activeElement.id"), "all")


if __name__ == "__main__":
    unittest.main()

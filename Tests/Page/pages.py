"""What the tests of the page share: the browser, and what must not happen in any of them."""

import time
import unittest

import standin
import webdriver

# Where all tests look for what must not happen: before the page's own script runs.
WATCH = """
window.seen = [];
document.addEventListener('securitypolicyviolation', event =>
    window.seen.push(`violation: ${event.violatedDirective} ${event.blockedURI}`));
window.addEventListener('error', event => window.seen.push(`error: ${event.message}`));
window.addEventListener('unhandledrejection', event =>
    window.seen.push(`rejected: ${event.reason}`));
window.hit = () => window.seen.push('hit');
"""

DRAWN = "return performance.getEntriesByName('first drawing').length > 0"

# What reaches over the right edge of the screen, or of its place.
TOO_WIDE = """
return [...document.body.querySelectorAll('*')]
    .filter(e => {
        const { right } = e.getBoundingClientRect();
        return right > document.documentElement.clientWidth + 0.5
            || e.tagName === 'TABLE' && right > e.parentElement.getBoundingClientRect().right + 0.5;
    })
    .map(e => `${e.tagName} ${e.id} ${e.className} ${e.innerText?.slice(0, 30)}`)
"""


def setUpModule():
    reason = webdriver.missing()
    if reason:
        raise unittest.SkipTest(reason)
    browser = PageCase.browser = webdriver.Browser()
    unittest.addModuleCleanup(browser.close)
    browser.chrome("Page.enable")
    browser.chrome("Page.addScriptToEvaluateOnNewDocument", source=WATCH)


class PageCase(unittest.TestCase):
    """A stand-in and the page of it. At the end nothing has asked for anything elsewhere, and the
    policy has had nothing to forbid."""

    quiet = True
    browser = None

    def setUp(self):
        self.browser.scheme("light")
        self.browser.size(1280, 1000)

    def show(self, documents=None):
        self.server = standin.StandIn(documents or standin.example())
        self.addCleanup(self.server.close)
        # Else the browser would go on asking a server that has ended.
        self.addCleanup(self.browser.open, "about:blank")
        self.browser.requests()
        self.browser.log("browser")
        self.browser.open(self.server.url)
        self.browser.until(DRAWN)
        return self.server.documents

    def tearDown(self):
        if not hasattr(self, "server"):
            return
        self.assertEqual(self.browser.run("return window.seen"), [])
        for url in self.browser.requests() + self.resources():
            self.assertTrue(url.startswith((self.server.url, "data:")), url)
        if self.quiet:
            self.assertEqual([entry["message"] for entry in self.browser.log("browser")], [])

    def resources(self):
        return self.browser.run("return performance.getEntriesByType('resource').map(e => e.name)")

    def text(self, selector):
        return self.browser.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText).join('\\n')",
            selector,
        ).replace("\u00a0", " ")

    def shows(self, selector, text, seconds=30):
        """Waits until the text is there."""
        self.browser.until(
            "return [...document.querySelectorAll(arguments[0])].some("
            "e => e.innerText.replaceAll('\\u00a0', ' ').includes(arguments[1]))",
            selector,
            text,
            seconds=seconds,
        )

    def fits(self, width):
        """On a screen of that width nothing reaches over its edge."""
        self.browser.size(width, 740)
        self.browser.until("return document.documentElement.clientWidth === arguments[0]", width)
        # Boxes are placed anew in the frame that follows.
        end = time.monotonic() + 5
        while self.browser.run(TOO_WIDE) and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(self.browser.run(TOO_WIDE), [], width)
        self.assertEqual(self.browser.run("return document.documentElement.scrollWidth"), width)

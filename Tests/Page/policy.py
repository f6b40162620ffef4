#!/usr/bin/env python3
"""The page's Content-Security-Policy: what it has to be, by what stands in the page's tags.

As a program, writes the hashes into the page anew, after a change of its style or script.
"""

import base64
import hashlib
import pathlib
import re

PAGE = pathlib.Path(__file__).resolve().parents[2] / "Sources/smallocd/HTTP/page/index.html"


def expected(text):
    """The policy that allows this page its one style and its one script, and nothing else."""

    def source(tag):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = hashlib.sha256(inside.encode()).digest()
        return f"{tag}-src 'sha256-{base64.b64encode(digest).decode()}'"

    return "; ".join(
        [
            "default-src 'none'",
            source("script"),
            source("style"),
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def stated(text):
    """The policy that the page says it has."""
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy"\s+content="(.*?)">', text)
    return policy


if __name__ == "__main__":
    page = PAGE.read_text()
    PAGE.write_text(page.replace(stated(page), expected(page)))

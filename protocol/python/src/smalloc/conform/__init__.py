"""Holds other clients and servers of the protocol to its vectors, its transcripts and its rules.

`python -m smalloc.conform`, or `smalloc-conform`, which protocol/conform/README.md describes.
"""

from ._cli import main

__all__ = ["main"]

"""Requests of tasks, and how their outcomes get there."""

from __future__ import annotations

import asyncio
from typing import Optional

from .._calls import Handle, Outcome, Pending
from .._wire import Request


class Asked(Pending):
    """A request that a task awaits, or that nobody does any more.

    `handle` is what it goes by. `closes` is that one's number where the request closes it, else 0.
    The future's result is what came of it, also where that is an error: nobody is told then of an
    error that nobody asks for.
    """

    __slots__ = ("future", "handle", "closes")

    def __init__(
        self, request: Request, label: Optional[str], handle: Optional[Handle],
        future: Optional[asyncio.Future[Outcome]], closes: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(-1, request, label)
        self.future = future
        self.handle = handle
        self.closes = closes


def tell(asked: Asked, outcome: Outcome) -> bool:
    """Tell the task that awaits it; False: none does."""
    if asked.future is None or asked.future.done():
        return False
    if not asked.future.get_loop().is_closed():
        asked.future.set_result(outcome)
    return True

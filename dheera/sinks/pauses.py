"""
Waiting that ends early when there is to be no more waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater


@define(eq=False)
class Pauses:
    """
    The pauses of one feeder, of which there is one at a time.

    :ivar is_closing: pauses end at once, so that what is there can still be done.
    :ivar is_over: nothing more is to be done.
    """

    _reactor: Any
    is_closing: bool = field(default=False, init=False)
    is_over: bool = field(default=False, init=False)
    _pause: Deferred[None] | None = field(default=None, init=False)

    async def sleep(self, seconds: float) -> None:
        """
        Let time pass; with 0, let others have their turn.
        """
        await self.wait(lambda: deferLater(self._reactor, seconds))

    async def wait(self, begin: Callable[[], Deferred[None]]) -> None:
        """
        Wait for what *begin* begins.
        """
        self._pause = begin()
        try:
            await self._pause
        except CancelledError:
            if self.is_over or not self.is_closing:
                raise
        finally:
            self._pause = None

    def hurry(self) -> None:
        """
        From now on there is closing.
        """
        self.is_closing = True
        if self._pause is not None:
            self._pause.cancel()

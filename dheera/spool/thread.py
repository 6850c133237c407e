"""
Where the spool waits for the disk: one thread, so that what is asked of it happens in order.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, Protocol, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

Result = TypeVar("Result")


class Aside(Protocol):
    """
    Does one thing after the other, without holding up who asks for it.
    """

    def start(self) -> None:
        """
        Be ready.
        """
        ...

    def run(self, work: Callable[[], Result]) -> Deferred[Result]:
        """
        Do *work* when all that was asked before is done.
        """
        ...

    def stop(self) -> None:
        """
        Wait until all is done, and end.
        """
        ...


class _Daemon(Thread):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        # A process that ends in a hurry, or fails to start, does not wait for it.
        super().__init__(*arguments, daemon=True, **named)


class _OneThread(ThreadPool):
    threadFactory = _Daemon  # noqa: N815 - Twisted's name

    def __init__(self) -> None:
        super().__init__(1, 1, "spool")


@define(eq=False)
class DiskThread:
    """
    A thread of its own, as the others may be busy with DNS.

    :param reactor: with a way back from threads.
    """

    _reactor: Any
    _pool: ThreadPool = field(init=False, factory=_OneThread)

    def start(self) -> None:
        """
        Begin.
        """
        self._pool.start()

    def run(self, work: Callable[[], Result]) -> Deferred[Result]:
        """
        Do *work* there.
        """
        result: Deferred[Result] = deferToThreadPool(self._reactor, self._pool, work)
        return result

    def stop(self) -> None:
        """
        End it.
        """
        self._pool.stop()


_: type[Aside] = DiskThread

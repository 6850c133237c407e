"""
What a worker knows of its supervisor: the end of a pipe whose other end that alone has.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, MutableMapping
from typing import Any

from attrs import define
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dheera.children import LEASH_VARIABLE

log = Logger()

RELIEVED = b"RELIEVED"
"""
What is said there when others have the sockets, so that nobody will find this worker missing.
"""


def orphaned(
    reactor: Any,
    environment: MutableMapping[str, str],
    stop: Callable[[], None],
    leave: Callable[[], None] | None = None,
) -> None:
    """
    If this process is a worker, follow its supervisor from now on: stop when that has died. Ctrl-C is heard by the
    supervisor alone, which tells its workers: each would hear it twice.

    :param environment: has the leash, which is taken out.
    :param stop: stop in order; may be called when that has begun already, and asks for no hurry.
    :param leave: the same, but new workers serve at the same places: nobody need be told, nor waited for, before
        this one listens no more. *stop* if there is none.
    """
    number = environment.pop(LEASH_VARIABLE, "")
    if not number:
        return
    os.set_inheritable(int(number), False)  # noqa: FBT003 - its only parameter
    os.set_blocking(int(number), False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reactor.addReader(_Leash(int(number), reactor, stop, leave or stop))


@implementer(IReadDescriptor)
@define(eq=False)
class _Leash:
    _number: int
    _reactor: Any
    _stop: Callable[[], None]
    _leave: Callable[[], None]

    def fileno(self) -> int:
        return self._number

    def logPrefix(self) -> str:  # noqa: N802 - Twisted's name
        return "leash"

    def doRead(self) -> None:  # noqa: N802 - Twisted's name
        try:
            said = os.read(self._number, 100)
        except BlockingIOError:
            return
        self._reactor.removeReader(self)
        os.close(self._number)
        if said.startswith(RELIEVED):
            log.info("Others serve from now on; this worker finishes what is under way")
            self._leave()
        else:
            log.warn("The supervising process is gone: stopping")
            self._stop()

    def connectionLost(self, reason: Failure) -> None:
        """
        The other end is gone, if the reactor looks at that before it reads; or the reactor has stopped.
        """
        del reason
        self.doRead()

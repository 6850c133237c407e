"""
The daemon as a whole: it starts, reads its configuration anew, lets a new process take over, and stops. Beneath it are
the rooms, which are opened and closed.
"""

from __future__ import annotations

from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dheera.changes import compare
from dheera.config import ConfigurationError
from dheera.furnishing import Furniture, Walls, change_sinks, refurnish
from dheera.lifecycle import Hurry, InOrder
from dheera.notify import Notifier
from dheera.rooms import Front
from dheera.run import Served, leave
from dheera.settings import Config
from dheera.succession import Succession

log = Logger()

FLUSH_SECONDS = 37.0
"""
What sinks, database and disk are given after the last exchange, all together.
"""


def tell_refused(error: ConfigurationError) -> None:
    """
    Say in the log why a configuration that was read anew is not put in force.
    """
    for problem in error.problems:
        log.warn("Configuration: {problem}", problem=problem)
    log.warn("The configuration cannot be used; the one before stays in force")


class Reader(Protocol):
    """
    Reads the configuration anew, from where this one is.
    """

    def __call__(self) -> Config:
        """
        :raises ConfigurationError: with all that is wrong.
        """
        ...


@define(eq=False, kw_only=True)
class Daemon:
    """
    The daemon that a configuration describes.

    :param read: reads the configuration anew; ``None`` if it cannot be.
    :param walls: what stays whatever is read.
    :ivar furniture: what is in force.
    :param rooms: all that is opened and closed, front and notifier among them.
    :param hurry: whether a stop waits for nobody.
    :param successor: how a new process takes over; ``None`` if none can.
    """

    _reactor: Any
    _read: Reader | None
    _walls: Walls
    furniture: Furniture
    _rooms: InOrder
    _front: Front
    _notifier: Notifier
    _hurry: Hurry
    _succession: Succession | None
    _changing: Deferred[None] | None = field(default=None, init=False)
    _changes_again: bool = field(default=False, init=False)
    _serves: bool = field(default=False, init=False)
    _stops: bool = field(default=False, init=False)

    @property
    def settings(self) -> Config:
        """
        Those in force.
        """
        return self.furniture.config

    def startService(self) -> Deferred[None]:
        """
        Begin to serve.

        :return: fires when it does; fails when that is not possible.
        """
        self._notifier.watch(self._status)
        return self._rooms.startService().addCallback(self._started)

    def _started(self, _: None) -> None:
        self._serves = True
        self._change_again()

    def stopService(self) -> Deferred[None]:
        """
        Serve no more: others learn of it first, what is under way may finish, what is known is kept.
        """
        self._stops = True
        settings = self.furniture.config
        seconds = settings.stop_delay_seconds + settings.drain_seconds + FLUSH_SECONDS
        self._notifier.stopping("Stopping: waiting for open exchanges", seconds)
        if self._succession is not None:
            self._succession.stop()
        return self._rooms.stopService().addBoth(self._ended)

    def hurry(self) -> None:
        """
        While it stops: end what is under way now, and keep what is known all the same.
        """
        log.info("Stopping at once: told a second time")
        self._hurry.begin()

    def reload(self) -> None:
        """
        Read the configuration anew and put it in force. If it cannot be used all stays as it was, and the log says why.
        While one is under way another one waits for it, as it does for the start.
        """
        if self._stops:
            return
        if self._succession is not None:
            self._succession.outdated()
        if self._read is None:
            log.warn("The configuration cannot be read anew here")
        elif self._changing is not None or not self._serves:
            self._changes_again = True
        else:
            self._changing = Deferred.fromCoroutine(self._change(self._read))
            self._changing.addErrback(lambda failure: log.failure("Bug: reading anew broke off", failure))
            self._changing.addCallback(self._changed)

    def upgrade(self) -> None:
        """
        Start the program anew, and stop as soon as that serves at the same doors.
        """
        if self._succession is None:
            log.warn("Nobody can take over here: restart whoever supervises this process")
        elif not self._serves:
            log.warn("No upgrade: this one does not serve yet")
        elif not self._stops:
            self._succession.begin()

    def give_way(self) -> None:
        """
        Stop, since others serve at the same doors.
        """
        self._front.let_go(None)
        leave(self._reactor)

    async def _change(self, read: Reader) -> None:
        self._notifier.reloading()
        try:
            changes = compare(self.furniture.config, read())
            before, self.furniture = self.furniture, refurnish(self._walls, self.furniture, changes.config)
            await change_sinks(self._walls, before, self.furniture)
        except ConfigurationError as error:
            tell_refused(error)
        else:
            log.info("Read the configuration anew. Changed: {changed}", changed=", ".join(changes.made) or "nothing")
            if changes.postponed:
                log.warn("These want a new start to change: {postponed}", postponed=", ".join(changes.postponed))
        finally:
            if not self._stops:
                self._notifier.ready(self._status())

    def _changed(self, _: None) -> None:
        self._changing = None
        self._change_again()

    def _change_again(self) -> None:
        if self._changes_again:
            self._changes_again = False
            self.reload()

    def _status(self) -> str:
        calls = self._walls.accounts.metrics.in_flight
        return f"Serving on {', '.join(self._front.addresses)}: {calls} calls under way"

    def _ended(self, result: object) -> object:
        self._notifier.end()
        return result


_: type[Served] = Daemon

"""
The daemon where it is several processes: a supervisor of workers, and what it says to systemd.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred

from dheera.config import ConfigurationError
from dheera.daemon import FLUSH_SECONDS, Reader, tell_refused
from dheera.notify import Notifier
from dheera.run import Served
from dheera.settings import Config
from dheera.supervisor.room import Supervisor


@define(eq=False)
class Crew:
    """
    Workers, supervised, and told of as one service.

    :param read: reads the configuration anew.
    """

    _config: Config
    _read: Reader
    _supervisor: Supervisor
    _notifier: Notifier
    _serves: bool = field(default=False, init=False)
    _stops: bool = field(default=False, init=False)

    def startService(self) -> Deferred[None]:
        """
        Begin to serve.

        :return: fires when all workers do; fails if one cannot.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        self._notifier.watch(self._supervisor.status)
        await self._supervisor.startService()
        self._serves = True
        await self._notifier.open()

    def stopService(self) -> Deferred[None]:
        """
        Stop all workers.
        """
        self._stops = True
        seconds = self._config.stop_delay_seconds + self._config.drain_seconds + FLUSH_SECONDS
        self._notifier.stopping("Stopping: waiting for the workers", seconds)
        return self._supervisor.stopService().addBoth(self._ended)

    def hurry(self) -> None:
        """
        While they stop: let them wait for nobody any more.
        """
        self._supervisor.hurry()

    def reload(self) -> None:
        """
        Let each worker read the configuration anew, if it can be used; if not, all stays as it was, and the log says
        why.
        """
        if self._stops:
            return
        if self._serves:
            self._notifier.reloading()
        try:
            self._config = self._read()
        except ConfigurationError as error:
            tell_refused(error)
            self._reloaded(None)
        else:
            self._supervisor.reload(self._config).addCallback(self._reloaded)

    def _reloaded(self, _: None) -> None:
        if self._serves and not self._stops:
            self._notifier.ready(self._supervisor.status())

    def upgrade(self) -> None:
        """
        Let another supervisor, with workers of its own, take over.
        """
        if not self._stops:
            self._supervisor.upgrade()

    def _ended(self, result: object) -> object:
        self._notifier.end()
        return result


_: type[Served] = Crew

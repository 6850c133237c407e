"""
The connection on which PostgreSQL tells what was changed elsewhere, and by which we know that it is there at all.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from secrets import SystemRandom, token_hex
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004 - what a Deferred's timeout raises
from twisted.logger import Logger

from dheera.stores.postgres.dialling import Dialler, Unreachable
from dheera.stores.postgres.line import BROKEN, Line

CHANNEL = "dheera_changes"
BEAT_SECONDS = 2.0
"""
How often we say something to ourselves through the server. Nothing else tells of a network that is silent, or of
notifications that do not arrive.
"""
BEAT_PATIENCE_SECONDS = 3.0
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 2.0

_CLOSED = "it has closed the connection"
_SILENT = "it does not answer in time"
_MUTE = (
    "its notifications do not arrive. LISTEN needs a direct connection to PostgreSQL, or a pooler that keeps sessions "
    "(PgBouncer's pool_mode = session)"
)

log = Logger()


class Mute(Unreachable):
    """
    The server answers, and what is said on its channels is not heard.
    """


@define(eq=False, kw_only=True)
class Listener:
    """
    Hears changes, and connects again for as long as it takes.

    That changes are heard is not believed, but tried: at first with something that is said on another connection, since
    poolers that do not keep sessions pass on only what a connection says to itself; then, again and again, with
    something that it does say to itself, on a channel of its own, so that no other dheera hears it.

    :param patience_seconds: for one attempt to connect.
    :param heard: called with each payload, those of this process among them.
    :param answered: called whenever the server has answered.
    :param silent: called whenever it has not, and whenever it could not be reached.
    :param lost: called when changes are heard no more.
    :param found: called when they are heard again.
    """

    _reactor: Any
    _dialler: Dialler
    _patience_seconds: float
    _heard: Callable[[str], None]
    _answered: Callable[[], None]
    _silent: Callable[[], None]
    _lost: Callable[[], None]
    _found: Callable[[], None]
    _line: Line | None = field(default=None, init=False)
    _life: Deferred[None] | None = field(default=None, init=False)
    _sleeping: Deferred[None] | None = field(default=None, init=False)
    _closing: bool = field(default=False, init=False)
    _channel: str = field(factory=lambda: f"dheera_beat_{token_hex(8)}", init=False)
    _tokens: count[int] = field(factory=count, init=False)
    _token: str = field(default="", init=False)
    _echo: Deferred[str] | None = field(default=None, init=False)

    async def open(self, other: Line) -> None:
        """
        Begin to listen.

        :param other: another connection, which is not in use.
        :raises Unreachable: there is nothing to listen on.
        :raises Mute: nothing is heard there.
        """
        self._line = await self._listen()
        try:
            await self._try_out(self._line, other)
        except Unreachable:
            self._line = None
            raise
        self._life = Deferred.fromCoroutine(self._live())
        self._life.addErrback(lambda failure: log.failure("Changes are no longer heard", failure))

    async def close(self) -> None:
        """
        Listen no more. The dialler must have been stopped.
        """
        self._closing = True
        self.look()
        self.give_up()
        if self._line is not None:
            self._line.hang_up()
        if self._life is not None:
            await self._life

    @property
    def is_hearing(self) -> bool:
        """
        Whether changes are heard.
        """
        return self._line is not None

    def look(self) -> None:
        """
        See now whether the server is there, and not only when it is time.
        """
        sleeping, self._sleeping = self._sleeping, None
        if sleeping is not None:
            sleeping.callback(None)

    def give_up(self) -> None:
        """
        Wait for no notification: none can come any more.
        """
        if self._echo is not None and not self._echo.called:
            self._echo.callback(_CLOSED)

    async def _live(self) -> None:
        while not self._closing:
            if self._line is not None:
                reason = await self._beats(self._line)
                self._line = None
                if not self._closing:
                    log.warn("PostgreSQL is away: {reason}. Trying to reach it again.", reason=reason)
                    self._lost()
            else:
                self._line = await self._listen_again()
                if self._line is not None:
                    log.info("PostgreSQL is back.")
                    self._found()

    async def _beats(self, line: Line) -> str:
        """
        Try from time to time, until nothing is heard.

        :return: why.
        """
        reason = ""
        while not reason:
            await self._sleep(BEAT_SECONDS)
            reason = await self._beat(line) if line.is_open() and not self._closing else _CLOSED
        line.hang_up()
        return reason

    async def _beat(self, other: Line) -> str:
        """
        Say something on *other*, and wait until it is heard here.

        :return: why it was not; empty if it was.
        """
        self._token = str(next(self._tokens))
        echo = self._echo = Deferred()
        late = self._reactor.callLater(BEAT_PATIENCE_SECONDS, other.hang_up)
        try:
            await other.ask(f"notify {self._channel}, '{self._token}'")
        except BROKEN:
            if late.active():
                return _CLOSED
            self._silent()
            return _SILENT
        finally:
            if late.active():
                late.cancel()
        self._answered()
        try:
            return await echo.addTimeout(BEAT_PATIENCE_SECONDS, self._reactor)
        except TimeoutError:
            return _MUTE

    def _hear(self, channel: str, payload: str) -> None:
        if channel == CHANNEL:
            self._heard(payload)
        elif payload == self._token and self._echo is not None and not self._echo.called:
            self._echo.callback("")

    def _drop(self) -> None:
        self.give_up()
        self.look()

    async def _listen_again(self) -> Line | None:
        delay = FIRST_DELAY_SECONDS
        said = ""
        while not self._closing:
            try:
                line = await self._listen()
                await self._try_out(line)
            except Unreachable as error:
                if str(error) != said and not self._closing:
                    said = str(error)
                    log.warn("{reason}", reason=said)
                if not isinstance(error, Mute):
                    self._silent()
            else:
                return line
            # Many dheeras lose one server at the same time.
            await self._sleep(delay * SystemRandom().uniform(0.5, 1.0))
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)
        return None

    async def _listen(self) -> Line:
        line = await self._dialler.dial(self._patience_seconds)
        line.heard = self._hear
        line.dropped = self._drop
        late = self._reactor.callLater(self._patience_seconds, line.hang_up)
        try:
            await line.ask(f"listen {CHANNEL}; listen {self._channel}")
        except BROKEN as error:
            line.hang_up()
            raise Unreachable(f"PostgreSQL does not let us listen: {type(error).__name__}.") from None
        finally:
            if late.active():
                late.cancel()
        return line

    async def _try_out(self, line: Line, other: Line | None = None) -> None:
        """
        See to it that what is said elsewhere is heard on *line*; or close it.
        """
        speaker = None
        try:
            speaker = other or await self._dialler.dial(self._patience_seconds)
            reason = await self._beat(speaker)
            if reason:
                raise (Mute if reason == _MUTE else Unreachable)(f"PostgreSQL cannot be listened to: {reason}.")
        except Unreachable:
            line.hang_up()
            raise
        finally:
            if speaker is not None and speaker is not other:
                speaker.hang_up()

    async def _sleep(self, seconds: float) -> None:
        if self._closing:
            return
        sleeping = self._sleeping = Deferred()
        timer = self._reactor.callLater(seconds, self.look)
        await sleeping
        if timer.active():
            timer.cancel()

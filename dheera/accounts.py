"""
All that keeps account of calls, put together: spool, ledger, sinks, metrics, and the accountant whom exchanges know.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any

from attrs import define, field
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dheera.bookkeeping import Books, Lag, Lives
from dheera.choices import Choices, node_of
from dheera.content import ContentRules
from dheera.entities import now
from dheera.ledger import Ledger
from dheera.lifecycle import Hurry, Room
from dheera.metrics import Level, Metrics
from dheera.prices import PriceList
from dheera.proxy.accounting import Accountant
from dheera.pruning import Pruning
from dheera.records import Alert
from dheera.settings import Config
from dheera.settlement import interrupted
from dheera.sinks.courier import HttpCourier
from dheera.sinks.feeders import Feeders
from dheera.sinks.feeding import SinkState
from dheera.spool.memory import MemorySpool
from dheera.spool.spool import FileSpool, make_spool
from dheera.upstream_alarm import UpstreamAlarm

log = Logger()

LEDGER = "ledger"
REFRESH_SECONDS = 5.0
"""
How old the levels of another worker are in the metrics, at most.
"""

Levels = Callable[[], Iterator[Level]]


@define(eq=False)
class SpoolRoom:
    """
    The spool, opened and closed.
    """

    _spool: FileSpool

    async def open(self) -> None:
        """
        Take a lane, and make good what a death has left.
        """
        await self._spool.open()

    async def close(self) -> None:
        """
        Bring what is written to the disk.
        """
        await self._spool.close()


@define(eq=False)
class Roads:
    """
    The connections to sinks.
    """

    _courier: HttpCourier

    async def open(self) -> None:
        """
        Nothing to do: connections are made when they are needed.
        """

    async def close(self) -> None:
        """
        Close what is kept.
        """
        self._courier.close()


@define(eq=False)
class Refreshment:
    """
    Sees to it that the levels which this worker shows are not old, also when another one is asked for them.
    """

    _reactor: Any
    _metrics: Metrics
    _call: LoopingCall = field(init=False)

    async def open(self) -> None:
        """
        Begin.
        """
        self._call = LoopingCall(self._refresh)
        self._call.clock = self._reactor
        self._call.start(REFRESH_SECONDS, now=False).addErrback(
            lambda failure: log.failure("Bug: metrics are not refreshed any more", failure)
        )

    async def close(self) -> None:
        """
        End. What this worker has counted stays with the others.
        """
        if self._call.running:
            self._call.stop()
        self._metrics.close()

    def _refresh(self) -> None:
        try:
            self._metrics.refresh()
        except Exception:  # noqa: BLE001 - the next may go well
            log.failure("Bug: metrics cannot be refreshed")


@define(eq=False, kw_only=True)
class Accounts:
    """
    What the service, the exchanges and the pages need of it.

    :param rooms: to be opened in this order, after the store and before those who serve.
    :param alert: tells somebody, in the log and by way of the spool.
    :param lives: this process, and those before it whose calls it has got.
    """

    metrics: Metrics
    rooms: Sequence[Room]
    alert: Callable[[Alert], None]
    lives: Lives
    _prices: _Prices
    _spool: FileSpool | MemorySpool
    _ledger: Ledger
    _feeders: Feeders
    _alarm: UpstreamAlarm

    def accountant(self, config: Config, choices: Choices) -> Accountant:
        """
        One for exchanges, who keeps account by these prices, and tells of calls as these rules say.
        """
        rules = ContentRules(
            policy=config.records.content,
            limit_bytes=config.records.content_bytes,
            redaction=choices.redaction,
        )
        return Accountant(
            spool=self._spool,
            prices=choices.prices,
            tally=self.metrics,
            spends=self._ledger.spend_of,
            notice=self._alarm.look,
            node=node_of(config),
            content=rules,
            clock=monotonic,
            now=now,
        )

    def change(self, choices: Choices) -> None:
        """
        From now on these prices are in force.
        """
        self._prices.list = choices.prices

    async def change_sinks(self, choices: Choices, same: Collection[str]) -> None:
        """
        As `Feeders.change`.
        """
        await self._feeders.change(choices.sinks, same)

    def problem(self) -> str | None:
        """
        Why calls cannot be written down; ``None`` if they can.
        """
        if isinstance(self._spool, MemorySpool):
            return None
        state = self._spool.state()
        return state.failing or ("full: the ledger is too far behind" if state.is_full else None)

    def services(self) -> Mapping[str, Any]:
        """
        The ledger and the sinks, whether they take records, and how far they are behind.
        """
        return {
            LEDGER: {"refused": self._ledger.refused, "lag": _told(self._ledger.lag)},
            "sinks": {state.name: _shown(state) for state in self._feeders.states()},
        }


def make_accounts(
    reactor: Any,
    config: Config,
    choices: Choices,
    *,
    courier: HttpCourier,
    books: Books,
    levels: Sequence[Levels],
    hurry: Hurry,
) -> Accounts:
    """
    All of it, not yet open.

    :param courier: the one that the sinks among the choices use.
    :param levels: what else goes up and down.
    :param hurry: a stop does not wait for sinks.
    :raises ConfigurationError: workers cannot count together.
    """
    node, prices = node_of(config), _Prices(choices.prices)
    metrics = Metrics(lambda model: prices.list.find(model, now()) is not None, lambda: _levels(accounts, levels))
    spool: FileSpool | MemorySpool = (
        MemorySpool()
        if choices.folder is None
        else make_spool(
            reactor,
            choices.folder,
            config.spool,
            now=now,
            node=node,
            interrupted=lambda begun: interrupted(begun, prices.list),
        )
    )

    def tell(alert: Alert) -> None:
        # Also to whoever has no sink.
        (log.info if alert.level == "resolved" else log.warn)("Alert: {text}", text=alert.text)
        spool.alert(alert)

    ledger = Ledger(
        reactor,
        spool.reader(LEDGER, essential=True),
        books,
        config.ledger,
        tell,
        node=node,
    )
    feeders = Feeders(reactor, spool, choices.sinks, node=node, now=now, hurry=hurry)
    alarm = UpstreamAlarm(tell, node, now)
    keeping: list[Room] = [SpoolRoom(spool)] if isinstance(spool, FileSpool) else []
    accounts = Accounts(
        metrics=metrics,
        rooms=[
            *keeping,
            ledger,
            Pruning(reactor, books, config.ledger.keep_days),
            Roads(courier),
            feeders,
            Refreshment(reactor, metrics),
        ],
        alert=tell,
        lives=spool.lives,
        prices=prices,
        spool=spool,
        ledger=ledger,
        feeders=feeders,
        alarm=alarm,
    )
    return accounts


@define(eq=False)
class _Prices:
    """
    Those in force, for who asks now and then.
    """

    list: PriceList


def _levels(accounts: Accounts, others: Sequence[Levels]) -> Iterator[Level]:
    spool = accounts._spool  # noqa: SLF001 - of this module
    for each in others:
        yield from each()
    lags = {LEDGER: accounts._ledger.lag}  # noqa: SLF001
    if isinstance(spool, FileSpool):
        state = spool.state()
        yield Level(name="spool_bytes", value=state.size_bytes)
        yield Level(name="spool_max_bytes", value=state.max_bytes)
        yield Level(name="spool_failing", value=state.failing is not None)
        lags = state.readers
    for name, lag in lags.items():
        yield Level(name="spool_lag_bytes", labels=(name,), value=lag.waiting_bytes)
        yield Level(name="spool_lag_seconds", labels=(name,), value=_age(lag))
        yield Level(name="spool_dropped_lines", labels=(name,), value=lag.dropped)
    for sink in accounts._feeders.states():  # noqa: SLF001
        yield Level(name="sink_away", labels=(sink.name,), value=sink.is_away)
        yield Level(name="sink_sent_records", labels=(sink.name,), value=sink.sent)
        yield Level(name="sink_refused_records", labels=(sink.name,), value=sink.refused)
        yield Level(name="sink_retries", labels=(sink.name,), value=sink.retries)


def _age(lag: Lag) -> float:
    return 0.0 if lag.oldest_at is None else max(0.0, (now() - lag.oldest_at).total_seconds())


def _told(lag: Lag) -> dict[str, Any]:
    return {
        "waiting_bytes": lag.waiting_bytes,
        "oldest_at": None if lag.oldest_at is None else lag.oldest_at.isoformat(),
        "dropped": lag.dropped,
    }


def _shown(state: SinkState) -> dict[str, Any]:
    return {
        "kind": state.kind,
        "status": "away" if state.is_away else "healthy",
        "since": None if state.since is None else state.since.isoformat(),
        "reason": state.reason,
        "sent": state.sent,
        "refused": state.refused,
        "retries": state.retries,
        "last_sent_at": None if state.last_sent_at is None else state.last_sent_at.isoformat(),
        "lag": _told(state.lag),
    }

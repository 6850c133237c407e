"""
What a sink is, for those who write one: ours, and those of Twisted plugins.

A sink is given batches and says whether they arrived. What waits, what is tried again, and where to go on after a
restart is not its business but that of `dheera.sinks.feeding`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from attrs import field, frozen
from msgspec import Struct
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from dheera.bookkeeping import Entry

ContentPolicy: TypeAlias = Literal["none", "meta", "full"]
"""
How much of what a call is about may be in a record: nothing, but who it is for, the model and the tags; settings such
as ``temperature`` too; the bodies too, bounded and redacted.
"""


class SinkAway(Exception):
    """
    The batch did not arrive, and may if it is sent again: the network, a limit, a wrong credential that somebody will
    mend. Nothing is lost meanwhile.

    :param reason: for the operator: what happened, and what to do. It holds no credential and no content.
    :param retry_after_seconds: how long the other side asks us to wait.
    """

    def __init__(self, reason: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class SinkRefuses(Exception):
    """
    The other side will never take this batch as it is. It is sent again in halves, so that only what is refused by
    itself is given up, and counted.

    :param reason: as of `SinkAway`.
    """


class SinkSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What each sink's table of the configuration, ``[sinks.NAME]``, may say. Factories add their own fields in
    subclasses; texts that are secret have the type `dheera.keys.Secret`.

    :param kind: which factory makes it; the table's name if it is not said.
    :param content: how much of what a call is about it is sent; see `ContentPolicy`.
    :param only: ``failures`` leaves out what went well.
    :param batch_records: that are sent at once, at most.
    :param batch_seconds: how long the first of a batch waits for others.
    :param timeout_seconds: after which a batch that is not answered has not arrived.
    """

    kind: str = ""
    content: ContentPolicy = "meta"
    only: Literal["all", "failures"] = "all"
    batch_records: int = 200
    batch_seconds: float = 2.0
    timeout_seconds: float = 30.0


@frozen(kw_only=True)
class Reply:
    """
    What an HTTP server answered with a status below 300.

    :param content: up to 64 KiB of it, decoded from gzip.
    """

    status: int
    fields: Sequence[tuple[bytes, bytes]]
    content: bytes


class Courier(Protocol):
    """
    Carries batches by HTTP. It follows no redirects, keeps no cookies, verifies certificates.
    """

    def send(
        self,
        url: str,
        content: bytes,
        headers: Mapping[str, str],
        *,
        method: str = "POST",
        compress: bool = True,
        timeout_seconds: float = 30.0,
    ) -> Deferred[Reply]:
        """
        Send *content*.

        :param compress: with gzip, unless it is shorter than a kilobyte.
        :return: fails with `SinkAway` if nobody answers, or with a status that may pass or is to be mended by an
            operator (401, 403, 404, 408, 421, 425, 429, 3xx, 5xx), with what ``retry-after`` says; with `SinkRefuses`
            for other 4xx. The reason names host and status and, shortened, what the answer says.
        """
        ...


@frozen(kw_only=True)
class Tools:
    """
    What a sink may use.

    :param name: of the sink, as in ``[sinks.NAME]``.
    :param environment: for the variables that its vendor has documented.
    :param node: this dheera's name.
    """

    reactor: Any
    name: str
    courier: Courier
    environment: Mapping[str, str] = field(repr=False)
    node: str
    now: Callable[[], datetime]


class Sink(Protocol):
    """
    Somewhere that records go. A batch is sent when the one before it has arrived.
    """

    def send(self, entries: Sequence[Entry]) -> Deferred[None]:
        """
        Send a batch. Values are already as the sink's ``content`` and ``only`` have them; the same entry may come
        twice, with the same ``call_id`` (of an alert: ``id``), which makes it possible to tell.

        :return: fires when it has arrived; fails with `SinkAway` or `SinkRefuses`. What else it fails with counts as
            away, and is logged as a bug of the sink.
        """
        ...

    def close(self) -> Deferred[None]:
        """
        Let go of what is open. No batch is under way.
        """
        ...


class SinkFactory(Protocol):
    """
    Makes sinks of one kind.

    :cvar kind: its name in the configuration.
    :cvar settings: a subclass of `SinkSettings`.
    :cvar takes: what it is given: records of exchanges, alerts, or both.
    """

    kind: ClassVar[str]
    settings: ClassVar[type[SinkSettings]]
    takes: ClassVar[Literal["records", "alerts", "all"]]

    def make(self, settings: Any, tools: Tools) -> Sink:
        """
        The sink that *settings* describe; nobody is called yet.

        :raises ConfigurationError: they cannot be used: with what is wrong and what to write.
        """
        ...


class ILogSinkFactory(Interface):
    """
    `SinkFactory`, for Twisted's plugins: a module in ``twisted/plugins/`` with an object that provides this and
    ``twisted.plugin.IPlugin`` adds a kind of sink.
    """

    kind = Attribute("Its name in the configuration: ``[sinks.NAME] kind = ...``.")
    settings = Attribute("A subclass of ``dheera.sinks.contract.SinkSettings``.")
    takes = Attribute("'records', 'alerts' or 'all'.")

    def make(settings: Any, tools: Tools) -> Sink:  # noqa: N805 - a zope interface
        """
        As `SinkFactory.make`.
        """

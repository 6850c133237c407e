"""
One record to a sink, now and past the spool: to see whether it arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, TimeoutError, gatherResults, maybeDeferred  # noqa: A004 - Twisted's name

from dheera.bookkeeping import Entry
from dheera.call_ids import new_call_id
from dheera.records import Alert, Record, to_line
from dheera.sinks.catalogue import Configured
from dheera.sinks.contract import SinkAway, SinkRefuses
from dheera.usage import Usage

TAG = "test: true"
"""
Of the record, so that those who add up can leave it out.
"""
PATIENCE = 1.5
"""
How many of its ``timeout_seconds`` a sink has.
"""


@frozen(kw_only=True)
class Tried:
    """
    What came of it.

    :param sent: the ``call_id`` of the record, or the ``id`` of the alert, to look for over there.
    :param reason: why it did not arrive, and what to do; empty if it did.
    :param seconds: how long it took.
    """

    name: str
    kind: str
    arrived: bool
    sent: str
    reason: str
    seconds: float


def try_sinks(
    reactor: Any, configured: Sequence[Configured], node: str, now: Callable[[], datetime]
) -> Deferred[list[Tried]]:
    """
    Try all of them at the same time.
    """
    return gatherResults([try_sink(reactor, each, node, now) for each in configured], consumeErrors=True)


def try_sink(reactor: Any, configured: Configured, node: str, now: Callable[[], datetime]) -> Deferred[Tried]:
    """
    Send one record, or one alert to a sink that takes nothing else. The sink need not be idle, and stays open.

    :return: never fails.
    """
    return Deferred.fromCoroutine(_try(reactor, configured, node, now))


async def _try(reactor: Any, configured: Configured, node: str, now: Callable[[], datetime]) -> Tried:
    entry, sent = _entry(configured, node, now())
    begun = reactor.seconds()
    reason = ""
    seconds = configured.settings.timeout_seconds * PATIENCE
    try:
        await maybeDeferred(configured.sink.send, [entry]).addTimeout(seconds, reactor)
    except SinkAway as error:
        reason = str(error)
    except SinkRefuses as error:
        reason = f"it does not take the record: {error}"
    except TimeoutError:
        reason = f"it did not end within {seconds:g} seconds."
    except Exception as error:  # noqa: BLE001 - whatever a sink does, it is told as what it is
        reason = f"a bug of the sink ({type(error).__name__}): tell whoever wrote it."
    return Tried(
        name=configured.name,
        kind=configured.factory.kind,
        arrived=not reason,
        sent=sent,
        reason=reason,
        seconds=reactor.seconds() - begun,
    )


def _entry(configured: Configured, node: str, moment: datetime) -> tuple[Entry, str]:
    name = new_call_id()
    value: Record | Alert
    if configured.factory.takes == "alerts":
        value = Alert(
            id=name,
            at=moment,
            node=node,
            about="sink",
            subject=f"sink {configured.name}",
            text="This is a test: alerts of dheera arrive here.",
        )
    else:
        value = a_record(name, node, moment, fails=configured.settings.only == "failures")
    return Entry(position=0, line=to_line(value), value=value), name


def a_record(call_id: str, node: str, moment: datetime, *, fails: bool) -> Record:
    """
    A record of a call that never was; it cost nothing.

    :param fails: for those who are told of failures alone.
    """
    return Record(
        call_id=call_id,
        started_at=moment,
        node=node,
        method="POST",
        path="/v1/chat/completions",
        endpoint="chat/completions",
        model="test",
        key_alias="test",
        tags=[TAG],
        outcome="refused" if fails else "complete",
        status=503 if fails else 200,
        error="Test" if fails else None,
        message="This is a test." if fails else None,
        attempts=0,
        duration_us=1000,
        usage=Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2),
        cost_nano_usd=0,
        price_list="test",
    )

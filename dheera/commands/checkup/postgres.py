"""
PostgreSQL as the store: reached as the daemon reaches it, and asked; nothing is written there.

Loaded only if ``DATABASE_URL`` names a PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from dheera.commands.checkup.clocks import compared
from dheera.commands.checkup.findings import Finding
from dheera.commands.checkup.schemas import judged_schema
from dheera.entities import now
from dheera.errors import CannotStart
from dheera.stores.postgres.dialling import Dialler, dialler_for
from dheera.stores.postgres.line import BROKEN

NAME = "store"
PLACE = "PostgreSQL"
_FACTS = """
    select json_build_object(
        'table', to_regclass('schema_version')::text,
        'may_create', coalesce(has_schema_privilege(current_schema(), 'create'), false),
        'is_standby', pg_is_in_recovery(),
        'is_read_only', current_setting('default_transaction_read_only') = 'on',
        'version', current_setting('server_version'),
        'most', current_setting('max_connections')::int,
        'reserved', current_setting('superuser_reserved_connections')::int
            + coalesce(current_setting('reserved_connections', true)::int, 0),
        'others', (
            select count(*) from pg_stat_activity
            where backend_type = 'client backend' and application_name is distinct from 'dheera'
        ),
        'clock', extract(epoch from clock_timestamp())
    )
"""
_SCHEMA = "select coalesce(max(version), 0) from schema_version"


def look_at_postgres(reactor: Any, url: str, wanted: int, seconds: float) -> Deferred[Sequence[Finding]]:
    """
    Look at it.

    :param wanted: how many connections the daemon may make.
    :param seconds: that all of it may take.
    """

    # txpostgres must not be cancelled: who has waited for long enough hangs up.
    def give_up(cancelled: Deferred[Sequence[Finding]]) -> None:
        cancelled.errback(CancelledError())
        dialler.stop()

    def tell(result: Sequence[Finding] | Failure) -> None:
        if late.active():
            late.cancel()
        dialler.stop()
        if not looked.called:
            looked.errback(result) if isinstance(result, Failure) else looked.callback(result)

    dialler = dialler_for(reactor, url, seconds)
    looked: Deferred[Sequence[Finding]] = Deferred(give_up)
    late = reactor.callLater(seconds, dialler.stop)
    Deferred.fromCoroutine(_look(reactor, dialler, wanted, seconds)).addBoth(tell)
    return looked


async def _look(reactor: Any, dialler: Dialler, wanted: int, seconds: float) -> Sequence[Finding]:
    try:
        line = await dialler.dial(seconds)
        began, sent = reactor.seconds(), now()
        [[facts]] = (await line.ask(_FACTS)).rows
        took = reactor.seconds() - began
        found = list(judged(facts, wanted))
        found.append(compared(PLACE, datetime.fromtimestamp(facts["clock"], UTC), sent, took))
        if facts["table"] is None:
            found.insert(0, judged_schema(NAME, _place(facts), 0, PLACE, may_create=facts["may_create"]))
        else:
            [[version]] = (await line.ask(_SCHEMA)).rows
            found.insert(0, judged_schema(NAME, _place(facts), version, PLACE, may_create=facts["may_create"]))
    except CannotStart as error:
        mend = "Start it, or mend DATABASE_URL (or [store] url). Keys that were seen lately work meanwhile."
        return [Finding.fail(NAME, str(error).rstrip("."), mend)]
    except BROKEN as error:
        code = getattr(error, "pgcode", None)
        if code is None:
            return [Finding.fail(NAME, f"{PLACE} does not answer in time", "Look at its log, and at its load.")]
        mend = "Let the user of DATABASE_URL read the tables that dheera has made; the code is in PostgreSQL's manual."
        return [Finding.fail(NAME, f"{PLACE} refuses to show its tables ({code})", mend)]
    return found


def _place(facts: Mapping[str, Any]) -> str:
    return f"{PLACE} {str(facts['version']).partition(' ')[0]}"


def judged(facts: Mapping[str, Any], wanted: int) -> Iterator[Finding]:
    """
    What a server's own account of itself means for a daemon.

    :param wanted: how many connections that may make.
    """
    if facts["is_standby"] or facts["is_read_only"]:
        sort = "a standby" if facts["is_standby"] else "read-only"
        mend = "Name the server that can be written in DATABASE_URL; target_session_attrs=read-write finds it."
        yield Finding.fail(NAME, f"this PostgreSQL is {sort}, and keys and the ledger must be written", mend)
    free = facts["most"] - facts["reserved"] - facts["others"]
    name = "connections of the store"
    if wanted > free:
        found = f"dheera may open {wanted} here, and {free} of {facts['most']} are left by other programs"
        mend = "Raise max_connections of PostgreSQL, or lower [store] connections. Count those of other nodes too."
        yield Finding.warn(name, found, mend)
    else:
        yield Finding.ok(name, f"dheera may open {wanted} here, {free} of {facts['most']} are left by other programs")

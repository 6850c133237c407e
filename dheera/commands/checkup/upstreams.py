"""
Upstreams: whether each is reached, knows each of our keys, and has the same time as we.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Any, TypeAlias

import attrs
from attrs import frozen
from twisted.web.iweb import IAgent

from dheera.commands.checkup.clocks import compared
from dheera.commands.checkup.findings import Finding, State
from dheera.commands.checkup.questions import Reply, ask
from dheera.commands.checkup.rounds import Check
from dheera.entities import now
from dheera.errors import Refusal
from dheera.keys import Secret, WeightedKey
from dheera.proxy.target import parse_base
from dheera.settings import Config, Mistral, OtherUpstream
from dheera.trust import Agents

MISTRAL = "mistral"
CONSOLE = "https://console.mistral.ai/api-keys"
_HANGS = "It, or something on the way, is silent: look for a firewall or a proxy that drops what is sent."
_PATH = "/v1/models"


@frozen(kw_only=True)
class Asked:
    """
    One key of one upstream, as it is to be tried.

    :param table: of the configuration, where the upstream is described.
    :param title: of its findings.
    :param number: of the key; the first has the clock compared, too.
    """

    table: str
    title: str
    base: str
    key: Secret | None
    number: int = 0

    @property
    def is_mistral(self) -> bool:
        """
        Whether it is Mistral's own, or stands in its place.
        """
        return self.table == MISTRAL

    @property
    def url(self) -> str:
        """
        The list of models, which costs nothing.
        """
        base = parse_base(self.base)
        return f"{base.origin.scheme}://{base.origin.authority.decode()}{base.prefix.decode()}{_PATH}"


def upstream_checks(reactor: Any, config: Config, seconds: float) -> Iterator[Check]:
    """
    The checks of all of them.

    :param seconds: that an answer may take.
    """
    agents = Agents(reactor, attrs.evolve(config.client_limits, connect_seconds=seconds, first_byte_seconds=seconds))
    tables: list[tuple[str, Mistral | OtherUpstream]] = [(MISTRAL, config.mistral)]
    tables += [(f"upstreams.{name}", each) for name, each in config.upstreams.items()]
    for table, upstream in tables:
        agent = agents.of(upstream.ca_file)
        for each in asked_of(table, upstream):
            yield Check(name=each.title, look=partial(look_at_upstream, reactor, agent, each), hangs=_HANGS)


def asked_of(table: str, upstream: Mistral | OtherUpstream) -> Iterator[Asked]:
    """
    Each key of it, or nobody's if it has none.
    """
    name = f"upstream {table.rpartition('.')[2]}"
    keys = upstream.api_keys
    if not keys:
        yield Asked(table=table, title=name, base=upstream.api_base, key=upstream.api_key)
    for number, each in enumerate(keys):
        title = f"{name}, {_called(each, number)}"
        yield Asked(table=table, title=title, base=upstream.api_base, key=each.key, number=number)


def _called(key: WeightedKey, number: int) -> str:
    return f"key {key.name or number + 1}"


async def look_at_upstream(reactor: Any, agent: IAgent, asked: Asked) -> Sequence[Finding]:
    """
    Ask for the models with that key. Without one Mistral is not asked, since no call goes there.
    """
    if asked.key is None and asked.is_mistral:
        mend = f"Make one at {CONSOLE}, and set MISTRAL_API_KEY."
        return [Finding.fail(asked.title, "there is no key, so each call is answered 503", mend)]
    began, sent = reactor.seconds(), now()
    try:
        reply = await ask(agent, asked.url, asked.key)
    except Refusal as error:
        return [unreached(asked, error)]
    seconds = reactor.seconds() - began
    found = [judged(asked, reply, seconds)]
    if asked.number == 0 and (there := _date(reply)):
        found.append(compared(asked.title, there, sent, seconds, resolution=1.0))
    return found


def unreached(asked: Asked, error: Refusal) -> Finding:
    """
    What it means that there was no answer.
    """
    said = error.message.rstrip(".")
    if "certificate has expired" in said or "certificate is not yet valid" in said:
        mend = "Let it be renewed, unless it is the clock of this machine that is wrong."
    elif "certificate is not trusted" in said:
        mend = f"If an authority of your own signed it, name its PEM file: [{asked.table}] ca_file."
    elif "certificate" in said:
        mend = f"Write the name that is in the certificate: [{asked.table}] api_base."
    else:
        mend = f"Look at [{asked.table}] api_base, name server and firewall; no proxy of the environment is used."
    return Finding.fail(asked.title, said, mend)


def judged(asked: Asked, reply: Reply, seconds: float) -> Finding:
    """
    What its answer means.
    """
    status = reply.status
    if reply.is_ok:
        knows = "" if asked.key is None else ", and knows the key"
        return Finding.ok(asked.title, f"answers in {seconds:.2f} s{knows}")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        meaning = _BROKEN_MISTRAL if asked.is_mistral else _BROKEN
    elif HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        meaning = _ELSEWHERE
    elif status == HTTPStatus.UNAUTHORIZED and asked.key is None:
        meaning = _NO_KEY
    else:
        own = _OF_MISTRAL if asked.is_mistral else _OF_OTHERS
        meaning = own.get(status) or _MEANINGS.get(status) or _UNKNOWN
    state, words, mend = meaning
    return Finding(
        state=state,
        name=asked.title,
        found=f"it answers {status}: {words}",
        mend=mend.format(table=asked.table),
    )


_Meaning: TypeAlias = tuple[State, str, str]

_NO_KEY: _Meaning = ("fail", "it wants a key", "Set [{table}] api_key.")
_BROKEN: _Meaning = ("fail", "something is wrong there", "Look at its own log.")
_BROKEN_MISTRAL: _Meaning = ("fail", "something is wrong there", "Wait, and look at https://status.mistral.ai.")
_ELSEWHERE: _Meaning = (
    "fail",
    "it points elsewhere",
    "Write that address itself: [{table}] api_base. Redirects are not followed.",
)
_UNKNOWN: _Meaning = ("warn", "which says nothing of the key", "Is that the Mistral API? See [{table}] api_base.")
_BASE = "Look at [{table}] api_base: it is what stands before /v1."
_NO_MODELS = f"there is no {_PATH}"
_REPLACED = "and put it in place of this one: [{table}] api_key or api_keys"
_MEANINGS: Mapping[int, _Meaning] = {
    HTTPStatus.FORBIDDEN: (
        "fail",
        "this key may not list the models",
        "Look there what it may do, and from which addresses.",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        "warn",
        "this key is at its limit",
        "Calls with it are refused meanwhile; have the limit raised there, or use several keys: [{table}] api_keys.",
    ),
}
_OF_MISTRAL: Mapping[int, _Meaning] = {
    HTTPStatus.UNAUTHORIZED: (
        "fail",
        "it does not know this key",
        f"Make a new one at {CONSOLE}, {_REPLACED}, or MISTRAL_API_KEY.",
    ),
    HTTPStatus.NOT_FOUND: ("fail", _NO_MODELS, _BASE),
}
_OF_OTHERS: Mapping[int, _Meaning] = {
    HTTPStatus.UNAUTHORIZED: ("fail", "it does not know this key", f"Have a new one made there, {_REPLACED}."),
    # Servers of one model may well have no list of them.
    HTTPStatus.NOT_FOUND: ("warn", _NO_MODELS, _BASE),
}


def _date(reply: Reply) -> datetime | None:
    try:
        moment = parsedate_to_datetime(reply.fields.get("date", ""))
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment

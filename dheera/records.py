"""
What one exchange was: the value that the spool keeps, the ledger counts and sinks are sent.

It is a JSON document, so it is a msgspec struct. Its names are public: they are what the sinks `stdout`, `file` and
`webhook` write. No credential, and no digest of one, is ever in it. Imports no Twisted and does no I/O.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from dheera.usage import Usage

Outcome: TypeAlias = Literal["complete", "client_left", "upstream_cut", "refused", "interrupted"]
"""
How it ended: upstream's answer went to the client as a whole; the client went before that; upstream broke off, or gave
no usable answer; dheera refused; dheera died before the end.
"""


MISTRAL = "mistral"
"""
The name of the upstream that is Mistral's own.
"""


class Content(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    A body, as far as it may be shown: redacted, bounded, without binary parts.

    :param body: a JSON value, or a text; ``None`` if nothing of it can be shown.
    :param size_bytes: of the whole body as it passed.
    :param sha256: of the whole body, where it is not shown as it was.
    :param truncated: more came than is shown.
    """

    body: Any = None
    size_bytes: int = 0
    sha256: str | None = None
    truncated: bool = False


class Try(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    A time that a call was sent to upstream in vain, and then sent again, or would have been if its client had not left.

    :param key: the name of upstream's key; ``None`` where there is only one.
    :param status: that upstream answered; ``None`` if it did not.
    :param error: a class of `dheera.errors`, if it did not.
    :param duration_us: microseconds that it took.
    :param waited_us: microseconds from then until the call was sent again.
    """

    key: str | None = None
    status: int | None = None
    error: str | None = None
    duration_us: int = 0
    waited_us: int = 0


class Begun(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="line", tag="begin"):
    """
    An exchange that may reach upstream: written before its first byte goes there.

    :param call_id: UUIDv7, unique for ever; what the client sees as ``x-dheera-call-id``.
    :param started_at: aware, in UTC.
    :param node: which dheera it was.
    :param path: of upstream, as the client spelled it, without the query.
    :param endpoint: a short name for the kind of call, of a bounded number: ``chat/completions``, ``files``, ``other``.
    :param model: that is asked for, as far as is known.
    :param key_id: of the virtual key; ``None`` for the master key and in open mode.
    :param key_alias: a name for who calls; never a secret.
    :param end_user: whom the caller says it is for.
    :param client: the address that the call came from.
    :param request_bytes: of the request's body, as announced; ``None`` if that is not known.
    :param held_nano_usd: what is held of the budgets that it concerns; ``None`` if there are none.
    :param lease: the hold of many calls that it is part of (`holding.Claim`); ``None`` if it has one of its own.
    :param upstream: the name of the upstream that it goes to.
    :param priced: its cost is what the price list says; else it is free.
    """

    call_id: str
    started_at: datetime
    node: str
    method: str
    path: str
    endpoint: str
    model: str | None = None
    key_id: str | None = None
    key_alias: str
    user_id: str | None = None
    team_id: str | None = None
    team_alias: str | None = None
    end_user: str | None = None
    tags: list[str] = []
    client: str = ""
    user_agent: str = ""
    request_bytes: int | None = None
    held_nano_usd: int | None = None
    lease: str | None = None
    upstream: str = MISTRAL
    priced: bool = True


class Record(Begun, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="line", tag="end"):
    """
    An exchange that is over.

    :param outcome: who ended it.
    :param status: that the client was answered; ``None`` if it got none.
    :param error: a class of `dheera.errors`, or what upstream calls it; ``None`` if all went well.
    :param message: our own words about it.
    :param attempts: how often it was sent to upstream; 0 if it never was.
    :param tries: all of these but the last; that one too, if its client left while it waited to be sent again.
    :param upstream_key: the name of upstream's key with which it was sent the last time; ``None`` where there is only
        one.
    :param duration_us: microseconds from the request's head to the end.
    :param first_byte_us: microseconds until the head of upstream's answer.
    :param overhead_us: of the time until then, what dheera itself took.
    :param longest_gap_us: the longest silence between two pieces of the answer.
    :param response_bytes: of the answer's body.
    :param is_stream: the answer came in events.
    :param events: of a stream, how many.
    :param answered_model: the model that the answer names, if that is another one.
    :param estimated: upstream did not say what was used: the rule in docs/money.md did.
    :param cost_nano_usd: whole nano-dollars; ``None`` if there is no price. 0 is free.
    :param price_list: which list made the cost.
    :param unpriced: what was used beside, and has no price: names of connectors.
    :param once: what may be billed once only, however often it is fetched: the output of a batch.
    :param upstream_id: upstream's own id of the call (``mistral-correlation-id``).
    :param parameters: settings of the call that hold no content.
    """

    outcome: Outcome
    status: int | None = None
    error: str | None = None
    message: str | None = None
    attempts: int = 1
    tries: list[Try] = []
    upstream_key: str | None = None
    duration_us: int = 0
    first_byte_us: int | None = None
    overhead_us: int | None = None
    longest_gap_us: int | None = None
    response_bytes: int = 0
    is_stream: bool = False
    events: int = 0
    answered_model: str | None = None
    usage: Usage | None = None
    estimated: bool = False
    cost_nano_usd: int | None = None
    price_list: str | None = None
    unpriced: list[str] = []
    once: str | None = None
    upstream_id: str | None = None
    parameters: dict[str, int | float | bool] = {}
    request: Content | None = None
    response: Content | None = None

    @property
    def failed(self) -> bool:
        """
        Whether it is worth an operator's look: it did not end as a whole, or with an error.
        """
        return self.outcome != "complete" or self.error is not None or (self.status or 500) >= 400  # noqa: PLR2004


class Alert(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="line", tag="alert"):
    """
    Something that a person should know now.

    :param id: UUIDv7; the same alert is sent again only under the same id.
    :param about: ``budget``, ``upstream``, ``sink``, ``spool``.
    :param subject: whose budget, which sink: ``key ada``, ``team search``, ``sink files``.
    :param text: a sentence.
    :param level: ``warning`` or ``critical``; ``resolved`` when it is over.
    """

    id: str
    at: datetime
    node: str
    about: Literal["budget", "upstream", "sink", "spool"]
    subject: str
    text: str
    level: Literal["warning", "critical", "resolved"] = "warning"


Line: TypeAlias = Begun | Record | Alert
"""
What a line of the spool is, told apart by its field ``line``.
"""


def to_line(line: Line) -> bytes:
    """
    *line* as JSON, without a line break.
    """
    return _encoder.encode(line)


def parsed(line: bytes) -> Line:
    """
    What *line* says.

    :raises msgspec.MsgspecError: it is not one of ours, or damaged.
    """
    return _decoder.decode(line)


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)

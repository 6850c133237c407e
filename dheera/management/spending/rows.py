"""
Lines of the ledger under the names that users of LiteLLM's spend logs know.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from dheera.bookkeeping import LedgerLine
from dheera.management.routes import Office
from dheera.management.shapes import Amount
from dheera.management.spending.parties import NOBODY, Parties
from dheera.money import Usd
from dheera.usage import Usage

Status: TypeAlias = Literal["success", "failure"]


class SpendMetadata(Struct, kw_only=True, frozen=True):
    """
    What is known of a call beside what LiteLLM has a name for.
    """

    key_id: Annotated[str, Meta(description="Stays the same when the key is regenerated.")] | None
    key_alias: Annotated[str, Meta(description="What the caller was called then; never a secret.")]
    outcome: Annotated[
        str, Meta(description="Who ended it: `complete`, `client_left`, `upstream_cut`, `refused`, `interrupted`.")
    ]
    status_code: Annotated[int, Meta(description="That the client was answered.")] | None
    error: str | None
    endpoint: str
    estimated: Annotated[bool, Meta(description="Upstream did not say what was used.")]
    price_list: Annotated[str, Meta(description="Which list made `spend`.")] | None
    usage: Usage
    upstream_id: Annotated[str, Meta(description="Upstream's own id of the call.")] | None
    node: Annotated[str, Meta(description="Which dheera it was.")]


class SpendRow(Struct, kw_only=True, frozen=True):
    """
    One call.
    """

    request_id: Annotated[str, Meta(description="What the client saw as `x-dheera-call-id`.")]
    call_type: Literal["pass_through_endpoint"] = "pass_through_endpoint"
    custom_llm_provider: Literal["mistral"] = "mistral"
    api_key: Annotated[
        str, Meta(description="SHA-256 of the key, as it is now; empty for the master key, and without keys.")
    ]
    spend: Annotated[
        Amount | None, Meta(description="US dollars; null if there is no price, 0 if it was free, or refused.")
    ]
    total_tokens: int
    prompt_tokens: int
    completion_tokens: int
    start_time: datetime = msgspec.field(name="startTime")
    end_time: datetime = msgspec.field(name="endTime")
    completion_start_time: (
        Annotated[datetime, Meta(description="When the first byte of upstream's answer came.")] | None
    ) = msgspec.field(name="completionStartTime")
    request_duration_ms: int
    model: Annotated[str, Meta(description="Empty if the call named none.")]
    user: Annotated[str, Meta(description="Empty if the key has none.")]
    team_id: str | None
    end_user: str | None
    request_tags: list[str]
    requester_ip_address: str
    status: Status
    metadata: SpendMetadata


async def rows(office: Office, lines: Sequence[LedgerLine]) -> list[SpendRow]:
    """
    *lines* as they are shown.
    """
    parties = Parties(office)
    return [_row(line, await parties.token(line.key_id)) for line in lines]


def _row(line: LedgerLine, token: str) -> SpendRow:
    return SpendRow(
        request_id=line.call_id,
        api_key=token,
        spend=Usd() if line.cost is None and line.outcome == "refused" else line.cost,
        total_tokens=line.usage.total_tokens,
        prompt_tokens=line.usage.prompt_tokens,
        completion_tokens=line.usage.completion_tokens,
        start_time=line.started_at,
        end_time=line.started_at + timedelta(microseconds=line.duration_us),
        completion_start_time=(
            None if line.first_byte_us is None else line.started_at + timedelta(microseconds=line.first_byte_us)
        ),
        request_duration_ms=line.duration_us // 1000,
        model=line.model or NOBODY,
        user=line.user_id or NOBODY,
        team_id=line.team_id,
        end_user=line.end_user,
        request_tags=line.tags,
        requester_ip_address=line.client,
        status="failure" if line.failed else "success",
        metadata=SpendMetadata(
            key_id=line.key_id,
            key_alias=line.key_alias,
            outcome=line.outcome,
            status_code=line.status,
            error=line.error,
            endpoint=line.endpoint,
            estimated=line.estimated,
            price_list=line.price_list,
            usage=line.usage,
            upstream_id=line.upstream_id,
            node=line.node,
        ),
    )

"""
``/key/import``: keys from LiteLLM's table, where they are kept as here: by their SHA-256.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.call_ids import new_call_id
from dheera.entities import Budget, Entity, Key, Team, kind_of
from dheera.errors import BadRequest, NotFound, Refusal, StoreAway
from dheera.keys import DIGEST_PATTERN, Digest, masked
from dheera.management.acts import Decision, absent, in_use, line, settle
from dheera.management.keys.changes import adding, check_alias
from dheera.management.keys.routes import over_us, routed
from dheera.management.keys.rows import NAMES
from dheera.management.keys.shapes import KeyFields
from dheera.management.reading import fitted
from dheera.management.routes import BODY_LIMIT_BYTES, AnyRoute, Asked, Nothing, Office, Route
from dheera.management.shapes import WANTED, Document, Instant, Name, utc
from dheera.routes import KEY_TYPES

ROWS_AT_ONCE = 1000

_MASKED = re.compile(r"sk-\.\.\.\S{0,4}")


class ImportKeys(Struct, kw_only=True, frozen=True):
    """
    Rows of LiteLLM's `LiteLLM_VerificationToken`.
    """

    keys: Annotated[
        list[Document],
        Meta(
            min_length=1,
            max_length=ROWS_AT_ONCE,
            description="Columns by their names: `token` is required, all others that `/key/generate` knows are kept.",
        ),
    ]


class TokenRow(KeyFields, kw_only=True, frozen=True):
    """
    One row: what a key can be given, and what LiteLLM had added.
    """

    token: Annotated[
        str,
        Meta(pattern=rf"^{DIGEST_PATTERN}(?![\s\S])", extra={WANTED: "a SHA-256 in lower-case hexadecimal"}),
    ]
    key_name: Name | UnsetType | None = UNSET
    expires: Instant | UnsetType | None = UNSET
    created_at: Instant | UnsetType | None = UNSET
    created_by: Name | UnsetType | None = UNSET


class ImportedRow(Struct, kw_only=True, frozen=True):
    """
    What became of one row.
    """

    row: Annotated[int, Meta(description="Its place among those sent, from 0.")]
    imported: bool
    key_id: str | None
    key_alias: str | None
    failed_reason: str | None


class ImportedKeys(Struct, kw_only=True, frozen=True):
    """
    What became of each row.
    """

    total_requested: int
    imported: int
    failed: int
    rows: list[ImportedRow]


async def import_keys(office: Office, asked: Asked[ImportKeys, Nothing]) -> ImportedKeys:
    """
    Keep keys that were made elsewhere. Each row is by itself; of rows that come again each fails.
    """
    rows: list[ImportedRow] = []
    there: dict[tuple[str, str], bool] = {}
    away: StoreAway | None = None
    for place, given in enumerate(asked.body.keys):
        alias = given.get("key_alias")
        key, reason = None, None if away is None else away.message
        if reason is None:
            try:
                key = await _imported(office, asked, place, given, there)
            except StoreAway as refusal:
                if not any(row.imported for row in rows):
                    raise
                away, reason = refusal, refusal.message
            except Refusal as refusal:
                reason = refusal.message
        rows.append(
            ImportedRow(
                row=place,
                imported=key is not None,
                key_id=None if key is None else key.id,
                key_alias=key.alias if key is not None else alias if isinstance(alias, str) else None,
                failed_reason=reason,
            )
        )
    imported = sum(row.imported for row in rows)
    return ImportedKeys(total_requested=len(rows), imported=imported, failed=len(rows) - imported, rows=rows)


async def _imported(
    office: Office,
    asked: Asked[ImportKeys, Nothing],
    place: int,
    given: dict[str, object],
    there: dict[tuple[str, str], bool],
) -> Key:
    row = fitted(given, TokenRow, ("body", "keys", place), strict_fields=False)
    check_alias(row)
    if Digest(row.token) in office.reserved:
        raise in_use("token")
    routes = _routes(row)
    await _check_owners(office, row, there)
    name = row.key_name or ""
    now = office.now()
    key = Key(
        id=new_call_id(),
        digest=row.token,
        name=name if _MASKED.fullmatch(name) else masked(""),
        created_at=utc(row.created_at) if row.created_at else now,
        updated_at=now,
        created_by=row.created_by or asked.actor.alias,
        updated_by=asked.actor.alias,
        expires_at=utc(row.expires) if row.expires else None,
        **NAMES.changes(row, {}) | routes,
    )

    async def decide() -> Decision[Key]:
        lines = [line(office, asked, "key.import", None, key)]
        return Decision(outcome=key, writes=await adding(office, key), lines=lines)

    return await settle(office, decide, called={"alias": "key_alias", "digest": "token"})


def _routes(row: TokenRow) -> dict[str, Any]:
    """
    The routes of a key that is imported.

    :raises BadRequest: they give rights over our own API. Where the row comes from, that was decided by the role of
        the key's owner; here it would be by the routes alone.
    """
    given = row.allowed_routes if isinstance(row.allowed_routes, list) else KEY_TYPES.get(row.key_type or "", ())
    if over_us(given) is not None:
        raise BadRequest(
            "With management_routes or info_routes this key could manage or read all keys here, whatever its owner was "
            "allowed before. Make a new key of type management or read_only for whoever may.",
            param="allowed_routes",
        )
    return routed(row, None)


async def _check_owners(office: Office, row: TokenRow, there: dict[tuple[str, str], bool]) -> None:
    """
    Refuse a key whose team or budget is not here: what they limit would be limited no more.

    :param there: what is known of them from rows before.
    """
    owners: tuple[tuple[type[Entity], str, str | UnsetType | None], ...] = (
        (Team, "team_id", row.team_id),
        (Budget, "budget_id", row.budget_id),
    )
    for sort, param, name in owners:
        if not isinstance(name, str):
            continue
        if (param, name) not in there:
            there[param, name] = await office.store.get(sort, name) is not None
        if not there[param, name]:
            raise NotFound(
                f"{absent(sort, name, param=param).message} Make it first, with its limits: POST "
                f"/{kind_of(sort)}/new with this {param}.",
                param=param,
            )


ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/key/import",
        summary="Import keys from LiteLLM",
        description="Takes rows of LiteLLM's table of keys, so that developers go on with the keys that they have. No "
        "key itself is needed. Teams and budgets that a row names must exist, users need not. A key that could manage, "
        "by `management_routes` or `info_routes`, is not imported: make it anew.",
        body=ImportKeys,
        query=Nothing,
        answer=ImportedKeys,
        body_limit_bytes=4 * BODY_LIMIT_BYTES,
        verb=import_keys,
    ),
)

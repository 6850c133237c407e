"""
Entities of every kind, and what is asked of a list of them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dheera.boundaries import Query
from dheera.entities import AnyEntity, Key
from dheera.money import LARGEST, NANO, Usd

Drawn = TypeVar("Drawn")

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
"""
What the API lets through: any Unicode but lone surrogates and NUL.
"""
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - it asks so
AMOUNTS = st.builds(Usd, st.integers(-LARGEST * NANO, LARGEST * NANO))
_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_JSON_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
DOCUMENTS = st.dictionaries(
    _JSON_TEXTS,
    st.recursive(
        st.none() | st.booleans() | _NUMBERS | _JSON_TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_JSON_TEXTS, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)

_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    NoneType: st.none(),
    str: TEXTS,
    int: st.integers(-(2**63), 2**63 - 1),
    bool: st.booleans(),
    Usd: AMOUNTS,
    datetime: TIMES,
}


def drawn(strategy: st.SearchStrategy[Drawn], count: int) -> list[Drawn]:
    """
    Values of *strategy*, for tests that wait, which hypothesis cannot run itself.
    """
    found: list[Drawn] = []

    @settings(max_examples=count, database=None, phases=[Phase.generate], deadline=None)
    @given(strategy)
    def keep(value: Drawn) -> None:
        found.append(value)

    keep()
    return found


def entities(sort: type[AnyEntity]) -> st.SearchStrategy[AnyEntity]:
    """
    Entities with any value in each field; new ones, that is: of version 0 and not deleted.
    """
    fields = {each.name: _values(each.type) for each in msgspec.structs.fields(sort)}
    fields["version"] = st.just(0)
    if issubclass(sort, Key):
        fields |= {"deleted_at": st.none(), "deleted_by": st.none()}
    return st.builds(sort, **fields)


def distinct(entity: AnyEntity, number: int) -> AnyEntity:
    """
    *entity* with names that no other number gives.
    """
    changed: dict[str, Any] = {"id": f"{number}-{entity.id}"}
    if isinstance(entity, Key):
        changed["digest"] = sha256(b"%d" % number).hexdigest()
        changed["alias"] = None if entity.alias is None else f"{number}-{entity.alias}"
    return msgspec.structs.replace(entity, **changed)


ALIASES = ["a", "A", "ab", "aB", "b_c", "b%c", "b!c", "B\\C", "é", "É", "Ωa", "\U0001f511"]


def crowded_keys(hour: Callable[[int], datetime]) -> st.SearchStrategy[Key]:
    """
    Keys that have much in common.

    :param hour: makes one of a few times.
    """
    few = st.none() | st.sampled_from(["a", "b", "A"])
    times = st.integers(0, 3).map(hour)
    return st.builds(
        Key,
        id=st.text("abAB09é", min_size=1, max_size=2),
        created_at=times,
        updated_at=times,
        digest=st.just(""),
        name=st.sampled_from(ALIASES),
        user_id=few,
        team_id=few,
        organization_id=few,
        blocked=st.booleans(),
        expires_at=st.none() | times,
        spend=st.integers(0, 3).map(Usd),
    )


def queries(hour: Callable[[int], datetime]) -> st.SearchStrategy[Query]:
    """
    What is asked of `crowded_keys`.
    """
    names = st.sampled_from(["a", "b", "A", "c"])
    equal = st.fixed_dictionaries(
        {},
        optional={
            "user_id": st.none() | names,
            "team_id": st.none() | names,
            "blocked": st.booleans(),
            "expires_at": st.none() | st.integers(0, 3).map(hour),
            "spend": st.integers(0, 3).map(Usd),
        },
    )
    parts = st.sampled_from(["", "a", "B", "%", "_", "!", "\\", "é", "É", "Ω", "\U0001f511"])
    sorts = ["id", "created_at", "updated_at", "name", "alias", "user_id", "expires_at", "spend", "blocked", "version"]
    return st.builds(
        Query,
        equal=equal,
        contains=st.fixed_dictionaries({}, optional={"name": parts, "user_id": parts}),
        sort=st.sampled_from(sorts),
        descending=st.booleans(),
        offset=st.integers(0, 5),
        limit=st.integers(0, 10),
        deleted=st.booleans(),
    )


def _values(annotation: Any) -> st.SearchStrategy[Any]:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if isinstance(annotation, UnionType) or type(None) in get_args(annotation):
        return st.one_of([_values(each) for each in get_args(annotation)])
    if get_origin(annotation) is list:
        return st.lists(_values(get_args(annotation)[0]), max_size=3)
    return DOCUMENTS  # dict[str, Any]

"""
Pages of what no query of the store finds: entities that are named one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dheera.boundaries import Query
from dheera.entities import AnyEntity
from dheera.management.routes import Office


async def named(
    office: Office, sort: type[AnyEntity], ids: Iterable[str], query: Query
) -> tuple[Sequence[AnyEntity], int]:
    """
    What the store would find for *query* if there were none but the entities with these *ids*, which are not many.
    """
    found = [await office.store.get(sort, each) for each in dict.fromkeys(ids)]
    wanted = [each for each in found if each is not None and _is_wanted(each, query)]
    wanted.sort(key=lambda each: each.id)
    having = [each for each in wanted if getattr(each, query.sort) is not None]
    having.sort(key=lambda each: getattr(each, query.sort), reverse=query.descending)
    ordered = having + [each for each in wanted if getattr(each, query.sort) is None]
    return ordered[query.offset : query.offset + query.limit], len(ordered)


def _is_wanted(entity: AnyEntity, query: Query) -> bool:
    return all(getattr(entity, name) == value for name, value in query.equal.items()) and all(
        text.lower() in (getattr(entity, name) or "").lower() for name, text in query.contains.items()
    )

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dheera.boundaries import Query, Retire
from dheera.stores.database import Step
from dheera.stores.postgres.transaction import statement
from dheera.stores.sql import _LOOK_UP, finding, writing
from dheera.stores.tables import AUDIT, KEYS
from tests.postgres import OnPostgres
from tests.stores.contract import NOON, hour, opening

FILLING = (
    """
    insert into users select 'u' || n, 0, now() - n * interval '1 second', now(), null, null, null, 0, '{}'
    from generate_series(1, 1000) n
    """,
    """
    insert into teams select 't' || n, 0, now() - n * interval '1 second', now(), null, null, false, 0, '{}'
    from generate_series(1, 1000) n
    """,
    """
    insert into budgets select 'b' || n, 0, now() - n * interval '1 second', now(), 0, '{}'
    from generate_series(1, 1000) n
    """,
    """
    insert into keys select 'k' || n, 0, now() - n * interval '1 second', now(), encode(sha256(n::text::bytea), 'hex'),
        'sk-...', 'alias ' || n, 'u' || n % 1000, 't' || n % 1000, null, 'b' || n % 1000,
        'default', false, null,
        case when n % 50 = 0 then now() end, null, 0, '{}'
    from generate_series(1, 100000) n
    """,
    "insert into digests select digest, id, null from keys where deleted_at is null",
    """
    insert into audit select 'l' || n, now() - n * interval '1 second', 'actor ' || n % 100, 'key.block', 'key',
        'k' || n % 1000, '{}'
    from generate_series(1, 50000) n
    """,
    "vacuum analyze",
)


class PlanTests(OnPostgres):
    async def test_indexes_serve(self) -> None:
        """
        With 100,000 keys nothing that is asked often reads a whole table.
        """
        self.database_ = await self.opened()
        self.server.execute(*FILLING, name=self.name)
        look_up = Step(_LOOK_UP, {"digest": opening("k"), "at": NOON})
        expected = {"digests_pkey", "keys_pkey", "teams_pkey", "users_pkey", "budgets_pkey"}
        self.assertEqual(expected, await self._indexes(look_up))
        for index, equal in (
            ("keys_living", {}),
            ("keys_user", {"user_id": "u1"}),
            ("keys_team", {"team_id": "t1"}),
            ("keys_alias", {"alias": "alias 1"}),
            ("keys_digest", {"digest": opening("k")}),
            ("keys_pkey", {"id": "k1"}),
        ):
            for step in finding(KEYS, Query(equal=equal)):
                self.assertEqual({index}, await self._indexes(step), step.sql)
        for step in finding(KEYS, Query(deleted=True)):
            self.assertEqual({"keys_deleted"}, await self._indexes(step), step.sql)
        for index, equal in (
            ("audit_at", {}),
            ("audit_subject", {"kind": "key", "subject": "k1"}),
            ("audit_actor", {"actor": "actor 1"}),
        ):
            page, _ = finding(AUDIT, Query(equal=equal, sort="at"))
            self.assertEqual({index}, await self._indexes(page), page.sql)
        for field, value, index in (
            ("id", "k1", "keys_pkey"),
            ("user_id", "u1", "keys_user"),
            ("team_id", "t1", "keys_team"),
        ):
            for each in writing(Retire(field=field, value=value, at=hour(1), by="me")):
                step = statement(each)
                self.assertIn(index, await self._indexes(step), step.sql)

    async def _indexes(self, step: Step) -> set[str]:
        """
        The indexes that serve *step*, which must not read a table from one end to the other.
        """
        [[[[plan]]]] = await self.database_.run([Step(f"explain (format json) {step.sql}", step.parameters)])
        nodes = list(walked(plan["Plan"]))
        self.assertNotIn("Seq Scan", [node["Node Type"] for node in nodes], step.sql)
        return {node["Index Name"] for node in nodes if "Index Name" in node}


def walked(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """
    *node* of a plan, and all below it.
    """
    yield node
    for each in node.get("Plans", ()):
        yield from walked(each)

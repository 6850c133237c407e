from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Add, Put, Query, Retire, Write
from dheera.stores.database import Step
from dheera.stores.sql import finding, looking_up, writing
from dheera.stores.sqlite.file import SqliteFile
from dheera.stores.sqlite.migration import connect
from dheera.stores.tables import AUDIT, BUDGETS, CUSTOMERS, KEYS, TEAMS, USERS
from tests.stores.contract import NOON, a_key, hour, opening


class PlanTests(SynchronousTestCase):
    """
    On 100,000 keys SQLite uses the indexes; that is how it stays fast, whatever the machine.
    """

    FILL = """
        insert into keys (
            id, version, created_at, updated_at, digest, name, alias, user_id, team_id, key_type, blocked,
            spend, document
        )
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
        select printf('%06d', i), 0, printf('2026-01-01T%02d:%02d:%02d.000000Z', i / 3600, i / 60 % 60, i % 60),
            '2026-01-01', printf('%064d', i), 'sk-...last', printf('alias%d', i), printf('u%d', i % 1000),
            printf('t%d', i % 100), 'default', 0, 0, '{}' from n
    """

    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "a.sqlite"
        file = SqliteFile(path)
        file.open()
        fill = [Step(self.FILL), Step("insert into digests (digest, key_id) select digest, id from keys")]
        file.write(fill, [], 1)
        self.assertEqual([[(100_000,)]], file.read([Step("select count(*) from digests")]))
        file.end_writing()
        file.end_reading()
        self.connection = connect(path)
        self.addCleanup(self.connection.close)

    def plan(self, step: Step) -> list[str]:
        """
        How SQLite would do *step*.
        """
        parameters = {name: str(value) for name, value in step.parameters.items()}
        return [detail for *_, detail in self.connection.execute(f"explain query plan {step.sql}", parameters)]

    def steps(self, write: Write) -> list[Step]:
        """
        What does it.
        """
        return [step for step in writing(write) if isinstance(step, Step)]

    def assert_uses(self, expected: list[str], step: Step) -> None:
        """
        Assert that *step* goes by these indexes, and through no table as a whole.
        """
        plan = self.plan(step)
        self.assertEqual([], [each for each in plan if each.startswith("SCAN") and " USING " not in each], plan)
        used = [each.partition(" USING ")[2].partition("INDEX ")[2].split()[:1] for each in plan]
        for name in expected:
            self.assertIn([name], used, plan)

    def test_look_up(self) -> None:
        """
        A key is looked up by its digest, and all that belongs to it by its id.
        """
        step = looking_up(opening("k"), NOON)
        plan = self.plan(step)
        self.assertEqual("SEARCH digests USING PRIMARY KEY (digest=?)", plan[0])
        self.assert_uses(["sqlite_autoindex_keys_1", "sqlite_autoindex_teams_1", "sqlite_autoindex_users_1"], step)

    def test_lists(self) -> None:
        """
        Each list that people ask for, and its total, goes by an index, and the page needs no sorting.
        """
        for table, query, index in (
            (KEYS, Query(), "keys_living"),
            (KEYS, Query(deleted=True), "keys_deleted"),
            (KEYS, Query(equal={"user_id": "u1"}), "keys_user"),
            (KEYS, Query(equal={"team_id": "t1"}), "keys_team"),
            (KEYS, Query(equal={"organization_id": "o"}), "keys_organization"),
            (KEYS, Query(equal={"budget_id": "b"}), "keys_budget"),
            (USERS, Query(), "users_created"),
            (TEAMS, Query(), "teams_created"),
            (CUSTOMERS, Query(), "customers_created"),
            (BUDGETS, Query(), "budgets_created"),
            (AUDIT, Query(sort="at"), "audit_at"),
            (AUDIT, Query(sort="at", equal={"kind": "key", "subject": "k"}), "audit_subject"),
            (AUDIT, Query(sort="at", equal={"actor": "master"}), "audit_actor"),
        ):
            page, total = finding(table, query)
            self.assert_uses([index], page)
            self.assertEqual([], [each for each in self.plan(page) if "ORDER BY" in each])
            self.assert_uses([], total)

    def test_names(self) -> None:
        """
        A key is found by its alias or by its digest, which need no list.
        """
        for name, index in ("alias", "keys_alias"), ("digest", "keys_digest"), ("id", "sqlite_autoindex_keys_1"):
            for step in finding(KEYS, Query(equal={name: "x"})):
                self.assert_uses([index], step)

    def test_writes(self) -> None:
        """
        Nothing that is written looks through all keys: not for the alias, not for who is retired.
        """
        retirings = [
            (Retire(field="id", value="x", at=hour(1), by="me"), "sqlite_autoindex_keys_1"),
            (Retire(field="user_id", value="u1", at=hour(1), by="me"), "keys_user"),
            (Retire(field="team_id", value="t1", at=hour(1), by="me"), "keys_team"),
        ]
        for retiring, index in retirings:
            deleting, updating = self.steps(retiring)
            self.assert_uses(["digests_key", index] if "COVERING" not in self.plan(deleting)[0] else [index], deleting)
            self.assert_uses([index], updating)
        put: Write = Put(a_key())
        [updating] = self.steps(put)
        self.assert_uses(["sqlite_autoindex_keys_1"], updating)
        # A unique constraint is kept by its index, which is there:
        indexes = self.connection.execute(
            "select name from pragma_index_list('keys') where [unique] and partial"
        ).fetchall()
        self.assertEqual([("keys_alias",)], indexes)


class SecrecyTests(SynchronousTestCase):
    def test_steps_hide_their_parameters(self) -> None:
        """
        A step can be logged: its repr shows neither digest nor alias.
        """
        shown = repr(writing(Add(a_key(alias="alias-of-ours"))))
        self.assertNotIn(opening("k"), shown)
        self.assertNotIn("alias-of-ours", shown)

    def test_errors_hide_values(self) -> None:
        """
        What cannot be kept as JSON is refused without being shown.
        """
        error = self.assertRaises(NotImplementedError, writing, Add(a_key(metadata={"secret": object()})))
        self.assertNotIn("secret", str(error))

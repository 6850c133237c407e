"""
Two daemons on one database. The test of each sort of database subclasses `TwoNodes` (import this module, not the class,
or the class itself would be run).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar
from unittest import TestCase

from tests.process.bearers import MASTER_KEY, Bearer, master
from tests.process.daemon import ANY_PORT, Daemon
from tests.process.databases import Database


class TwoNodes(TestCase):
    """
    What is done on one is in force on the other. The promise is within a second; a test waits longer before it fails,
    but all the time the other is asked with the same key, which it remembers, and neither of them is started anew.
    """

    database: ClassVar[Database]
    here: ClassVar[Bearer]
    there: ClassVar[Daemon]

    @classmethod
    def setUpClass(cls) -> None:
        url = cls.enterClassContext(cls.database())
        said = {"DATABASE_URL": url, "DHEERA_AI_MASTER_KEY": MASTER_KEY}
        daemons = [Daemon("--demo", *ANY_PORT, said=said) for _ in range(2)]
        with ThreadPoolExecutor() as at_once:
            # Both find the database empty.
            here, cls.there = at_once.map(cls.enterClassContext, daemons)
        cls.here = master(here)

    def in_use_there(self, **fields: object) -> Bearer:
        """
        Somebody whose key was made here, and works there.
        """
        bearer = Bearer(self.there, self.here.issue(**fields))
        self.assertEqual("", bearer.chat().refusal)
        return bearer

    def test_start_at_once(self) -> None:
        """
        Two that start at once on an empty database both serve, from one and the same directory.
        """
        for each in self.here, master(self.there):
            expected = {"status": "ready", "db": "connected", "spool": "writable"}
            self.assertEqual(expected, each.look("/health/readiness"))
        self.here.do("/user/new", user_id="ada")
        self.assertEqual("ada", master(self.there).look("/user/info?user_id=ada")["user_id"])

    def test_make(self) -> None:
        """
        A key that is made on one works on the other at once, in both directions.
        """
        for giver, taker in (self.here.daemon, self.there), (self.there, self.here.daemon):
            self.assertEqual("", Bearer(taker, master(giver).issue()).chat().refusal)

    def test_block(self) -> None:
        """
        A key that is blocked on one is refused on the other, until it is unblocked.
        """
        bearer = self.in_use_there()
        self.here.do("/key/block", key=bearer.key)
        bearer.wait_for("auth_error")
        self.assertEqual(401, bearer.chat().status)
        self.here.do("/key/unblock", key=bearer.key)
        bearer.wait_for("")

    def test_delete(self) -> None:
        """
        A key that is deleted on one is unknown on the other.
        """
        bearer = self.in_use_there()
        self.here.do("/key/delete", keys=[bearer.key])
        bearer.wait_for("token_not_found_in_db")
        self.assertEqual(401, bearer.chat().status)

    def test_expire(self) -> None:
        """
        A key whose end is set on one comes to its end on the other, and goes on when it is prolonged.
        """
        bearer = self.in_use_there()
        self.here.do("/key/update", key=bearer.key, duration="1s")
        bearer.wait_for("expired_key")
        self.assertEqual(401, bearer.chat().status)
        self.here.do("/key/update", key=bearer.key, duration="1h")
        bearer.wait_for("")

    def test_narrow(self) -> None:
        """
        Models that are taken from a key on one are refused on the other; those that are left are not.
        """
        bearer = self.in_use_there()
        self.here.do("/key/update", key=bearer.key, models=["ministral-*"])
        bearer.wait_for("key_model_access_denied")
        self.assertEqual(403, bearer.chat().status)
        self.assertEqual("", bearer.chat("ministral-8b-latest").refusal)

    def test_regenerate(self) -> None:
        """
        A key that is regenerated on one is unknown on the other, where its successor works at once; the old one with a
        grace period goes on there.
        """
        bearer = self.in_use_there()
        second = Bearer(self.there, self.here.do("/key/regenerate", key=bearer.key)["key"])
        self.assertEqual("", second.chat().refusal)
        bearer.wait_for("token_not_found_in_db")
        third = Bearer(self.there, self.here.do("/key/regenerate", key=second.key, grace_period="1h")["key"])
        self.assertEqual(["", ""], [third.chat().refusal, second.chat().refusal])

    def test_team(self) -> None:
        """
        When a team is blocked on one, or its models are narrowed, each of its keys is refused on the other.
        """
        team = self.here.do("/team/new")["team_id"]
        bearers = [self.in_use_there(team_id=team) for _ in range(2)]
        self.here.do("/team/block", team_id=team)
        for each in bearers:
            each.wait_for("auth_error")
        self.here.do("/team/unblock", team_id=team)
        for each in bearers:
            each.wait_for("")
        self.here.do("/team/update", team_id=team, models=["ministral-*"])
        for each in bearers:
            each.wait_for("team_model_access_denied")
        self.assertEqual("", bearers[0].chat("ministral-8b-latest").refusal)

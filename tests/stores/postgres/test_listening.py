from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Change
from dheera.stores.database import Step
from dheera.stores.postgres.database import PostgresDatabase
from dheera.stores.postgres.echoes import LONGEST_PAYLOAD_BYTES, MOST_PAYLOADS, Echoes
from tests.postgres import OnPostgres


class ListeningTests(OnPostgres):
    async def test_by_hand(self) -> None:
        """
        What an operator tells is heard; what cannot be understood means that anything may have changed.
        """
        await self.opened()
        expected = []
        for payload, change in (
            ('{"kind": "key", "id": "k"}', Change("key", "k")),
            ('{"kind": "", "id": ""}', Change("", "")),
            ('{"kind": "what", "id": "k"}', Change("", "")),
            ('{"id": "k"}', Change("", "")),
            ("", Change("", "")),
            ("k\u00e9y", Change("", "")),
        ):
            self.query(f"notify dheera_changes, '{payload}'")
            expected.append(change)
        await self.eventually(lambda: len(self.told) >= len(expected), "all are heard")
        self.assertEqual(expected, self.told)

    async def test_own_are_told_once(self) -> None:
        """
        A process tells itself what it changed, and does not hear it again.
        """
        database = await self.opened()
        changes = [Change("key", str(number)) for number in range(10)]
        for change in changes:
            await database.run([Step("select 2")], changes=[change])
        self.query('notify dheera_changes, \'{"kind": "user", "id": "last"}\'')
        last = Change("user", "last")
        await self.eventually(lambda: last in self.told, "it is heard")
        self.assertEqual([*changes, last], self.told)

    async def test_many(self) -> None:
        """
        Changes too many, or too long, to be told one by one are told to others as "anything"; of itself a process is
        told each.
        """
        database = await self.opened()
        other = PostgresDatabase(self.reactor, self.server.url(self.name))
        heard: list[Change] = []
        other.watch(heard.append, lambda: None)
        await other.open()
        self.addCleanup(other.close)
        many = [Change("key", str(number)) for number in range(MOST_PAYLOADS + 1)]
        await database.run([Step("select 2")], changes=many)
        await database.run([Step("select 2")], changes=[Change("key", "\0" * LONGEST_PAYLOAD_BYTES)])
        await database.run([Step("select 2")], changes=[Change("key", "k"), Change("key", "k")])
        await self.eventually(lambda: Change("key", "k") in heard, "all are heard")
        self.assertEqual([Change("", ""), Change("", ""), Change("key", "k")], heard)
        self.assertEqual(many, self.told[: len(many)])


class EchoTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.echoes = Echoes()
        self.changes = [Change("key", "a"), Change("team", "b")]

    def test_own(self) -> None:
        """
        What this process has said is no news to it, once; to others it is.
        """
        _, payloads = self.echoes.expect(self.changes)
        self.assertEqual([None, None], [self.echoes.hear(each) for each in payloads])
        self.assertEqual(self.changes, [Echoes().hear(each) for each in payloads])
        self.assertEqual(self.changes, [self.echoes.hear(each) for each in payloads])

    def test_failed(self) -> None:
        """
        What is heard of a transaction after it is believed to have failed is news.
        """
        name, payloads = self.echoes.expect(self.changes)
        self.assertFalse(self.echoes.fail(name))
        self.assertEqual(self.changes, [self.echoes.hear(each) for each in payloads])

    def test_heard_too_early(self) -> None:
        """
        If something was heard of it before, then it is known that it was done.
        """
        for heard in 1, 2:
            name, payloads = self.echoes.expect(self.changes)
            for each in payloads[:heard]:
                self.echoes.hear(each)
            self.assertTrue(self.echoes.fail(name))

    def test_forgotten(self) -> None:
        """
        After the connection was lost nothing is waited for.
        """
        _, payloads = self.echoes.expect(self.changes)
        self.echoes.forget()
        self.assertEqual(self.changes, [self.echoes.hear(each) for each in payloads])

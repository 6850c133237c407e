from __future__ import annotations

import re
from itertools import count
from random import Random
from typing import Any

import msgspec
import psycopg2  # type: ignore[import-untyped]  # it has no types
from twisted.internet.defer import Deferred, gatherResults

from dheera.boundaries import Add, Spent
from dheera.holding import Allowance, Claim, Paid, Rated, Release, Turn
from dheera.money import Usd
from dheera.stores import Stores, stores_on
from dheera.stores.postgres.database import PostgresDatabase
from tests.postgres import OnPostgres, server
from tests.stores import allowances
from tests.stores.allowance_machine import run_machine
from tests.stores.allowances import KEY, NOON_US, PARALLEL, REQUESTS, SECOND_US, TEAM, TOKENS, share
from tests.stores.books import a_record
from tests.stores.contract import a_key
from tests.stores.postgres.test_transaction import BEAT

CLOCK = """
    create table hands (at_us bigint);
    insert into hands values (0);
    create or replace function dheera_clock() returns bigint language sql as 'select at_us from hands'
"""
HOLDS = """
    insert into holds select 'other-' || n, 'key/' || n, 'usd', '', '', 0, 5, 'other', {deadline_us}, n % 2 = 0, false
    from generate_series(1, 5000) n
"""
COUNTS = """
    insert into allowances select 'key/' || n, 'usd', '', '', 0, 0, 5, 0, 100, null, false
    from generate_series(1, 5000) n
"""
READ = "select cast(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) as integer) from pg_stat_xact_user_tables"


class PostgresAllowancesTests(allowances.AllowancesContract):
    def setUp(self) -> None:
        self.server = server()
        self.name = self.server.fresh()
        self.addCleanup(self.server.drop, self.name)
        self.hands: Any = None

    def new_stores(self) -> Stores:
        from twisted.internet import reactor

        return stores_on(PostgresDatabase(reactor, self.server.url(self.name)))

    async def set_clock(self, at_us: int) -> None:
        if self.hands is None:
            self.hands = psycopg2.connect(self.server.url(self.name))
            self.addCleanup(self.hands.close)
            self.hands.autocommit = True
            self.hands.cursor().execute(CLOCK)
        self.hands.cursor().execute("update hands set at_us = %s", (at_us,))

    async def break_it(self) -> None:
        self.server.stop()
        self.addCleanup(self.server.start)

    async def mend_it(self) -> None:
        self.server.start()

    async def test_machine(self) -> None:
        """
        Whatever happens, in whatever order, the counts are what a plain list of calls says.
        """
        await run_machine(self, examples=15, steps=30)


class NodesTests(OnPostgres):
    async def test_no_circles(self) -> None:
        """
        Nodes that claim, release, settle and bury others at the same time, each in an order of its own, never wait for
        each other in a circle; no cap is passed, and in the end nothing is held.
        """
        nodes = [stores_on(await self.opened(connections=2)) for _ in range(3)]
        await nodes[0].directory.apply([Add(a_key(f"{each}")) for each in range(5)], [])
        before = len(self.server.log)
        living = [self._live(node, Random(number)) for number, node in enumerate(nodes)]  # noqa: S311 - no secrets
        await gatherResults(living, consumeErrors=True)
        self.assertEqual([], re.findall("ERROR: .*", self.server.log[before:]))
        for used in await nodes[0].allowances.look([f"key/{each}" for each in range(5)]):
            self.assertEqual(0, used.held, used)
            self.assertLessEqual(used.used, 200)
        self.assertEqual([], self.query("select * from holds"))

    def _live(self, node: Stores, random: Random) -> Deferred[None]:
        return Deferred.fromCoroutine(self._calls(node, random, f"node {random.random()}"))

    async def _calls(self, node: Stores, random: Random, name: str) -> None:
        numbers = count()
        for _ in range(15):
            claims = [self._claim(f"{name} {next(numbers)}", random) for _ in range(4)]
            turned = await node.allowances.turn(Turn(owner=name, claims=claims, extends=True))
            unbegun = self._claim(f"{name} {next(numbers)}", random)
            await node.allowances.turn(Turn(owner=f"dead {name}", claims=[unbegun]))
            through = [each for each, verdict in zip(claims, turned.verdicts, strict=True) if verdict.refused is None]
            releases = [Release(call_id=each.call_id, usd=2) for each in through]
            random.shuffle(releases)
            doing: list[Deferred[Any]] = [node.allowances.turn(Turn(owner=name, releases=releases))]
            records = [
                a_record(each.call_id, key_id=each.shares[0].allowance.subject[4:], cost_nano_usd=2) for each in through
            ]
            random.shuffle(records)
            doing += [node.books.keep(records), node.allowances.sweep(), node.allowances.forget([f"dead {name}"])]
            await gatherResults(doing, consumeErrors=True)

    def _claim(self, call_id: str, random: Random) -> Claim:
        keys = random.sample(range(5), 3)
        kinds: list[Any] = ["usd", "requests", "parallel"]
        shares = [share(Allowance(subject=f"key/{key}", kind=kind), 3, cap=200) for key in keys for kind in kinds]
        return Claim(call_id=call_id, shares=shares)

    async def test_broken_off(self) -> None:
        """
        A turn whose connection breaks while it waits is done again, and has taken nothing twice.
        """
        stores = stores_on(await self.opened())
        turn = Turn(owner="me", claims=[Claim(call_id="a", shares=[share(), share(PARALLEL, 1)])])
        await stores.allowances.turn(msgspec.structs.replace(turn, claims=[Claim(call_id="b", shares=[share()])]))
        locking = psycopg2.connect(self.server.url(self.name))
        self.addCleanup(locking.close)
        with locking.cursor() as cursor:
            cursor.execute("select * from allowances for update")
        claiming = stores.allowances.turn(turn)
        waiting = "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'"
        await self.eventually(lambda: bool(self.query(waiting)), "the turn waits")
        locking.commit()
        for expected in (claiming, stores.allowances.turn(turn)):
            [verdict] = (await expected).verdicts
            self.assertEqual([60, 1], [each.taken for each in verdict.standings])

    async def test_broken_off_with_rates(self) -> None:
        """
        One that gives something of a rate back is done again without that, since the first may have been done.
        """
        stores = stores_on(await self.opened())
        [turned] = [await stores.allowances.turn(self._turn(Claim(call_id="a", shares=[share(TOKENS), share()])))]
        rates = [
            Rated(allowance=each, at_us=turned.at_us, change=change) for each, change in ((TOKENS, -10), (TOKENS, 1))
        ]
        locking = psycopg2.connect(self.server.url(self.name))
        self.addCleanup(locking.close)
        with locking.cursor() as cursor:
            cursor.execute("select * from allowances for update")
        releasing = stores.allowances.turn(self._turn(Release(call_id="a", usd=5, rates=rates)))
        waiting = "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'"
        await self.eventually(lambda: bool(self.query(waiting)), "the turn waits")
        locking.commit()
        await releasing
        found = {each.allowance: (each.used, each.held) for each in await stores.allowances.look(["key/k"])}
        self.assertEqual({KEY: (0, 5), TOKENS: (31, 0)}, found)

    def _turn(self, *calls: Claim | Release) -> Turn:
        claims = [each for each in calls if isinstance(each, Claim)]
        return Turn(owner="me", claims=claims, releases=[each for each in calls if isinstance(each, Release)])

    async def test_begun_while_spend_is_set(self) -> None:
        """
        A budget that is first claimed while what was spent is being set anew begins with that; and one whose first
        claim comes before it is set with the rest.
        """
        stores = stores_on(await self.opened())
        await stores.directory.apply([Add(a_key(spend=Usd(50)))], [])
        writing = psycopg2.connect(self.server.url(self.name))
        self.addCleanup(writing.close)
        with writing.cursor() as cursor:
            cursor.execute("update keys set spend = 7")
            cursor.execute("select dheera_reset(%s)", (msgspec.json.encode(["key/k", 7]).decode(),))
        claiming = stores.allowances.turn(self._turn(Claim(call_id="b", shares=[share()])))
        await self.eventually(self._waits, "the claim waits")
        writing.commit()
        self.assertEqual([37], [each.standings[0].taken for each in (await claiming).verdicts])
        with writing.cursor() as cursor:
            cursor.execute("select dheera_beginning()")
        setting = stores.directory.apply([Spent("key", "k", Usd(1))], [])
        await self.eventually(self._waits, "the directory waits")
        writing.commit()
        await setting
        [used] = await stores.allowances.look(["key/k"])
        self.assertEqual((1, 30), (used.used, used.held))

    async def test_begun_while_the_ledger_writes(self) -> None:
        """
        A budget that is first claimed while the ledger is writing what was spent of it begins with that.
        """
        stores = stores_on(await self.opened())
        await stores.directory.apply([Add(a_key())], [])
        paid = [Paid(call_id="a", usd=7, subjects=["key/k"], models=[], started_us=NOON_US)]
        writing = psycopg2.connect(self.server.url(self.name))
        self.addCleanup(writing.close)
        with writing.cursor() as cursor:
            cursor.execute("update keys set spend = spend + 7")
            cursor.execute("select dheera_settle(%s)", (msgspec.json.encode(paid).decode(),))
        claiming = stores.allowances.turn(Turn(owner="me", claims=[Claim(call_id="b", shares=[share()])]))
        await self.eventually(self._waits, "the claim waits")
        writing.commit()
        self.assertEqual([37], [each.standings[0].taken for each in (await claiming).verdicts])

    def _waits(self) -> bool:
        return bool(self.query("select 1 from pg_locks where locktype = 'advisory' and not granted"))


class StatementTests(OnPostgres):
    async def test_one_round_trip(self) -> None:
        """
        A turn is one round trip, and does not wait for the disk; what the ledger asks for is part of its transaction.
        """
        stores = stores_on(await self.opened())
        before = len(self.server.log)
        await stores.allowances.turn(Turn(owner="me", claims=[Claim(call_id="a", shares=[share()])]))
        [sent] = self._sent(before)
        self.assertRegex(sent, r"^set local synchronous_commit to off; select cast\(dheera_turn\(")
        before = len(self.server.log)
        await stores.books.keep([a_record("a", key_id="k")])
        first, *_, settled, last = self._sent(before)
        self.assertRegex(first, "^begin; ")
        self.assertRegex(settled, "dheera_settle")
        self.assertEqual("commit", last)

    def _sent(self, before: int) -> list[str]:
        sent = re.findall("LOG:  statement: (.*)", self.server.log[before:])
        return [each for each in sent if not each.startswith(BEAT)]

    async def test_what_no_text_may_hold(self) -> None:
        """
        A NUL in a name, which PostgreSQL cannot keep, spoils nothing for who claims in the same turn; other texts stay
        as they are.
        """
        stores = stores_on(await self.opened())
        names = ["customer/a\0b", "customer/a\\u0000b", "customer/'; drop table holds; --", "customer/%s:a\u2028\x1f"]
        claims = [
            Claim(call_id=name, shares=[share(Allowance(subject=name, kind="usd"))]) for name in [*names, names[0]]
        ]
        turned = await stores.allowances.turn(Turn(owner="me", claims=claims))
        self.assertEqual([30] * 5, [each.standings[0].taken for each in turned.verdicts])
        kept = [name.replace("\0", "\ufffd") for name in names]
        found = await stores.allowances.look(kept)
        self.assertEqual(sorted(kept), sorted(each.allowance.subject for each in found))

    async def test_reads_little(self) -> None:
        """
        However much there is, little of it is read, also with plans that were made when there was nothing, and that
        nobody has looked at since.
        """
        await self.opened()
        asking = psycopg2.connect(self.server.url(self.name))
        self.addCleanup(asking.close)
        now_us = self.query("select dheera_clock()")[0][0]
        with asking.cursor() as cursor:
            self._ask_all(cursor, "first", now_us)
            self.query(HOLDS.format(deadline_us=now_us + 3600 * SECOND_US))
            self.query(COUNTS)
            asking.commit()
            self._ask_all(cursor, "then", now_us)
            cursor.execute(READ)
            [[read]] = cursor.fetchall()
        self.assertLess(read, 1000)

    def _ask_all(self, cursor: Any, name: str, now_us: int) -> None:
        kinds = (KEY, TEAM, REQUESTS, TOKENS, PARALLEL)
        calls = [f"{name} {number}" for number in range(4)]
        claims = [Claim(call_id=each, shares=[share(kind, 1) for kind in kinds]) for each in calls]
        rates = [Rated(allowance=TOKENS, at_us=now_us, change=-1)]
        lease = Claim(call_id=f"{name} lease", shares=[share(KEY, 1)], ahead=True)
        releases = [Release(call_id=each, usd=number, rates=rates) for number, each in enumerate(calls[:3])]
        paid = [
            Paid(call_id=each, usd=1, subjects=["key/k", "proxy"], models=["m"], started_us=now_us, lease=part_of)
            for each, part_of in [*((each, None) for each in calls), ("drawn", lease.call_id)]
        ]
        for procedure, argument in (
            ("turn", Turn(owner=name, claims=[*claims, lease])),
            ("turn", Turn(owner=name, releases=[*releases, Release(call_id=lease.call_id, lasts=True)], extends=True)),
            ("settle", paid),
            ("sweep", None),
            ("look", ["key/k", "team/t"]),
        ):
            cursor.execute(f"select dheera_{procedure}(%s)", (msgspec.json.encode(argument).decode(),))

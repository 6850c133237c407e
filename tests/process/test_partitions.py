"""
Two machines that share a PostgreSQL, and a wire between it and one of them that is cut without a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from threading import Event
from typing import Any, ClassVar
from unittest import TestCase

import psycopg2  # type: ignore[import-untyped]  # it has no types

from dheera.money import Usd
from tests.postgres import server
from tests.process import databases, ledgers
from tests.process.bearers import MASTER_KEY, Answer
from tests.process.daemon import ANY_PORT, UPSTREAM_KEY, Daemon, eventually
from tests.process.namespaces import Machine, Relay, Switch
from tests.process.peers import Upstream
from tests.process.residents import AWAY, BOUND, USUAL, GatedTill, Node, Resident
from tests.process.till import PRICES, nano_cost

CALLS, AFFORDED, SOME = 24, 7, 3
CAP = Usd(AFFORDED * BOUND)
LIMITS = {"max_budget": 10, "rpm_limit": 10**6, "tpm_limit": 10**9, "max_parallel_requests": 99}

SETTINGS = """
[records]
node = "{node}"
[store]
patience_seconds = 1
[allowances]
deadline_seconds = 1
when_store_down = "{rule}"
"""

EXPIRED = "select count(distinct call_id) from holds where expired"
HELD = "select coalesce(sum(held), 0) from allowances"
HOLDS = "select count(*) from holds"
SPENT = "select sum(cost) from ledger where key_id = '{}'"
USED = "select sum(used) from allowances where kind = 'usd' and subject = 'key/{}'"


class PartitionTests(TestCase):
    """
    Node one, whose wire stays; and nodes two and three behind the wire that is cut. While the database is away two
    refuses calls that are limited, and three allows them.
    """

    url: ClassVar[str]
    till: ClassVar[GatedTill]
    switch: ClassVar[Switch]
    one: ClassVar[Node]
    two: ClassVar[Node]
    three: ClassVar[Node]
    counted: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.url = cls.enterClassContext(databases.postgres())
        cls.till = GatedTill()
        middle, here, there = (cls.enterClassContext(Machine()) for _ in range(3))
        cls.switch = Switch(middle)
        cls.switch.join(here, "here")
        cls.switch.join(there, "there")
        path = server().folder / f".s.PGSQL.{server().port}"
        port = cls.enterClassContext(Relay(middle, cls.switch.address, str(path))).port
        url = cls.url.replace(f"127.0.0.1:{server().port}", f"{cls.switch.address}:{port}")
        upstreams = {each: cls.enterClassContext(each.do(Upstream, cls.till.script)).url for each in (here, there)}

        def started(name: str, machine: Machine, rule: str) -> Node:
            said = {
                "MISTRAL_API_BASE": upstreams[machine],
                "MISTRAL_API_KEY": UPSTREAM_KEY,
                "DHEERA_AI_MASTER_KEY": MASTER_KEY,
                "DATABASE_URL": f"{url}?application_name={name}",
            }
            daemon = Daemon(*ANY_PORT, said=said, settings=SETTINGS.format(node=name, rule=rule) + PRICES)
            return Node(name, machine, machine.do(cls.enterClassContext, daemon))

        planned = ("one", here, "refuse"), ("two", there, "refuse"), ("three", there, "allow")
        with ThreadPoolExecutor() as at_once:
            cls.one, cls.two, cls.three = at_once.map(started, *zip(*planned, strict=True))
        cls.counted = cls.one.chief.issue(**LIMITS)

    def setUp(self) -> None:
        self.chief = self.one.chief
        self.addCleanup(self.till.open, USUAL)

    @contextmanager
    def cut(self) -> Iterator[None]:
        """
        Inside ``with`` nodes two and three are cut off, and when it ends they have found that out. Afterwards they come
        back by themselves: they are ready, and a while later count what is limited.
        """
        behind = self.two, self.three
        self.switch.cut("there")
        try:
            yield
            eventually(lambda: all(each.is_cut_off for each in behind), "they have found that they are cut off")
        finally:
            self.switch.mend("there")
        eventually(lambda: not any(each.is_cut_off for each in behind), "they are back")
        self.assertEqual([True, True], [each.is_ready() for each in behind])
        eventually(lambda: all(self.counts(each) for each in behind), "they count again")

    def counts(self, node: Node) -> bool:
        """
        Whether it tells what is left of a limit.
        """
        return "x-dheera-remaining-requests" in node.with_key(self.counted).chat().fields

    @contextmanager
    def calling(self, bearer: Resident) -> Iterator[Counter[int]]:
        """
        Inside ``with`` somebody calls again and again.

        :return: what they hear, by its status.
        """
        statuses: Counter[int] = Counter()
        over = Event()

        def call_on() -> None:
            while not over.wait(0.01):
                statuses[bearer.chat().status] += 1

        with ThreadPoolExecutor(1) as caller:
            calling = caller.submit(call_on)
            try:
                yield statuses
            finally:
                over.set()
            calling.result()

    def assert_away(self, *answers: Answer) -> None:
        """
        Assert that this is what is heard of a database that is away.
        """
        for each in answers:
            told = each.status, each.refusal, each.fields["retry-after"]
            self.assertEqual((503, "no_db_connection", "1"), told, each)

    def assert_served(self, *answers: Answer) -> None:
        """
        Assert that these are answers of upstream.
        """
        self.assertEqual([""] * len(answers), [each.refusal for each in answers])

    def assert_in_books(self, key: str, calls: dict[str, tuple[str, int | None]]) -> None:
        """
        Assert that the ledger comes to have each of these calls of *key* once and no other, whichever node is asked;
        that the key's spend is their sum; and that nothing stays held.

        :param calls: by their ids: the name of the node, and the cost in nano-dollars, ``None`` if it was refused.
        """
        expected = sorted((name, node, (cost or 0) / 10**9) for name, (node, cost) in calls.items())
        eventually(lambda: len(self.rows(self.one, key)) >= len(calls), "all calls are in the ledger")
        for node in self.one, self.two, self.three:
            found = [(each["request_id"], each["metadata"]["node"], each["spend"]) for each in self.rows(node, key)]
            self.assertEqual(expected, sorted(found))
        self.assert_counted(key, sum(cost or 0 for _, cost in calls.values()))

    def assert_counted(self, key: str, nano: int) -> None:
        """
        Assert that *key* comes to have spent so many nano-dollars, in the ledger and of its budget, whichever node is
        asked, and that nothing stays held.
        """

        def spent() -> list[float]:
            nodes = self.one, self.two, self.three
            return [each.chief.look(f"/key/info?key={key}")["info"]["spend"] for each in nodes]

        eventually(lambda: min(spent()) >= nano / 10**9, "all of it is spent")
        eventually(lambda: not ledgers.total(self.url, HOLDS), "there are no holds")
        self.assertEqual(0, ledgers.total(self.url, HELD))
        self.assertEqual([nano / 10**9] * 3, spent())
        key_id = self.chief.look(f"/key/info?key={key}")["info"]["key_id"]
        for each in SPENT, USED:
            self.assertEqual(nano, ledgers.total(self.url, each.format(key_id)))

    def rows(self, node: Node, key: str) -> Sequence[dict[str, Any]]:
        """
        What *node* says is in the ledger of this key.
        """
        found: list[dict[str, Any]] = node.chief.look(f"/spend/logs/v2?api_key={key}&page_size=100")["data"]
        return found

    def of_two(self, wanted: str) -> str:
        """
        What is asked of PostgreSQL to see its ends of the connections of node two.
        """
        name = self.url.rpartition("/")[2]
        return f"select {wanted} from pg_stat_activity where application_name = 'two' and datname = '{name}'"  # noqa: S608 - our own words

    def test_keys_agree(self) -> None:
        """
        A key that is made on one machine works on the other; when it is blocked on one, it is on the other.
        """
        for giver, taker in (self.one, self.two), (self.two, self.one):
            bearer = taker.with_key(giver.chief.issue())
            self.assert_served(bearer.chat())
            giver.chief.do("/key/block", key=bearer.key)
            bearer.wait_for("auth_error")

    def test_budget_agrees(self) -> None:
        """
        A budget is one budget, whoever is asked: of many calls at once so many get through as it affords. The ledger
        has each call once, with the name of its node, and all nodes tell the same sums.
        """
        key = self.chief.issue(max_budget=float(CAP.dollars()))
        self.till.shut(USUAL)
        seen = len(self.till.seen)
        answers: list[tuple[Node, Answer]] = []

        def call(number: int) -> None:
            node = (self.one, self.two, self.three)[number % 3]
            answers.append((node, node.with_key(key).chat()))
            if len(answers) >= CALLS - AFFORDED:
                self.till.open(USUAL)

        with ThreadPoolExecutor(CALLS) as callers:
            list(callers.map(call, range(CALLS)))
        statuses = Counter(answer.status for _, answer in answers)
        self.assertEqual({200: AFFORDED, 429: CALLS - AFFORDED}, statuses)
        self.assertEqual(AFFORDED, len(self.till.seen) - seen)
        cost = {200: nano_cost(USUAL), 429: None}
        calls = {answer.fields["x-dheera-call-id"]: (node.name, cost[answer.status]) for node, answer in answers}
        self.assertEqual(CALLS, len(calls))
        self.assert_in_books(key, calls)

    def test_keys(self) -> None:
        """
        A node that is cut off says that it is not ready as soon as it has asked the database in vain. Keys that are in
        use go on; of others it is not known whether they are right; those with limits, and management, are refused.
        What is changed elsewhere meanwhile is in force when it is ready again. The other node notices nothing of it.
        """
        issue = self.chief.issue
        shared = issue(**LIMITS)
        in_use, blocked, unused = (self.two.with_key(issue()) for _ in range(3))
        poor = self.two.with_key(issue(max_budget=float(Usd(BOUND - 1).dollars())))
        nobody = self.two.with_key("sk-that-nobody-has-issued")
        self.assert_served(in_use.chat(), blocked.chat())
        self.assertEqual("budget_exceeded", poor.chat().refusal)
        with self.calling(self.one.with_key(shared)) as here, self.calling(self.two.with_key(shared)) as there:
            with self.cut():
                self.assert_away(unused.chat())
                self.assertFalse(self.two.is_ready())
                self.assert_served(in_use.chat(), blocked.chat())
                self.assert_away(nobody.chat(), poor.chat())
                self.assert_away(self.two.chief.ask("POST", "/key/generate", {}))
                self.chief.do("/key/block", key=blocked.key)
                self.chief.do("/key/update", key=poor.key, max_budget=float(CAP.dollars()))
                later = self.two.with_key(issue())
                self.assert_served(self.one.with_key(later.key).chat(), blocked.chat())
                self.assert_away(later.chat(), poor.chat())
            self.assertEqual("auth_error", blocked.chat().refusal)
            self.assertEqual("token_not_found_in_db", nobody.chat().refusal)
            self.assert_served(later.chat(), unused.chat(), in_use.chat(), poor.chat())
        self.assertEqual(({200}, {200, 503}), (set(here), set(there)))
        self.assertTrue(self.one.is_ready())
        self.assertNotIn(AWAY, self.one.daemon.log)
        self.assert_counted(shared, (here[200] + there[200]) * nano_cost(USUAL))

    def test_books(self) -> None:
        """
        Calls that are served by a node that is cut off are in the ledger when it is back, and their budgets count them,
        each once: those of keys without limits; those of keys with limits, where they are allowed; and streams that had
        begun before, though their holds had been ended as those of a dead process are. One of these ends before the
        node is back, one after.
        """
        free, limited = self.chief.issue(), self.chief.issue(**LIMITS)
        calls: dict[str, dict[str, tuple[str, int | None]]] = {free: {}, limited: {}}

        def note(node: Node, key: str, status: int) -> None:
            answer = node.with_key(key).chat()
            self.assertEqual(status, answer.status)
            calls[key][answer.fields["x-dheera-call-id"]] = node.name, nano_cost(USUAL) if status == 200 else None

        for node in self.two, self.three:
            note(node, free, 200)
            note(node, limited, 200)
        with ExitStack() as streams:
            clients = []
            for nonce in "n1", "n2":
                self.till.shut(nonce)
                self.addCleanup(self.till.open, nonce)
                call_id, client = streams.enter_context(self.two.with_key(limited).streaming(nonce))
                calls[limited][call_id] = "two", nano_cost(nonce)
                clients.append(client)
            with self.cut():
                eventually(lambda: ledgers.total(self.url, EXPIRED) == 2, "what the streams hold has been ended")
                before = [len(self.rows(self.one, key)) for key in calls]
                self.till.open("n1")
                self.assertIn(b"[DONE]", b"".join(clients[0].chunks()))
                for _ in range(SOME):
                    note(self.two, free, 200)
                    note(self.three, free, 200)
                    note(self.three, limited, 200)
                    note(self.two, limited, 503)
                self.assertEqual(before, [len(self.rows(self.one, key)) for key in calls])
            self.till.open("n2")
            self.assertIn(b"[DONE]", b"".join(clients[1].chunks()))
        self.assert_in_books(limited, calls[limited])
        self.assertEqual(len(calls[free]), len(self.rows(self.one, free)))

    def test_half_open(self) -> None:
        """
        A question that is under way when the wire is cut is given up, and holds up nobody else. Afterwards nothing is
        asked on the connections that there were: there are new ones.
        """
        in_use, unused = (self.two.with_key(self.chief.issue()) for _ in range(2))
        self.assert_served(in_use.chat())
        blocked = f"{self.of_two('pid')} and wait_event_type = 'Lock'"
        with closing(psycopg2.connect(self.url)) as other, ThreadPoolExecutor() as pool:
            other.cursor().execute("lock table digests in access exclusive mode")
            under_way = pool.submit(unused.chat)
            eventually(lambda: len(ledgers.query(self.url, blocked)) == 1, "it is asked")
            with self.cut():
                other.rollback()
                self.assert_served(in_use.chat())
                self.assert_away(under_way.result())
                self.assertFalse(self.two.is_ready())
                before = dict(ledgers.query(self.url, self.of_two("pid, query_start")))
        self.assertTrue(before)
        self.assert_served(unused.chat())
        after = dict(ledgers.query(self.url, self.of_two("pid, query_start")))
        self.assertTrue(after.keys() - before.keys())
        self.assertEqual({}, {pid: latest for pid, latest in after.items() if latest != before.get(pid, latest)})

"""
What a call may take, from its head to its end: holds, refusals, and what comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from cProfile import Profile
from typing import Any

from dheera.entities import Customer, Team, now
from dheera.money import Usd
from dheera.proxy.affording import MOST_UNCAPPED
from dheera.proxy.asking import ask
from dheera.proxy.plain import read_plain
from dheera.records import Begun, Record
from dheera.settings import AllowanceSettings, KeySettings, LimitSettings
from dheera.spool.memory import MemorySpool
from tests.house import LAST_CHUNK, Answer, House, in_chunks, read_answer, request
from tests.network import UPSTREAM_HOST, Peer
from tests.proxy import test_accounting
from tests.proxy.test_accounting import COST, EVENT, LAST_EVENT

CHAT = b'{"model":"m","max_tokens":20,"messages":[{"role":"user","content":'
CHAT += b'"a prompt of some fifty tokens and a hundred bytes, so that it bounds the answer"}]}'
BOUND = len(CHAT) * 1000 + 20 * 2000
"""
Nano-dollars: a byte may be a token of the prompt.
"""
PRICES = {**test_accounting.PRICES, "eye": {"pages_per_thousand": 2.0}}
A_LOT = Usd(10**12)


class Noting(MemorySpool):
    """
    One that remembers what is written.

    :ivar ask: something that is asked whenever a beginning is written.
    :ivar begun: what was held, and what was answered then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ask: Callable[[], object] = lambda: None
        self.begun: list[tuple[int | None, object]] = []
        self.ended: list[Record] = []

    def begin(self, begun: Begun) -> None:
        self.begun.append((begun.held_nano_usd, self.ask()))

    def end(self, record: Record) -> None:
        self.ended.append(record)


class Affording(test_accounting.Accounting):
    """
    A house whose key has limits.
    """

    def build(self, **said: Any) -> None:
        """
        A house in which pages have a price too.
        """
        self.house = House(master_key=test_accounting.MASTER, prices=PRICES, **said)
        self.keep(self.key())

    def limited(self, **said: Any) -> None:
        """
        The key has limits.
        """
        self.change(**said)

    def ask(self, path: bytes = b"/mistral/v1/chat/completions", *fields: tuple[bytes, bytes], **how: Any) -> Peer:
        return super().ask(path, *fields, **{"body": CHAT, **how})

    def heard(self, client: Peer) -> Answer:
        """
        The answer that *client* has got.
        """
        return read_answer(client.received)

    def refused(self, client: Peer) -> tuple[int, str]:
        """
        With which status, and which type of error.
        """
        answer = self.heard(client)
        return answer.status, answer.body.split(b'"type": "')[1].split(b'"')[0].decode()

    def taken(self, kind: str, subject: str = "key/k1") -> int:
        """
        What is used and held of the allowances of that kind.
        """
        self.house.network.advance(1)  # what is given back need not be told at once
        standing = self.successResultOf(self.house.counts.look([subject]))
        return sum(each.used + each.held for each in standing if each.allowance.kind == kind)


class BudgetTests(Affording):
    """
    Keys that may spend so much.
    """

    def test_held_and_settled(self) -> None:
        """
        While a call is under way as much is held as it may cost at most, and from its end on what it did cost. The
        client is told what is left; so is the spool, before the first byte goes up.
        """
        spool = Noting()
        self.build(spool=spool)
        self.limited(max_budget=A_LOT)
        spool.ask = lambda: len(self.house.script.connections)
        client = self.ask()
        self.assertEqual([(BOUND, 0)], spool.begun)
        self.assertEqual(BOUND, self.taken("usd"))
        self.answer()
        self.assertEqual(COST, self.taken("usd"))
        left = self.heard(client).values(b"x-dheera-remaining-budget")
        self.assertEqual([str(Usd(A_LOT.nano - COST)).encode()], left)
        self.assertEqual([(BOUND, COST)], [(each.held_nano_usd, each.cost_nano_usd) for each in spool.ended])

    def test_refused(self) -> None:
        """
        What might cost more than is left is refused: upstream does not see it, and it takes nothing. One that fits goes
        through.
        """
        self.limited(max_budget=Usd(2 * BOUND - 1))
        self.ask()
        refused = self.ask()
        self.assertEqual((429, "budget_exceeded"), self.refused(refused))
        self.assertEqual([b"1"], self.heard(refused).values(b"retry-after"))
        self.assertEqual(1, len(self.house.script.connections))
        self.assertEqual(BOUND, self.taken("usd"))
        self.answer()
        self.house.network.advance(1)
        self.ask()
        self.assertEqual(COST + BOUND, self.taken("usd"))

    def test_refusal_is_recorded(self) -> None:
        """
        A refusal is in the records of the key, and counted.
        """
        self.limited(max_budget=Usd(1))
        self.ask()
        record = self.record()
        self.assertEqual(
            ("refused", "BudgetExceeded", 0, 429), (record.outcome, record.error, record.cost_nano_usd, record.status)
        )
        self.assertIn(b'reason="BudgetExceeded"} 1.0', self.house.metrics.text())

    def test_no_price(self) -> None:
        """
        What has no price is refused to whoever has a budget, and says how to set one; others may.
        """
        body = CHAT.replace(b'"m"', b'"unheard-of"')
        self.limited(max_budget=A_LOT)
        refused = self.ask(body=body)
        self.assertEqual((403, "price_unknown"), self.refused(refused))
        self.assertIn(b"[prices", self.heard(refused).body)
        self.change(version=1, max_budget=None)
        self.ask(body=body)
        self.assertEqual(1, len(self.house.script.connections))

    def test_unreadable(self) -> None:
        """
        What could be read in two ways is refused: servers might take the dearer one.
        """
        self.limited(max_budget=A_LOT)
        refused = self.ask(body=b'{"model":"m","max_tokens":1,"max_tokens":100000,"messages":[]}')
        self.assertEqual(400, self.heard(refused).status)
        self.assertEqual([], self.house.script.connections)

    def test_too_large(self) -> None:
        """
        What is larger than what may be looked into is refused, also if it is plain, and here with its head.
        """
        self.build(keys=KeySettings(inspected_bytes=len(CHAT)))
        self.limited(max_budget=A_LOT)
        self.assertEqual(413, self.heard(self.ask(body=CHAT + b" ")).status)
        self.ask()
        self.assertEqual(1, len(self.house.script.connections))

    def test_no_usage(self) -> None:
        """
        When upstream does not say what was used, and nothing else tells, the call costs what was held for it.
        """
        self.limited(max_budget=A_LOT)
        self.ask(b"/mistral/v1/ocr", body=b'{"model":"eye","document":{"type":"image_url","image_url":"https://x/y"}}')
        held = self.taken("usd")
        self.answer(b"{}")
        record = self.record()
        self.assertEqual((True, held, held), (record.estimated, record.cost_nano_usd, self.taken("usd")))

    def test_free(self) -> None:
        """
        What costs nothing goes through when all is spent.
        """
        self.limited(max_budget=Usd(0))
        self.ask(b"/mistral/v1/models", method=b"GET", body=None)
        self.assertEqual(1, len(self.house.script.connections))

    def test_socket(self) -> None:
        """
        A WebSocket on a path where no session is known begins with a GET, and is not free for that.
        """
        self.limited(max_budget=A_LOT)
        upgrade = (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")
        key = (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==")
        for path in (b"realtime?model=m", b"realtime", b"chat/completions?model=m"):
            refused = self.ask(b"/mistral/v1/" + path, *upgrade, key, method=b"GET", body=None)
            self.assertEqual((403, "price_unknown"), self.refused(refused))
        self.assertEqual([], self.house.script.connections)

    def test_only_told(self) -> None:
        """
        Where no budget stops it a call takes no more than databases can add up.
        """
        self.keep(Team(id="t", created_at=now(), updated_at=now(), soft_budget=Usd(5)))
        self.limited(team_id="t")
        for times in (1, 2):
            self.ask(body=CHAT.replace(b"20", b"999999999999999"))
            self.assertEqual(times * MOST_UNCAPPED, self.taken("usd", "team/t"))

    def test_part_of_a_file(self) -> None:
        """
        Whoever has a budget fetches files as a whole: what a batch has cost is read from its output.
        """
        self.limited(max_budget=A_LOT)
        path = b"/mistral/v1/files/f/content"
        refused = self.ask(path, (b"Range", b"bytes=0-99"), method=b"GET", body=None)
        self.assertEqual((403, "price_unknown"), self.refused(refused))
        self.ask(path, method=b"GET", body=None)
        self.assertEqual(1, len(self.house.script.connections))

    def test_raised_and_lowered(self) -> None:
        """
        Another budget is in force at the next call; one that is taken away stops nothing.
        """
        self.limited(max_budget=Usd(1))
        self.assertEqual((429, "budget_exceeded"), self.refused(self.ask()))
        self.change(version=1, max_budget=A_LOT)
        self.ask()
        self.answer()
        self.change(version=2, max_budget=Usd(1))
        self.assertEqual((429, "budget_exceeded"), self.refused(self.ask()))
        self.change(version=3, max_budget=None)
        client = self.ask()
        self.answer()
        self.assertEqual(200, self.heard(client).status)

    def test_team(self) -> None:
        """
        What a team has left bounds each of its keys.
        """
        self.keep(Team(id="t", alias="search", created_at=now(), updated_at=now(), max_budget=Usd(BOUND)))
        self.limited(team_id="t", max_budget=A_LOT)
        self.ask()
        refused = self.ask()
        self.assertEqual((429, "budget_exceeded"), self.refused(refused))
        self.assertIn(b"the team search", self.heard(refused).body)
        self.assertEqual((BOUND, BOUND), (self.taken("usd"), self.taken("usd", "team/t")))

    def test_proxy(self) -> None:
        """
        What all may spend together bounds each, the master key too.
        """
        self.build(proxy_limits=LimitSettings(max_budget=Usd(BOUND)))
        self.ask()
        self.assertEqual((429, "budget_exceeded"), self.refused(self.ask(credential=test_accounting.MASTER)))


class RateTests(Affording):
    """
    Keys that may call so often.
    """

    def test_requests(self) -> None:
        """
        So many in a minute; the next is told when to come. The body is not waited for.
        """
        self.limited(rpm_limit=2)
        clients = [self.ask(body=b"not JSON") for _ in range(3)]
        refused = self.heard(clients[2])
        self.assertEqual((429, "rate_limit_error"), self.refused(clients[2]))
        self.assertEqual([b"requests"], refused.values(b"rate_limit_type"))
        self.assertLessEqual(int(refused.values(b"retry-after")[0]), 65)
        self.assertEqual(2, len(self.house.script.connections))

    def test_tokens(self) -> None:
        """
        So many tokens in a minute; a call takes first what it may have, and in the end what it had.
        """
        self.limited(tpm_limit=1000)
        client = self.ask()
        self.assertEqual(len(CHAT) + 20, self.taken("tokens"))
        self.answer()
        self.assertEqual(110, self.taken("tokens"))
        answer = self.heard(client)
        self.assertEqual([b"890"], answer.values(b"x-dheera-remaining-tokens"))
        self.assertEqual([b"1000"], answer.values(b"x-ratelimit-limit-tokens"))

    def test_theirs_go_first(self) -> None:
        """
        Header lines that upstream sends are passed on as they are, and not said twice.
        """
        self.limited(rpm_limit=5)
        client = self.ask()
        line = b"x-ratelimit-limit-requests: 7\r\nx-ratelimit-remaining-req-minute: 3\r\n"
        self.house.script.last.send(b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\n{}" % line)
        answer = self.heard(client)
        self.assertEqual([b"7"], answer.values(b"x-ratelimit-limit-requests"))
        self.assertEqual([b"3"], answer.values(b"x-ratelimit-remaining-req-minute"))
        self.assertEqual([b"4"], answer.values(b"x-dheera-remaining-requests"))

    def test_never_reached(self) -> None:
        """
        A call that upstream never saw has taken nothing.
        """
        self.build(base=f"http://{UPSTREAM_HOST}:1")
        self.limited(rpm_limit=5, tpm_limit=1000, max_budget=A_LOT, max_parallel_requests=1)
        client = self.ask()
        self.house.network.turn(2)
        self.assertEqual(502, self.heard(client).status)
        self.assertEqual([0, 0, 0, 0], [self.taken(kind) for kind in ("requests", "tokens", "usd", "parallel")])

    def test_model(self) -> None:
        """
        A limit for a model bounds calls with that model.
        """
        self.limited(metadata={"model_rpm_limit": {"m": 1}})
        self.ask()
        self.assertEqual((429, "rate_limit_error"), self.refused(self.ask()))
        self.ask(body=CHAT.replace(b'"m"', b'"n"'))
        self.assertEqual(2, len(self.house.script.connections))


class ModelTests(Affording):
    """
    Keys for which certain models are limited.
    """

    def setUp(self) -> None:
        super().setUp()
        self.limited(model_max_budget={"m": {"budget_limit": 1000.0}, "o*": {"rpm_limit": 5}})

    def assert_refused(self, path: bytes, body: bytes, type_: str = "key_model_access_denied") -> None:
        refused = self.ask(b"/mistral/v1/" + path, body=body)
        self.assertEqual((403, type_), self.refused(refused))
        self.assertIn(b"name a model", self.heard(refused).body)
        self.assertEqual([], self.house.script.connections)

    def test_not_named(self) -> None:
        """
        A call that may use any model is refused, since nobody could tell whether it is one of them.
        """
        for path, body in (
            (b"chat/completions", b'{"model":null,"messages":[]}'),
            (b"ocr", b'{"document":{"type":"document_url","document_url":"x"}}'),
            (b"agents/completions", b'{"agent_id":"a","messages":[]}'),
            (b"chat/completions", b'{"model":"n","agent_id":"a","messages":[]}'),
            (b"conversations", b'{"agent_id":"a","inputs":"x"}'),
            (b"conversations/c", b'{"model":"n","inputs":"x"}'),
            (b"batch/jobs", b'{"agent_id":"a","input_files":["f"]}'),
        ):
            self.assert_refused(path, body)

    def test_without_model(self) -> None:
        """
        What uses none goes through, and so does another model.
        """
        self.ask(b"/mistral/v1/models", method=b"GET", body=None)
        self.ask(b"/mistral/v1/conversations/c", method=b"DELETE", body=None)
        self.ask(b"/mistral/v1/batch/jobs/b/cancel", body=b"")
        self.ask(body=CHAT.replace(b'"m"', b'"n"'))
        self.assertEqual(4, len(self.house.script.connections))
        self.assertEqual(0, self.taken("usd"))

    def test_team(self) -> None:
        """
        A team's limits say the same.
        """
        self.keep(Team(id="t", created_at=now(), updated_at=now(), metadata={"model_rpm_limit": {"m": 5}}))
        self.change(version=1, team_id="t")
        self.assert_refused(b"agents/completions", b'{"agent_id":"a","messages":[]}', "team_model_access_denied")


class PlaceTests(Affording):
    """
    Keys that may make so many calls at the same time.
    """

    def setUp(self) -> None:
        super().setUp()
        self.limited(max_parallel_requests=1)

    def assert_free(self) -> None:
        """
        Assert that there is a place.
        """
        self.assertEqual(0, self.taken("parallel"))
        seen = len(self.house.script.connections)
        self.ask()
        self.assertEqual(seen + 1, len(self.house.script.connections))

    def test_taken(self) -> None:
        """
        The second waits for no-one: it is told to come again.
        """
        self.ask()
        refused = self.ask()
        self.assertEqual([b"max_parallel_requests"], self.heard(refused).values(b"rate_limit_type"))
        self.assertEqual(1, len(self.house.script.connections))

    def test_answered(self) -> None:
        """
        The place is free when the answer is complete.
        """
        self.ask()
        self.answer()
        self.house.script.last.close()
        self.assert_free()

    def test_left(self) -> None:
        """
        It is free when the client has left, be that before the head of the answer or in the middle of it.
        """
        self.ask().reset()
        self.assert_free()
        self.house.script.last.close()
        client = self.ask()
        self.stream(EVENT)
        client.reset()
        self.assert_free()

    def test_cut(self) -> None:
        """
        It is free when upstream has broken off.
        """
        self.ask()
        self.stream(EVENT)
        self.house.script.last.close()
        self.assert_free()

    def test_not_recorded(self) -> None:
        """
        It is free when the call could not be written down, and therefore was not sent.
        """
        self.build(spool=test_accounting.FullSpool())
        self.limited(max_parallel_requests=1)
        for _ in range(2):
            self.assertEqual(503, self.heard(self.ask()).status)
        self.assertEqual(0, self.taken("parallel"))


class AwayTests(Affording):
    """
    While nobody counts.
    """

    def test_refuse(self) -> None:
        """
        Whoever has limits is refused, and told to come again.
        """
        self.limited(max_budget=A_LOT)
        self.house.counts.fail()
        refused = self.ask()
        self.assertEqual(503, self.heard(refused).status)
        self.assertEqual([b"1"], self.heard(refused).values(b"retry-after"))
        self.assertEqual([], self.house.script.connections)

    def test_allow(self) -> None:
        """
        Or let through, if the operator says so, with nothing held.
        """
        spool = Noting()
        self.build(allowances=AllowanceSettings(when_store_down="allow"), spool=spool)
        self.limited(max_budget=Usd(1))
        self.house.counts.fail()
        client = self.ask()
        self.answer()
        self.assertEqual(200, self.heard(client).status)
        self.assertEqual([(None, None)], spool.begun)
        self.assertEqual([(None, COST)], [(each.held_nano_usd, each.cost_nano_usd) for each in spool.ended])
        self.house.counts.recover()
        self.assertEqual(0, self.taken("usd"))

    def test_unlimited(self) -> None:
        """
        Whoever has none goes on as if nothing were.
        """
        self.house.counts.fail()
        self.ask(body=b"not JSON")
        self.assertEqual(1, len(self.house.script.connections))


class EndUserTests(Affording):
    """
    Those for whom calls are made.
    """

    def customer(self, **said: Any) -> None:
        """
        There is one.
        """
        self.keep(Customer(id="mill", created_at=now(), updated_at=now(), **said))
        self.house.network.advance(1)

    def test_blocked(self) -> None:
        """
        No call is made for one who is blocked, whether a header names them or the body.
        """
        self.customer(blocked=True)
        for how in {"body": CHAT[:-1] + b',"user":"mill"}'}, {}:
            fields = [] if how else [(b"x-dheera-end-user", b"mill")]
            refused = self.ask(b"/mistral/v1/chat/completions", *fields, **how)
            self.assertEqual((403, "auth_error"), self.refused(refused))
        self.ask(b"/mistral/v1/chat/completions", (b"x-dheera-end-user", b"baker"))
        self.assertEqual(1, len(self.house.script.connections))

    def test_limited(self) -> None:
        """
        One's own limits bound the calls that are made for one, with any key.
        """
        self.customer(rpm_limit=1)
        said = b"/mistral/v1/chat/completions", (b"x-dheera-end-user", b"mill")
        self.ask(*said)
        self.assertEqual((429, "rate_limit_error"), self.refused(self.ask(*said, credential=test_accounting.MASTER)))

    def test_read_once(self) -> None:
        """
        A plain chat is read as one, which takes a tenth of the work, also where its body comes behind its head and may
        name one of them.
        """
        self.customer(max_budget=A_LOT)
        body = CHAT[:-1] + b',"user":"mill"}'
        whole = request(
            b"/mistral/v1/chat/completions",
            (b"Authorization", f"Bearer {test_accounting.KEY}".encode()),
            (b"Content-Type", b"application/json"),
            method=b"POST",
            body=body,
        )
        client = self.house.send(whole.removesuffix(body))
        profile = Profile()
        profile.runcall(client.send, body)
        self.assertEqual(1, len(self.house.script.connections))
        called = {entry.code for entry in profile.getstats()}
        self.assertEqual((True, False), (read_plain.__code__ in called, ask.__code__ in called))

    def test_defaults(self) -> None:
        """
        Those who are not known have the limits that the operator has set for all, each for themselves.
        """
        self.build(end_user_limits=LimitSettings(rpm_limit=1))
        for name in b"mill", b"baker":
            self.ask(b"/mistral/v1/chat/completions", (b"x-dheera-end-user", name))
        self.assertEqual(2, len(self.house.script.connections))
        refused = self.ask(b"/mistral/v1/chat/completions", (b"x-dheera-end-user", b"mill"))
        self.assertEqual((429, "rate_limit_error"), self.refused(refused))


class LeavingTests(Affording):
    """
    What a client pays that does not wait for the end.
    """

    def finish(self) -> None:
        """
        Answers are read to their end.
        """
        self.build(allowances=AllowanceSettings(on_client_left="finish"))
        self.limited(max_budget=A_LOT)

    def test_abort(self) -> None:
        """
        By default upstream's connection is closed, and the cost is an estimate.
        """
        self.limited(max_budget=A_LOT)
        client = self.ask()
        self.stream(EVENT)
        client.reset()
        self.assertEqual("reset", self.house.script.last.ended)
        record = self.record()
        self.assertEqual(("client_left", True), (record.outcome, record.estimated))
        self.assertEqual(record.cost_nano_usd, self.taken("usd"))

    def test_finish(self) -> None:
        """
        Or the answer is read to its end for what it has used, and that is paid.
        """
        self.finish()
        client = self.ask()
        self.stream(EVENT)
        client.reset()
        self.assertEqual("open", self.house.script.last.ended)
        self.assertEqual([], self.house.records())
        self.house.script.last.send(in_chunks(EVENT, LAST_EVENT) + LAST_CHUNK)
        record = self.record()
        self.assertEqual(("client_left", False, COST), (record.outcome, record.estimated, record.cost_nano_usd))
        self.assertEqual(COST, self.taken("usd"))

    def test_finish_without_head(self) -> None:
        """
        Also if the client leaves before the head of the answer.
        """
        self.finish()
        self.ask().reset()
        self.assertEqual(BOUND, self.taken("usd"))
        self.answer()
        record = self.record()
        self.assertEqual(("client_left", False, COST), (record.outcome, record.estimated, record.cost_nano_usd))
        self.assertEqual(COST, self.taken("usd"))

    def test_finish_was_too_slow(self) -> None:
        """
        A client that read too slowly before it left holds up nothing any more.
        """
        self.finish()
        client = self.ask()
        self.stream(EVENT)
        client.stop_reading()
        self.house.script.last.send(in_chunks(b": " + b"x" * 2_000_000 + b"\n\n"))
        client.reset()
        self.house.script.last.send(in_chunks(LAST_EVENT) + LAST_CHUNK)
        self.assertEqual(COST, self.record().cost_nano_usd)

    def test_finish_cut(self) -> None:
        """
        When upstream breaks off meanwhile it is as if the client had been there.
        """
        self.finish()
        client = self.ask()
        self.stream(EVENT)
        client.reset()
        self.house.script.last.close()
        record = self.record()
        self.assertEqual(("upstream_cut", True), (record.outcome, record.estimated))
        self.assertIn(record.cost_nano_usd, range(1, BOUND))
        self.assertEqual(record.cost_nano_usd, self.taken("usd"))

    def test_finish_nothing(self) -> None:
        """
        A client that left while it was sending its request is not waited for: upstream does not begin on a half. It
        owes nothing, and holds nothing, whether its request was first read as a whole, for a budget, or passed on while
        it came.
        """
        for sent, limits in (0, {"max_budget": A_LOT}), (1, {"max_parallel_requests": 1}):
            self.build(allowances=AllowanceSettings(on_client_left="finish"))
            self.limited(**limits)
            self.house.send(
                b"POST /mistral/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
                b"Content-Length: 300000\r\n\r\n{" % test_accounting.KEY.encode()
            ).reset()
            self.assertEqual(sent, len(self.house.script.connections))
            self.assertEqual(0, self.record().cost_nano_usd)
            self.assertEqual([0, 0], [self.taken(kind) for kind in ("usd", "parallel")])

    def test_finish_socket(self) -> None:
        """
        A client that leaves before its WebSocket is answered is not waited for: there is nothing to read.
        """
        self.finish()
        self.change(version=1, max_budget=None, max_parallel_requests=1)
        upgrade = (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")
        key = (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==")
        path = b"/mistral/v1/audio/transcriptions/realtime?model=m"
        client = self.ask(path, *upgrade, key, method=b"GET", body=None)
        self.assertEqual(1, self.taken("parallel"))
        client.reset()
        self.assertEqual(0, self.taken("parallel"))
        self.assertEqual("reset", self.house.script.last.ended)

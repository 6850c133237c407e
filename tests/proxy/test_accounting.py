"""
What is written down of an exchange.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Add, Put
from dheera.content import ContentRules
from dheera.entities import Key, Team, now
from dheera.errors import Unavailable
from dheera.keys import digest
from dheera.money import Usd
from dheera.records import Begun, Record
from dheera.redaction import Redaction
from dheera.spool.memory import MemorySpool
from dheera.usage import Usage
from tests.house import LAST_CHUNK, House, in_chunks, read_answer, request
from tests.network import UPSTREAM_HOST, Peer
from tests.wire.caller import OK

MASTER = "sk-master-canary-0123456789"
KEY = "sk-virtual-canary-0123456789"
PRICES = {"m": {"input_per_million": 1.0, "cached_per_million": 0.5, "output_per_million": 2.0}}
CHAT = b'{"model":"m","messages":[{"role":"user","content":"prompt-canary"}],"temperature":0.5}'
USAGE = b'{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110}'
ANSWER = b'{"id":"x","model":"m","choices":[],"usage":%b}' % USAGE
PROMPT = -(-len(CHAT) // 4)
COST = 100 * 1000 + 10 * 2000
EVENT = b'data: {"model":"m","choices":[{"delta":{"content":"Hi"}}]}\n\n'
LAST_EVENT = b'data: {"model":"m","choices":[],"usage":%b}\n\ndata: [DONE]\n\n' % USAGE


class FullSpool(MemorySpool):
    """
    One that takes no beginnings.
    """

    def begin(self, _begun: Begun) -> None:
        raise Unavailable("Calls cannot be recorded.", retry_after_seconds=1)


class Accounting(SynchronousTestCase):
    """
    A house with a virtual key, whose upstream is a script.
    """

    house: House

    def setUp(self) -> None:
        self.build()

    def build(self, **said: Any) -> None:
        """
        A house, with what is *said*.
        """
        self.house = House(master_key=MASTER, prices=PRICES, **said)
        self.keep(self.key())

    def key(self, **said: Any) -> Key:
        """
        The key, with what is *said* of it.
        """
        made = {"id": "k1", "alias": "ada", "digest": digest(KEY.encode()), "name": "sk-...6789", "user_id": "u1"}
        return Key(created_at=now(), updated_at=now(), **made | said)

    def keep(self, *entities: Any) -> None:
        self.successResultOf(self.house.store.apply([Add(each) for each in entities], []))

    def change(self, **said: Any) -> None:
        """
        The key is as *said* from now on.
        """
        self.successResultOf(self.house.store.apply([Put(self.key(**said))], []))

    def ask(self, path: bytes = b"/mistral/v1/chat/completions", *fields: tuple[bytes, bytes], **how: Any) -> Peer:
        credential = how.pop("credential", KEY)
        body = how.pop("body", CHAT)
        lines = [(b"Authorization", f"Bearer {credential}".encode()), (b"Content-Type", b"application/json"), *fields]
        return self.house.ask(path, *lines, method=how.pop("method", b"POST"), body=body, **how)

    def answer(self, body: bytes = ANSWER, kind: bytes = b"application/json", status: bytes = b"200 OK") -> None:
        """
        Upstream's whole answer, in one piece.
        """
        head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(body))
        self.house.script.last.send(head + body)

    def stream(self, *pieces: bytes) -> None:
        """
        The beginning of an answer in events.
        """
        self.house.script.last.send(
            OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + in_chunks(*pieces)
        )

    def record(self) -> Record:
        """
        The one that was written.
        """
        [record] = self.house.records()
        return record


class WholeTests(Accounting):
    """
    Calls that go well.
    """

    def test_json(self) -> None:
        """
        Who, what, how much, how long.
        """
        client = self.ask(b"/mistral/v1/chat/completions?x=secret-in-query", (b"User-Agent", b"curl/8"))
        self.house.network.advance(2)
        self.answer()
        record = self.record()
        (call_id,) = read_answer(client.received).values(b"x-dheera-call-id")
        self.assertEqual(
            ("complete", 200, None, 1, call_id.decode()),
            (record.outcome, record.status, record.error, record.attempts, record.call_id),
        )
        self.assertEqual(
            ("POST", "/v1/chat/completions", "chat/completions"), (record.method, record.path, record.endpoint)
        )
        self.assertEqual(
            ("k1", "ada", "u1", "127.0.0.1", "curl/8"),
            (record.key_id, record.key_alias, record.user_id, record.client, record.user_agent),
        )
        self.assertEqual(Usage(prompt_tokens=100, completion_tokens=10, total_tokens=110), record.usage)
        self.assertEqual((COST, False, "m"), (record.cost_nano_usd, record.estimated, record.model))
        self.assertEqual((len(CHAT), len(ANSWER)), (record.request_bytes, record.response_bytes))
        self.assertEqual((2_000_000, 2_000_000), (record.first_byte_us, record.duration_us))
        self.assertEqual({"temperature": 0.5}, record.parameters)

    def test_headers_of_ours(self) -> None:
        """
        Where the whole answer is here before its head goes out, the client is told what it cost; always what the key
        has spent and how long dheera itself took.
        """
        self.house.spends["k1"] = Usd(1_500_000_000)
        client = self.ask()
        self.answer()
        answer = read_answer(client.received)
        self.assertEqual([b"0.00012"], answer.values(b"x-dheera-response-cost"))
        self.assertEqual([b"1.5"], answer.values(b"x-dheera-key-spend"))
        self.assertEqual([b"0.000"], answer.values(b"x-dheera-overhead-ms"))
        self.assertEqual(ANSWER, answer.body)

    def test_no_cost_without_price(self) -> None:
        """
        An unknown model has no cost, in header and record: not 0.
        """
        client = self.ask(body=CHAT.replace(b'"m"', b'"unheard-of"'))
        self.answer(ANSWER.replace(b'"m"', b'"unheard-of"'))
        self.assertEqual([], read_answer(client.received).values(b"x-dheera-response-cost"))
        record = self.record()
        self.assertEqual((None, ["unheard-of"]), (record.cost_nano_usd, record.unpriced))

    def test_cost_of_batch_is_not_told(self) -> None:
        """
        The output of a batch is billed at half price and once: whether this is the first time the ledger knows, so that
        the answer does not tell a cost.
        """
        line = b'{"custom_id":"1","response":{"status_code":200,"body":%b}}\n' % ANSWER
        client = self.ask(b"/mistral/v1/files/f1/content", method=b"GET", body=None)
        self.answer(line * 2, kind=b"application/octet-stream")
        record = self.record()
        self.assertEqual((COST, "batch /v1/files/f1/content"), (record.cost_nano_usd, record.once))
        self.assertEqual([], read_answer(client.received).values(b"x-dheera-response-cost"))

    def test_stream(self) -> None:
        """
        Events are counted, and the longest silence between them is told.
        """
        client = self.ask()
        self.stream(EVENT)
        self.house.network.advance(3)
        self.house.script.last.send(in_chunks(EVENT, EVENT))
        self.house.network.advance(1)
        self.house.script.last.send(in_chunks(LAST_EVENT) + LAST_CHUNK)
        record = self.record()
        self.assertEqual(EVENT * 3 + LAST_EVENT, read_answer(client.received).body)
        self.assertEqual(
            ("complete", True, 4, COST), (record.outcome, record.is_stream, record.events, record.cost_nano_usd)
        )
        self.assertEqual(3_000_000, record.longest_gap_us)

    @given(st.data())
    @settings(deadline=None)
    def test_any_pieces(self, data: st.DataObject) -> None:
        """
        However the answer is cut into pieces, the record is the same.
        """
        self.build()
        whole = EVENT * 3 + LAST_EVENT
        cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=8)))
        pieces = [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        self.ask()
        self.stream()
        for piece in pieces:
            self.house.script.last.send(in_chunks(piece))
        self.house.script.last.send(LAST_CHUNK)
        record = self.record()
        self.assertEqual((COST, 4, len(whole)), (record.cost_nano_usd, record.events, record.response_bytes))

    def test_uploaded_in_pieces(self) -> None:
        """
        A body that streams is read as it passes: model, end user, and what it was in bytes.
        """
        body = CHAT[:-1] + b',"user":"eve","metadata":{"tags":["night"]}}'
        client = self.house.send(
            request(
                b"/mistral/v1/chat/completions",
                (b"Authorization", f"Bearer {KEY}".encode()),
                (b"Content-Type", b"application/json"),
                (b"Transfer-Encoding", b"chunked"),
                method=b"POST",
            )
        )
        client.send(in_chunks(body[:20]))
        client.send(in_chunks(body[20:]) + LAST_CHUNK)
        self.answer()
        record = self.record()
        self.assertEqual(
            ("m", "eve", ["night"], len(body)), (record.model, record.end_user, record.tags, record.request_bytes)
        )

    def test_error_of_upstream(self) -> None:
        """
        Upstream's error passes, and costs nothing.
        """
        self.ask()
        self.answer(b'{"message":"no"}', status=b"429 Too Many Requests")
        record = self.record()
        self.assertEqual(
            ("complete", 429, 0, True), (record.outcome, record.status, record.cost_nano_usd, record.failed)
        )

    def test_batch(self) -> None:
        """
        However the path of a batch's output is spelled, it is the same one.
        """
        line = b'{"custom_id":"1","response":{"status_code":200,"body":' + ANSWER + b"}}\n"
        once = set()
        for path in (
            b"/mistral/v1/files/f1/content",
            b"/mistral/v1/files/f%31/content/",
            b"/mistral/v1/files/f1/content?x",
        ):
            self.ask(path, method=b"GET", body=None)
            self.answer(line, b"application/octet-stream")
            record = self.record()
            self.assertEqual(COST // 2, record.cost_nano_usd)
            once.add(record.once)
        self.assertEqual({"batch /v1/files/f1/content"}, once)

    def test_id_of_upstream(self) -> None:
        """
        What support asks for is written down.
        """
        self.ask()
        self.house.script.last.send(OK + b"mistral-correlation-id: 0190-abc\r\nContent-Length: 2\r\n\r\n{}")
        self.assertEqual("0190-abc", self.record().upstream_id)


class WhoTests(Accounting):
    """
    Whom a call is for.
    """

    def test_end_user_and_tags(self) -> None:
        """
        The header goes before the body; tags come from header, key and body, each once.
        """
        self.change(tags=["of-key", "both"])
        body = CHAT[:-1] + b',"user":"of-body","metadata":{"tags":["of-body","both"]}}'
        self.ask(body=body)
        self.answer()
        self.assertEqual("of-body", self.record().end_user)
        self.ask(
            b"/mistral/v1/chat/completions",
            (b"x-dheera-end-user", b"of-header"),
            (b"x-dheera-tags", b"a, b,"),
            body=body,
        )
        self.answer()
        record = self.record()
        self.assertEqual("of-header", record.end_user)
        self.assertEqual(["a", "b", "of-key", "both", "of-body"], record.tags)

    def test_team(self) -> None:
        """
        The team of the key, by its name too.
        """
        self.keep(Team(id="t1", alias="search", created_at=now(), updated_at=now()))
        self.change(team_id="t1")
        self.ask()
        self.answer()
        record = self.record()
        self.assertEqual(("t1", "search"), (record.team_id, record.team_alias))

    def test_master_key(self) -> None:
        """
        The master key is nobody's.
        """
        self.ask(credential=MASTER)
        self.answer()
        record = self.record()
        self.assertEqual((None, "master"), (record.key_id, record.key_alias))

    def test_hostile_texts(self) -> None:
        """
        What a client writes is bounded and printable.
        """
        self.ask(
            b"/mistral/v1/chat/completions",
            (b"x-dheera-end-user", b"e\xff\xc2\x85" + b"x" * 1000),
            (b"x-dheera-tags", b",".join(b"t%d" % each for each in range(100))),
            (b"User-Agent", b"u" * 5000),
        )
        self.answer()
        record = self.record()
        self.assertTrue(record.end_user and record.end_user.isprintable() and len(record.end_user) <= 256)
        self.assertEqual((32, 256), (len(record.tags), len(record.user_agent)))


class EndTests(Accounting):
    """
    Calls that end otherwise.
    """

    def test_client_leaves(self) -> None:
        """
        What came until then is estimated, and so marked.
        """
        client = self.ask()
        self.stream(EVENT, EVENT)
        client.reset()
        record = self.record()
        self.assertEqual(("client_left", 200, True), (record.outcome, record.status, record.estimated))
        self.assertEqual(
            Usage(prompt_tokens=-(-len(CHAT) // 4), completion_tokens=2, total_tokens=-(-len(CHAT) // 4) + 2),
            record.usage,
        )

    def test_client_leaves_before_the_answer(self) -> None:
        """
        Upstream may have worked: the request counts.
        """
        self.ask().reset()
        record = self.record()
        self.assertEqual(("client_left", None, True), (record.outcome, record.status, record.estimated))
        self.assertEqual(PROMPT * 1000, record.cost_nano_usd)

    def test_client_leaves_while_it_sends(self) -> None:
        """
        Upstream does not begin on half a request: that costs nothing.
        """
        fields = (b"Authorization", f"Bearer {KEY}".encode()), (b"Content-Length", b"%d" % (len(CHAT) + 1))
        client = self.house.send(request(b"/mistral/v1/chat/completions", *fields, method=b"POST") + CHAT)
        client.reset()
        record = self.record()
        self.assertEqual(("client_left", len(CHAT), 0), (record.outcome, record.request_bytes, record.cost_nano_usd))

    def test_fault_of_ours(self) -> None:
        """
        If something fails within dheera when upstream is at work already, that is not told as free.
        """
        client = self.ask()
        self.house.upstream.base = None  # type: ignore[assignment]  # whoever looks for it there will fail
        self.house.script.last.send(OK + b"Location: /x\r\nContent-Length: 2\r\n\r\n{}")
        self.assertEqual(500, read_answer(client.received).status)
        self.assertEqual(1, len(self.flushLoggedErrors(AttributeError)))
        record = self.record()
        self.assertEqual(("refused", True, PROMPT * 1000), (record.outcome, record.estimated, record.cost_nano_usd))

    def test_fault_of_accounting(self) -> None:
        """
        The client gets the answer of upstream, though it cannot be told beside it what was spent.
        """

        def spends(_key: str) -> Usd:
            raise RuntimeError

        exchanges = self.house.exchanges
        exchanges._accountant = evolve(exchanges._accountant, spends=spends)
        client = self.ask()
        self.answer()
        self.assertEqual((200, ANSWER), (read_answer(client.received).status, read_answer(client.received).body))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertEqual(COST, self.record().cost_nano_usd)

    def test_client_leaves_after_the_usage(self) -> None:
        """
        If upstream has said it, that counts: the stream was over, and clients hang up before the body's last bytes.
        """
        client = self.ask()
        self.stream(EVENT, LAST_EVENT)
        client.reset()
        record = self.record()
        self.assertEqual(("complete", COST, False), (record.outcome, record.cost_nano_usd, record.estimated))

    def test_stopped(self) -> None:
        """
        What dheera itself ends when it stops is not laid at the client's door.
        """
        self.ask()
        self.stream(EVENT)
        self.house.site.drain()
        self.house.site.end()
        record = self.record()
        self.assertEqual(("interrupted", 200, True), (record.outcome, record.status, record.estimated))

    def test_upstream_breaks_off(self) -> None:
        """
        As for a client that leaves.
        """
        self.ask()
        self.stream(EVENT)
        self.house.script.last.reset()
        record = self.record()
        self.assertEqual(("upstream_cut", "AnswerCut", True), (record.outcome, record.error, record.estimated))

    def test_left_before_the_end_of_a_batch(self) -> None:
        """
        The output of a batch is billed as a whole, also to whoever hangs up before its last byte: it is read on.
        """
        line = b'{"custom_id":"1","response":{"status_code":200,"body":%b}}\n' % ANSWER
        client = self.ask(b"/mistral/v1/files/f1/content", method=b"GET", body=None)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"
        self.house.script.last.send(head % (3 * len(line)) + 2 * line)
        client.reset()
        self.assertEqual([], self.house.records())
        self.house.script.last.send(line)
        record = self.record()
        self.assertEqual(("client_left", 3 * COST // 2), (record.outcome, record.cost_nano_usd))

    def test_upstream_is_away(self) -> None:
        """
        What never was sent costs nothing.
        """
        self.build(base=f"http://{UPSTREAM_HOST}:1")
        self.ask()
        self.house.network.turn(2)
        record = self.record()
        self.assertEqual(("upstream_cut", 502, 0), (record.outcome, record.status, record.cost_nano_usd))

    def test_refused(self) -> None:
        """
        A refusal is told if it is known whose key it was: what it may not, and that it is over.
        """
        self.change(models=["other"])
        self.ask()
        record = self.record()
        self.assertEqual(("refused", 403, "ModelNotAllowed", 0, "ada", "m"), _refusal(record))
        self.change(version=1, blocked=True)
        self.ask()
        self.assertEqual(("refused", 401, "BlockedKey", 0, "ada", "m"), _refusal(self.record()))
        self.assertEqual([], self.house.script.connections)

    def test_key_for_a_model(self) -> None:
        """
        What is written of a refusal holds no key, though the client has written one where a model belongs.
        """
        self.change(models=["other"])
        self.ask(body=b'{"model":"%b"}' % KEY.encode())
        record = self.record()
        self.assertNotIn(KEY, record.message or "")
        self.assertIn("[key]", record.message or "")

    def test_nobody(self) -> None:
        """
        Those of nobody are counted, and not written: a flood of wrong keys fills no disk.
        """
        self.ask(credential="sk-nobody-knows-this-one")
        self.assertEqual([], self.house.records())
        self.assertIn(b'dheera_refusals_total{reason="UnknownKey"} 1.0', self.house.metrics.text())
        self.assertEqual(0, self.house.metrics.in_flight)

    def test_not_written_not_sent(self) -> None:
        """
        What cannot be written down does not go to upstream.
        """
        spool = FullSpool()
        self.build(spool=spool)
        client = self.ask()
        answer = read_answer(client.received)
        self.assertEqual((503, [b"1"]), (answer.status, answer.values(b"retry-after")))
        self.assertEqual([], self.house.script.connections)

    def test_written_before_it_is_sent(self) -> None:
        """
        When the first byte reaches upstream, the beginning is written.
        """
        begun: list[tuple[Begun, int]] = []
        house = self.house

        class Noting(MemorySpool):
            def begin(self, line: Begun) -> None:
                begun.append((line, len(house.script.connections)))

        self.build(spool=Noting())
        house = self.house
        self.ask()
        [(line, connections)] = begun
        self.assertEqual((0, "m", "ada", len(CHAT)), (connections, line.model, line.key_alias, line.request_bytes))


class ContentTests(Accounting):
    """
    How much of what calls are about is written.
    """

    FULL = ContentRules(policy="full", redaction=Redaction.of((), ()))

    def test_not_unless_asked_for(self) -> None:
        """
        Bodies are not.
        """
        self.ask()
        self.answer()
        record = self.record()
        self.assertEqual((None, None), (record.request, record.response))

    def test_full(self) -> None:
        """
        Both bodies, if the configuration says so; also of an answer in events.
        """
        self.build(content=self.FULL)
        self.ask()
        self.answer()
        record = self.record()
        self.assertEqual(json.loads(CHAT), record.request.body if record.request else None)
        self.assertEqual(json.loads(ANSWER), record.response.body if record.response else None)
        self.ask()
        self.stream(EVENT, LAST_EVENT)
        self.house.script.last.send(LAST_CHUNK)
        record = self.record()
        self.assertIn("Hi", record.response.body if record.response else "")

    def test_key_wants_less(self) -> None:
        """
        A key may want less than the configuration, and not more.
        """
        self.build(content=self.FULL)
        self.change(metadata={"log_content": "none"})
        self.ask()
        self.answer()
        record = self.record()
        self.assertEqual((None, None, {}), (record.request, record.response, record.parameters))
        self.build(content=ContentRules(policy="none"))
        self.change(metadata={"log_content": "full"})
        self.ask()
        self.answer()
        self.assertIsNone(self.record().request)


def _refusal(record: Record) -> tuple[object, ...]:
    return record.outcome, record.status, record.error, record.cost_nano_usd, record.key_alias, record.model

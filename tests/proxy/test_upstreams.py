"""
Several upstreams beside each other, each at its prefix; and what is carried over when they are made anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Add
from dheera.entities import Key, now
from dheera.keys import Secret, WeightedKey, digest
from dheera.money import Usd
from dheera.proxy.upstreams import key_levels, make_upstreams
from dheera.records import Begun, Record
from dheera.settings import Config, Mistral, OtherUpstream
from dheera.settlement import FREE, interrupted
from dheera.spool.memory import MemorySpool
from dheera.wire.client import Agent
from dheera.wire.limits import ClientLimits
from tests.house import Answer, House, read_answer
from tests.network import Network, Peer, Script
from tests.proxy.test_sending import CHAT, FINE, KEYS, SendingTestCase, declined
from tests.wire.caller import OK

LOCAL_HOST = "10.0.0.20"
MASTER = "sk-master-canary-0123456789"
KEY = "sk-virtual-canary-0123456789"
PRICES = {"m": {"input_per_million": 1.0, "output_per_million": 2.0}}
USAGE = b'{"model":"m","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110}}'
ANSWER = OK + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(USAGE) + USAGE


def local(**said: Any) -> OtherUpstream:
    """
    An upstream of our own, without a key.
    """
    return OtherUpstream(**{"api_base": f"http://{LOCAL_HOST}/llm", **said})


class Beginnings(MemorySpool):
    """
    One that remembers what has begun.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[Begun] = []

    def begin(self, begun: Begun) -> None:
        self.begun.append(begun)


class NamedTests(SynchronousTestCase):
    """
    A house with an upstream of its own beside Mistral's.
    """

    def build(self, **said: Any) -> None:
        self.house = House(**{"upstreams": {"local": local()}, **said})
        self.local = Script(self.house.network)
        self.house.network.listen(self.local, LOCAL_HOST, 80)

    def ask(self, path: bytes, *fields: tuple[bytes, bytes], body: bytes = CHAT) -> Peer:
        return self.house.ask(path, *fields, method=b"POST", body=body)

    def answered(self, client: Peer) -> Answer:
        return read_answer(client.received)

    def record(self) -> Record:
        [record] = self.house.records()
        return record

    def test_prefix(self) -> None:
        """
        What is below its prefix goes to it, with its own path before, and below ``/mistral`` to Mistral; each gets its
        own credential, and one without a key none at all, whatever the client has sent.
        """
        self.build(upstreams={"local": local(), "other": local(prefix="/fast_one", api_key=Secret("sk-other"))})
        self.ask(b"/local/v1/chat/completions", (b"Authorization", b"Bearer sk-client"))
        self.assertTrue(self.local.last.received.startswith(b"POST /llm/v1/chat/completions HTTP/1.1\r\nHost: 10.0.0."))
        self.assertNotIn(b"authorization", self.local.last.received.lower())
        self.ask(b"/fast_one/models?a=%2F")
        self.assertTrue(self.local.last.received.startswith(b"POST /llm/v1/models?a=%2F HTTP/1.1\r\n"))
        self.assertIn(b"Authorization: Bearer sk-other\r\n", self.local.last.received)
        self.ask(b"/mistral/v1/chat/completions")
        self.assertIn(b"Authorization: Bearer sk-upstream-canary\r\n", self.house.script.last.received)
        self.assertEqual((1, 2), (len(self.house.script.connections), len(self.local.connections)))

    def test_elsewhere(self) -> None:
        """
        What is below no prefix, or spelled in another way, is nothing here.
        """
        self.build()
        for path in (b"/other/v1/models", b"/localx/v1/models", b"/%6cocal/v1/models", b"/local", b"/Local/v1/models"):
            self.assertEqual(404, self.answered(self.ask(path)).status, path)
        self.assertEqual(400, self.answered(self.ask(b"/local/../mistral/v1/models")).status)
        self.assertEqual([], self.local.connections + self.house.script.connections)

    def test_location(self) -> None:
        """
        A redirect within it leads to its own prefix.
        """
        self.build()
        for location, seen in (
            (b"/llm/v1/files/1", b"/local/v1/files/1"),
            (b"http://10.0.0.20/llm/v1/files/1#x", b"/local/v1/files/1#x"),
            (b"http://10.0.0.9:8000/v1/files/1", b"http://10.0.0.9:8000/v1/files/1"),
        ):
            client = self.ask(b"/local/v1/files")
            self.local.last.send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n" % location)
            self.assertEqual([seen], self.answered(client).values(b"location"))

    def test_without_mistral(self) -> None:
        """
        Without a key for Mistral, calls to it are refused, and those to others are not.
        """
        self.build(api_key=None)
        self.assertEqual(503, self.answered(self.ask(b"/mistral/v1/models")).status)
        client = self.ask(b"/local/v1/models")
        self.local.last.send(FINE)
        self.assertEqual(200, self.answered(client).status)

    def test_recorded(self) -> None:
        """
        Records name the upstream, and its calls cost what the price list says.
        """
        self.build(prices=PRICES)
        self.ask(b"/local/v1/chat/completions")
        self.local.last.send(ANSWER)
        record = self.record()
        self.assertEqual(("local", True, 120_000), (record.upstream, record.priced, record.cost_nano_usd))
        self.ask(b"/mistral/v1/chat/completions")
        self.house.script.last.send(ANSWER)
        self.assertEqual("mistral", self.record().upstream)

    def test_free(self) -> None:
        """
        One that is not priced costs nothing, whatever is used there, and what is used is recorded all the same.
        """
        self.build(prices=PRICES, upstreams={"local": local(priced=False)})
        for model, usage in ((b"m", 110), (b"unheard-of", 110)):
            client = self.ask(b"/local/v1/chat/completions", body=CHAT.replace(b'"m"', b'"%b"' % model))
            self.local.last.send(ANSWER)
            record = self.record()
            self.assertEqual((0, FREE, []), (record.cost_nano_usd, record.price_list, record.unpriced))
            self.assertEqual(usage, record.usage.total_tokens if record.usage else None)
            self.assertEqual(b"0", self.answered(client).values(b"x-dheera-response-cost")[0][:1])
        self.ask(b"/local/v1/chat/completions").close()
        record = self.record()
        self.assertEqual(("client_left", 0), (record.outcome, record.cost_nano_usd))

    def test_budget(self) -> None:
        """
        What costs nothing goes through for a key that has spent all, whatever it is, and nothing is held for it; what
        the key may send and use in a minute bounds it as ever.
        """
        self.build(prices=PRICES, upstreams={"local": local(priced=False)}, master_key=MASTER)
        key = Key(
            id="k1",
            alias="ada",
            digest=digest(KEY.encode()),
            name="sk-...6789",
            created_at=now(),
            updated_at=now(),
            max_budget=Usd(0),
            rpm_limit=2,
        )
        self.successResultOf(self.house.store.apply([Add(key)], []))
        credential = (b"Authorization", f"Bearer {KEY}".encode())
        for body in (CHAT, CHAT.replace(b'"m"', b'"unheard-of"')):
            client = self.ask(b"/local/v1/chat/completions", credential, body=body)
            self.local.last.send(ANSWER)
            self.assertEqual(200, self.answered(client).status)
            self.assertIsNone(self.record().held_nano_usd)
        self.assertEqual(429, self.answered(self.ask(b"/local/v1/chat/completions", credential)).status)
        self.assertEqual(403, self.answered(self.ask(b"/mistral/v1/chat/completions", credential)).status)
        self.assertEqual([], self.house.script.connections)

    def test_death(self) -> None:
        """
        A call to one that is not priced costs nothing either if dheera dies meanwhile.
        """
        spool = Beginnings()
        self.build(prices=PRICES, upstreams={"local": local(priced=False)}, spool=spool)
        self.ask(b"/local/v1/chat/completions")
        self.ask(b"/mistral/v1/chat/completions")
        free, priced = (interrupted(each, self.house.prices) for each in spool.begun)
        self.assertEqual((0, FREE), (free.cost_nano_usd, free.price_list))
        self.assertNotEqual(0, priced.cost_nano_usd)


class MakingTests(SendingTestCase):
    """
    Upstreams are made of a configuration.
    """

    def test_agents(self) -> None:
        """
        Each has the agent that trusts its authorities.
        """
        network, asked = Network(), []

        def agents(file: Path | None) -> Agent:
            asked.append(file)
            return Agent(network, ClientLimits())

        config = Config(
            mistral=Mistral(ca_file=Path("a.pem")),
            upstreams={"local": local(), "other": local(ca_file=Path("b.pem"))},
        )
        made = make_upstreams(network, config, agents, None, self.house.alerts.append)
        self.assertEqual(["mistral", "local", "other"], [*made])
        self.assertEqual([Path("a.pem"), None, Path("b.pem")], asked)
        self.assertEqual([b"/mistral", b"/local", b"/other"], [each.prefix for each in made.values()])

    def test_demo(self) -> None:
        """
        The demo knows a key of its own, and no other is sent to it.
        """
        config = Config(demo=True, mistral=Mistral(api_keys=KEYS))
        made = make_upstreams(Network(), config, lambda _: self.house.agent, None, self.house.alerts.append)
        self.assertEqual((b"Bearer demo", None), (made["mistral"].authorization, made["mistral"].credentials))

    def test_carried_over(self) -> None:
        """
        A key that rests goes on resting when upstreams are made anew, by whatever name and place it has then; others
        are well. What is learnt by calls that began before is known too.
        """
        self.build(api_keys=KEYS)
        before = self.house.upstreams
        old = before["mistral"].credentials
        assert old is not None
        self.chat()
        self.upstream.send(declined(401))
        self.upstream.send(FINE)
        gone = self.sent()[0]
        rest = [each for each in KEYS if not each.key.reveal().endswith(gone)]
        same = next(each for each in KEYS if each.key.reveal().endswith(gone))
        keys = (WeightedKey(Secret("sk-canary-9")), *rest, evolve(same, name="same", weight=7))
        self.house.config = evolve(self.house.config, mistral=evolve(self.house.config.mistral, api_keys=keys))
        after = self.house.make_upstreams(before)
        credentials = after["mistral"].credentials
        assert credentials is not None
        self.assertEqual({"key 1": False, "key 2": False, "key 3": False, "same": True}, credentials.resting())
        anew = self.house.make_upstreams(None)["mistral"].credentials
        assert anew is not None
        self.assertFalse(any(anew.resting().values()))
        for each in old:
            each.health.accepted(self.house.network.seconds())
        self.assertFalse(any(credentials.resting().values()))

    def test_levels(self) -> None:
        """
        Metrics tell which keys rest, where there are several, and why calls were sent again.
        """
        self.build(api_keys=KEYS[:2], upstreams={"local": local(api_key=Secret("sk-x"))})
        self.chat()
        self.upstream.send(declined(429, b"Retry-After: 100"))
        self.upstream.send(FINE)
        first, other = (f"key {each}" for each in self.sent())
        self.assertEqual(
            {("upstream_key_resting", ("mistral", first), 1.0), ("upstream_key_resting", ("mistral", other), 0.0)},
            {(level.name, level.labels, float(level.value)) for level in key_levels(self.house.upstreams.values())},
        )
        text = self.house.metrics.text().decode()
        self.assertIn('dheera_upstream_retries_total{reason="429",upstream="mistral"} 1.0', text)

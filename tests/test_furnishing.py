"""
What a configuration that is read anew changes in a house that stands, and what it leaves alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import trustme
from attrs import evolve
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Add
from dheera.config import ConfigurationError
from dheera.errors import NotAllowed, NotAuthenticated, StoreAway, UnknownKey
from dheera.furnishing import Furniture, change_sinks, refurnish
from dheera.gate import KeyGate
from dheera.keys import Secret, WeightedKey, digest
from dheera.open_gate import OpenGate
from dheera.proxy.health import Health
from dheera.proxy.target import parse_base
from dheera.proxy.upstream import Upstream
from dheera.records import Begun
from dheera.service import build
from dheera.settings import (
    AllowanceSettings,
    Config,
    KeySettings,
    LimitSettings,
    Listen,
    MetricSettings,
    Mistral,
    OtherUpstream,
    RecordSettings,
    Storage,
)
from dheera.spool.spool import FileSpool
from dheera.stores.memory import MemoryStore
from dheera.wire.limits import ClientLimits, ServerLimits
from tests.house import Answer, Overheard, read_answer, request
from tests.network import LOCAL, UPSTREAM_HOST, UPSTREAM_PORT, Network, Peer, Script
from tests.test_gate import CHAT, KEY, MASTER, caller
from tests.test_keyring import NOW, key
from tests.wire.test_certificate import shake_hands

BASE = Config(demo=True, listen=Listen(host="127.0.0.1"))
LONG = Secret("sk-long-enough-to-be-nobodys-guess")


class FurnishingCase(SynchronousTestCase):
    """
    A house without doors; its demo is a script.
    """

    base = BASE

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.network = Network()
        self.script = Script(self.network)
        self.network.listen(self.script)
        self.build(self.base)

    def build(self, config: Config) -> None:
        """
        Another house, with that configuration.
        """
        if not config.demo:
            config = evolve(config, store=Storage(state_dir=self.folder))
        self.base = config
        daemon = build(self.network, config, lambda _: None, environment={})
        self.walls, self.furniture = daemon._walls, daemon.furniture
        if self.walls.demo is not None:
            self.walls.demo.base = parse_base(f"http://{UPSTREAM_HOST}:{UPSTREAM_PORT}")
            self.walls.demo.turn(self.walls.demo.base)

    def change(self, **fields: Any) -> None:
        """
        Read anew what differs from the first configuration in these.
        """
        self.furniture = self.successResultOf(self.changing(**fields))

    def changing(self, **fields: Any) -> Deferred[Furniture]:
        config = evolve(self.base, **fields)
        return Deferred.fromCoroutine(self._change(config))

    async def _change(self, config: Config) -> Furniture:
        before, furniture = self.furniture, refurnish(self.walls, self.furniture, config)
        await change_sinks(self.walls, before, furniture)
        return furniture

    def connect(self) -> Peer:
        """
        A client's connection.
        """
        client = Peer(self.network)
        site = self.walls.site.buildProtocol(LOCAL)
        self.network.join(client, site, IPv4Address("TCP", "127.0.0.1", 4000), LOCAL)
        return client

    def ask(self, path: bytes, **fields: Any) -> Answer:
        """
        What is answered to a request on a connection of its own.
        """
        client = self.connect()
        client.send(request(path, **fields))
        return read_answer(client.received)


class GateTests(FurnishingCase):
    """
    Keys.
    """

    def setUp(self) -> None:
        super().setUp()
        store = self.walls.stores.directory
        assert isinstance(store, MemoryStore)
        self.store = store
        self.successResultOf(store.open())
        self.successResultOf(store.apply([Add(key("k", digest=digest(KEY.encode()), alias="ada"))], []))

    def admit(self, credential: str | None) -> Deferred[Any]:
        return self.furniture.gate.admit(caller(credential), b"POST", CHAT)

    def test_keys_at_hand(self) -> None:
        """
        Keys that are at hand stay so: they go on though the database is away, whatever else has changed.
        """
        self.change(master_key=Secret(MASTER))
        self.assertEqual("ada", self.successResultOf(self.admit(KEY)).alias)
        self.store.fail()
        self.change(master_key=LONG, keys=KeySettings(cached=5), drain_seconds=9)
        self.assertEqual("ada", self.successResultOf(self.admit(KEY)).alias)
        self.failureResultOf(self.admit(MASTER), StoreAway)
        self.successResultOf(self.admit(LONG.reveal()))

    def test_opened_and_closed(self) -> None:
        """
        With a master key a key is needed, and without one none is, each time that this changes.
        """
        for _ in range(2):
            self.assertIsInstance(self.furniture.gate, OpenGate)
            self.failureResultOf(self.admit(None), NotAllowed)  # it comes from elsewhere
            self.change(listen=Listen(open_to_network=True))
            self.successResultOf(self.admit(None))
            self.change(master_key=Secret(MASTER))
            self.failureResultOf(self.admit(None), NotAuthenticated)
            self.successResultOf(self.admit(MASTER))
            self.change()

    def test_watchers(self) -> None:
        """
        However often it changes, no more are told of changes in the store than at first.
        """
        watchers = self.store._watchers._all
        before = len(watchers)
        for number in range(100):
            fields: dict[str, Any] = {"end_user_limits": LimitSettings(rpm_limit=number)}
            if number % 2:
                fields["master_key"] = Secret(f"{MASTER}-{number % 3}")
            self.change(**fields)
            self.assertLessEqual(len(watchers), before + 1)
        self.change()
        self.assertEqual(before, len(watchers))

    def test_master_key_is_reserved(self) -> None:
        """
        The master key in force is the one that manages; the one before is nobody's.
        """
        for now, before in ((MASTER, "sk-nobody"), (LONG.reveal(), MASTER)):
            self.change(master_key=Secret(now))
            self.assertEqual(200, self.ask(b"/key/list", fields=[bearer(now)]).status)
            self.assertEqual(401, self.ask(b"/key/list", fields=[bearer(before)]).status)

    def test_metrics(self) -> None:
        """
        Who may read the metrics follows.
        """
        self.assertEqual(200, self.ask(b"/metrics").status)
        self.change(master_key=Secret(MASTER), metrics=MetricSettings(auth="admin"))
        self.assertEqual(401, self.ask(b"/metrics").status)
        self.change()
        self.assertEqual(200, self.ask(b"/metrics").status)

    def test_end_users(self) -> None:
        """
        The limits of end users who have none of their own follow.
        """
        for settings, caps in ((LimitSettings(rpm_limit=4), [4]), (LimitSettings(), [])):
            self.change(end_user_limits=settings)
            found = self.successResultOf(self.walls.end_users.find("x"))
            self.assertEqual(caps, [limit.cap for limit in found.limits.all])

    def test_wrong_keys_are_forgotten(self) -> None:
        """
        Keys that nobody has issued stay unknown.
        """
        self.change(master_key=Secret(MASTER))
        self.failureResultOf(self.admit("sk-nobody"), UnknownKey)
        self.change(master_key=LONG)
        self.failureResultOf(self.admit("sk-nobody"), UnknownKey)
        assert isinstance(self.furniture.gate, KeyGate)

    def ask(self, path: bytes, *, fields: Any = (), **named: Any) -> Answer:
        client = self.connect()
        client.send(request(path, *fields, **named))
        return read_answer(client.received)


def bearer(credential: str) -> tuple[bytes, bytes]:
    return b"Authorization", b"Bearer " + credential.encode()


class ExchangeTests(FurnishingCase):
    """
    Calls while all around them changes.
    """

    def test_under_way(self) -> None:
        """
        A call that is under way goes on as it began; the next one on its connection goes by what is in force then.
        """
        self.successResultOf(self.walls.stores.directory.open())
        client = self.connect()
        client.send(request(b"/mistral/v1/models"))
        self.script.last.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        self.change(master_key=Secret(MASTER), server_limits=ServerLimits(requests=1))
        self.script.last.send(b"world")
        answer = read_answer(client.received)
        self.assertEqual((200, b"helloworld"), (answer.status, answer.body))
        client.taken()
        client.send(request(b"/mistral/v1/models"))
        self.assertEqual(401, read_answer(client.received).status)

    def test_demo(self) -> None:
        """
        Wherever the demo is, before or after a change, upstream is there.
        """
        before = self.furniture.upstreams["mistral"]
        self.change(drain_seconds=1)
        demo, now = self.walls.demo, self.furniture.upstreams["mistral"]
        assert demo is not None
        self.assertIsNot(before, now)
        self.assertEqual(demo.base, now.base)
        other = parse_base("http://127.0.0.1:1")
        demo.turn(other)
        self.assertEqual(other, now.base)

    def test_upstreams(self) -> None:
        """
        An upstream that is new has its path, and one that is gone has none any more.
        """
        server = OtherUpstream(api_base=f"http://{UPSTREAM_HOST}:{UPSTREAM_PORT}")
        for upstreams, status in (({}, 404), ({"own": server}, 200), ({}, 404)):
            self.change(upstreams=upstreams)
            client = self.connect()
            client.send(request(b"/own/v1/models"))
            if status != 404:
                self.script.last.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            self.assertEqual(status, read_answer(client.received).status)

    def test_places(self) -> None:
        """
        Places that are taken stay so, and there are as many as the new limits say.
        """
        capacity = self.walls.capacity
        self.assertIsNone(capacity.enter("a"))
        self.change(server_limits=ServerLimits(requests=2))
        self.assertIsNone(capacity.enter("a"))
        turn = capacity.enter("a")
        assert turn is not None
        self.change(server_limits=ServerLimits(requests=3))
        self.successResultOf(turn)
        self.assertEqual(3, capacity.under_way)

    def test_limits(self) -> None:
        """
        What clients may send, what upstream is given, what may be kept at once and how many files that takes follow.
        """
        self.change(
            server_limits=ServerLimits(body_bytes=5),
            client_limits=ClientLimits(pool_connections=3),
            keys=KeySettings(inspected_together_bytes=7),
        )
        self.assertEqual(5, self.walls.site.limits.body_bytes)
        self.assertEqual(3, self.furniture.upstreams["mistral"].agent.limits.pool_connections)
        self.assertEqual(7, self.walls.headroom.room_bytes)
        self.assertIs(self.walls.headroom, self.furniture.exchanges._headroom)
        most = self.walls.site._crowd.most
        self.change(server_limits=ServerLimits(connections=3))
        self.assertLess(self.walls.site._crowd.most, most)

    def test_store_down(self) -> None:
        """
        Whether calls go on that nobody can count follows.
        """
        for settings, goes_on in ((AllowanceSettings(when_store_down="allow"), True), (AllowanceSettings(), False)):
            self.change(allowances=settings)
            self.assertEqual(goes_on, self.walls.allowances._taking.goes_on)


class UpstreamTests(FurnishingCase):
    """
    Mistral itself.
    """

    base = evolve(BASE, demo=False, mistral=Mistral(api_keys=(WeightedKey(Secret("a")), WeightedKey(Secret("b")))))

    def healths(self) -> list[Health]:
        credentials = self.furniture.upstreams["mistral"].credentials
        assert credentials is not None
        return [each.health for each in credentials]

    def test_health(self) -> None:
        """
        What is known of a key stays known while it is configured, wherever it stands; of a new one nothing is known.
        """
        first, second = self.healths()
        keys = [WeightedKey(Secret(each), weight=3) for each in "bca"]
        self.change(mistral=Mistral(api_keys=tuple(keys)))
        again = self.healths()
        self.assertIs(second, again[0])
        self.assertIs(first, again[2])
        self.assertNotIn(again[1], (first, second))

    def test_authorities(self) -> None:
        """
        A file of authorities that has changed makes another pool of connections; what was kept in the old one is
        closed.
        """
        file = self.folder / "ca.pem"
        file.write_bytes(trustme.CA().cert_pem.bytes())
        mistral = Mistral(api_key=Secret("a"), ca_file=file, api_base=f"http://{UPSTREAM_HOST}:{UPSTREAM_PORT}")
        self.change(mistral=mistral)
        before = self.furniture.upstreams["mistral"]
        kept = self.use(before)
        self.change(mistral=mistral, drain_seconds=1)
        self.network.settle()
        self.assertEqual("open", kept.ended)
        file.write_bytes(trustme.CA().cert_pem.bytes())
        self.change(mistral=mistral)
        self.network.settle()
        self.assertIsNot(before.agent, self.furniture.upstreams["mistral"].agent)
        self.assertEqual(("reset", 0), (kept.ended, self.walls.agents.idle_connections))

    def use(self, upstream: Upstream) -> Peer:
        """
        :return: the far end of a connection that is kept.
        """
        answered = upstream.agent.request(b"GET", b"http://%b:%d/" % (UPSTREAM_HOST.encode(), UPSTREAM_PORT))
        self.network.settle()
        self.script.last.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.successResultOf(answered)
        return self.script.last

    def test_interrupted(self) -> None:
        """
        What a call costs that nobody saw the end of is told by the prices in force.
        """
        spool = self.walls.accounts._spool
        assert isinstance(spool, FileSpool)
        begun = Begun(
            call_id="c",
            started_at=NOW,
            node="n",
            method="POST",
            path="/v1/chat/completions",
            endpoint="chat/completions",
            key_alias="ada",
            model="m",
            request_bytes=400,
        )
        costs = [spool._interrupted(begun).cost_nano_usd]
        for price in 1, 2:
            self.change(prices={"m": {"input_per_million": price, "output_per_million": price}})
            costs.append(spool._interrupted(begun).cost_nano_usd)
        self.assertIsNone(costs[0])
        assert costs[1] is not None
        self.assertEqual(2 * costs[1], costs[2])
        self.assertGreater(costs[1], 0)

    def test_told(self) -> None:
        """
        The log says what is wanting now: a key for upstream, a long master key; and whom the gate lets in.
        """
        heard = Overheard.by(self)
        self.change(mistral=Mistral(), master_key=Secret("sk-short"))
        self.change(store=Storage(state_dir=self.folder, url=Secret("postgresql://canary@h/d")))
        lines = "\n".join(heard.lines())
        for words in (
            "No upstream key",
            "The master key is short",
            "A key is needed",
            "but no master key",
            "Open to this machine only",
        ):
            self.assertEqual(1, lines.count(words), words)
        self.assertNotIn("sk-short", heard.everything())
        self.assertNotIn("canary", heard.everything())


class CertificateTests(FurnishingCase):
    """
    The certificate that we show.
    """

    def setUp(self) -> None:
        self.files = [Path(self.enterContext(tempfile.TemporaryDirectory()), f"{number}.pem") for number in range(3)]
        for number in 0, 1:
            issued = trustme.CA().issue_cert(f"{number}.example")
            issued.private_key_and_cert_chain_pem.write_to_path(str(self.files[number]))
        self.base = evolve(BASE, listen=Listen(tls_certificate=self.files[0]))
        super().setUp()

    def shown(self) -> str:
        """
        For whom the certificate is that a client sees.
        """
        certificate = self.walls.certificate
        assert certificate is not None
        client = shake_hands(certificate.serverConnectionForTLS(None), SSL.Context(SSL.TLS_CLIENT_METHOD))
        peer = client.get_peer_certificate(as_cryptography=True)
        assert peer is not None
        content = peer.public_bytes(Encoding.DER)  # in which names are legible
        [name] = [each for each in ("0.example", "1.example") if each.encode() in content]
        return name

    def test_changed(self) -> None:
        """
        Another file is shown at once.
        """
        self.assertEqual("0.example", self.shown())
        self.change(listen=Listen(tls_certificate=self.files[1]))
        self.assertEqual("1.example", self.shown())
        self.change(listen=Listen(tls_certificate=self.files[1], tls_key=self.files[0]))
        self.assertEqual("1.example", self.shown())  # that is not its key

    def test_all_or_nothing(self) -> None:
        """
        If anything else cannot be used the certificate stays as well.
        """
        mistral = Mistral(ca_file=self.files[2])
        failed = self.changing(listen=Listen(tls_certificate=self.files[1]), mistral=mistral)
        self.failureResultOf(failed, ConfigurationError)
        self.assertEqual("0.example", self.shown())


class FailureTests(FurnishingCase):
    """
    What cannot be used.
    """

    def test_all_stays(self) -> None:
        """
        All problems are told, and nothing is different afterwards: who is let in, what is served, limits and sinks.
        """
        self.successResultOf(self.walls.stores.directory.open())
        before = self.furniture
        root, limits = self.walls.site.resource, self.walls.site.limits
        feeders = self.walls.accounts._feeders._feeders
        failed = self.changing(
            master_key=LONG,
            server_limits=ServerLimits(body_bytes=1),
            prices={"m": {"input_per_million": "much"}},
            sinks={"s": {"kind": "nothing of the sort"}},
            records=RecordSettings(redact_paths=("[[",)),
        )
        problems = self.failureResultOf(failed, ConfigurationError).value.problems
        self.assertEqual(3, len(problems), problems)
        self.assertIs(before, self.furniture)
        self.assertIs(root, self.walls.site.resource)
        self.assertIs(limits, self.walls.site.limits)
        self.assertIs(feeders, self.walls.accounts._feeders._feeders)
        self.assertEqual(200, self.ask(b"/metrics").status)

    def test_file_gone(self) -> None:
        """
        A file of authorities that is not there any more is named.
        """
        failed = self.changing(mistral=Mistral(ca_file=self.folder / "gone.pem"), master_key=LONG)
        [problem] = self.failureResultOf(failed, ConfigurationError).value.problems
        self.assertIn(str(self.folder / "gone.pem"), problem)
        self.assertIn("No such file", problem)
        self.assertIsInstance(self.furniture.gate, OpenGate)


class SinkTests(FurnishingCase):
    """
    Where records go.
    """

    def test_same(self) -> None:
        """
        A sink whose table is the same goes on; one whose table differs is made anew; one that is gone is.
        """
        feeders = self.walls.accounts._feeders
        self.successResultOf(Deferred.fromCoroutine(feeders.open()))
        tables = {name: {"kind": "file", "path": str(self.folder / name)} for name in ("a", "b", "c")}
        self.change(sinks=tables)
        before = dict(feeders._feeders)
        self.change(sinks={"a": tables["a"], "b": {**tables["b"], "path": str(self.folder / "other")}})
        self.network.settle()
        now = feeders._feeders
        self.assertEqual(["a", "b"], list(now))
        self.assertIs(before["a"], now["a"])
        self.assertIsNot(before["b"], now["b"])
        self.successResultOf(Deferred.fromCoroutine(feeders.close()))

    def test_in_force_before(self) -> None:
        """
        All else is in force while old sinks are still waited for.
        """
        waiting: Deferred[None] = Deferred()

        async def change(*_: object) -> None:
            await waiting

        self.patch(type(self.walls.accounts), "change_sinks", change)
        changing = self.changing(server_limits=ServerLimits(body_bytes=5))
        self.assertNoResult(changing)
        self.assertEqual(5, self.walls.site.limits.body_bytes)
        waiting.callback(None)
        self.successResultOf(changing)

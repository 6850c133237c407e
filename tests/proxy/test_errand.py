"""
What is kept of a head from one request to the next, and what is not.
"""

from __future__ import annotations

import gc
from ipaddress import ip_network

from attrs import evolve
from msgspec import structs
from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Add, Put
from dheera.entities import Key, now
from dheera.keys import Secret, digest
from dheera.proxy.errand import Errand
from dheera.settings import Mistral
from dheera.web.passthrough import PassThrough
from tests.house import UPSTREAM_KEY, House, read_answer, request
from tests.network import Peer

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class ErrandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.house = House(master_key="sk-master-canary")
        self.keys: dict[str, Key] = {}
        self.keep("a", "sk-of-a-canary-0001")
        self.keep("b", "sk-of-b-canary-0001")
        self.client = self.house.connect()

    def keep(self, name: str, text: str) -> None:
        made = Key(id=name, created_at=now(), updated_at=now(), digest=digest(text.encode()), name=name)
        self.successResultOf(self.house.store.apply([Add(made)], []))
        self.keys[name] = made

    def post(self, key: bytes, body: bytes) -> tuple[int, bytes]:
        """
        Send *body* with *key*, on the one connection.

        :return: the status of the answer, and what has come to upstream.
        """
        peers = len(self.house.script.connections)
        before = b"" if not peers else self.house.script.last.received
        self.client.received = b""
        fields = (b"Authorization", b"Bearer " + key), (b"X-Forwarded-For", b"192.0.2.7")
        self.client.send(request(b"/mistral/v1/files", *fields, method=b"POST", body=body))
        upstream: Peer = self.house.script.last
        came = upstream.received[len(before) :]
        if came:
            upstream.send(EMPTY)
        return read_answer(self.client.received).status, came

    def test_same_head(self) -> None:
        """
        Requests with the same head go up with the same lines, each with its own length and body.
        """
        status, first = self.post(b"sk-of-a-canary-0001", b"one")
        head, _, body = first.partition(b"\r\n\r\n")
        self.assertEqual((200, b"one", True), (status, body, b"\r\nContent-Length: 3" in head))
        status, second = self.post(b"sk-of-a-canary-0001", b"eleven")
        self.assertEqual((200, first.replace(b": 3", b": 6").replace(b"one", b"eleven")), (status, second))

    def test_other_key(self) -> None:
        """
        On the connection of somebody else's calls each key is its own: one that is wrong opens nothing.
        """
        self.assertEqual(200, self.post(b"sk-of-a-canary-0001", b"one")[0])
        self.assertEqual((401, b""), self.post(b"sk-of-a-canary-0002", b"one"))
        self.assertEqual(200, self.post(b"sk-of-b-canary-0001", b"one")[0])
        self.assertEqual(["a", "b"], [record.key_id for record in self.house.records()])

    def test_configuration_read_anew(self) -> None:
        """
        On a connection that stays, the same head then goes where, and with what, the new configuration says.
        """
        house = self.house
        self.assertEqual(200, self.post(b"sk-of-a-canary-0001", b"one")[0])
        house.config = evolve(
            house.config, mistral=Mistral(api_base="http://10.0.0.9:8000/eu", api_key=Secret("sk-rotated"))
        )
        upstream = house.make_upstreams(house.upstreams)["mistral"]
        self.serve(PassThrough(house.exchanges, upstream))
        sent = self.post(b"sk-of-a-canary-0001", b"one")[1]
        self.assertTrue(sent.startswith(b"POST /eu/v1/files "), sent)
        self.assertEqual((1, 0), (sent.count(b"Bearer sk-rotated\r\n"), sent.count(UPSTREAM_KEY.encode())))
        self.serve(PassThrough(evolve(house.exchanges, trusted=(ip_network("127.0.0.0/8"),)), upstream))
        self.assertEqual(200, self.post(b"sk-of-a-canary-0001", b"one")[0])
        self.assertEqual(["127.0.0.1", "127.0.0.1", "192.0.2.7"], [record.client for record in house.records()])

    def serve(self, mistral: PassThrough) -> None:
        tree = self.house.site.resource
        tree.putChild(b"mistral", mistral)

    def test_forgotten(self) -> None:
        """
        Of a head nothing is left when another one has come: it holds a key, and the garbage collector seldom comes by.
        """
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        before = _errands()
        self.post(b"sk-of-a-canary-0001", b"one")
        self.post(b"sk-of-b-canary-0001", b"one")
        self.assertEqual(before + 1, _errands())

    def test_key_that_ends(self) -> None:
        """
        What is kept of a head opens nothing: a key that was blocked meanwhile is refused, with the same head.
        """
        self.assertEqual(200, self.post(b"sk-of-a-canary-0001", b"one")[0])
        self.successResultOf(self.house.store.apply([Put(structs.replace(self.keys["a"], blocked=True))], []))
        self.assertEqual((401, b""), self.post(b"sk-of-a-canary-0001", b"one"))

    def test_key_that_changes(self) -> None:
        """
        Records of a head that comes again say of the key what it is by then, and of each call what is its own.
        """
        self.post(b"sk-of-a-canary-0001", b"one")
        self.successResultOf(
            self.house.store.apply([Put(structs.replace(self.keys["a"], alias="ada", tags=["x"]))], [])
        )
        self.post(b"sk-of-a-canary-0001", b"eleven")
        first, second = self.house.records()
        self.assertEqual(("a", [], 3), (first.key_alias, first.tags, first.request_bytes))
        self.assertEqual(("ada", ["x"], 6), (second.key_alias, second.tags, second.request_bytes))
        self.assertNotEqual(first.call_id, second.call_id)


def _errands() -> int:
    return sum(isinstance(each, Errand) for each in gc.get_objects())

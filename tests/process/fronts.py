"""
Two nodes behind a front that is not ours: nginx or HAProxy, with the sample that is shipped for it. The test of each
subclasses `Fronts` (import this module, not the class, or the class itself would be run).
"""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPSConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Semaphore, Thread
from typing import ClassVar, Self
from unittest import TestCase

import trustme
from websockets.sync.client import connect as connect_socket
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, TextMessage

from tests.process.daemon import PATIENCE_SECONDS, UPSTREAM_KEY, Daemon, eventually
from tests.process.peers import STREAM_HEAD, Peer, Upstream, answer, chunk, request

CONF = Path(__file__).parent.parent.parent / "conf"
CLIENT = "127.0.0.2"
"""
From where clients come; the front comes from 127.0.0.1.
"""
UPLOAD_BYTES = 5 * 1024 * 1024
EVENTS = [b"data: %d\n\n" % number for number in range(4)]
CHAT = "/mistral/v1/chat/completions"
NODE = """
stop_delay_seconds = 1.5

[listen]
open_to_network = true
trusted_proxies = ["127.0.0.1"]

[sinks.calls]
kind = "file"
path = "{path}"
batch_seconds = 0.05
"""


class Mistral:
    """
    An upstream for all that is tried: it lists models, takes files, speaks WebSocket, and tells a stream of `EVENTS`,
    one each time that it is asked to go on.
    """

    def __init__(self) -> None:
        self.goes_on = Semaphore(0)

    def serve(self, peer: Peer) -> None:
        """
        The script.
        """
        while True:
            head = peer.head()
            fields = dict(line.lower().split(b": ", 1) for line in head[:-4].split(b"\r\n")[1:])
            if b"upgrade" in fields:
                _echo(peer, head)
                return
            body = b""
            if fields.get(b"transfer-encoding") == b"chunked":
                body = b"".join(peer.chunks())
            elif length := int(fields.get(b"content-length", b"0")):
                body = peer.exactly(length)
            if b'"stream"' in body[:100]:
                self._tell(peer)
            else:
                peer.send(answer(json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode()))

    def _tell(self, peer: Peer) -> None:
        peer.send(STREAM_HEAD)
        for each in EVENTS:
            assert self.goes_on.acquire(timeout=PATIENCE_SECONDS)
            peer.send(chunk(each))
        peer.send(chunk(b""))


def _echo(peer: Peer, head: bytes) -> None:
    line = WSConnection(ConnectionType.SERVER)
    line.receive_data(head)
    list(line.events())
    peer.send(line.send(AcceptConnection()))
    while data := peer.socket.recv(65536):
        line.receive_data(data)
        for event in line.events():
            if isinstance(event, TextMessage):
                peer.send(line.send(TextMessage(event.data, event.frame_finished, event.message_finished)))
            elif isinstance(event, CloseConnection):
                peer.send(line.send(event.response()))
                return


class Fronts(TestCase):
    """
    A front, two nodes behind it, and an upstream behind these.
    """

    sample: ClassVar[str]
    mistral: ClassVar[Mistral]
    nodes: ClassVar[list[Daemon]]
    port: ClassVar[int]
    trust: ClassVar[ssl.SSLContext]
    _folder: ClassVar[Path]
    _ports: ClassVar[list[int]]
    _upstream: ClassVar[Upstream]
    _stack: ClassVar[ExitStack]

    @classmethod
    def check(cls, conf: Path) -> list[str]:
        """
        The command that says whether *conf* can be used.
        """
        raise NotImplementedError

    @classmethod
    def run_with(cls, conf: Path) -> list[str]:
        """
        The command that runs the front with *conf*, and stays.
        """
        raise NotImplementedError

    @classmethod
    def places(cls, folder: Path, port: int) -> Mapping[str, str]:
        """
        What stands in the sample, and is elsewhere here.
        """
        raise NotImplementedError

    @classmethod
    def setUpClass(cls) -> None:
        cls._stack = ExitStack()
        cls.addClassCleanup(cls._stack.close)
        enter = cls._stack.enter_context
        cls._folder = Path(enter(TemporaryDirectory()))
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(cls._folder / "both.pem")
        cls.trust = ssl.create_default_context()
        authority.configure_trust(cls.trust)
        cls.mistral = Mistral()
        cls._upstream = enter(Upstream(cls.mistral.serve))
        cls.port, *cls._ports = _free_ports(3)
        with ThreadPoolExecutor() as at_once:
            cls.nodes = list(at_once.map(cls.node, (0, 1)))
        conf = cls._folder / cls.sample
        conf.write_text(cls.placed())
        done = subprocess.run(cls.check(conf), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warn" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
        front = enter(subprocess.Popen(cls.run_with(conf), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        cls._stack.callback(front.terminate)
        eventually(lambda: _answers(cls.port), "the front listens")

    @classmethod
    def placed(cls) -> str:
        """
        The sample, with the places that are here.
        """
        text = (CONF / cls.sample).read_text(encoding="utf-8")
        nodes = {f"10.0.0.1{number + 1}:4000": f"127.0.0.1:{port}" for number, port in enumerate(cls._ports)}
        for shown, here in {**nodes, **cls.places(cls._folder, cls.port)}.items():
            assert shown in text, shown
            text = text.replace(shown, here)
        return text

    @classmethod
    def node(cls, number: int) -> Daemon:
        """
        Start a node.
        """
        place = ("--host", "127.0.0.1", "--port", str(cls._ports[number]))
        said = {"MISTRAL_API_BASE": cls._upstream.url, "MISTRAL_API_KEY": UPSTREAM_KEY}
        settings = NODE.format(path=cls._folder / f"calls-{number}.jsonl")
        return cls._stack.enter_context(Daemon(*place, settings=settings, said=said))

    def connect(self) -> Peer:
        """
        A client.
        """
        plain = socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS, (CLIENT, 0))
        return self.enterContext(Peer(self.trust.wrap_socket(plain, server_hostname="localhost")))

    def records(self, number: int) -> list[dict[str, object]]:
        """
        What a node has said of calls that are over.
        """
        with suppress(FileNotFoundError):
            lines = [json.loads(line) for line in (self._folder / f"calls-{number}.jsonl").read_text().splitlines()]
            return [each for each in lines if each["line"] == "end"]
        return []

    def calls(self) -> list[dict[str, object]]:
        """
        What both have said.
        """
        return [*self.records(0), *self.records(1)]

    def test_events(self) -> None:
        """
        Each event of a stream is there before the next is sent.
        """
        client = self.connect()
        client.send(STREAMED)
        self.mistral.goes_on.release()
        head = client.head()
        self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
        for each in EVENTS:
            self.assertEqual(each, client.chunk())
            self.mistral.goes_on.release()
        self.assertEqual(b"", client.chunk())
        self.assertTrue(self.mistral.goes_on.acquire(blocking=False))

    def test_websocket(self) -> None:
        """
        A WebSocket passes, both ways.
        """
        plain = socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS, (CLIENT, 0))
        place = f"wss://localhost:{self.port}/mistral/v1/audio/transcriptions/realtime"
        with connect_socket(place, sock=plain, ssl=self.trust, compression=None, proxy=None) as client:
            for each in "hello", "x" * 100_000:
                client.send(each)
                self.assertEqual(each, client.recv(PATIENCE_SECONDS))

    def test_upload(self) -> None:
        """
        A file of some megabytes arrives as it is, whether its length is told or not.
        """
        content = bytes(range(256)) * (UPLOAD_BYTES // 256)
        expected = {"sha256": hashlib.sha256(content).hexdigest()}
        place = "/mistral/v1/files"
        for whole in (
            request("POST", place, body=content),
            request("POST", place, b"Transfer-Encoding: chunked") + chunk(content) + chunk(b""),
        ):
            client = self.connect()
            client.send(whole)
            head, said = client.message()
            self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
            self.assertEqual(expected, json.loads(said))

    def test_client(self) -> None:
        """
        The record of a call says where its client is, whatever the client itself says of that.
        """
        client = self.connect()
        client.send(request("GET", "/mistral/v1/models/of-this-test", b"X-Forwarded-For: 192.0.2.7"))
        client.message()
        path = "/v1/models/of-this-test"
        eventually(lambda: any(each["path"] == path for each in self.calls()), "the call is recorded")
        [record] = [each for each in self.calls() if each["path"] == path]
        self.assertEqual(CLIENT, record["client"])

    def test_metrics(self) -> None:
        """
        What is counted is not shown to the world.
        """
        client = self.connect()
        client.send(request("GET", "/metrics"))
        self.assertTrue(client.head().startswith(b"HTTP/1.1 403 "))

    def test_node_stops(self) -> None:
        """
        A node that stops, and comes back, is not noticed: no call fails, a stream that is under way goes on to its end,
        and the node is used again.
        """
        streams = [self.connect() for _ in range(4)]
        for each in streams:
            each.send(STREAMED)
        with Crowd(self) as crowd:
            crowd.wait_for_calls()
            stopping = self.nodes[0]
            stopping.signal(signal.SIGTERM)
            crowd.wait_for_calls()
            for _ in range(len(streams) * len(EVENTS)):
                self.mistral.goes_on.release()
            for each in streams:
                head, body = each.message()
                self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
                self.assertEqual(b"".join(EVENTS), body)
            self.assertEqual(0, stopping.ended())
            crowd.wait_for_calls()
            seen = len(self.records(0))
            self.nodes[0] = self.node(0)
            eventually(lambda: len(self.records(0)) > seen, "the node is used again")
            crowd.wait_for_calls()
        self.assertEqual({200}, set(crowd.statuses))


STREAMED = request("POST", CHAT, b"Content-Type: application/json", body=b'{"stream": true}')


class Crowd:
    """
    Clients that call and call inside ``with``: some keep their connections, some do not.
    """

    def __init__(self, front: Fronts) -> None:
        self._front = front
        self._ends = Event()
        self._threads = [Thread(target=self._call, args=(keeps,)) for keeps in (True, True, False)]
        self.statuses: Counter[int | str] = Counter()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    def wait_for_calls(self) -> None:
        """
        Wait until some more calls were answered.
        """
        enough = self.statuses.total() + 20
        eventually(lambda: self.statuses.total() >= enough, "calls are answered")

    def _call(self, keeps: bool) -> None:  # noqa: FBT001 - a thread takes no names
        connection: HTTPSConnection | None = None
        while not self._ends.is_set():
            if connection is None:
                where = ("localhost", self._front.port)
                connection = HTTPSConnection(*where, timeout=PATIENCE_SECONDS, context=self._front.trust)
            try:
                connection.request("POST", CHAT, b"{}", {"Content-Type": "application/json"})
                with connection.getresponse() as said:
                    said.read()
                    self.statuses[said.status] += 1
            except OSError as error:
                self.statuses[repr(error)] += 1
                connection.close()
                connection = None
            if connection is not None and not keeps:
                connection.close()
                connection = None
            time.sleep(0.01)
        if connection is not None:
            connection.close()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        places = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [place.getsockname()[1] for place in places]


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True

"""
SIGHUP: the configuration is read anew, and nobody who is connected notices more of that than they should.
"""

from __future__ import annotations

import json
import signal
import socket
import ssl
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import TestCase

import trustme

from tests.process.daemon import ANY_PORT, PATIENCE_SECONDS, Daemon, eventually
from tests.process.peers import Peer, Upstream, answer, connect, request
from tests.process.test_stops import Story

OLD, NEW = "sk-upstream-old-11aa", "sk-upstream-new-22bb"
MASTER = "sk-master-of-the-tests-0001"
CHAT = request("POST", "/mistral/v1/chat/completions", body=b"{}")


def head_of(daemon: Daemon, path: str, bearer: str = "") -> bytes:
    """
    The head of an answer, on a connection of its own.
    """
    with connect(daemon.port) as client:
        client.send(request("GET", path, *([b"Authorization: Bearer " + bearer.encode()] if bearer else [])))
        return client.head()


class ReloadTests(TestCase):
    """
    A daemon whose file changes.
    """

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.file = self.folder / "dheera.toml"
        self.shown: list[bytes | None] = []

    def write(self, **said: str) -> None:
        """
        The file says this from now on; what is written ``table__key`` is in a table.
        """
        tables: dict[str, list[str]] = {}
        for name, value in said.items():
            table, _, key = name.rpartition("__")
            tables.setdefault(table.replace("__", "."), []).append(f"{key} = {value}")
        top = tables.pop("", [])
        self.file.write_text("\n".join([*top, *(f"[{t}]\n" + "\n".join(lines) for t, lines in tables.items())]))

    def serve(self) -> Daemon:
        """
        A daemon with that file.
        """
        return Daemon("--config", str(self.file), *ANY_PORT)

    def reload(self, daemon: Daemon, says: str = "Read the configuration anew") -> None:
        """
        Send SIGHUP, and wait until the log *says* so once more.
        """
        before = daemon.log.count(says)
        daemon.signal(signal.SIGHUP)
        eventually(lambda: daemon.log.count(says) > before, f"the log says: {says}")

    def test_stream_goes_on(self) -> None:
        """
        A stream that is open goes on with the key that it began with, while the next call has the new key.
        """
        story = Story(b"data: 1\n\n", b"data: 2\n\n", b"")
        keys: list[bytes] = []

        def script(peer: Peer) -> None:
            head = peer.head()
            keys.extend(line for line in head.split(b"\r\n") if line.lower().startswith(b"authorization"))
            if len(keys) == 1:
                story.tell_rest(peer)
            else:
                peer.send(answer(b"{}"))

        with Upstream(script) as upstream:
            self.write(mistral__api_base=f'"{upstream.url}"', mistral__api_key=f'"{OLD}"')
            with self.serve() as daemon, connect(daemon.port) as client:
                client.send(CHAT)
                story.goes_on.release()
                client.head()
                self.assertEqual(b"data: 1\n\n", client.chunk())
                self.write(mistral__api_base=f'"{upstream.url}"', mistral__api_key=f'"{NEW}"')
                self.reload(daemon, "Changed: [mistral] api_key")
                self.assertTrue(head_of(daemon, "/mistral/v1/models").startswith(b"HTTP/1.1 200 "))
                story.goes_on.release()
                self.assertEqual(b"data: 2\n\n", client.chunk())
                story.goes_on.release()
                self.assertEqual(b"", client.chunk())
            self.assertEqual(
                [f"authorization: bearer {each}".encode() for each in (OLD, NEW)], [k.lower() for k in keys]
            )

    def test_master_key(self) -> None:
        """
        Another master key takes the place of the old one; virtual keys stay good.
        """
        self.write(master_key=f'"{MASTER}"', demo="true")
        with Daemon("--config", str(self.file), *ANY_PORT) as daemon:
            with connect(daemon.port) as client:
                client.send(request("POST", "/key/generate", b"Authorization: Bearer " + MASTER.encode(), body=b"{}"))
                key = json.loads(client.message()[1])["key"]
            self.assertTrue(head_of(daemon, "/mistral/v1/models", key).startswith(b"HTTP/1.1 200 "))
            self.write(master_key=f'"{MASTER}-other"', demo="true")
            self.reload(daemon, "Changed: master_key")
            for bearer, status in ((key, 200), (MASTER, 401), (f"{MASTER}-other", 200)):
                self.assertIn(b" %d " % status, head_of(daemon, "/mistral/v1/models", bearer).split(b"\r\n")[0])

    def test_wrong(self) -> None:
        """
        A file that cannot be used changes nothing; the log says what is wrong, and with the mended file all is well.
        """
        self.write(demo="true", limits__head_bytes="700")
        with self.serve() as daemon:
            self.write(demo="true", limits__head_bytes='"many"', records__content='"all"')
            self.reload(daemon, "the one before stays in force")
            self.assertIn("[limits] head_bytes: found", daemon.log)
            self.assertIn("[records] content: found", daemon.log)
            self.assertIn(b" 200 ", head_of(daemon, "/mistral/v1/models").split(b"\r\n")[0])
            self.assertIn(b" 414 ", head_of(daemon, "/mistral/v1/models?" + "x" * 800).split(b"\r\n")[0])
            self.write(demo="true")
            self.reload(daemon, "Changed: [limits] head_bytes")
            self.assertIn(b" 200 ", head_of(daemon, "/mistral/v1/models?" + "x" * 800).split(b"\r\n")[0])

    def test_wants_a_start(self) -> None:
        """
        What only a new start changes is named, and stays as it was, while all else changes.
        """
        self.write(demo="true")
        with self.serve() as daemon:
            self.write(demo="true", records__node='"other"', drain_seconds="7")
            self.reload(daemon, "want a new start to change: [records] node")
            self.assertIn("Changed: drain_seconds", daemon.log)

    def test_sinks(self) -> None:
        """
        A sink that is new gets what comes from then on; one that has another file goes on where it was; each call is
        in one of them once.
        """
        one, two, three = (self.folder / name for name in ("one", "two", "three"))
        self.write(demo="true", sinks__a__kind='"file"', sinks__a__path=f'"{one}"')
        with self.serve() as daemon:
            head_of(daemon, "/mistral/v1/models?1")
            self.write(
                demo="true",
                sinks__a__kind='"file"',
                sinks__a__path=f'"{two}"',
                sinks__b__kind='"file"',
                sinks__b__path=f'"{three}"',
            )
            self.reload(daemon, "Changed: [sinks.a], [sinks.b]")
            head_of(daemon, "/mistral/v1/models?2")
        self.assertEqual([1, 1, 1], [len(file.read_text().splitlines()) for file in (one, two, three)])

    def test_prices(self) -> None:
        """
        The price of a model changes for calls that begin then.
        """
        calls = self.folder / "calls"
        said = {"demo": "true", "sinks__a__kind": '"file"', "sinks__a__path": f'"{calls}"'}
        price = "prices__mistral-small-latest__"
        chat = b'{"model": "mistral-small-latest", "messages": [{"role": "user", "content": "Hi"}]}'
        self.write(**said, **{f"{price}input_per_million": "1.0", f"{price}output_per_million": "1.0"})
        with self.serve() as daemon:
            for factor in 1, 1000:
                self.write(
                    **said,
                    **{f"{price}input_per_million": f"{factor}.0", f"{price}output_per_million": f"{factor}.0"},
                )
                self.reload(daemon)
                with connect(daemon.port) as client:
                    client.send(request("POST", "/mistral/v1/chat/completions", body=chat))
                    client.head()
        cheap, dear = (json.loads(line)["cost_nano_usd"] for line in calls.read_text().splitlines())
        self.assertEqual(cheap * 1000, dear)

    def secure(self, daemon: Daemon, context: ssl.SSLContext) -> Peer:
        """
        A connection with TLS; which certificate was shown is noted.
        """
        sock = socket.create_connection(("127.0.0.1", daemon.port), PATIENCE_SECONDS)
        wrapped = context.wrap_socket(sock, server_hostname="localhost")
        self.shown.append(wrapped.getpeercert(binary_form=True))
        return Peer(wrapped)

    def test_certificate(self) -> None:
        """
        Another certificate is shown to whoever connects from then on; who is connected stays so.
        """
        authority = trustme.CA()
        files = [self.folder / "one.pem", self.folder / "two.pem"]
        for file in files:
            authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
        context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        self.write(demo="true", listen__tls_certificate=f'"{files[0]}"')
        with self.serve() as daemon, self.secure(daemon, context) as kept:
            self.write(demo="true", listen__tls_certificate=f'"{files[1]}"')
            self.reload(daemon, "Changed: [listen] tls_certificate")
            with self.secure(daemon, context):
                first, second = self.shown
                self.assertNotEqual(first, second)
            kept.send(request("GET", "/health/liveness"))
            self.assertTrue(kept.head().startswith(b"HTTP/1.1 200 "))

    def test_limits(self) -> None:
        """
        Limits of the whole proxy are in force at once.
        """
        self.write(demo="true", master_key=f'"{MASTER}"')
        with self.serve() as daemon:
            self.assertIn(b" 200 ", head_of(daemon, "/mistral/v1/models", MASTER).split(b"\r\n")[0])
            self.write(demo="true", master_key=f'"{MASTER}"', proxy_limits__rpm_limit="0")
            self.reload(daemon, "Changed: [proxy_limits] rpm_limit")
            self.assertIn(b" 429 ", head_of(daemon, "/mistral/v1/models", MASTER).split(b"\r\n")[0])

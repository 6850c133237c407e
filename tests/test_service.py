"""
The wiring, with a real reactor and real sockets on loopback; requests by the treq of everybody.
"""

from __future__ import annotations

import json
import socket
from itertools import count
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import treq
import trustme
from attrs import evolve
from twisted.application.service import IServiceMaker
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.http_headers import Headers

from dheera.daemon import Daemon
from dheera.keys import Secret
from dheera.service import build
from dheera.settings import Config, LimitSettings, Listen, Mistral
from dheera.tap import Options, makeService

DEMO = Config(demo=True, listen=Listen(host="127.0.0.1", port=0))


def the_reactor() -> Any:
    """
    The one of this process.
    """
    from twisted.internet import reactor

    return reactor


class BuildTests(TestCase):
    """
    A daemon is built from a configuration, and serves.
    """

    def setUp(self) -> None:
        self.said: list[str] = []
        self.reactor = the_reactor()

        self.folder = Path(mkdtemp())
        self.addCleanup(rmtree, self.folder)
        self.files = (self.folder / str(number) for number in count())

    def scratch(self) -> Path:
        """
        A file that is not there yet, gone after the test; its path is short enough for a socket.
        """
        return next(self.files)

    async def serve(self, config: Config) -> Daemon:
        """
        Start a daemon that is stopped after the test.
        """
        if config.store.state_dir is None:
            config = evolve(config, store=evolve(config.store, state_dir=self.scratch()))
        daemon = build(self.reactor, config, self.said.append)
        await daemon.startService()
        self.addCleanup(daemon.stopService)
        return daemon

    @property
    def base(self) -> str:
        """
        Where it says that it runs.
        """
        return next(text for text in self.said if text.startswith("RUNNING on ")).removeprefix("RUNNING on ")

    def client(self, authority: bytes | None = None) -> treq.client.HTTPClient:
        """
        A client that leaves no connection behind, and trusts *authority* (PEM).
        """
        root = trustRootFromCertificates([Certificate.loadPEM(authority)]) if authority else None
        pool = HTTPConnectionPool(self.reactor, persistent=False)
        return treq.client.HTTPClient(Agent(self.reactor, BrowserLikePolicyForHTTPS(root), pool=pool))

    async def test_demo(self) -> None:
        """
        The demo serves without a key, says where, and gives lines to try that name this address.
        """
        await self.serve(DEMO)
        self.assertEqual(3, self.said[1].count(f"curl {self.base}") + self.said[1].count(f"curl -N {self.base}"))
        answer = await self.client().get(f"{self.base}/mistral/v1/models")
        self.assertEqual(200, answer.code)
        self.assertIn("mistral-small-latest", await answer.text())

    async def test_no_upstream_key(self) -> None:
        """
        Without an upstream key the daemon serves, and each call is answered with 503 and the name of the variable.
        """
        await self.serve(evolve(DEMO, demo=False))
        answer = await self.client().get(f"{self.base}/mistral/v1/models")
        self.assertEqual(503, answer.code)
        self.assertIn("MISTRAL_API_KEY", (await answer.json())["message"])

    async def test_master_key(self) -> None:
        """
        With a master key, that key is let in and nothing else.
        """
        await self.serve(evolve(DEMO, master_key=Secret("sk-master")))
        codes = [
            (
                await self.client().get(f"{self.base}/mistral/v1/models", headers=Headers({"Authorization": [offered]}))
            ).code
            for offered in ("Bearer sk-master", "bearer sk-master", "Bearer sk-mastex", "Bearer ")
        ]
        self.assertEqual([200, 200, 401, 401], codes)

    async def test_proxy_limits(self) -> None:
        """
        The master key sees what limits all calls together.
        """
        await self.serve(evolve(DEMO, master_key=Secret("sk-master"), proxy_limits=LimitSettings(rpm_limit=7)))
        bearer = Headers({"Authorization": ["Bearer sk-master"]})
        answer = await self.client().get(f"{self.base}/usage", headers=bearer)
        [limit] = (await answer.json())["limits"]
        self.assertEqual(("proxy", "requests", 7), (limit["whose"], limit["kind"], limit["cap"]))

    async def test_tls(self) -> None:
        """
        With a certificate, host and port speak https.
        """
        authority = trustme.CA()
        file = self.scratch()
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
        await self.serve(evolve(DEMO, listen=evolve(DEMO.listen, tls_certificate=file)))
        self.assertTrue(self.base.startswith("https://"), self.base)
        port = self.base.rpartition(":")[2]
        client = self.client(authority.cert_pem.bytes())
        answer = await client.get(f"https://localhost:{port}/health/readiness")
        self.assertEqual({"status": "ready", "db": "connected", "spool": "writable"}, json.loads(await answer.text()))

    async def test_endpoints(self) -> None:
        """
        Endpoint strings stand in place of host and port; each is announced.
        """
        path = self.scratch()
        endpoints = ("tcp:0:interface=127.0.0.1", f"unix:{path}")
        await self.serve(evolve(DEMO, listen=Listen(endpoints=endpoints)))
        self.assertIn(f"RUNNING on unix:{path}", self.said)
        answer = await self.client().get(f"{self.base}/health/liveness")
        self.assertEqual("I'm alive!", json.loads(await answer.text()))

    async def test_own_authority_upstream(self) -> None:
        """
        An upstream whose certificate comes from the operator's own authority is trusted with ``ca_file``, and is
        refused with 502 without.
        """
        authority = trustme.CA()
        certificate, bundle = self.scratch(), self.scratch()
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        authority.cert_pem.write_to_path(str(bundle))
        await self.serve(evolve(DEMO, listen=evolve(DEMO.listen, tls_certificate=certificate)))
        upstream = f"https://localhost:{self.base.rpartition(':')[2]}/mistral"
        codes = []
        for trusted in (bundle, None):
            self.said.clear()
            mistral = Mistral(api_base=upstream, api_key=Secret("k"), ca_file=trusted)
            await self.serve(evolve(DEMO, demo=False, mistral=mistral))
            codes.append((await self.client().get(f"{self.base}/mistral/v1/models")).code)
        self.assertEqual([200, 502], codes)

    async def test_port_in_use(self) -> None:
        """
        If one of several places cannot be had, starting fails and the others are given back.
        """
        with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
            ports = [each.getsockname()[1] for each in (free, taken)]
            free.close()
            listen = Listen(endpoints=tuple(f"tcp:{port}:interface=127.0.0.1" for port in ports))
            starting = build(self.reactor, evolve(DEMO, listen=listen), self.said.append).startService()
            await self.assertFailure(starting, CannotListenError)
            socket.create_server(("127.0.0.1", ports[0])).close()
        self.assertEqual([], self.said)

    async def test_drain(self) -> None:
        """
        Stopping waits for an exchange that is under way; readiness says 503 meanwhile to those still connected.
        """
        daemon = build(self.reactor, DEMO, self.said.append)
        await daemon.startService()
        body = b'{"model": "mistral-small-latest", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}'
        answer = await self.client().post(f"{self.base}/mistral/v1/chat/completions", data=body, unbuffered=True)
        stopped = daemon.stopService()
        text = await answer.text()
        await stopped
        self.assertTrue(text.endswith("data: [DONE]\n\n"), text[-80:])

    async def test_drain_ends(self) -> None:
        """
        What is not finished within the drain time is ended: the client sees that its answer was cut.
        """
        daemon = build(self.reactor, evolve(DEMO, drain_seconds=0.05), self.said.append)
        await daemon.startService()
        message = {"role": "user", "content": "a long way to go " * 200}
        body = json.dumps({"model": "mistral-small-latest", "stream": True, "messages": [message]})
        answer = await self.client().post(
            f"{self.base}/mistral/v1/chat/completions", data=body.encode(), unbuffered=True
        )
        reading = answer.text()
        await daemon.stopService()
        await self.assertFailure(reading, Exception)


class TwistdTests(SynchronousTestCase):
    """
    ``twistd dheera``.
    """

    def test_plugin(self) -> None:
        """
        Twistd finds dheera.
        """
        self.assertIn("dheera", [maker.tapname for maker in getPlugins(IServiceMaker)])

    def test_options(self) -> None:
        """
        Options reach the configuration, and repeated endpoints are kept in order.
        """
        options = Options()
        options.parseOptions(["--demo", "--listen", "tcp:0", "--listen", "unix:/tmp/x"])
        self.assertTrue(options.config.demo)
        self.assertEqual(("tcp:0", "unix:/tmp/x"), options.config.listen.endpoints)

    def test_wrong_options(self) -> None:
        """
        What is wrong is told as twistd tells wrong options.
        """
        for wrong in (["--port", "much"], ["--listen", "tpc:1"], ["--config", "/nowhere"]):
            with self.assertRaises(UsageError) as caught:
                Options().parseOptions(wrong)
            self.assertIn(wrong[1], str(caught.exception))


class DaemonTests(TestCase):
    """
    The service that twistd runs.
    """

    async def test_life(self) -> None:
        """
        It serves between its start and its stop.
        """
        options = Options()
        options.parseOptions(["--demo", "--port", "0", "--host", "127.0.0.1"])
        service: Any = makeService(options)
        service.startService()
        waited: Deferred[None] = Deferred()
        the_reactor().callLater(0, waited.callback, None)
        await waited
        await service.stopService()

"""
TLS to upstream: verified, always.
"""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from unittest import TestCase

import trustme

from tests.process.daemon import in_front_of
from tests.process.peers import Upstream, always, answer, connect, request


class TrustTests(TestCase):
    """
    An upstream with a certificate of an authority of our own.
    """

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(self.folder / "ca.pem")
        # What a company's bundle looks like: ours is not the first in it.
        trustme.CA().cert_pem.write_to_path(self.folder / "bundle.pem")
        self.authority.cert_pem.write_to_path(self.folder / "bundle.pem", append=True)

    def upstream(self, name: str) -> Upstream:
        """
        One whose certificate is for *name*.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(context)
        return self.enterContext(Upstream(always(answer(b"taken")), tls=context))

    def asked(self, url: str, settings: str = "") -> tuple[bytes, bytes]:
        """
        Status and body of a call through a daemon in front of *url*, or what it says on a second one.
        """
        with in_front_of(url, settings=settings) as daemon, connect(daemon.port) as client:
            answers = []
            for _ in range(2):
                client.send(request("GET", "/mistral/v1/models"))
                head, body = client.message()
                answers.append((head.split(b" ")[1], body))
            self.assertEqual(answers[0], answers[1])
            return answers[0]

    def test_trusted(self) -> None:
        """
        With its authority in ``ca_file``, alone or among others, it is trusted: by address and by name.
        """
        for name in "127.0.0.1", "localhost":
            upstream = self.upstream(name)
            for file in "ca.pem", "bundle.pem":
                with self.subTest(name=name, file=file):
                    settings = f'[mistral]\nca_file = "{self.folder / file}"\n'
                    url = upstream.url.replace("127.0.0.1", name)
                    self.assertEqual((b"200", b"taken"), self.asked(url, settings))
            self.assertEqual(2, upstream.connections)  # kept between the calls

    def test_not_trusted(self) -> None:
        """
        Without it the call is a 502, and upstream never hears a request, nor the key.
        """
        upstream = self.upstream("127.0.0.1")
        status, body = self.asked(upstream.url)
        self.assertEqual(b"502", status)
        self.assertIn(b"cannot be reached", body)
        self.assertIn(b"certificate is not trusted", body)
        self.assertEqual(0, upstream.connections)

    def test_another_name(self) -> None:
        """
        So it is with a certificate for another name.
        """
        upstream = self.upstream("example.org")
        status, _ = self.asked(upstream.url, f'[mistral]\nca_file = "{self.folder / "ca.pem"}"\n')
        self.assertEqual(b"502", status)

    def test_no_tls(self) -> None:
        """
        And with an upstream that does not speak TLS at all.
        """
        with Upstream(always(answer())) as plain:
            status, _ = self.asked(plain.url.replace("http:", "https:"), "[upstream_limits]\nconnect_seconds = 1.0\n")
        self.assertEqual(b"502", status)

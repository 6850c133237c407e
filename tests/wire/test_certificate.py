"""
The certificate that we show, and what happens when its files change.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dheera.wire.certificate import LOOK_AGAIN_SECONDS, ReloadingCertificate


def shake_hands(server: SSL.Connection, context: SSL.Context) -> SSL.Connection:
    """
    A client that has come to terms with *server*.
    """
    client = SSL.Connection(context, None)
    client.set_connect_state()
    client.set_tlsext_host_name(b"dheera.example")
    server.set_accept_state()
    for _ in range(4):
        for end, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                end.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(end.bio_read(1 << 16))
    return client


class TestCertificate(SynchronousTestCase):
    """
    ``ReloadingCertificate``.
    """

    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        self.authority = trustme.CA().create_child_ca()
        self.issue()
        self.clock = Clock()
        self.shown = ReloadingCertificate(self.clock, self.certificate, self.key)

    def issue(self) -> None:
        """
        A new certificate and key, in their files.
        """
        issued = self.authority.issue_cert("dheera.example")
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.chain = [pem.bytes() for pem in issued.cert_chain_pems]

    def seen(self) -> list[bytes]:
        """
        The chain that a new client sees.
        """
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        client = shake_hands(self.shown.serverConnectionForTLS(None), context)
        chain = client.get_peer_cert_chain(as_cryptography=True)
        assert chain is not None
        return [certificate.public_bytes(Encoding.PEM) for certificate in chain]

    def test_interface(self) -> None:
        """
        Twisted's TLS can use it.
        """
        verifyObject(IOpenSSLServerConnectionCreator, self.shown)

    def test_shown(self) -> None:
        """
        The certificate is shown with its chain.
        """
        self.assertEqual((2, self.chain), (len(self.chain), self.seen()))

    def test_changed(self) -> None:
        """
        A new one is shown to who connects after the change, a look later; who is connected keeps the old one.
        """
        before = self.chain
        connection = self.shown.serverConnectionForTLS(None)
        self.issue()
        self.assertEqual(before, self.seen())
        self.clock.advance(LOOK_AGAIN_SECONDS)
        with capturedLogs() as events:
            self.assertEqual(self.chain, self.seen())
        self.assertEqual([LogLevel.info], [event["log_level"] for event in events])
        client = shake_hands(connection, SSL.Context(SSL.TLS_CLIENT_METHOD))
        peer = client.get_peer_certificate(as_cryptography=True)
        assert peer is not None
        self.assertEqual(before[0], peer.public_bytes(Encoding.PEM))

    def test_unchanged(self) -> None:
        """
        Files that have not changed are not read again.
        """
        self.clock.advance(LOOK_AGAIN_SECONDS)
        with capturedLogs() as events:
            self.assertEqual(self.chain, self.seen())
        self.assertEqual([], events)

    def test_broken(self) -> None:
        """
        Files that cannot be used leave the old one, and the log says so once; mended ones are read.
        """
        before = self.chain
        damages: list[Callable[[], object]] = [
            lambda: self.certificate.write_bytes(b""),
            lambda: self.certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            lambda: self.key.write_bytes(b"half a ke"),
            self.certificate.unlink,
            lambda: self.certificate.write_bytes(self.authority.issue_cert("other.example").cert_chain_pems[0].bytes()),
        ]
        for damage in damages:
            damage()
            self.clock.advance(LOOK_AGAIN_SECONDS)
            with capturedLogs() as events:
                self.assertEqual([before] * 2, [self.seen(), self.seen()])
            self.assertEqual([LogLevel.warn], [event["log_level"] for event in events])
            self.assertNotIn(b"PRIVATE", repr(events).encode())
            self.issue()
            self.clock.advance(LOOK_AGAIN_SECONDS)
            before = self.chain
            self.assertEqual(before, self.seen())

    def test_other_files(self) -> None:
        """
        Other files are read at once, however lately there was a look; from then on it is they that are looked at.
        """
        first = self.certificate, self.key
        self.certificate, self.key = (each.with_suffix(".2.pem") for each in first)
        self.issue()
        with capturedLogs() as events:
            self.shown.change(self.certificate, self.key)
            self.assertEqual(self.chain, self.seen())
        self.assertEqual([LogLevel.info], [event["log_level"] for event in events])
        for each in first:
            each.unlink()
        self.issue()
        self.clock.advance(LOOK_AGAIN_SECONDS)
        self.assertEqual(self.chain, self.seen())

    def test_same_files(self) -> None:
        """
        Files of the same names that are said again are read again at once.
        """
        self.issue()
        self.shown.change(self.certificate, self.key)
        self.assertEqual(self.chain, self.seen())

    def test_other_files_broken(self) -> None:
        """
        Other files that cannot be used leave the certificate before, and the log says why; once mended they are read.
        """
        before = self.chain
        missing = self.certificate.with_suffix(".2.pem")
        with capturedLogs() as events:
            self.shown.change(missing, self.key)
            self.assertEqual(before, self.seen())
        self.assertEqual([LogLevel.warn], [event["log_level"] for event in events])
        self.issue()
        self.certificate.rename(missing)
        self.clock.advance(LOOK_AGAIN_SECONDS)
        self.assertEqual(self.chain, self.seen())

    def test_one_file(self) -> None:
        """
        Both may be in one file.
        """
        self.certificate.write_bytes(self.key.read_bytes() + self.certificate.read_bytes())
        self.shown = ReloadingCertificate(self.clock, self.certificate, self.certificate)
        self.assertEqual(self.chain, self.seen())

    def test_at_the_start(self) -> None:
        """
        At the start, what cannot be used is an error.
        """
        self.key.write_bytes(b"nothing")
        with self.assertRaises(SSL.Error):
            ReloadingCertificate(self.clock, self.certificate, self.key)
        self.key.unlink()
        with self.assertRaises(FileNotFoundError):
            ReloadingCertificate(self.clock, self.certificate, self.key)

    def test_terms(self) -> None:
        """
        TLS 1.2 is the oldest spoken.
        """
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_1_VERSION)
        with self.assertRaises(SSL.Error):
            shake_hands(self.shown.serverConnectionForTLS(None), context)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        client = shake_hands(self.shown.serverConnectionForTLS(None), context)
        self.assertEqual("TLSv1.2", client.get_protocol_version_name())

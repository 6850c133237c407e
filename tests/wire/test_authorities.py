"""
Whom TLS to an upstream trusts.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path
from typing import Any, Self
from unittest import TestCase
from unittest.mock import patch

import trustme

from dheera.wire import authorities
from dheera.wire.authorities import trusting, trusting_system


class Lenient(ssl.SSLContext):
    """
    As some systems make them: a peer that is gone without a word has ended in order.
    """

    def __new__(cls, *args: Any) -> Self:
        context = super().__new__(cls, *args)
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
        return context


def known(context: ssl.SSLContext) -> int:
    """
    How many authorities it trusts by name.
    """
    return len(context.get_ca_certs())


class AuthoritiesTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.bundle = self.folder / "bundle.pem"
        self.pem = b"# Kn\xc3\xbcller\n" + trustme.CA().cert_pem.bytes()
        self.bundle.write_bytes(self.pem + b"\n# and another\n" + trustme.CA().cert_pem.bytes())
        self.enterContext(patch.dict(os.environ))
        for name in "SSL_CERT_FILE", "SSL_CERT_DIR":
            os.environ.pop(name, None)

    def elsewhere(self, *bundles: Path, directory: Path | None = None) -> None:
        """
        OpenSSL looks where there is no file, and in *directory*; systems keep theirs in *bundles*.
        """
        none: Any = None
        within: Any = directory and str(directory)
        nowhere = ssl.DefaultVerifyPaths(none, within, "SSL_CERT_FILE", "/none.pem", "SSL_CERT_DIR", "/none")
        self.enterContext(patch.object(authorities, "get_default_verify_paths", lambda: nowhere))
        self.enterContext(patch.object(authorities, "BUNDLES", tuple(map(str, bundles))))
        # This OpenSSL finds what the system has: it is asked to look where there is nothing.
        os.environ["SSL_CERT_FILE"] = str(self.folder / "none.pem")
        os.environ["SSL_CERT_DIR"] = str(self.folder / "none")

    def test_bundle(self) -> None:
        """
        Those of a bundle are trusted, whatever stands between them, and nobody else.
        """
        self.assertEqual(1, known(trusting(self.pem)))
        self.assertEqual(2, known(trusting(self.bundle.read_bytes())))

    def test_no_bundle(self) -> None:
        """
        What has none is told.
        """
        for said in b"", b"not PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n":
            with self.assertRaises(OSError):
                trusting(said)

    def test_terms(self) -> None:
        """
        Peers are verified, for their names too, which are in the subject's alternatives, and by TLS 1.2 at least,
        without a handshake in between.
        """
        for context in trusting(self.pem), trusting_system():
            self.assertEqual((ssl.CERT_REQUIRED, True), (context.verify_mode, context.check_hostname))
            self.assertFalse(context.hostname_checks_common_name)
            self.assertEqual(ssl.TLSVersion.TLSv1_2, context.minimum_version)
            self.assertTrue(context.options & ssl.OP_NO_RENEGOTIATION)

    def test_cuts(self) -> None:
        """
        What is cut is not taken for an end, whatever this Python takes it for.
        """
        with patch.object(authorities, "SSLContext", Lenient):
            self.assertFalse(trusting(self.pem).options & ssl.OP_IGNORE_UNEXPECTED_EOF)

    def test_said(self) -> None:
        """
        The environment says whom; then nobody else is.
        """
        os.environ["SSL_CERT_FILE"] = str(self.bundle)
        self.assertEqual(2, known(trusting_system()))
        os.environ["SSL_CERT_FILE"] = str(self.folder / "none.pem")
        self.assertEqual(0, known(trusting_system()))

    def test_elsewhere(self) -> None:
        """
        Where OpenSSL finds none, the first of the places that systems have is taken.
        """
        self.elsewhere(self.folder / "none.pem", self.bundle)
        with patch.object(authorities, "environ", {}):
            self.assertEqual(2, known(trusting_system()))

    def test_directory(self) -> None:
        """
        One that has a directory of them, which OpenSSL opens one by one when it needs them, has some.
        """
        self.elsewhere(self.bundle, directory=self.folder)
        with patch.object(authorities, "environ", {}):
            self.assertEqual(0, known(trusting_system()))

"""
Where clients come in: addresses, several endpoints, Unix sockets, TLS, and a certificate that changes.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import tempfile
from pathlib import Path
from unittest import TestCase

import trustme

from tests.process.daemon import Daemon, Memory, alive, eventually

LOOPBACK = "127.0.0.1"


def shown_certificate(port: int) -> bytes:
    """
    The certificate that is shown at *port*, whatever it is.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((LOOPBACK, port)) as plain, context.wrap_socket(plain) as connection:
        certificate = connection.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """
    One run of curl.
    """
    return subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, check=False)


class PlainTests(TestCase):
    """
    Doors without TLS. Where there are no others, the library for it is not loaded.
    """

    def test_addresses(self) -> None:
        """
        Whatever address was asked for, the one that is told, with the real port, is where it serves.
        """
        for host, told in ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("localhost", "127.0.0.1"):
            with self.subTest(host=host), Daemon("--demo", "--host", host, "--port", "0") as daemon:
                self.assertFalse(Memory(daemon).has_loaded("cryptography"))
                self.assertRegex(daemon.url, rf"^http://{told.replace('[', chr(92) + '[')}:[1-9][0-9]*$")
                self.assertTrue(alive(daemon.url))

    def test_variables(self) -> None:
        """
        Address and port come from the environment as well.
        """
        with Daemon("--demo", said={"DHEERA_AI_HOST": "127.0.0.1", "DHEERA_AI_PORT": "0"}) as daemon:
            self.assertTrue(daemon.url.startswith("http://127.0.0.1:"))
            self.assertTrue(alive(daemon.url))

    def test_several(self) -> None:
        """
        Each endpoint is served and told, in the order given.
        """
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, "http.sock")
            endpoint = "tcp:0:interface=127.0.0.1"
            listens = [word for each in (endpoint, f"unix:{place}", endpoint) for word in ("--listen", each)]
            with Daemon("--demo", *listens) as daemon:
                first, middle, last = daemon.addresses
                self.assertFalse(Memory(daemon).has_loaded("cryptography"))
                self.assertEqual(f"unix:{place}", middle)
                self.assertNotEqual(first, last)
                self.assertTrue(alive(first))
                self.assertTrue(alive(last))
                done = curl("--unix-socket", str(place), "http://localhost/mistral/v1/models")
                self.assertIn("mistral-small-latest", done.stdout)
            self.assertFalse(place.exists())


class TlsTests(TestCase):
    """
    Doors with TLS.
    """

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(self.folder / "ca.pem")

    def trusting(self, url: str) -> subprocess.CompletedProcess[str]:
        """
        A request of a client that trusts our authority and no other.
        """
        return curl("--cacert", str(self.folder / "ca.pem"), "--noproxy", "*", f"{url}/mistral/v1/models")

    def issue(self, certificate: Path, key: Path | None = None, *, name: str = LOOPBACK) -> bytes:
        """
        A new certificate, put at once in the place of the old one.

        :param key: where its key goes; beside the certificate, in one file, if it is not told.
        :return: the certificate.
        """
        issued = self.authority.issue_cert(name)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        private = issued.private_key_pem.bytes()
        for path, content in ((key, private), (certificate, chain)) if key else ((certificate, private + chain),):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(content)
            fresh.replace(path)
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    def configured(self, text: str) -> str:
        """
        A configuration file.
        """
        path = self.folder / "dheera.toml"
        path.write_text(text)
        return str(path)

    def test_settings(self) -> None:
        """
        With ``tls_certificate`` and ``tls_key`` it serves https, verified, and nothing but TLS.
        """
        self.issue(self.folder / "certificate.pem", self.folder / "key.pem")
        config = self.configured(
            '[listen]\nhost = "127.0.0.1"\nport = 0\ntls_certificate = "certificate.pem"\ntls_key = "key.pem"\n'
        )
        with Daemon("--demo", "--config", config) as daemon:
            self.assertTrue(Memory(daemon).has_loaded("cryptography"))
            self.assertRegex(daemon.url, r"^https://127\.0\.0\.1:[1-9][0-9]*$")
            self.assertIn("mistral-small-latest", self.trusting(daemon.url).stdout)
            plain = curl(daemon.url.replace("https:", "http:"))
            self.assertNotEqual(0, plain.returncode)
            self.assertEqual("", plain.stdout)

    def test_endpoints(self) -> None:
        """
        Twisted's own endpoints for TLS serve https too, and say so.
        """
        self.issue(self.folder / "server.pem")
        keys = self.folder / "tls"
        keys.mkdir()
        self.issue(keys / "localhost.pem", name="localhost")
        with Daemon(
            "--demo",
            *("--listen", f"ssl:0:interface=127.0.0.1:privateKey={self.folder / 'server.pem'}"),
            *("--listen", f"tls:{keys}:0:interface=127.0.0.1"),
        ) as daemon:
            first, second = daemon.addresses
            self.assertRegex(first, r"^https://127\.0\.0\.1:[1-9][0-9]*$")
            self.assertRegex(second, r"^https://127\.0\.0\.1:[1-9][0-9]*$")
            self.assertIn("mistral-small-latest", self.trusting(first).stdout)
            port = second.rpartition(":")[2]  # this one chooses its certificate by the name that the client asks for
            done = curl(
                *("--cacert", str(self.folder / "ca.pem"), "--resolve", f"localhost:{port}:{LOOPBACK}"),
                f"https://localhost:{port}/health/liveness",
            )
            self.assertEqual('"I\'m alive!"', done.stdout, done.stderr)

    def test_certificate_changes(self) -> None:
        """
        A new certificate is shown without a restart, a stream under way goes on with the old one, and one that cannot
        be used changes nothing.
        """
        certificate = self.folder / "server.pem"
        first = self.issue(certificate)
        config = self.configured('[listen]\nhost = "127.0.0.1"\nport = 0\ntls_certificate = "server.pem"\n')
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        with Daemon("--demo", "--config", config) as daemon:
            self.assertEqual(first, shown_certificate(daemon.port))
            with (
                socket.create_connection((LOOPBACK, daemon.port)) as plain,
                context.wrap_socket(plain, server_hostname=LOOPBACK) as kept,
            ):
                second = self.issue(certificate)
                eventually(lambda: shown_certificate(daemon.port) == second, "the new certificate is shown")
                kept.sendall(b"GET /health/liveness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                self.assertTrue(kept.recv(100).startswith(b"HTTP/1.1 200 "))
            certificate.write_bytes(b"half of a certifi")
            eventually(
                lambda: shown_certificate(daemon.port) == second and "cannot be used" in daemon.log,
                "the log tells of the certificate that cannot be used",
            )
            third = self.issue(certificate)
            eventually(lambda: shown_certificate(daemon.port) == third, "a good one is shown again")
            self.assertIn("mistral-small-latest", self.trusting(daemon.url).stdout)

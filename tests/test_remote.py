"""
The client of the management API: what it sends, what it takes for an answer, and what it says of all else.
"""

from __future__ import annotations

import json
import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from socket import create_server, socket
from threading import Thread
from typing import Any
from unittest import TestCase

import trustme

from dheera.keys import Secret
from dheera.remote import CallFailed, Refused, Remote, Unreachable, is_loopback, to_json

KEY = Secret("sk-planted-7f3a")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def answer(content: bytes, status: str = "200 OK", *fields: str) -> bytes:
    """
    An answer as bytes.
    """
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(content)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + content


def refusal(status: str, message: str) -> bytes:
    """
    A refusal as a dheera writes it.
    """
    return answer(to_json({"error": {"message": message, "type": "x", "param": None, "code": status[:3]}}), status)


class Peer:
    """
    Gives the answers that it was told, one on each connection, and keeps what it was asked.
    """

    def __init__(self, *answers: bytes | None, context: ssl.SSLContext | None = None) -> None:
        self.heard: list[bytes] = []
        self.listening = create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self._answers = answers
        self._context = context
        self._held: list[socket] = []
        self.thread = Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        for content in self._answers:
            plain, _ = self.listening.accept()
            if content is None:  # it never answers
                self._held.append(plain)
                continue
            try:
                with plain if self._context is None else self._context.wrap_socket(plain, server_side=True) as client:
                    self.heard.append(_request(client))
                    client.sendall(content)
            except ssl.SSLError:  # it did not trust us
                plain.close()

    def end(self) -> None:
        self.thread.join(30)
        for each in (*self._held, self.listening):
            each.close()


def _request(client: socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            while len(body) < int(line.split(b":")[1]):
                body += client.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def environment(said: Mapping[str, str]) -> Iterator[None]:
    """
    Of the variables that name proxies, only these.
    """
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.lower() in PROXIES}
    os.environ.update(said)
    try:
        yield
    finally:
        for name in said:
            del os.environ[name]
        os.environ.update(kept)


class RemoteCase(TestCase):
    def peer(self, *answers: bytes | None, context: ssl.SSLContext | None = None) -> Peer:
        peer = Peer(*answers, context=context)
        self.addCleanup(peer.end)
        return peer

    def call(self, peer: Peer, method: str = "GET", path: str = "/key/list", **given: Any) -> Any:
        return Remote.at(f"http://127.0.0.1:{peer.port}", KEY, timeout_seconds=30).call(method, path, **given)

    def failure(self, *answers: bytes) -> CallFailed:
        with self.assertRaises(CallFailed) as caught:
            self.call(self.peer(*answers))
        self.assertNotIn(KEY.reveal(), str(caught.exception))
        return caught.exception


class CallTests(RemoteCase):
    """
    What goes out and what comes back.
    """

    def test_request(self) -> None:
        """
        Verb, path below the base, query, key and JSON body are sent; amounts are numbers, to their last digit.
        """
        peer = self.peer(answer(b"{}"))
        remote = Remote.at(f"http://127.0.0.1:{peer.port}/below/", KEY)
        remote.call("POST", "/key/x", query={"a": "ä &"}, body={"amount": Decimal("0.000000001")})
        head, _, body = peer.heard[0].partition(b"\r\n\r\n")
        self.assertEqual(b"POST /below/key/x?a=%C3%A4+%26 HTTP/1.1", head.split(b"\r\n")[0])
        self.assertIn(b"\r\nAuthorization: Bearer sk-planted-7f3a\r\n", head)
        self.assertIn(b"\r\nContent-Type: application/json\r\n", head)
        self.assertEqual({"amount": Decimal("0.000000001")}, json.loads(body, parse_float=Decimal))

    def test_answer(self) -> None:
        """
        The JSON of the answer, with amounts as they were written.
        """
        peer = self.peer(answer(b'{"spend": 0.1000000000000000000001, "n": 3}'))
        self.assertEqual({"spend": Decimal("0.1000000000000000000001"), "n": 3}, self.call(peer))

    def test_cookies(self) -> None:
        """
        A cookie that is set is not sent back.
        """
        peer = self.peer(answer(b"{}", "200 OK", "Set-Cookie: a=b"), answer(b"{}"))
        remote = Remote.at(f"http://127.0.0.1:{peer.port}", KEY)
        remote.call("GET", "/a")
        remote.call("GET", "/b")
        self.assertNotIn(b"cookie", peer.heard[1].lower())

    def test_key_is_hidden(self) -> None:
        """
        The key is not seen where a client is printed.
        """
        self.assertNotIn("planted", repr(Remote.at("http://localhost", KEY)))


class ProxyTests(RemoteCase):
    """
    Proxies that the environment names.
    """

    def test_not_for_this_machine(self) -> None:
        """
        This machine is reached directly, whatever the environment says.
        """
        peer = self.peer(answer(b"{}"))
        with environment({"http_proxy": "http://127.0.0.1:1", "all_proxy": "http://127.0.0.1:1"}):
            self.assertEqual({}, self.call(peer))

    def test_for_others(self) -> None:
        """
        Others are reached through the proxy, and without it if the environment excepts them.
        """
        peer = self.peer(answer(b"{}"))
        with environment({"http_proxy": f"http://127.0.0.1:{peer.port}"}):
            Remote.at("http://dheera.invalid", KEY).call("GET", "/key/list")
        self.assertTrue(peer.heard[0].startswith(b"GET http://dheera.invalid/key/list HTTP/1.1\r\n"))
        with (
            environment({"http_proxy": f"http://127.0.0.1:{peer.port}", "no_proxy": "dheera.invalid"}),
            self.assertRaises(Unreachable),
        ):
            Remote.at("http://dheera.invalid", KEY).call("GET", "/key/list")
        self.assertEqual(1, len(peer.heard))

    def test_loopback(self) -> None:
        """
        This machine is known by its names and addresses, and nobody else by theirs.
        """
        for base in "http://localhost", "http://127.8.8.8:1", "http://[::1]:1/x", "https://a.localhost":
            self.assertTrue(is_loopback(base), base)
        for base in "http://0.0.0.0:4000", "http://[::]:4000":
            self.assertTrue(is_loopback(base), base)
        for base in "http://localhost.example", "http://128.0.0.1", "http://[::2]", "http://127.0.0.1.example":
            self.assertFalse(is_loopback(base), base)


class RefusalTests(RemoteCase):
    """
    Answers that are not what was asked for.
    """

    def test_refused(self) -> None:
        """
        What the daemon says is told, with its status.
        """
        failure = self.failure(refusal("404 Not Found", "There is no such key."))
        assert isinstance(failure, Refused)
        self.assertEqual((404, "There is no such key."), (failure.status, str(failure)))

    def test_wrong_key(self) -> None:
        """
        A key that is not accepted: which one it was, and which one it must be.
        """
        failure = self.failure(refusal("401 Unauthorized", "This API key is not known here."))
        self.assertIn("This API key is not known here.", str(failure))
        self.assertIn("DHEERA_AI_MASTER_KEY", str(failure))

    def test_redirect(self) -> None:
        """
        A redirect is not followed: the key stays here.
        """
        peer = self.peer(answer(b"", "302 Found", "Location: http://127.0.0.1:1/else"))
        with self.assertRaises(Unreachable) as caught:
            self.call(peer)
        self.assertIn("http://127.0.0.1:1/else", str(caught.exception))

    def test_somebody_else(self) -> None:
        """
        Whatever answers there and is no dheera is told so: pages, JSON of others, broken JSON, too much nesting.
        """
        for content in (
            answer(b"<html>", "502 Bad Gateway"),
            answer(b"<html>", "200 OK"),
            answer(b'{"detail": "Not Found"}', "404 Not Found"),
            answer(b'{"error": "no"}', "400 Bad Request"),
            answer(b'{"a": '),
            answer(b"\xff"),
            answer(b"[" * 100_000),
        ):
            self.assertIn("not as a dheera does", str(self.failure(content)))

    def test_not_http(self) -> None:
        """
        What is not HTTP, or breaks off, is told in a sentence.
        """
        for content in b"SSH-2.0-x\r\n", b"", answer(b"{}").replace(b": 2", b": 9"):
            self.assertIn("cannot be reached", str(self.failure(content)))

    def test_terminal_is_safe(self) -> None:
        """
        What a daemon says cannot command the terminal.
        """
        self.assertEqual("a [31mb", str(self.failure(refusal("400 Bad Request", "a\x1b[31mb"))))


class UnreachableTests(RemoteCase):
    """
    No answer.
    """

    def failed(self, remote: Remote) -> str:
        with self.assertRaises(Unreachable) as caught:
            remote.call("GET", "/key/list")
        return str(caught.exception)

    def test_nobody_there(self) -> None:
        """
        Where nobody listens, it says what to look at.
        """
        with create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
        told = self.failed(Remote.at(f"http://127.0.0.1:{port}", KEY))
        self.assertIn(f"Nothing answers at http://127.0.0.1:{port}.", told)
        self.assertIn("--url", told)

    def test_silence(self) -> None:
        """
        Who never answers is not waited for without end.
        """
        peer = self.peer(None)
        told = self.failed(Remote.at(f"http://127.0.0.1:{peer.port}", KEY, timeout_seconds=0.05))
        self.assertIn("did not answer within 0.05 seconds", told)

    def test_no_such_host(self) -> None:
        """
        A name that leads nowhere.
        """
        self.assertIn("cannot be reached", self.failed(Remote.at("http://dheera.invalid", KEY)))


class TlsTests(RemoteCase):
    """
    Certificates.
    """

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        authority = trustme.CA()
        self.ca_file = Path(folder.name, "ca.pem")
        authority.cert_pem.write_to_path(str(self.ca_file))
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(self.context)

    def test_own_authority(self) -> None:
        """
        The authorities in the file are trusted.
        """
        peer = self.peer(answer(b"{}"), context=self.context)
        remote = Remote.at(f"https://localhost:{peer.port}", KEY, ca_file=self.ca_file)
        self.assertEqual({}, remote.call("GET", "/key/list"))

    def test_not_trusted(self) -> None:
        """
        A certificate of an authority that is not trusted, or for another name: no key is sent, and what helps is told.
        """
        for host, ca_file in ("localhost", None), ("127.0.0.1", self.ca_file):
            peer = self.peer(answer(b"{}"), context=self.context)
            with self.assertRaises(Unreachable) as caught:
                Remote.at(f"https://{host}:{peer.port}", KEY, ca_file=ca_file).call("GET", "/key/list")
            self.assertIn("is not trusted", str(caught.exception))
            self.assertIn("--ca-file", str(caught.exception))
            peer.thread.join(30)
            self.assertEqual([], peer.heard)

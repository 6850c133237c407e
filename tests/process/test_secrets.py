"""
Where keys must not be: each one that is planted is looked for in all that the daemon says and shows.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from unittest import TestCase

from tests.process.daemon import UPSTREAM_KEY, Daemon, environment, in_front_of
from tests.process.peers import Peer, Upstream, answer, connect, request

MASTER_KEY = "sk-master-canary-91be"
CLIENT_KEY = "sk-client-canary-07aa"
PROMPT = "prompt-canary-3d5f"
DATABASE = "postgresql://u:database-canary-44c2@localhost/x"
CANARIES = MASTER_KEY, UPSTREAM_KEY, CLIENT_KEY, PROMPT, "database-canary-44c2"


class Talk:
    """
    An upstream that answers one call, cuts the next in its body, breaks the rules in the third, and so on.
    """

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def script(self, peer: Peer) -> None:
        """
        One connection.
        """
        while True:
            head = peer.head()
            self.heard.append(head)
            if b"content-length" in head.lower():
                peer.until(b"}")
            if b"/cut" in head:
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                return
            if b"/none" in head:
                return
            if b"/nonsense" in head:
                peer.send(f"NOT HTTP {UPSTREAM_KEY} {PROMPT}\r\n\r\n".encode())
                return
            peer.send(answer(b"{}", status=b"401 Unauthorized" if b"/refused" in head else b"200 OK"))


def converse(port: int) -> bytes:
    """
    Calls of every kind that may make the daemon say something, from clients that send their keys in every way.

    :return: all that the clients heard.
    """
    heard = b""
    body = b'{"prompt": "%b"}' % PROMPT.encode()
    credentials = (
        f"Authorization: Bearer {MASTER_KEY}",
        f"Authorization: Bearer {CLIENT_KEY}",
        f"authorization: Basic {CLIENT_KEY}",
        f"x-api-key: {MASTER_KEY}",
        f"api-key: {CLIENT_KEY}",
        f"Authorization: Bearer {CLIENT_KEY}\x01",
        f"{CLIENT_KEY}",
        f"Cookie: {CLIENT_KEY}\r\nX-Dheera-Key: {CLIENT_KEY}\r\nAuthorization: Bearer {MASTER_KEY}",
    )
    for credential in credentials:
        for path in "fine", "refused", "cut", "none", "nonsense", "a/../b":
            with connect(port) as client:
                lines = [credential.encode(), b"Connection: close"]
                client.send(request("POST", f"/mistral/v1/{path}?key={CLIENT_KEY}", *lines, body=body))
                heard += client.rest()
    with connect(port) as client:
        client.send(f"{CLIENT_KEY} {PROMPT}\r\n\r\n".encode())
        heard += client.rest()
    return heard


class SilenceTests(TestCase):
    """
    A daemon that has much to say.
    """

    def test_nothing_is_told(self) -> None:
        """
        Neither the log, in either form, nor standard output, nor any answer of ours, nor the list of processes holds a
        key, a prompt or a query; and upstream gets its own key and never one of ours.
        """
        for form in "text", "json":
            talk = Talk()
            with (
                self.subTest(form=form),
                Upstream(talk.script) as upstream,
                in_front_of(
                    *(upstream.url, "--log-format", form), DHEERA_AI_MASTER_KEY=MASTER_KEY, DATABASE_URL=DATABASE
                ) as daemon,
            ):
                answers = converse(daemon.port).decode()
                process = Path("/proc") / str(daemon.process.pid)
                arguments = (process / "cmdline").read_text()
                daemon.signal(signal.SIGTERM)
                self.assertEqual(0, daemon.ended())
                said = daemon.output + daemon.log
            self.assertIn("closed the connection", said)  # it did have something to say
            self.assertIn("not valid HTTP", said)
            for canary in CANARIES:
                for place, text in ("log", said), ("answers", answers), ("arguments", arguments):
                    self.assertNotIn(canary, text, place)
            for head in talk.heard:
                self.assertEqual(1, head.count(UPSTREAM_KEY.encode()))
                self.assertNotIn(MASTER_KEY.encode(), head)
                path, _, lines = head.partition(b"\r\n")
                self.assertNotIn(CLIENT_KEY.encode(), lines, path)

    def test_start_that_fails(self) -> None:
        """
        What is said of a configuration that cannot be used holds none of its secrets.
        """
        said = {"MISTRAL_API_KEY": f"{UPSTREAM_KEY} \u00e4", "DHEERA_AI_MASTER_KEY": f"{MASTER_KEY} x"}
        said |= {"DATABASE_URL": "database-canary-44c2", "MISTRAL_API_BASE": f"http://{CLIENT_KEY}@localhost"}
        with Daemon(said=said, serves=False) as daemon:
            self.assertEqual(2, daemon.ended())
            self.assertEqual(4, daemon.log.count("environment variable"))
            for canary in CANARIES:
                self.assertNotIn(canary, daemon.output + daemon.log)


class CheckTests(TestCase):
    """
    ``dheera_ai check`` in the environment of a real start.
    """

    def test_tells_no_secret(self) -> None:
        """
        It says what would be served and by which mode, and no secret.
        """
        said = {"MISTRAL_API_KEY": UPSTREAM_KEY, "DHEERA_AI_MASTER_KEY": MASTER_KEY, "DATABASE_URL": DATABASE}
        done = subprocess.run(
            ["dheera_ai", "check"], env=environment(said), capture_output=True, text=True, check=False
        )
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertIn("with a master key", done.stdout)
        for canary in CANARIES:
            self.assertNotIn(canary, done.stdout)

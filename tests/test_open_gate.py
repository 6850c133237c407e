"""
Who gets in without a master key.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Caller
from dheera.errors import NotAllowed
from dheera.open_gate import OpenGate, is_local
from tests.network import LOCAL

STRANGER = IPv4Address("TCP", "203.0.113.7", 50000)
LOCALS: list[IAddress] = [
    LOCAL,
    IPv4Address("TCP", "127.8.9.10", 1),
    IPv6Address("TCP", "::1", 1),
    IPv6Address("TCP", "::ffff:127.0.0.1", 1),
    UNIXAddress(b"/run/dheera.sock"),
    UNIXAddress(None),
]
STRANGERS: list[IAddress] = [
    STRANGER,
    IPv4Address("TCP", "10.0.0.1", 1),
    IPv4Address("TCP", "0.0.0.0", 1),
    IPv6Address("TCP", "2001:db8::1", 1),
    IPv6Address("TCP", "fe80::1%eth0", 1),
    IPv6Address("TCP", "::ffff:203.0.113.7", 1),
]


def caller(
    peer: IAddress = LOCAL,
    *,
    credential: bytes | None = None,
    host: bytes = b"localhost:4000",
    origin: bytes = b"",
    cross_site: bool = False,
    forwarded: bool = False,
) -> Caller:
    return Caller(
        credential=credential,
        ambiguous=False,
        peer=peer,
        host=host,
        origin=origin,
        cross_site=cross_site,
        forwarded=forwarded,
    )


class Open(SynchronousTestCase):
    """
    Without a master key.
    """

    def setUp(self) -> None:
        self.gate = OpenGate(to_network=False)

    def admits(self, who: Caller) -> bool:
        admitted = self.gate.admit(who, b"GET", b"/v1/models")
        if isinstance(admitted.result, Exception) or not hasattr(admitted.result, "alias"):
            self.failureResultOf(admitted, NotAllowed)
            return False
        return self.successResultOf(admitted).alias == "anyone"

    def test_cross_site(self) -> None:
        """
        What a page of another site makes a browser fetch, an image say, is refused though it has no ``Origin``.
        """
        self.assertFalse(self.admits(caller(cross_site=True)))

    def test_forwarded(self) -> None:
        """
        A proxy on this machine does not make its clients local.
        """
        self.assertFalse(self.admits(caller(forwarded=True)))

    def test_credentials(self) -> None:
        """
        Any credential, or none, will do.
        """
        for credential in (None, b"sk-1234", b"anything", b"\xff"):
            self.assertTrue(self.admits(caller(credential=credential)))

    def test_peers(self) -> None:
        """
        Only this machine is served, and the refusal says what to do about it.
        """
        for peer in LOCALS:
            self.assertTrue(is_local(peer) and self.admits(caller(peer)), peer)
        for peer in STRANGERS:
            self.assertFalse(is_local(peer) or self.admits(caller(peer)), peer)
        message = self.failureResultOf(self.gate.admit(caller(STRANGER), b"GET", b"/v1/models")).getErrorMessage()
        self.assertIn("DHEERA_AI_MASTER_KEY", message)
        self.assertIn("open_to_network = true", message)

    def test_hosts(self) -> None:
        """
        A name that a stranger's DNS may lead here is refused (rebinding); addresses, localhost and none at all are not.
        """
        for host in [
            b"",
            b"localhost",
            b"localhost:4000",
            b"LocalHost.",
            b"app.localhost:4000",
            b"127.0.0.1:4000",
            b"0.0.0.0:4000",
            b"192.168.1.5:4000",
            b"[::1]:4000",
            b"[::ffff:127.0.0.1]",
        ]:
            self.assertTrue(self.admits(caller(host=host)), host)
        for host in [
            b"evil.test",
            b"evil.test:4000",
            b"localhost.evil.test",
            b"127.0.0.1.evil.test",
            b"notlocalhost",
            b"127.0.0.1@evil.test",
            b"1.2.3",
            b"2130706433",
            b"[::1",
            b"::1",
            b"\xff",
        ]:
            self.assertFalse(self.admits(caller(host=host)), host)

    def test_origins(self) -> None:
        """
        A page of this machine's may send requests, and an installed application; a page from anywhere else may not,
        not even one at a bare address.
        """
        for origin in [
            b"",
            b"http://localhost:3000",
            b"https://app.localhost",
            b"http://127.0.0.1:8080",
            b"http://0.0.0.0:8080",
            b"http://[::1]:3000",
            b"vscode-file://vscode-app",
            b"chrome-extension://abcdef",
        ]:
            self.assertTrue(self.admits(caller(origin=origin)), origin)
        for origin in [
            b"null",
            b"https://evil.test",
            b"https://localhost.evil.test",
            b"http://203.0.113.7",
            b"http://192.168.1.5:3000",
            b"http://[2001:db8::1]",
            b"HTTPS://EVIL.test",
            b"https://",
            b"https://a@localhost",
        ]:
            self.assertFalse(self.admits(caller(origin=origin)), origin)

    def test_to_network(self) -> None:
        """
        If the operator says so, everybody is served, by whatever name.
        """
        self.gate = OpenGate(to_network=True)
        for peer in LOCALS + STRANGERS:
            self.assertTrue(self.admits(caller(peer, host=b"dheera.team.test", origin=b"https://ui.test")))

    def test_described(self) -> None:
        """
        It can be told in one line who is let in.
        """
        self.assertIn("this machine only", OpenGate(to_network=False).describe())
        self.assertIn("Open to the network", OpenGate(to_network=True).describe())
        for gate in (OpenGate(to_network=False), OpenGate(to_network=True)):
            self.assertNotIn("\n", gate.describe())

    def test_nobody_manages(self) -> None:
        """
        There are no keys, and whoever wants to manage them is told what to set.
        """
        refused = self.failureResultOf(self.gate.identify(caller(credential=b"sk-1234")), NotAllowed)
        self.assertIn("DHEERA_AI_MASTER_KEY", refused.getErrorMessage())

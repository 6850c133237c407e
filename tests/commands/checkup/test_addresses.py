"""
Where a daemon is, from what it is told to listen at.
"""

from __future__ import annotations

from pathlib import Path
from unittest import TestCase

from dheera.commands.checkup.addresses import Address, addresses_of
from dheera.settings import Listen


def found(listen: Listen) -> tuple[list[str], list[str]]:
    """
    The addresses, and what is unknown.
    """
    addresses, unknown = addresses_of(listen)
    return [str(each) for each in addresses], list(unknown)


class Addresses(TestCase):
    """
    Of hosts, ports and endpoints.
    """

    def test_host(self) -> None:
        """
        One that listens everywhere is asked on this machine.
        """
        for host, url in (
            ("0.0.0.0", "http://127.0.0.1:4000"),
            ("::", "http://[::1]:4000"),
            ("10.0.0.5", "http://10.0.0.5:4000"),
            ("localhost", "http://localhost:4000"),
        ):
            self.assertEqual(([url], []), found(Listen(host=host)))
        self.assertEqual((["https://127.0.0.1:443"], []), found(Listen(port=443, tls_certificate=Path("x"))))

    def test_endpoints(self) -> None:
        """
        Endpoints of Twisted say where they are, most of them.
        """
        for text, url in (
            ("tcp:4000", "http://127.0.0.1:4000"),
            ("tcp:port=4001:interface=10.0.0.5", "http://10.0.0.5:4001"),
            ("tcp6:4000", "http://[::1]:4000"),
            (r"tcp6:4000:interface=\:\:", "http://[::1]:4000"),
            (r"tcp6:4000:interface=fd00\:\:5", "http://[fd00::5]:4000"),
            ("ssl:443:privateKey=/k:certKey=/c", "https://127.0.0.1:443"),
            ("tls:/etc/dheera/tls:443", "https://127.0.0.1:443"),
            ("unix:/run/dheera.sock", "unix:/run/dheera.sock"),
            (r"unix:address=/run/a\:b:mode=660", "unix:/run/a:b"),
        ):
            self.assertEqual(([url], []), found(Listen(endpoints=(text,))), text)

    def test_unknown(self) -> None:
        """
        Of others, it is said that nobody knows.
        """
        self.assertEqual(([], ["port 0 (any free one)"]), found(Listen(port=0)))
        for text in "systemd:domain=INET:name=dheera", "tcp:0", "onion:80":
            self.assertEqual(([], [text.partition(":")[0] + ": ..."]), found(Listen(endpoints=(text,))))

    def test_is_here(self) -> None:
        """
        What is not an address of this machine is known for that: no secret goes there.
        """
        for host in "127.0.0.1", "127.9.9.9", "::1", "localhost":
            self.assertTrue(Address(host=host, port=1).is_here(), host)
        self.assertTrue(Address(path="/run/x").is_here())
        for host in "192.0.2.1", "2001:db8::1", "nowhere.invalid":
            self.assertFalse(Address(host=host, port=1).is_here(), host)

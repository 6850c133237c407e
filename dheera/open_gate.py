"""
The gate without a master key: it is open, but to this machine alone.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address as IPv4
from ipaddress import IPv6Address as IPv6
from ipaddress import ip_address

from attrs import define
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IAddress

from dheera.boundaries import Admission, Bearer, Caller, Gate
from dheera.errors import NotAllowed

_APPLICATION = re.compile(rb"(?!https?:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:https?://)?(\[[0-9A-Fa-f:.]+\]|[^:/\[\]]*)(?::[0-9]*)?")
_LOCALHOST = IPv4("127.0.0.1")

ANYONE = Admission(alias="anyone")


@define(eq=False)
class OpenGate:
    """
    No master key: any credential, or none, is accepted.

    A browser on this machine is a danger here: any page that it shows may send requests to this port. So a page of
    another origin is refused, and so is a name that only looks local (DNS rebinding).

    :param to_network: whether peers that are not on this machine are served as well.
    """

    to_network: bool

    def identify(self, caller: Caller) -> Deferred[Bearer]:  # noqa: ARG002 - it is nobody's
        """
        Refuse: there are no keys.
        """
        return fail(
            NotAllowed(
                "No master key is set, so there are no virtual keys and nobody may manage them. Set "
                "DHEERA_AI_MASTER_KEY, start dheera again, and send that key."
            )
        )

    def admit_at_once(self, caller: Caller, method: bytes, target: bytes) -> Admission:  # noqa: ARG002 - all are alike
        """
        Let anybody on this machine in.
        """
        if not self.to_network:
            if not is_local(caller.peer):
                raise NotAllowed(
                    "No master key is set, so only this machine is served. Set DHEERA_AI_MASTER_KEY, or set "
                    "open_to_network = true in the configuration to serve everybody without a key."
                )
            if caller.forwarded:
                raise NotAllowed(
                    "No master key is set, so only this machine is served, but this request comes through another "
                    "proxy. Set DHEERA_AI_MASTER_KEY, or set open_to_network = true in the configuration."
                )
            ours = _cannot_be_rebound(caller.host) and _is_of_this_machine(caller.origin)
            if caller.cross_site or not ours:
                raise NotAllowed(
                    "No master key is set, so requests must be addressed to localhost or an IP address, and web "
                    "pages from elsewhere may not send any. Set DHEERA_AI_MASTER_KEY to lift this."
                )
        return ANYONE

    def admit(self, caller: Caller, method: bytes, target: bytes) -> Deferred[Admission]:
        """
        The same; nobody ever has to be asked.
        """
        return maybeDeferred(self.admit_at_once, caller, method, target)

    def describe(self) -> str:
        """
        The mode in words.
        """
        if self.to_network:
            return "Open to the network: no master key is set, and anybody who reaches this port is served."
        return "Open to this machine only: no master key is set. Set DHEERA_AI_MASTER_KEY to serve others."


def is_local(peer: IAddress) -> bool:
    """
    Whether *peer* is on this machine: the loopback interface, or a Unix socket.
    """
    if isinstance(peer, UNIXAddress):
        return True
    return isinstance(peer, (IPv4Address, IPv6Address)) and _is_loopback(peer.host)


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


@lru_cache(maxsize=256)
def _cannot_be_rebound(host: bytes) -> bool:
    """
    Whether a ``Host`` is an IP address or localhost, which no stranger's DNS can be behind. An absent one tells nothing
    against the caller.
    """
    return not host or _address(host) is not None


@lru_cache(maxsize=256)
def _is_of_this_machine(origin: bytes) -> bool:
    """
    Whether an ``Origin`` is a page that this machine serves, or an installed application (``vscode-file://...``). One
    at any other address is a stranger's. Only browsers send one.
    """
    if not origin or _APPLICATION.match(origin):
        return True
    address = _address(origin)
    return address is not None and (address.is_unspecified or _is_loopback(str(address)))


def _address(authority: bytes) -> IPv4 | IPv6 | None:
    """
    The IP address that an authority, or a URL without a path, names; ``None`` if it is the name of another host than
    localhost.
    """
    match = _AUTHORITY.fullmatch(authority.decode("latin-1").strip().lower())
    if match is None:
        return None
    name = match[1].strip("[]").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return _LOCALHOST
    try:
        return ip_address(name)
    except ValueError:
        return None


_open: type[Gate] = OpenGate

"""
Who is connected, counted: in all, from each network, and by the files that are left to open. None of them may crowd out
the others.
"""

from __future__ import annotations

import socket
import sys
from collections import Counter
from collections.abc import Iterator
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
from typing import TYPE_CHECKING

from twisted.logger import Logger

from dheera.errors import Refusal, Unavailable
from dheera.wire.limits import ServerLimits
from dheera.wire.sending import file_number

if TYPE_CHECKING:
    from dheera.wire.channel import Channel

log = Logger()

TOLD_TO_LEAVE = 256
"""
How many connections beyond the limit get an answer that says so; more are dropped without a word.
"""

FILES_KEPT = 256
"""
How many of the files that this process may open clients do not get, so that there are some for the store, the sinks and
for connections to upstream; at most an eighth of them.
"""


def served_of(most: int, limits: ServerLimits) -> int:
    """
    How many of *most* connections are served; the others are told to leave.
    """
    return min(limits.connections, most - min(TOLD_TO_LEAVE, most // 8))


_MAPPED = bytes(10) + b"\xff\xff"


class Crowd:
    """
    The connections of all clients.

    :ivar most: never more than that many, those who are told to leave included, whatever the limits say.
    """

    def __init__(self) -> None:
        self.most = sys.maxsize
        self._networks: dict[Channel, str] = {}
        self._per_network: Counter[str] = Counter()
        self._is_short = False

    def __len__(self) -> int:
        return len(self._networks)

    def __iter__(self) -> Iterator[Channel]:
        return iter([*self._networks])

    def join(self, channel: Channel, limits: ServerLimits) -> Refusal | None:
        """
        Count *channel* in.

        :return: why it is one too many.
        """
        network = network_of(getattr(channel.getPeer(), "host", ""))
        self._networks[channel] = network
        self._per_network[network] += 1
        if len(self) > self._places(limits):
            return Unavailable("Too many connections are open here: try again soon.", retry_after_seconds=1)
        if network and self._per_network[network] > limits.connections_per_address:
            return Unavailable("Too many connections come from your address: use fewer.", retry_after_seconds=1)
        if self._short_of(channel, _files_kept()):
            if not self._is_short:
                self._is_short = True
                log.warn(
                    "Too few files are left to open: new clients are refused, {count} are connected", count=len(self)
                )
            return Unavailable("Too few files are left to open here: try again soon.", retry_after_seconds=1)
        if self._is_short and not self._short_of(channel, 2 * _files_kept()):
            self._is_short = False
            log.info("Enough files are left to open again: new clients are served")
        return None

    def overrun(self, channel: Channel, limits: ServerLimits) -> bool:
        """
        Whether even those who are told that there are too many are too many: in all, from one network, which must not
        fill the places of others by being told, or for the files that are left.
        """
        network = self._networks[channel]
        return (
            len(self) > min(self._places(limits) + TOLD_TO_LEAVE, self.most)
            or (bool(network) and self._per_network[network] > limits.connections_per_address + TOLD_TO_LEAVE)
            or self._short_of(channel, _files_kept() // 2)
        )

    def leave(self, channel: Channel) -> None:
        """
        Count *channel* out.
        """
        network = self._networks.pop(channel)
        self._per_network[network] -= 1
        if not self._per_network[network]:
            del self._per_network[network]

    def _places(self, limits: ServerLimits) -> int:
        return served_of(self.most, limits)

    def _short_of(self, channel: Channel, files: int) -> bool:
        """
        Whether fewer than *files* could be opened after the one of *channel*, which has just come: a new file gets the
        lowest number that is free, so all below it are open.
        """
        number, limit = file_number(channel.transport), getrlimit(RLIMIT_NOFILE)[0]
        return number is not None and limit != RLIM_INFINITY and limit - number <= files


def _files_kept() -> int:
    limit = getrlimit(RLIMIT_NOFILE)[0]
    return FILES_KEPT if limit == RLIM_INFINITY else min(FILES_KEPT, limit // 8)


def network_of(address: str) -> str:
    """
    What counts as one client: an IPv4 address, also one that is written as IPv6 (RFC 4291 §2.5.5.2); of IPv6 a network
    of 64 bits, in which one client has as many addresses as it likes.
    """
    if ":" not in address:
        return address
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"

"""
Keys that are not known yet, by the address that they come from: whoever offers many wrong ones has to wait.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from functools import lru_cache
from ipaddress import IPv6Address as IPv6
from ipaddress import ip_address, ip_network

from attrs import define, field
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.logger import Logger

from dheera.errors import TooManyRequests

log = Logger()

SECONDS_EACH = 1.0
"""
How long a wrong key is held against its address, when it comes on top of others.
"""
LONGEST_WAIT_SECONDS = 10
ADDRESSES = 10_000


@define(eq=False)
class Lane:
    """
    Those who come from one address with a key that has to be looked up.

    :ivar looking: whose key is being looked at now.
    """

    _reactor: IReactorTime
    _place: str
    _free: int
    looking: int = 0
    _waiting: deque[Deferred[Lane]] = field(factory=deque)
    _paid_at: float = 0.0
    _told: bool = False
    _opening: IDelayedCall | None = None

    def enter(self) -> Deferred[Lane]:
        """
        Wait for one's turn. Who leaves before cancels it.

        :return: fails with `TooManyRequests` if that would take too long.
        """
        if self._wait_seconds() > 0 and len(self._waiting) >= LONGEST_WAIT_SECONDS:
            return fail(_too_many())
        turn: Deferred[Lane] = Deferred(self._give_up)
        self._waiting.append(turn)
        self._let_in()
        return turn

    def leave(self, *, wrong: bool) -> None:
        """
        One's key has been looked at.
        """
        self.looking -= 1
        if wrong:
            self._paid_at = max(self._paid_at, self._reactor.seconds()) + SECONDS_EACH
        self._let_in()

    def is_empty(self) -> bool:
        """
        Whether nobody is there.
        """
        return not self.looking and not self._waiting

    def _give_up(self, turn: Deferred[Lane]) -> None:
        self._waiting.remove(turn)
        if not self._waiting and self._opening is not None:
            self._opening.cancel()
            self._opening = None

    def _wait_seconds(self) -> float:
        owed = self._paid_at - self._reactor.seconds()
        if owed <= 0:
            self._told = False
        return owed - (self._free - 1) * SECONDS_EACH

    def _let_in(self) -> None:
        # Each who is looked at may be wrong: all together must not owe more than is free.
        while self._waiting and self._wait_seconds() + self.looking * SECONDS_EACH <= 0:
            self.looking += 1
            self._waiting.popleft().callback(self)
        if (wait := self._wait_seconds()) > 0:
            self._slow_down(wait)

    def _slow_down(self, wait: float) -> None:
        if not self._told:
            self._told = True
            log.warn("Many unknown API keys come from {address}: it is slowed down", address=self._place)
        while len(self._waiting) > LONGEST_WAIT_SECONDS:
            self._waiting.pop().errback(_too_many())
        if self._waiting and self._opening is None:
            self._opening = self._reactor.callLater(wait, self._open)

    def _open(self) -> None:
        self._opening = None
        self._let_in()


@define(eq=False)
class Attempts:
    """
    A lane for each address. In it, *free* keys are looked at at once; each wrong one is a second of debt, which time
    pays, and takes one of these places meanwhile. When none is left all in the lane wait, and of those that would wait
    longer than some seconds the newest are refused.

    :param free: how many wrong keys an address may offer at once; at least 1.
    """

    _reactor: IReactorTime
    free: int
    _lanes: OrderedDict[str, Lane] = field(factory=OrderedDict)

    def enter(self, peer: IAddress) -> Deferred[Lane]:
        """
        Wait for one's turn to have a key looked at; whoever got it says `Lane.leave` in the end.

        :return: fails with `TooManyRequests` if that would take too long.
        """
        place = place_of(peer)
        lane = self._lanes.get(place)
        if lane is None:
            lane = self._lanes[place] = Lane(self._reactor, place, self.free)
            if len(self._lanes) > ADDRESSES:
                self._forget()
        self._lanes.move_to_end(place)
        return lane.enter()

    def _forget(self) -> None:
        """
        Make room: the lane that was used longest ago goes, whatever is held against it, unless somebody is in it.
        """
        for place, lane in self._lanes.items():
            if lane.is_empty():
                del self._lanes[place]
                return


def place_of(peer: IAddress) -> str:
    """
    Where *peer* is, as far as addresses can be told apart: whoever has one IPv6 address has its whole /64.
    """
    if not isinstance(peer, (IPv4Address, IPv6Address)):
        return "this machine"
    return _place(peer.host)


@lru_cache(maxsize=4096)
def _place(host: str) -> str:
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6):
        return str(address.ipv4_mapped or ip_network((int(address) >> 64 << 64, 64)))
    return str(address)


def _too_many() -> TooManyRequests:
    return TooManyRequests(
        "Too many unknown API keys came from this address. Wait, and check the key.",
        retry_after_seconds=LONGEST_WAIT_SECONDS,
    )

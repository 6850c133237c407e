"""
The addresses of a host: asked for by its name, taken for granted for a while, and asked for again in the background.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, zip_longest
from math import inf
from typing import Any, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IReactorTime, IResolutionReceiver
from twisted.logger import Logger
from zope.interface import implementer

log = Logger()

PATIENCE_SECONDS = 30.0
"""
After this long a look-up is not waited for any more: another may begin.
"""

RETRY_SECONDS = 5.0
"""
How soon a look-up follows one that found nothing, or addresses none of which answered.
"""

AVOID_SECONDS = 60.0
"""
How long an address that did not answer is tried only after the others.
"""


class Host:
    """
    A host that can be connected to, and its addresses as far as we know. One that is given by its address has that one.

    :ivar old_at: when its addresses should be asked for again.
    :ivar known: its addresses, and those that it may still have: an address is gone when two answers in a row lack it.
        Of many, name servers may tell a few, and others each time.
    :param seconds: how long what was found is taken for granted.
    :param moved: told when addresses are gone.
    :raises ValueError: *name* cannot be a name.
    """

    def __init__(
        self, reactor: IReactorTime, name: str, seconds: Callable[[], float], moved: Callable[[Host], None]
    ) -> None:
        self.old_at = -inf
        self._reactor = reactor
        self._is_address = isIPAddress(name) or isIPv6Address(name)
        self._name = name if self._is_address else name.encode("idna").decode()
        self._seconds = seconds
        self._moved = moved
        self._found_at = -inf
        self._addresses: tuple[str, ...] = ()
        self.known: frozenset[str] = frozenset()
        self._asked: _Answer | None = None
        self._waiting: list[Deferred[None]] = []
        self._failing = False
        self._turns = 0
        self._worked = ""
        self._silent: dict[str, float] = {}
        if self._is_address:
            self._addresses = (name,)
            self.known = frozenset(self._addresses)
            self.old_at = self._found_at = inf

    def has(self, address: str) -> bool:
        """
        Whether this may still be one of its addresses.
        """
        return self._is_address or address in self.known

    async def addresses(self) -> list[str]:
        """
        Its addresses, in the order in which they should be tried. Old ones are as good as new ones; only if there are
        none is a look-up waited for, and all who wait share one.

        :raises DNSLookupError: nobody knows the name.
        """
        found: Deferred[None] | None = None
        if not self._addresses:
            found = Deferred(self._waiting.remove)
            self._waiting.append(found)
        if self._reactor.seconds() >= self.old_at or not (self._addresses or self._asked):
            self.look_up()
        if found is not None:
            await found
        return self._in_turn()

    def look_up(self) -> None:
        """
        Ask for its addresses now, and tell those who wait for them.
        """
        self.old_at = self._reactor.seconds() + PATIENCE_SECONDS
        self._asked = answer = _Answer(self._answered)
        resolver: IHostnameResolver = cast("Any", self._reactor).nameResolver
        resolver.resolveHostName(answer, self._name)

    def _answered(self, answer: _Answer) -> None:
        if answer is not self._asked:
            return  # it was given up
        self._asked = None
        waiting, self._waiting = self._waiting, []
        now, seconds = self._reactor.seconds(), self._seconds()
        if not answer.found:
            self.old_at = now + min(seconds, RETRY_SECONDS)
            if self._addresses and not self._failing:
                self._failing = True
                log.warn("No addresses are found for {name} any more: the last ones stay in use", name=self._name)
            for one in waiting:
                one.errback(DNSLookupError(f"no results for hostname lookup: {self._name}"))
            return
        if self._failing:
            self._failing = False
            log.info("Addresses are found for {name} again", name=self._name)
        self._found_at, self.old_at = now, now + seconds
        before, self._addresses = self._addresses, tuple(answer.found)
        known, self.known = self.known, frozenset((*before, *answer.found))
        self._silent = {address: since for address, since in self._silent.items() if address in self._addresses}
        if not known <= self.known:
            self._moved(self)
        for one in waiting:
            one.callback(None)

    # What those who connect have found out.

    def answered_at(self, address: str) -> None:
        """
        A connection to *address* was made.
        """
        self._worked = address
        self._silent.pop(address, None)

    def silent_at(self, address: str) -> None:
        """
        None could be made to *address*, or it took too long.
        """
        self._silent[address] = self._reactor.seconds()

    def silent_everywhere(self) -> None:
        """
        None could be made to any address. Perhaps there are others by now.
        """
        if self._asked is None:
            self.old_at = min(self.old_at, self._found_at + RETRY_SECONDS)

    def _in_turn(self) -> list[str]:
        """
        All addresses: both families in turn, first the one that worked last; within a family each begins as often as
        the others; those that did not answer lately come last.
        """
        if len(self._addresses) == 1:
            return [*self._addresses]
        self._turns += 1
        recently = self._reactor.seconds() - AVOID_SECONDS
        avoided = {address for address, since in self._silent.items() if since > recently}
        first = self._worked if self._worked in self._addresses else self._addresses[0]
        ordered: list[str] = []
        for group in (
            [address for address in self._addresses if address not in avoided],
            [address for address in self._addresses if address in avoided],
        ):
            same = _rotated([one for one in group if (":" in one) == (":" in first)], self._turns)
            other = _rotated([one for one in group if (":" in one) != (":" in first)], self._turns)
            ordered += [one for one in chain.from_iterable(zip_longest(same, other)) if one is not None]
        return ordered


def _rotated(addresses: list[str], turns: int) -> list[str]:
    start = turns % len(addresses) if addresses else 0
    return addresses[start:] + addresses[:start]


@implementer(IResolutionReceiver)
class _Answer:
    """
    What a resolver finds.
    """

    def __init__(self, complete: Callable[[_Answer], None]) -> None:
        self.found: list[str] = []
        self._complete = complete

    def resolutionBegan(self, _resolution: IHostResolution) -> None:  # noqa: N802 - Twisted's name
        """
        It has begun to look.
        """

    def addressResolved(self, address: IAddress) -> None:  # noqa: N802 - Twisted's name
        """
        It has found an address.
        """
        if isinstance(address, (IPv4Address, IPv6Address)) and address.host not in self.found:
            self.found.append(address.host)

    def resolutionComplete(self) -> None:  # noqa: N802 - Twisted's name
        """
        It has found all that there are.
        """
        self._complete(self)

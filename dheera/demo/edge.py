"""
The header lines that Mistral's gateways and Cloudflare add, so that a proxy in front of the demo
has the same to pass, and to strip, as in front of the real API.
"""

from __future__ import annotations

from uuid import uuid4

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import datetimeToString

REQUESTS_A_MINUTE = 600
TOKENS_A_MINUTE = 2_000_000
_SECONDS_A_MINUTE = 60


@define(eq=False)
class Edge:
    """
    Counts what this minute has used; nobody is ever refused for it.
    """

    _clock: IReactorTime
    _minute: int = field(init=False, default=-1)
    _requests: int = field(init=False, default=0)
    _tokens: int = field(init=False, default=0)

    def fields(self, *, began: float) -> list[tuple[bytes, bytes]]:
        """
        What stands on every answer.

        :param began: when the call came, in seconds of the clock.
        """
        now = self._clock.seconds()
        correlation = str(uuid4()).encode("ascii")
        return [
            (b"date", datetimeToString(now)),
            (b"server", b"cloudflare"),
            (b"mistral-correlation-id", correlation),
            (b"x-kong-request-id", correlation),
            (b"x-envoy-upstream-service-time", b"%d" % int(1000 * (now - began))),
            (b"access-control-allow-origin", b"*"),
            (b"cf-cache-status", b"DYNAMIC"),
            (b"set-cookie", b"__cf_bm=demo; path=/; domain=.mistral.ai; HttpOnly; Secure"),
            (b"strict-transport-security", b"max-age=15552000; includeSubDomains; preload"),
            (b"alt-svc", b'h3=":443"; ma=86400'),
        ]

    def limits(self, tokens: int | None) -> list[tuple[bytes, bytes]]:
        """
        The rate-limit lines of a call that used *tokens*.
        """
        minute = int(self._clock.seconds()) // _SECONDS_A_MINUTE
        if minute != self._minute:
            self._minute, self._requests, self._tokens = minute, 0, 0
        self._requests += 1
        self._tokens += tokens or 0
        lines = [
            (b"x-ratelimit-limit-req-minute", REQUESTS_A_MINUTE),
            (b"x-ratelimit-remaining-req-minute", max(0, REQUESTS_A_MINUTE - self._requests)),
        ]
        if tokens is not None:
            lines += [
                (b"x-ratelimit-limit-tokens-minute", TOKENS_A_MINUTE),
                (b"x-ratelimit-remaining-tokens-minute", max(0, TOKENS_A_MINUTE - self._tokens)),
                (b"x-ratelimit-tokens-query-cost", tokens),
            ]
        return [(name, b"%d" % number) for name, number in lines]

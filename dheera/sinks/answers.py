"""
What an HTTP server answered to a batch: whether it may be sent again, when, and what an operator should know of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.iweb import IResponse

LARGEST_REPLY_BYTES = 64 * 1024
LONGEST_QUOTE = 200
ADVICE: Mapping[int, str] = {
    401: "check its credential",
    403: "check what its credential may do",
    404: "check its URL",
    407: "it wants to be reached through a proxy",
    429: "it asks us to slow down",
}
REDIRECTED = "it sends us elsewhere, which we do not follow: write that URL itself"
PASSING = frozenset({401, 403, 404, 407, 408, 421, 425, 429})
"""
Below 500, what may be another answer next time: see `dheera.sinks.contract.Courier`.
"""


def retry_after(said: bytes, now: datetime) -> float | None:
    """
    How many seconds a ``Retry-After`` asks for (RFC 9110 §10.2.3): a number of seconds, or a date.
    """
    text = said.decode("ascii", "replace").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def without(content: bytes, url: str, headers: Mapping[str, str]) -> str:
    """
    What an answer says, shortened, in one printable line, and with nothing in it of what may be a credential: servers
    like to repeat the one that they do not take.
    """
    text = content[:LARGEST_REPLY_BYTES].decode("utf-8", "replace")
    for word in sorted(_guarded(url, headers), key=len, reverse=True):
        text = text.replace(word, "(not shown)")
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= LONGEST_QUOTE else f"{line[:LONGEST_QUOTE]}..."


_GUARDED_LETTERS = 6
_OPEN = frozenset({"accept", "content-type", "user-agent"})


def _guarded(url: str, headers: Mapping[str, str]) -> set[str]:
    parts = urlsplit(url)
    found = {parts.username or "", parts.password or "", *re.split(r"[/?&=]", f"{parts.path}?{parts.query}")}
    for name, value in headers.items():
        if name.lower() not in _OPEN:
            found |= {value, *re.split(r"[\s,;=]+", value)}
    found |= {unquote(each) for each in found}
    return {each for each in found if len(each) >= _GUARDED_LETTERS}


def reason(host: str, status: int, said: str) -> str:
    """
    Why a batch did not arrive, for an operator.
    """
    known = {each.value: each.phrase for each in HTTPStatus}
    text = f"{host} answered {status} {known.get(status, '')}".rstrip()
    advice = REDIRECTED if status < HTTPStatus.BAD_REQUEST else ADVICE.get(status)
    if advice:
        text += f" ({advice})"
    return f"{text}: {said}" if said else f"{text}."


def beginning(response: IResponse) -> Deferred[bytes]:
    """
    The beginning of an answer's body; nobody waits for the rest.
    """
    reading = _Beginning()
    response.deliverBody(reading)
    return reading.done


class _Beginning(Protocol):
    """
    Keeps the first part of an answer's body, and closes the connection if there is more.
    """

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._leave())
        self._pieces: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        """
        A piece, decoded.
        """
        self._pieces.append(data)
        self._size += len(data)
        if self._size > LARGEST_REPLY_BYTES and not self.done.called:
            self.done.callback(b"".join(self._pieces)[:LARGEST_REPLY_BYTES])
            self._leave()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        No more comes.
        """
        if not self.done.called:
            if reason.check(ResponseDone):
                self.done.callback(b"".join(self._pieces))
            else:
                self.done.errback(reason)

    def _leave(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

"""
Which header lines cross, and how they change: the whole list of what dheera alters is in this module.

Up: without hop-by-hop lines (RFC 9110 §7.6.1), client credentials, cookies and what tells of proxies; ``Host`` and the
body's framing are written by ``wire.client``; the credential is ours; ``Accept-Encoding`` is narrowed to what a meter
can read. Back: without hop-by-hop lines, cookies, and promises about upstream's own host.
"""

from __future__ import annotations

import re

from twisted.internet.interfaces import IAddress
from twisted.web.http import datetimeToString

from dheera.boundaries import Caller
from dheera.proxy.target import Base, map_location
from dheera.wire.heads import Fields

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"api-key", b"cookie"})

NOT_SENT_UP = (
    HOP_BY_HOP
    | CREDENTIALS
    | {
        # whom we answer to, and how much comes, is ours to say
        b"host",
        b"content-length",
        b"expect",
        b"http2-settings",
        # who asks, and by which way
        b"forwarded",
        b"via",
        b"x-real-ip",
    }
)

NOT_SENT_BACK = HOP_BY_HOP | {
    b"proxy-authenticate",
    b"proxy-authentication-info",
    b"set-cookie",
    b"set-cookie2",
    b"alt-svc",
    b"strict-transport-security",
}

READABLE_CODINGS = frozenset({b"gzip", b"x-gzip", b"deflate", b"identity"})

_PREFIXES_NOT_SENT_UP = (b"proxy-", b"x-dheera-", b"x-forwarded-")
_TELLING = frozenset({b"host", b"origin", b"sec-fetch-site", b"forwarded", b"x-forwarded-for"})
_CODING = re.compile(rb"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)")


def upward(fields: Fields, credential: bytes, *, websocket: bool = False) -> Fields:
    """
    The header lines that upstream gets, in the client's order and spelling.

    :param credential: the value of ``Authorization``.
    :param websocket: keep what a WebSocket handshake needs.
    """
    named = _named_in_connection(fields)
    crossing: Fields = []
    for line in fields:
        name = line[0].lower()
        if name in NOT_SENT_UP or name in named or name.startswith(_PREFIXES_NOT_SENT_UP):
            continue
        if b"_" in name and name.replace(b"_", b"-") in CREDENTIALS:
            continue  # upstreams of the CGI kind read X_API_KEY as X-Api-Key
        if name == b"accept-encoding":
            crossing.append((line[0], _readable(line[1])))
        else:
            crossing.append(line)
    crossing.append((b"Authorization", credential))
    if websocket:
        crossing += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    return crossing


def downward(fields: Fields, base: Base) -> Fields:
    """
    The header lines that the client gets, in upstream's order and spelling, without ``x-dheera-*`` ones.

    """
    named = _named_in_connection(fields)
    crossing: Fields = []
    dated = False
    for line in fields:
        name = line[0].lower()
        if name in NOT_SENT_BACK or name in named or name.startswith(b"x-dheera-"):
            continue
        if name == b"location":
            crossing.append((line[0], map_location(line[1], base)))
            continue
        dated = dated or name == b"date"
        crossing.append(line)
    if not dated:
        crossing.append((b"Date", datetimeToString()))  # RFC 9110 §6.6.1
    return crossing


def interim(fields: Fields) -> Fields:
    """
    The header lines of an interim answer (1xx) that the client gets.
    """
    named = _named_in_connection(fields) | NOT_SENT_BACK | {b"content-length"}  # RFC 9110 §8.6
    return [line for line in fields if line[0].lower() not in named and not line[0].lower().startswith(b"x-dheera-")]


def _named_in_connection(fields: Fields) -> frozenset[bytes]:
    values = [value for name, value in fields if len(name) == 10 and name.lower() == b"connection"]  # noqa: PLR2004
    if not values or values == [b"keep-alive"]:
        return frozenset()
    return frozenset(token.strip().lower() for value in values for token in value.split(b","))


def _readable(accepted: bytes) -> bytes:
    """
    Of the codings that a client accepts, those that we can read too; ``identity`` if there is none.
    """
    kept = [
        item.strip()
        for item in accepted.split(b",")
        if (match := _CODING.match(item)) and match[1].lower() in READABLE_CODINGS
    ]
    return b", ".join(kept) or b"identity"


def offered_credential(fields: Fields) -> bytes | None:
    """
    The credential that a client offers: a bearer token (RFC 6750 §2.1), else ``x-api-key`` or ``api-key``.
    """
    other: bytes | None = None
    for name, value in fields:
        lowered = name.lower()
        if lowered == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer" and token.strip():
                return token.strip()
        elif lowered in (b"x-api-key", b"api-key") and value and other is None:
            other = value
    return other


def caller(fields: Fields, peer: IAddress) -> Caller:
    """
    What a request says of who sends it.
    """
    told: dict[bytes, bytes] = {}
    for name, value in fields:
        lowered = name.lower()
        if lowered in _TELLING:
            told.setdefault(lowered, value)
    return Caller(
        credential=offered_credential(fields),
        peer=peer,
        host=told.get(b"host", b""),
        origin=told.get(b"origin", b""),
        cross_site=told.get(b"sec-fetch-site", b"").strip().lower() == b"cross-site",
        forwarded=b"forwarded" in told or b"x-forwarded-for" in told,
    )

"""
Which header lines cross, and how they change: the whole list of what dheera alters is in this module.

Up: without hop-by-hop lines (RFC 9110 §7.6.1), client credentials, cookies and what tells of proxies; ``Host``, our own
credential and the body's framing are written by ``wire.outgoing``; ``Accept-Encoding`` is narrowed to what a meter can
read. Back: without hop-by-hop lines, cookies, and promises about upstream's own host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TypeAlias

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from dheera.boundaries import Caller
from dheera.proxy.target import PREFIX, Base, map_location
from dheera.wire.heads import Fields
from dheera.wire.request import http_date

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

CREDENTIALS = frozenset(
    {
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"cookie",
        # of gateways and providers that a client may have been written for
        b"x-litellm-api-key",
        b"x-goog-api-key",
        b"ocp-apim-subscription-key",
    }
)

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

DATE = b"date"
DROPPED = b""
_NOT_INTERIM = NOT_SENT_BACK | {b"content-length"}  # RFC 9110 §8.6

READABLE_CODINGS = frozenset({b"gzip", b"x-gzip", b"deflate", b"identity"})

KEY_HEADERS = {
    b"x-dheera-api-key": 0,
    b"x-litellm-api-key": 1,
    b"authorization": 2,
    b"x-api-key": 3,
    b"api-key": 4,
}
"""
Where a client's key is looked for, and which goes first. Clients mean well: an empty one beside a good one is no
conflict; two different ones are. ``x-litellm-api-key`` is what clients of LiteLLM send; it spares them a change.
"""

END_USER_HEADERS = (b"x-dheera-end-user", b"x-litellm-end-user-id", b"x-litellm-customer-id")
"""
Whom a call is for; the first that says something goes first.
"""

_PREFIXES_NOT_SENT_UP = (b"proxy-", b"x-dheera-", b"x-litellm-", b"x-forwarded-")
_TELLING = frozenset(
    {b"host", b"origin", b"sec-fetch-site", b"forwarded", b"user-agent", b"x-dheera-tags", *END_USER_HEADERS}
)
_KEY_PROTOCOL = re.compile(rb"openai-insecure-api-key", re.IGNORECASE)
_WITH_PORT = re.compile(r"\[(.*)\](?::[0-9]+)?|([^:]*):[0-9]+")
_CODING = re.compile(rb"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)")


def upward(fields: Fields, *, websocket: bool = False) -> Fields:
    """
    The header lines that upstream gets of a client's, in their order and spelling.

    :param websocket: keep what a WebSocket handshake needs.
    """
    named: list[bytes] = []
    crossing: Fields = []
    for line in fields:
        name = line[0].lower()
        if name in NOT_SENT_UP or name.startswith(_PREFIXES_NOT_SENT_UP):
            if name == b"connection":
                named.append(line[1])
            continue
        dashed = name.replace(b"_", b"-") if b"_" in name else name
        if dashed is not name and (dashed in CREDENTIALS or dashed.startswith(_PREFIXES_NOT_SENT_UP)):
            continue  # upstreams of the CGI kind read X_API_KEY as X-Api-Key
        if name == b"accept-encoding":
            crossing.append((line[0], _readable(line[1])))
        elif dashed == b"sec-websocket-protocol" and _KEY_PROTOCOL.search(line[1]):
            if kept := _without_keys(line[1]):
                crossing.append((line[0], kept))
        else:
            crossing.append(line)
    crossing = _without_named(crossing, named)
    if websocket:
        crossing += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    return crossing


def value_of(fields: Fields, wanted: bytes) -> bytes | None:
    """
    The value of the first header line of that name, in small letters.
    """
    length = len(wanted)
    for name, value in fields:
        if len(name) == length and name.lower() == wanted:
            return value
    return None


def downward(fields: Fields, base: Base, prefix: bytes = PREFIX) -> Fields:
    """
    The header lines that the client gets, in upstream's order and spelling, without ``x-dheera-*`` ones.

    :param prefix: at which the client finds upstream here.
    """
    named: list[bytes] = []
    crossing: Fields = []
    dated = False
    for line in fields:
        part = fate(line[0])
        if part is None:
            crossing.append(line)
        elif part == DATE:
            dated = True
            crossing.append(line)
        elif part == b"location":
            crossing.append((line[0], map_location(line[1], base, prefix)))
        elif part == b"connection":
            named.append(line[1])
    if named:
        crossing = _without_named(crossing, named)
        dated = any(name.lower() == b"date" for name, _ in crossing)
    if not dated:
        crossing.append((b"Date", http_date()))  # RFC 9110 §6.6.1
    return crossing


def fate(name: bytes) -> bytes | None:
    """
    What *name* means to `downward`: ``None`` for what just crosses, `DROPPED` for what does not, else itself in small
    letters.
    """
    lowered = name.lower()
    if lowered in {DATE, b"location", b"connection"}:
        return lowered
    return DROPPED if lowered in NOT_SENT_BACK or lowered.startswith(b"x-dheera-") else None


def interim(fields: Fields) -> Fields:
    """
    The header lines of an interim answer (1xx) that the client gets.
    """
    crossing: Fields = []
    named: list[bytes] = []
    for line in fields:
        name = line[0].lower()
        if name == b"connection":
            named.append(line[1])
        elif name not in _NOT_INTERIM and not name.startswith(b"x-dheera-"):
            crossing.append(line)
    return _without_named(crossing, named)


def _without_named(crossing: Fields, named: list[bytes]) -> Fields:
    """
    *crossing* without the lines that the values of ``Connection`` name (RFC 9110 §7.6.1).
    """
    if not named or named == [b"keep-alive"]:
        return crossing
    tokens = {token.strip().lower() for value in named for token in value.split(b",")}
    return [line for line in crossing if line[0].lower() not in tokens]


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


def _without_keys(protocols: bytes) -> bytes:
    """
    The subprotocols without those in which browsers send a key, as they cannot set headers on a WebSocket.
    """
    return b", ".join(each.strip() for each in protocols.split(b",") if each.strip() and not _KEY_PROTOCOL.search(each))


Subnet: TypeAlias = IPv4Network | IPv6Network


def caller(fields: Fields, peer: IAddress, trusted: Sequence[Subnet] = ()) -> Caller:
    """
    What a request says of who sends it.

    :param trusted: networks of proxies whose word is taken on whom they speak for.
    """
    told: dict[bytes, bytes] = {}
    offered: list[tuple[int, bytes]] = []
    chain: list[bytes] = []
    for name, value in fields:
        lowered = name.lower()
        if lowered in _TELLING:
            told.setdefault(lowered, value)
        elif lowered == b"x-forwarded-for":
            chain += value.split(b",")
        elif (rank := KEY_HEADERS.get(lowered)) is not None:
            offered.append((rank, _token(value, needs_bearer=lowered == b"authorization")))
    return Caller(
        credential=_first(offered),
        ambiguous=len(offered) > 1 and len({key for _, key in offered if key}) > 1,
        peer=_origin(peer, chain, trusted) if trusted and chain else peer,
        host=told.get(b"host", b""),
        origin=told.get(b"origin", b""),
        cross_site=b"sec-fetch-site" in told and told[b"sec-fetch-site"].strip().lower() == b"cross-site",
        forwarded=b"forwarded" in told or bool(chain),
        program=told.get(b"user-agent", b""),
        end_user=b"" if told.keys().isdisjoint(END_USER_HEADERS) else _first_said(told, END_USER_HEADERS),
        tags=told.get(b"x-dheera-tags", b""),
    )


def _first_said(told: Mapping[bytes, bytes], names: Iterable[bytes]) -> bytes:
    return next((told[name] for name in names if told.get(name)), b"")


def _origin(peer: IAddress, chain: list[bytes], trusted: Sequence[Subnet]) -> IAddress:
    """
    Where a request comes from: *peer*, or while that is a proxy of ours, whoever it names last.
    """
    place = peer
    while chain and _is_trusted(place, trusted):
        said = chain.pop().strip().decode("latin-1")
        try:
            address = ip_address(_without_port(said))
        except ValueError:
            break  # a proxy of ours would have written an address
        kind = IPv4Address if address.version == 4 else IPv6Address  # noqa: PLR2004 - the version of IP
        place = kind("TCP", str(address), 0)
    return place


def _without_port(said: str) -> str:
    """
    The address that a proxy names, which some write with a port.
    """
    match = _WITH_PORT.fullmatch(said)
    return said if match is None else match[match.lastindex or 0]


def _is_trusted(place: IAddress, trusted: Sequence[Subnet]) -> bool:
    if isinstance(place, UNIXAddress):
        return True  # whoever reaches the socket was let in by the file's rights
    if not isinstance(place, IPv4Address | IPv6Address):
        return False
    return _is_within(place.host, tuple(trusted))


@lru_cache(maxsize=1024)
def _is_within(host: str, networks: tuple[Subnet, ...]) -> bool:
    address = ip_address(host.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in networks)


def _first(offered: list[tuple[int, bytes]]) -> bytes | None:
    keys = [each for each in offered if each[1]]
    if keys:
        return min(keys)[1]
    return b"" if any(rank == KEY_HEADERS[b"authorization"] for rank, _ in offered) else None


def _token(value: bytes, *, needs_bearer: bool) -> bytes:
    """
    The key in a header's value, empty if there is none that we can read (RFC 6750 §2.1).
    """
    scheme, _, token = value.partition(b" ")
    if scheme.lower() == b"bearer":
        return token.strip()
    return b"" if needs_bearer else value.strip()

"""
A request that is to be sent, and to whom.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec import Struct
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer

from dheera.wire.body import RequestBody
from dheera.wire.heads import Fields

_URI = re.compile(
    rb"(https?)://(\[[0-9A-Fa-f:.]+\]|[^\x00-\x20/?#:@\[\\\]\x7f]+)(?::([0-9]{1,5}))?([/?][^\x00-\x20#\x7f]*)?",
    re.IGNORECASE,
)
_PORTS = {"http": 80, "https": 443}


class Origin(Struct, frozen=True, cache_hash=True):
    """
    Whom to connect to.

    :param authority: what ``Host`` says: the name, and the port if it is not the scheme's own.
    """

    scheme: str
    host: str
    port: int
    authority: bytes


def split(uri: bytes) -> tuple[Origin, bytes]:
    """
    The origin and the request target of an absolute URI; the target's bytes stay as they are.

    :raises ValueError: not an http(s) URI, or one with user information.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        msg = "not an http or https URI with a host"
        raise ValueError(msg)
    scheme = match[1].decode().lower()
    port = int(match[3] or _PORTS[scheme])
    if not 0 < port < 65536:  # noqa: PLR2004 - 16 bits
        msg = "not a port"
        raise ValueError(msg)
    target = match[4] or b"/"
    if target.startswith(b"?"):
        target = b"/" + target
    authority = match[2] if port == _PORTS[scheme] else b"%b:%d" % (match[2], port)
    return Origin(scheme, match[2].decode("idna").strip("[]"), port, authority), target


def written(origin: Origin, method: bytes, target: bytes, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """
    The request line and header lines of an `Outgoing`: *fields* in their order, and ``Host``.
    """
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b" % (method, target, origin.authority, lines)


class Outgoing(Struct, kw_only=True, eq=False):
    """
    One request to be sent.

    :param lines: its request line and header lines, as `written`; those of the credential and of the body's framing are
        added.
    :param authorization: the credential: the value of ``Authorization``; ``None`` sends no such line.
    :param informed: told of each interim answer (code, reason, header lines).
    :param retried: asked whether it may be sent once more, and told thereby that it is.
    """

    origin: Origin
    method: bytes
    lines: bytes
    authorization: bytes | None = None
    body: IBodyProducer | None = None
    informed: Callable[[int, bytes, Fields], None] | None = None
    retried: Callable[[], bool] | None = None

    def __repr__(self) -> str:
        return f"<Outgoing {self.method!r} to {self.origin}>"  # which hold credentials

    @property
    def upgrades(self) -> bool:
        """
        Whether it asks for another protocol.
        """
        return b"\r\nupgrade:" in self.lines.lower()

    def head(self) -> bytes:
        """
        The request line and header lines, as they go out.
        """
        lines = self.lines
        if self.authorization is not None:
            lines = b"%bAuthorization: %b\r\n" % (lines, self.authorization)
        if self.body is None:
            return lines + b"\r\n"
        if self.body.length is UNKNOWN_LENGTH:
            return lines + b"Transfer-Encoding: chunked\r\n\r\n"
        return b"%bContent-Length: %d\r\n\r\n" % (lines, self.body.length)

    def whole_body(self) -> bytes | None:
        """
        The body, if it is all here and could be sent again.
        """
        if self.body is None:
            return b""
        return self.body.whole() if isinstance(self.body, RequestBody) else None

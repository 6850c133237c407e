"""
What makes a request head valid, beyond what llhttp already refuses. Functions of bytes, no I/O.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from dheera.errors import MalformedRequest

Fields = list[tuple[bytes, bytes]]
"""
Header lines, in their order and spelling.
"""

TREE_DEPTH = 4
"""
How many slashes of a path are taken apart for the resource tree; a leaf that wants more looks at the target.
"""

HEAD_END = b"\r\n\r\n"

_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e]+ HTTP/(\d)\.(\d)\r\n")
_DECISIVE = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"connection", b"upgrade"})
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_TOKEN_START = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")


class Memo:
    """
    Where whoever answers a request keeps what it has made of the head, for the next one that has the same.

    :ivar made: it must not depend on how long the body is. Whoever finds something here asks whether it is its own.
    """

    __slots__ = ("made",)

    def __init__(self) -> None:
        self.made: object = None


class Framing(Struct, frozen=True, gc=False):
    """
    How a request's body is delimited, and what the head asks of the connection.

    :param length: bytes announced; ``None`` for chunked. Without a body, ``has_body`` is false.
    :param upgrade: the protocol asked for (lower case), if we let it be asked for.
    """

    has_body: bool
    length: int | None
    expects_continue: bool
    upgrade: bytes | None


class Head(Struct, frozen=True):
    """
    One request head, checked.

    :param path: the target without its query.
    :param steps: the same as `steps_of` has it.
    :param version: ``"1.1"`` or ``"1.0"``.
    :param keep_alive: the client would send another request on this connection.
    :param memo: of all heads that came one after the other on this connection and are the same, but for the length of
        the body.
    """

    method: bytes
    target: bytes
    path: bytes
    steps: list[bytes]
    version: str
    fields: Fields
    framing: Framing
    keep_alive: bool
    memo: Memo

    def __repr__(self) -> str:
        return f"<Head {self.method!r} {self.target!r}>"  # the credential is among the fields


def steps_of(path: bytes) -> list[bytes]:
    """
    A path as the resource tree has it: taken apart, and decoded.
    """
    steps = path[1:].split(b"/", TREE_DEPTH)
    return [unquote_to_bytes(step) for step in steps] if path.find(b"%") >= 0 else steps


def check_request_line(head: bytes) -> None:
    """
    One method, one target, one version, single spaces (RFC 9112 §3; its leniencies are not taken).

    :raises MalformedRequest: 400, or 505 for a version that is not 1.0 or 1.1.
    """
    match = _REQUEST_LINE.match(head)
    if match is None:
        raise MalformedRequest("The request line is not valid HTTP/1.1 (RFC 9112 section 3).")
    if match.group(1, 2) not in ((b"1", b"1"), (b"1", b"0")):
        raise MalformedRequest("Only HTTP/1.1 and HTTP/1.0 are spoken here.", status=505)


def check_partial_head(head: bytes, limit: int) -> None:
    """
    Refuse at once what can no longer become a valid head, and what has grown beyond *limit* bytes.
    """
    if not _TOKEN_START.match(head):
        raise MalformedRequest("This is not HTTP. If it is TLS: this port speaks plain http.")
    if head.count(b"\n") != head.count(b"\r\n"):
        raise MalformedRequest("A line ends in LF without CR (RFC 9112 section 2.2).")
    if b"\r\n" in head:
        check_request_line(head)
    if len(head) > limit:
        raise too_long(head, limit)


def too_long(head: bytes, limit: int) -> MalformedRequest:
    """
    The refusal of a head of more than *limit* bytes: 414 when the request line alone is too long, else 431.
    """
    if head.find(b"\r\n", 0, limit) < 0:
        return MalformedRequest(f"The request target is longer than {limit} bytes.", status=414)
    return MalformedRequest(f"The request head is larger than {limit} bytes.", status=431)


def check_target(method: bytes, target: bytes) -> None:
    """
    Origin form, or ``*`` for OPTIONS (RFC 9112 §3.2). A gateway has no use for the absolute and authority forms, which
    could name another host than ``Host`` does.

    :raises MalformedRequest: any other form, a fragment, or CONNECT.
    """
    if method == b"CONNECT":
        raise MalformedRequest("CONNECT is not offered: this is a gateway.", status=501)
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        raise MalformedRequest("The request target must begin with a slash (RFC 9112 section 3.2.1).")
    if b"#" in target:
        raise MalformedRequest("The request target must not hold a fragment.")


def check_fields(method: bytes, version: str, fields: Fields) -> Framing:
    """
    The header lines that decide who is asked and where the body ends (RFC 9112 §3.2, §6; RFC 9110 §10.1.1).

    :param version: ``"1.1"`` or ``"1.0"``.
    :raises MalformedRequest: 400, 417 or 501.
    """
    told: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        lowered = name.lower()
        if lowered in _DECISIVE:
            told.setdefault(lowered, []).append(value.lower())
    _check_host(told.get(b"host", []), version)
    codings, expect = told.get(b"transfer-encoding"), told.get(b"expect", [])
    chunked = codings is not None
    if codings is not None:
        _check_coding(codings, version)
    if expect not in ([], [b"100-continue"]):
        raise MalformedRequest("The only expectation met is 100-continue.", status=417)
    # llhttp has refused a second length, one that is no number, and one beside a transfer coding.
    length = int(told[b"content-length"][0]) if b"content-length" in told else None
    has_body = chunked or length is not None
    # Only WebSocket is ever tunnelled: a tunnel of h2c would carry requests past every check. Other offers to upgrade
    # (Java's client makes one with each request) are let go unanswered, as RFC 9110 §7.8 allows.
    tunnel = told.get(b"upgrade") == [b"websocket"] and _asks_to_upgrade(told.get(b"connection", []))
    if tunnel and (has_body or method != b"GET" or version == "1.0"):
        raise MalformedRequest("A WebSocket handshake is a GET of HTTP/1.1 without a body (RFC 6455).")
    return Framing(
        has_body=has_body,
        length=length,
        expects_continue=bool(expect) and version == "1.1" and has_body,
        upgrade=b"websocket" if tunnel else None,
    )


def _check_host(hosts: list[bytes], version: str) -> None:
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise MalformedRequest("A request needs exactly one Host header (RFC 9112 section 3.2).")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise MalformedRequest("The Host header is not a host name with an optional port.")


def _asks_to_upgrade(connection: list[bytes]) -> bool:
    return any(token.strip() == b"upgrade" for value in connection for token in value.split(b","))


def _check_coding(codings: list[bytes], version: str) -> None:
    if version == "1.0":
        raise MalformedRequest("HTTP/1.0 knows no transfer codings (RFC 9112 section 6.1).")
    if codings != [b"chunked"]:
        raise MalformedRequest("The only transfer coding taken is chunked.", status=501)

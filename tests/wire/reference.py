"""
HTTP/1.1 read by the letter of RFC 9112, slowly and by other means than the code under test: what a stream of requests
holds, and what a stream of answers says.
"""

from __future__ import annotations

import re

from attrs import frozen

Fields = list[tuple[bytes, bytes]]

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e]+) HTTP/1\.([01])" % TOKEN)
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
FIELD = re.compile(
    rb"(%b):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*" % TOKEN
)
HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
# The grammar wants a name, and a value in one form or the other; llhttp lets none pass too, and both in a row. No byte
# can be lost by that: whatever an extension is, it ends with its line.
CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:;(?=.)(?:%b)?(?:=(?:%b)?(?:%b)?)?)*" % (TOKEN, TOKEN, QUOTED))
METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})


@frozen
class Asked:
    """
    One request, its body whole.
    """

    method: bytes
    target: bytes
    fields: Fields
    body: bytes


@frozen
class Answer:
    """
    One answer.
    """

    status: int
    reason: bytes
    fields: Fields
    body: bytes

    def field(self, name: bytes) -> bytes | None:
        """
        The value of the one header line of that name.
        """
        values = [value for one, value in self.fields if one.lower() == name]
        assert len(values) < 2, values
        return values[0] if values else None


class Invalid(Exception):
    """
    Not what RFC 9112 allows, or not what we take.
    """


class Incomplete(Exception):
    """
    What is here may become valid.
    """


def requests(data: bytes) -> tuple[list[Asked], str]:
    """
    The complete requests at the beginning of *data*, of the methods in ``METHODS``, and how it goes on: ``"refused"``,
    ``"incomplete"``, ``"closed"`` (the last one was the last by its own word) or ``"done"``.
    """
    found: list[Asked] = []
    while data := data if not data.startswith(b"\r\n") else _without_empty_lines(data):
        try:
            asked, persists, data = _request(data)
        except Invalid:
            return found, "refused"
        except Incomplete:
            return found, "incomplete"
        found.append(asked)
        if not persists:
            return found, "closed"
    return found, "done"


def _without_empty_lines(data: bytes) -> bytes:
    while data.startswith(b"\r\n"):
        data = data[2:]
    return data


def _request(data: bytes) -> tuple[Asked, bool, bytes]:
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        raise Incomplete
    line, *lines = head.split(b"\r\n")
    match = REQUEST_LINE.fullmatch(line)
    if match is None or match[1] not in METHODS:
        raise Invalid
    method, target, modern = match[1], match[2], match[3] == b"1"
    if not (target.startswith(b"/") or (target == b"*" and method == b"OPTIONS")) or b"#" in target:
        raise Invalid
    fields = [_field(line) for line in lines]
    framing, persists = _decide(method, fields, modern=modern)
    body = b""
    if framing is None:
        body, rest = _chunked(rest)
    elif len(rest) < framing:
        raise Incomplete
    else:
        body, rest = rest[:framing], rest[framing:]
    return Asked(method, target, fields, body), persists, rest


def _decide(method: bytes, fields: Fields, *, modern: bool) -> tuple[int | None, bool]:
    """
    How long the body is (``None``: chunked), and whether another request may follow.
    """

    def values(name: bytes) -> list[bytes]:
        return [value.lower() for one, value in fields if one.lower() == name]

    hosts, codings, lengths = values(b"host"), values(b"transfer-encoding"), values(b"content-length")
    connection = {token.strip(b" \t") for value in values(b"connection") for token in value.split(b",")}
    upgrade = values(b"upgrade") == [b"websocket"] and b"upgrade" in connection
    forbidden = [
        len(hosts) > 1 or (modern and not hosts),
        any(not HOST.fullmatch(host) for host in hosts),
        codings and (lengths or not modern or codings != [b"chunked"]),
        len(lengths) > 1 or any(not re.fullmatch(rb"[0-9]+", length) for length in lengths),
        values(b"expect") not in ([], [b"100-continue"]),
        upgrade and (codings or lengths or method != b"GET" or not modern),
    ]
    if any(forbidden):
        raise Invalid
    length = None if codings else int(lengths[0]) if lengths else 0
    return length, modern and b"close" not in connection and not upgrade


def _field(line: bytes) -> tuple[bytes, bytes]:
    match = FIELD.fullmatch(line)
    if match is None:
        raise Invalid
    return match[1], match[2]


def _chunked(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, end, rest = data.partition(b"\r\n")
        match = CHUNK.fullmatch(line)
        if match is None or int(match[1], 16) >> 64:
            raise Invalid if end else Incomplete
        if not end:
            raise Incomplete
        size = int(match[1], 16)
        if size == 0:
            return body, _without_trailers(rest)
        if not b"\r\n".startswith(rest[size : size + 2]):
            raise Invalid
        if len(rest) < size + 2:
            raise Incomplete
        body, data = body + rest[:size], rest[size + 2 :]


def _without_trailers(data: bytes) -> bytes:
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            raise Incomplete
        if not line:
            return data
        if _field(line)[0].lower() in (b"content-length", b"transfer-encoding"):
            raise Invalid


def answers(data: bytes, *methods: bytes, closed: bool) -> list[Answer]:
    """
    The answers, interim ones too, that a client finds in *data*.

    :param methods: of the requests, in their order; those not given are GET.
    :param closed: the connection has ended, and with it the last answer.
    """
    found = []
    asked = [*methods]
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, head
        line, *lines = head.split(b"\r\n")
        match = STATUS_LINE.fullmatch(line)
        assert match, line
        status, fields = int(match[1]), [_field(line) for line in lines]
        values = {name.lower(): value for name, value in fields}
        if status >= 200:
            method = asked.pop(0) if asked else b"GET"
        framed = {b"content-length", b"transfer-encoding"} & values.keys()
        body = b""
        if status < 200 or status == 204:
            assert not framed, fields  # RFC 9110 §8.6, RFC 9112 §6.1
        elif method == b"HEAD" or status == 304:
            pass
        elif values.get(b"transfer-encoding") == b"chunked":
            assert len(framed) == 1, fields
            body, data = _chunked(data)
        elif framed:
            length = int(values[b"content-length"])
            assert len(data) >= length, data
            body, data = data[:length], data[length:]
        else:
            assert closed, "this answer has no end"
            body, data = data, b""
        found.append(Answer(status, match[2], fields, body))
        if status == 101:
            break
    return found

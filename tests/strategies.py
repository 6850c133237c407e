"""
Every hypothesis strategy that several tests share.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

TOKEN_CHARS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

DECISIVE = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "proxy-connection"}
)
"""
Names of header lines that decide about framing, which the strategies write themselves.
"""


@st.composite
def chunkings(draw: DrawFn, data: bytes, most: int = 12) -> list[bytes]:
    """
    *data*, cut anywhere.
    """
    cuts = sorted(draw(st.sets(st.integers(1, max(len(data) - 1, 1)), max_size=most)))
    return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True) if start < stop]


def names() -> st.SearchStrategy[bytes]:
    """
    Names of header lines.
    """
    text = st.text(TOKEN_CHARS, min_size=1, max_size=12)
    return text.filter(lambda name: name.lower() not in DECISIVE).map(str.encode)


def values() -> st.SearchStrategy[bytes]:
    """
    Values of header lines, without white space at the ends.
    """
    chars = [9, *range(0x20, 0x7F), *range(0x80, 0x100)]
    return st.lists(st.sampled_from(chars), max_size=16).map(lambda value: bytes(value).strip(b" \t"))


def targets() -> st.SearchStrategy[bytes]:
    """
    Request targets in origin form.
    """
    chars = "".join(map(chr, range(0x21, 0x7F))).replace("#", "")
    return st.text(chars, max_size=24).map(lambda rest: b"/" + rest.encode())


def bodies() -> st.SearchStrategy[bytes]:
    """
    Bodies, with what looks like framing among their bytes.
    """
    pieces = st.sampled_from([b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\0", b"\n"])
    return st.lists(st.one_of(pieces, st.binary(max_size=40)), max_size=6).map(b"".join)


@st.composite
def chunked(draw: DrawFn, body: bytes) -> bytes:
    """
    *body* in the chunked coding, in one of the many ways.
    """
    encoded = b""
    extension = st.sampled_from([b"", b"", b";a", b";a=b", b';a="b c";d'])
    for piece in draw(chunkings(body)) if body else []:
        size = draw(st.sampled_from([b"%x", b"%X", b"00%x"])) % len(piece)
        encoded += size + draw(extension) + b"\r\n" + piece + b"\r\n"
    trailers = draw(st.lists(st.tuples(names(), values()), max_size=2))
    return encoded + b"0%b\r\n%b\r\n" % (draw(extension), b"".join(b"%b: %b\r\n" % line for line in trailers))


@st.composite
def requests(draw: DrawFn) -> tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes, bytes]:
    """
    A valid request after which another may follow: method, target, header lines, body, and its bytes on the wire.
    """
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"]))
    target, body = draw(targets()), draw(bodies())
    fields = draw(st.lists(st.tuples(names(), values()), max_size=4))
    fields.insert(draw(st.integers(0, len(fields))), (b"Host", b"a.example"))
    framing = draw(st.sampled_from(["length", "chunked"] if body else ["none", "length", "chunked"]))
    wire_body = body
    if framing == "length":
        fields.append((b"Content-Length", b"%d" % len(body)))
    elif framing == "chunked":
        fields.insert(0, (b"Transfer-Encoding", b"chunked"))
        wire_body = draw(chunked(body))
    space = draw(st.sampled_from([b"", b" ", b" \t"]))
    lines = b"".join(b"%b:%b%b\r\n" % (name, space, value) for name, value in fields)
    return method, target, fields, body, b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, target, lines, wire_body)


@st.composite
def conversations(draw: DrawFn, most: int) -> list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes, bytes]]:
    """
    Up to *most* such requests on one connection. Some have the head of the one before, but for the length of the body.
    """
    said = [draw(requests())]
    for _ in range(draw(st.integers(0, most - 1))):
        method, target, fields, body, sent = said[-1]
        if draw(st.booleans()):
            said.append(draw(requests()))
        elif fields[-1] != (b"Content-Length", b"%d" % len(body)):
            said.append(said[-1])
        else:
            other = draw(bodies())
            fields = [*fields[:-1], (b"Content-Length", b"%d" % len(other))]
            head = sent.removesuffix(b"%d\r\n\r\n%b" % (len(body), body))
            said.append((method, target, fields, other, b"%b%d\r\n\r\n%b" % (head, len(other), other)))
    return said


@st.composite
def twisted_bytes(draw: DrawFn, data: bytes) -> bytes:
    """
    *data*, hurt in a few places: a byte changed, a piece taken out, doubled, moved, or something hostile put in.
    """
    hostile = st.sampled_from(
        [
            b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b"\t", b" ", b":", b",", b"0", b"\x0b", b"\x80", b"#", b"\n\n",
            b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"\r\n ", b"chunked", b"+",
            b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Expect: 100-continue\r\n",
            b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.0", b";a", b"identity",
        ]
    )  # fmt: skip
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 8))
        match draw(st.sampled_from(["insert", "insert", "replace", "delete", "double"])):
            case "insert":
                data = data[:at] + draw(hostile) + data[at:]
            case "replace":
                data = data[:at] + draw(st.binary(min_size=1, max_size=2)) + data[at + 1 :]
            case "delete":
                data = data[:at] + data[at + length :]
            case _:
                data = data[: at + length] + data[at:]
    return data

"""
Requests as an attacker, a careless client or an old one writes them, and what becomes of each. Data only.
"""

from __future__ import annotations

from attrs import frozen

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b"5\r\nhello\r\n"
LAST = b"0\r\n\r\n"


@frozen
class Refused:
    """
    Answered with *status* by the wire itself; no resource hears of it, nor of what follows.
    """

    name: str
    sent: bytes
    status: int = 400


@frozen
class Taken:
    """
    Reaches the resource with this *target* and *body*.

    :param persists: another request may follow.
    """

    name: str
    sent: bytes
    target: bytes = b"/"
    body: bytes = b""
    persists: bool = True


@frozen
class Waiting:
    """
    Not complete: nothing is said yet, and nothing processed.
    """

    name: str
    sent: bytes


Probe = Refused | Taken | Waiting

PROBES: dict[str, list[Probe]] = {
    "host": [
        Refused("missing", b"GET / HTTP/1.1\r\nA: b\r\n\r\n"),
        Refused("two", GET + b"Host: b\r\n\r\n"),
        Refused("two alike", GET + b"host: a\r\n\r\n"),
        Refused("empty", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        Refused("only spaces", b"GET / HTTP/1.1\r\nHost: \t \r\n\r\n"),
        Refused("with a space", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        Refused("with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        Refused("with user information", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
        Refused("with a port that is none", b"GET / HTTP/1.1\r\nHost: a:http\r\n\r\n"),
        Refused("with a port too long", b"GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n"),
        Refused("a list", b"GET / HTTP/1.1\r\nHost: a, b:1\r\n\r\n"),
        Refused("not ASCII", b"GET / HTTP/1.1\r\nHost: \xe4\r\n\r\n"),
        Refused("two in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
        Refused("invalid in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n"),
        Taken("none in HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", persists=False),
        Taken("with a port", b"GET / HTTP/1.1\r\nhOsT: a.example:4000\r\n\r\n"),
        Taken("IPv6", b"GET / HTTP/1.1\r\nHost: [::1]:4000\r\n\r\n"),
    ],
    "content_length": [
        Taken("plain", POST + b"Content-Length: 5\r\n\r\nhello", body=b"hello"),
        Taken("with white space around", POST + b"Content-Length: \t5 \r\n\r\nhello", body=b"hello"),
        Taken("with leading zeros", POST + b"Content-Length: 0005\r\n\r\nhello", body=b"hello"),
        Taken("zero", POST + b"Content-Length: 0\r\n\r\n"),
        Taken("with GET", GET + b"Content-Length: 5\r\n\r\nhello", body=b"hello"),
        Taken("none", POST + b"\r\n"),
        Waiting("more than comes", POST + b"Content-Length: 500\r\n\r\nhello"),
        Refused("empty", POST + b"Content-Length:\r\n\r\nhello"),
        Refused("plus", POST + b"Content-Length: +5\r\n\r\nhello"),
        Refused("minus", POST + b"Content-Length: -5\r\n\r\nhello"),
        Refused("hexadecimal", POST + b"Content-Length: 0x5\r\n\r\nhello"),
        Refused("underscore", POST + b"Content-Length: 1_0\r\n\r\nhellohello"),
        Refused("fraction", POST + b"Content-Length: 5.0\r\n\r\nhello"),
        Refused("two numbers", POST + b"Content-Length: 5 5\r\n\r\nhello"),
        Refused("list", POST + b"Content-Length: 5, 5\r\n\r\nhello"),
        Refused("list of different", POST + b"Content-Length: 5,0\r\n\r\nhello"),
        Refused("not ASCII digits", POST + b"Content-Length: \xd9\xa5\r\n\r\nhello"),
        Refused("with a NUL", POST + b"Content-Length: 5\0\r\n\r\nhello"),
        Refused("with a vertical tab", POST + b"Content-Length: \x0b5\r\n\r\nhello"),
        Refused("two alike", POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        Refused("two different", POST + b"Content-Length: 5\r\ncontent-length: 0\r\n\r\nhello"),
        Refused("folded", POST + b"Content-Length:\r\n 5\r\n\r\nhello"),
        Refused("more than 64 bits", POST + b"Content-Length: 18446744073709551621\r\n\r\nhello"),
        Refused("more than the limit", POST + b"Content-Length: 9223372036854775807\r\n\r\nhello", 413),
    ],
    "transfer_encoding": [
        Taken("chunked", CHUNKED + HELLO + LAST, body=b"hello"),
        Taken("in capitals", POST + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n" + HELLO + LAST, body=b"hello"),
        Taken("tab before", POST + b"Transfer-Encoding:\tchunked\r\n\r\n" + HELLO + LAST, body=b"hello"),
        Taken("spaces after", POST + b"Transfer-Encoding: chunked  \r\n\r\n" + HELLO + LAST, body=b"hello"),
        Taken("with GET", GET + b"Transfer-Encoding: chunked\r\n\r\n" + HELLO + LAST, body=b"hello"),
        Refused("tab after", POST + b"Transfer-Encoding: chunked\t\r\n\r\n" + HELLO + LAST),
        Refused("vertical tab", POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + HELLO + LAST),
        Refused("space before the colon", POST + b"Transfer-Encoding : chunked\r\n\r\n" + HELLO + LAST),
        Refused("folded", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + HELLO + LAST),
        Refused("folded after", POST + b"Transfer-Encoding: chunked\r\n \r\n\r\n" + HELLO + LAST),
        Refused("after a length", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST),
        Refused("before a length", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + LAST),
        Refused("identity", POST + b"Transfer-Encoding: identity\r\n\r\n"),
        Refused("identity and a length", POST + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello"),
        Refused("a length and identity", POST + b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello"),
        Refused("empty", POST + b"Transfer-Encoding:\r\n\r\n" + LAST),
        Refused("empty and a length", POST + b"Transfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello"),
        Refused("gzip", POST + b"Transfer-Encoding: gzip\r\n\r\n"),
        Refused("gzip, chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + LAST, 501),
        Refused("identity, chunked", POST + b"Transfer-Encoding: identity, chunked\r\n\r\n" + LAST, 501),
        Refused("chunked, gzip", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + LAST),
        Refused("chunked, chunked", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + LAST),
        Refused("chunked,", POST + b"Transfer-Encoding: chunked,\r\n\r\n" + LAST),
        Refused("chunked;q=1", POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + LAST),
        Refused("quoted", POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + LAST),
        Refused("xchunked", POST + b"Transfer-Encoding: xchunked\r\n\r\n" + LAST),
        Refused("x chunked", POST + b"Transfer-Encoding: x chunked\r\n\r\n" + LAST),
        Refused("chunkedx", POST + b"Transfer-Encoding: chunkedx\r\n\r\n" + LAST),
        Refused("twice", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST),
        Refused(
            "identity, then", POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST, 501
        ),
        Refused("then identity", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + LAST),
        Refused("in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO + LAST),
        Refused(
            "in HTTP/1.0 with a length",
            b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO + LAST,
        ),
    ],
    "chunk": [
        Taken("several", CHUNKED + HELLO + b"1\r\n!\r\n" + LAST, body=b"hello!"),
        Taken("leading zeros", CHUNKED + b"0" * 40 + HELLO + b"000\r\n\r\n", body=b"hello"),
        Taken(
            "hexadecimal, both cases",
            CHUNKED + b"A\r\n0123456789\r\na\r\n0123456789\r\n" + LAST,
            body=b"0123456789" * 2,
        ),
        Taken("line ends within", CHUNKED + b"8\r\n\r\n\r\n\r\n\r\n\r\n" + LAST, body=b"\r\n\r\n\r\n\r\n"),
        Taken("a last chunk within", CHUNKED + b"5\r\n0\r\n\r\n\r\n" + LAST, body=b"0\r\n\r\n"),
        Taken("a request within", CHUNKED + b"11\r\nGET /x HTTP/1.1\r\n\r\n" + LAST, body=b"GET /x HTTP/1.1\r\n"),
        Taken("extension", CHUNKED + b"5;a=b;c\r\nhello\r\n0;d\r\n\r\n", body=b"hello"),
        Taken("quoted extension", CHUNKED + b'5;a="b; \\" c"\r\nhello\r\n' + LAST, body=b"hello"),
        Waiting("no last one", CHUNKED + HELLO),
        Waiting("no end after the last one", CHUNKED + HELLO + b"0\r\n"),
        Refused("0x", CHUNKED + b"0x5\r\nhello\r\n" + LAST),
        Refused("plus", CHUNKED + b"+5\r\nhello\r\n" + LAST),
        Refused("minus", CHUNKED + b"-5\r\nhello\r\n" + LAST),
        Refused("space before", CHUNKED + b" 5\r\nhello\r\n" + LAST),
        Refused("space after", CHUNKED + b"5 \r\nhello\r\n" + LAST),
        Refused("tab after", CHUNKED + b"5\t\r\nhello\r\n" + LAST),
        Refused("underscore", CHUNKED + b"1_0\r\nhellohellohello!\r\n" + LAST),
        Refused("no digit", CHUNKED + b"g\r\nhello\r\n" + LAST),
        Refused("no size", CHUNKED + b"\r\nhello\r\n" + LAST),
        Refused("only an extension", CHUNKED + b";a=b\r\nhello\r\n" + LAST),
        Refused("more than 64 bits", CHUNKED + b"10000000000000005\r\nhello\r\n" + LAST),
        Refused("data too long", CHUNKED + b"5\r\nhello!\r\n" + LAST),
        Refused("data too short", CHUNKED + b"6\r\nhello\r\n" + LAST),
        Refused("no line end after the data", CHUNKED + b"5\r\nhello0\r\n\r\n"),
        Refused("LF after the size", CHUNKED + b"5\nhello\r\n" + LAST),
        Refused("LF after the data", CHUNKED + b"5\r\nhello\n" + LAST),
        Refused("LF after the last size", CHUNKED + HELLO + b"0\n\r\n"),
        Refused("LF at the end", CHUNKED + HELLO + b"0\r\n\n"),
        Refused("only LF", CHUNKED + b"5\nhello\n0\n\n"),
        Refused("CR after the size", CHUNKED + b"5\rhello\r\n" + LAST),
        Refused("CR after the data", CHUNKED + b"5\r\nhello\r" + LAST),
        Refused("two CR after the size", CHUNKED + b"5\r\r\nhello\r\n" + LAST),
        Refused("space before the extension", CHUNKED + b"5 ;a\r\nhello\r\n" + LAST),
        Refused("empty extension", CHUNKED + b"5;\r\nhello\r\n" + LAST),
        Refused("NUL in an extension", CHUNKED + b"5;a\0\r\nhello\r\n" + LAST),
        Refused("CR in an extension", CHUNKED + b"5;a\rb\r\nhello\r\n" + LAST),
        Refused("LF in an extension", CHUNKED + b"5;a\nb\r\nhello\r\n" + LAST),
        Refused("LF ends an extension", CHUNKED + b"5;a\nhello\r\n" + LAST),
        Refused("LF in a quoted extension", CHUNKED + b'5;a="\n"\r\nhello\r\n' + LAST),
        Refused("line ends in a quoted extension", CHUNKED + b'5;a="\r\n\r\n"\r\nhello\r\n' + LAST),
        Refused("escaped LF in a quoted extension", CHUNKED + b'5;a="\\\n"\r\nhello\r\n' + LAST),
        Refused("endless extension", CHUNKED + b"5;" + b"a" * 200_000),
        Refused("endless zeros", CHUNKED + b"0" * 200_000),
    ],
    "trailer": [
        Taken("dropped", CHUNKED + HELLO + b"0\r\nX: y\r\nZ:\r\n\r\n", body=b"hello"),
        Taken("Connection is not heeded", CHUNKED + HELLO + b"0\r\nConnection: close\r\n\r\n", body=b"hello"),
        Taken("Upgrade neither", CHUNKED + LAST[:3] + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
        Taken("Host neither", CHUNKED + LAST[:3] + b"Host: b\r\nAuthorization: Bearer x\r\n\r\n"),
        Refused("a length", CHUNKED + HELLO + b"0\r\nContent-Length: 10\r\n\r\n"),
        Refused("a coding", CHUNKED + HELLO + b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Refused("no colon", CHUNKED + HELLO + b"0\r\nGET / HTTP/1.1\r\n\r\n"),
        Refused("folded", CHUNKED + HELLO + b"0\r\nX: y\r\n z\r\n\r\n"),
        Refused("LF", CHUNKED + HELLO + b"0\r\nX: y\n\r\n"),
        Refused("NUL", CHUNKED + HELLO + b"0\r\nX: \0\r\n\r\n"),
        Refused("too long", CHUNKED + HELLO + b"0\r\n" + b"X: y\r\n" * 30_000 + b"\r\n"),
    ],
    "line_end": [
        Refused("LF everywhere", b"GET / HTTP/1.1\nHost: a\n\n"),
        Refused("LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
        Refused("LF after a header line", GET + b"A: b\nC: d\r\n\r\n"),
        Refused("LF, then an empty line", GET + b"A: b\n\r\n\r\n"),
        Refused("LF at the end", GET + b"\n"),
        Refused("LF before", b"\n" + GET + b"\r\n"),
        Refused("CR after the request line", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
        Refused("CR after a header line", GET + b"A: b\rC: d\r\n\r\n"),
        Refused("CR in a value", GET + b"A: b\rc\r\n\r\n"),
        Refused("two CR", GET + b"A: b\r\r\n\r\n"),
        Refused("CR before", b"\r" + GET + b"\r\n"),
        Taken("empty lines before", b"\r\n\r\n" + GET + b"\r\n"),
    ],
    "header_line": [
        Taken("empty value", GET + b"A:\r\nB: \t \r\nC:c\r\n\r\n"),
        Taken("not ASCII", GET + b"A: \xc3\xa4\xff\r\n\r\n"),
        Taken("tab within", GET + b"A: b\tc\r\n\r\n"),
        Taken("any token", GET + b"!#$%&'*+-.^_`|~09aZ: b\r\n\r\n"),
        Refused("folded with a space", GET + b"A: b\r\n c\r\n\r\n"),
        Refused("folded with a tab", GET + b"A: b\r\n\tc\r\n\r\n"),
        Refused("folded before the first", b"GET / HTTP/1.1\r\n Host: a\r\nA: b\r\n\r\n"),
        Refused("a line of spaces", GET + b"A: b\r\n  \r\n\r\n"),
        Refused("space before the colon", GET + b"A : b\r\n\r\n"),
        Refused("tab before the colon", GET + b"A\t: b\r\n\r\n"),
        Refused("no colon", GET + b"Abc\r\n\r\n"),
        Refused("no name", GET + b": b\r\n\r\n"),
        Refused("space in a name", GET + b"A B: c\r\n\r\n"),
        Refused("not ASCII in a name", GET + b"\xc3\xa4: c\r\n\r\n"),
        Refused("quote in a name", GET + b'A"B: c\r\n\r\n'),
        *(Refused(f"control {char:#x} in a name", GET + b"A%cB: c\r\n\r\n" % char) for char in (0, 1, 0x1B, 0x7F)),
        *(
            Refused(f"control {char:#x} in a value", GET + b"A: b%cc\r\n\r\n" % char)
            for char in (*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F)
        ),
    ],
    "target": [
        Taken(
            "as written",
            GET.replace(b" / ", b" /a%2Fb;c/../d//e?q=1&q=2&r=+%20 ") + b"\r\n",
            b"/a%2Fb;c/../d//e?q=1&q=2&r=+%20",
        ),
        Taken("not in RFC 3986, but harmless", GET.replace(b" / ", b' /a|b{c}"[d]^`<> ') + b"\r\n", b'/a|b{c}"[d]^`<>'),
        Refused("absolute", GET.replace(b" / ", b" http://a/ ") + b"\r\n"),
        Refused("absolute, of another", GET.replace(b" / ", b" http://b/ ") + b"\r\n"),
        Refused("authority", GET.replace(b" / ", b" a:80 ") + b"\r\n"),
        Refused("asterisk", GET.replace(b" / ", b" * ") + b"\r\n"),
        Refused("no slash", GET.replace(b" / ", b" a ") + b"\r\n"),
        Refused("fragment", GET.replace(b" / ", b" /a#b ") + b"\r\n"),
        Refused("not ASCII", GET.replace(b" / ", b" /\xc3\xa4 ") + b"\r\n"),
        *(
            Refused(f"control {char:#x}", GET.replace(b" / ", b" /%c " % char) + b"\r\n")
            for char in (0, 9, 11, 13, 27, 127)
        ),
        Refused("space", GET.replace(b" / ", b" /a b ") + b"\r\n"),
        Refused("none", GET.replace(b" / ", b" ") + b"\r\n"),
        Refused("empty", GET.replace(b" / ", b"  ") + b"\r\n"),
    ],
    "request_line": [
        Refused("two spaces", GET.replace(b"GET /", b"GET  /") + b"\r\n"),
        Refused("two spaces after the target", GET.replace(b"/ HTTP", b"/  HTTP") + b"\r\n"),
        Refused("tab", GET.replace(b"GET /", b"GET\t/") + b"\r\n"),
        Refused("space before", b" " + GET + b"\r\n"),
        Refused("space after", GET.replace(b"1.1\r\n", b"1.1 \r\n", 1) + b"\r\n"),
        Refused("garbage after", GET.replace(b"1.1\r\n", b"1.1x\r\n", 1) + b"\r\n"),
        Refused("no method", GET.removeprefix(b"GET") + b"\r\n"),
        Refused("method with a separator", GET.replace(b"GET", b"G(T") + b"\r\n"),
        Refused("method with a NUL", GET.replace(b"GET", b"G\0T") + b"\r\n"),
        Refused("TLS", bytes.fromhex("16030100f8010000f40303") + b"\r\n"),
        Refused("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
        Refused("JSON", b'{"model": "mistral-small-latest"}'),
    ],
    "version": [
        Refused("0.9", b"GET /\r\n"),
        Refused("0.9, spelt out", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
        Refused("1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        Refused("2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        Refused("3.0", b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        Refused("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        Refused("1", b"GET / HTTP/1\r\nHost: a\r\n\r\n"),
        Refused("1.", b"GET / HTTP/1.\r\nHost: a\r\n\r\n"),
        Refused("1.10", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
        Refused("01.1", b"GET / HTTP/01.1\r\nHost: a\r\n\r\n"),
        Refused("in small letters", b"GET / http/1.1\r\nHost: a\r\n\r\n"),
        Refused("of another protocol", b"GET / RTSP/1.0\r\nHost: a\r\n\r\n"),
        Taken("1.0", b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", body=b"hello", persists=False),
        Taken("1.0, kept alive", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", persists=False),
    ],
    "method": [
        *(
            Taken(name, GET.replace(b"GET", name.encode()) + b"\r\n")
            for name in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
        ),
        Refused("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
        Refused("CONNECT with a slash", b"CONNECT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 501),
        Refused("unknown", GET.replace(b"GET", b"BREW") + b"\r\n", 501),
        Refused("in small letters", GET.replace(b"GET", b"get") + b"\r\n", 501),
        Refused("too long", GET.replace(b"GET", b"GETS") + b"\r\n", 501),
        Refused("too short", GET.replace(b"GET", b"GE") + b"\r\n", 501),
        Refused("of RTSP", GET.replace(b"GET", b"DESCRIBE") + b"\r\n"),
        Refused("of HTTP/2", GET.replace(b"GET", b"PRI") + b"\r\n"),
    ],
    "size": [
        Taken("largest head", GET + b"A: " + b"b" * (32 * 1024 - len(GET) - 7) + b"\r\n\r\n"),
        Refused("larger", GET + b"A: " + b"b" * (32 * 1024 - len(GET) - 6) + b"\r\n\r\n", 431),
        Refused("much larger", GET + b"A: " + b"b" * 300_000 + b"\r\n\r\n", 431),
        Refused("endless", GET + b"A: b\r\n" * 50_000, 431),
        Taken("long target", b"GET /" + b"a" * 32_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"/" + b"a" * 32_000),
        Refused("longer target", b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        Refused("endless target", b"GET /" + b"a" * 300_000, 414),
        Taken("200 header lines", GET + b"A: b\r\n" * 199 + b"\r\n"),
        Refused("201 header lines", GET + b"A: b\r\n" * 200 + b"\r\n", 431),
    ],
    "expectation": [
        Taken(
            "100-continue and a body", POST + b"Expect: 100-Continue\r\nContent-Length: 5\r\n\r\nhello", body=b"hello"
        ),
        Taken("100-continue without a body", GET + b"Expect: 100-continue\r\n\r\n"),
        Refused("unknown", POST + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello", 417),
        Refused("two", POST + b"Expect: 100-continue, 100-continue\r\nContent-Length: 5\r\n\r\nhello", 417),
        Refused("two lines", POST + b"Expect: 100-continue\r\nExpect: x\r\nContent-Length: 5\r\n\r\nhello", 417),
    ],
    "connection": [
        Taken("close", GET + b"Connection: close\r\n\r\n", persists=False),
        Taken("close among others", GET + b"Connection: x, Close\r\n\r\n", persists=False),
        Taken("close in the second line", GET + b"Connection: x\r\nConnection: close\r\n\r\n", persists=False),
        Taken("close and keep-alive", GET + b"Connection: keep-alive, close\r\n\r\n", persists=False),
        Taken(
            "close with a body",
            POST + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
            body=b"hello",
            persists=False,
        ),
        Taken("keep-alive", GET + b"Connection: keep-alive\r\n\r\n"),
        Taken("something else", GET + b"Connection: closed, x\r\n\r\n"),
    ],
    "upgrade": [
        Taken(
            "h2c",
            GET.replace(b" / ", b" /a ")
            + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
            b"/a",
        ),
        Taken(
            "h2c with a body",
            POST.replace(b" / ", b" /a ") + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",
            b"/a",
            b"hello",
        ),
        Taken(
            "h2c with an empty body",
            POST.replace(b" / ", b" /a ") + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
            b"/a",
        ),
        Taken(
            "h2c with a chunked body",
            POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO + LAST,
            body=b"hello",
        ),
        Taken(
            "h2c with a body, then closed",
            POST + b"Connection: Upgrade, close\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",
            body=b"hello",
            persists=False,
        ),
        Taken("WebSocket not named in Connection", GET + b"Upgrade: websocket\r\n\r\n"),
        Taken("WebSocket among others", GET + b"Connection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n"),
        Refused(
            "h2c, length and coding",
            POST
            + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            + LAST,
        ),
        Refused(
            "h2c, two lengths",
            POST + b"Content-Length: 5\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",
        ),
        Refused(
            "WebSocket with a body",
            GET + b"Connection: upgrade\r\nUpgrade: WebSocket\r\nContent-Length: 5\r\n\r\nhello",
        ),
        Refused(
            "WebSocket with a chunked body",
            GET + b"Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
        ),
        Refused("WebSocket with POST", POST + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        Refused(
            "WebSocket in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        ),
    ],
    "incomplete": [
        Waiting("nothing", b""),
        Waiting("empty lines", b"\r\n\r\n"),
        Waiting("half an empty line", b"\r"),
        Waiting("half a method", b"GE"),
        Waiting("half a line", b"GET / HT"),
        Waiting("half a head", GET),
        Waiting("all but the last byte", GET + b"\r"),
    ],
}

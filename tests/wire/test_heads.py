"""
What makes a head valid, piece by piece. Whole requests are in ``probes``.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.errors import MalformedRequest
from dheera.wire.heads import (
    Fields,
    Framing,
    check_fields,
    check_partial_head,
    check_request_line,
    check_target,
    too_long,
)
from tests import strategies
from tests.wire.reference import REQUEST_LINE


def status(check: Callable[[], object]) -> int | None:
    """
    With which status *check* refuses, if it does.
    """
    try:
        check()
    except MalformedRequest as refusal:
        return refusal.status
    return None


class TestRequestLine(SynchronousTestCase):
    """
    ``check_request_line``.
    """

    @given(
        st.lists(
            st.sampled_from([b"GET", b" ", b"/", b"HTTP/1.1", b"HTTP/1.0", b"\t", b"a", b"\0", b"\x80", b"\n"]),
            max_size=7,
        )
    )
    def test_grammar(self, parts: list[bytes]) -> None:
        """
        It takes what the grammar has, and nothing else.
        """
        line = b"".join(parts)
        valid = REQUEST_LINE.fullmatch(line) is not None
        self.assertEqual(None if valid else 400, status(lambda: check_request_line(line + b"\r\n")))

    def test_version(self) -> None:
        """
        Another version in an otherwise valid line is named as the reason.
        """
        self.assertEqual(505, status(lambda: check_request_line(b"GET / HTTP/2.0\r\n")))


class TestPartialHead(SynchronousTestCase):
    """
    ``check_partial_head``.
    """

    @given(strategies.requests(), st.integers(1, 10_000))
    def test_valid(self, request: tuple[bytes, bytes, Fields, bytes, bytes], length: int) -> None:
        """
        The beginning of a valid head may always go on.
        """
        head = request[-1].partition(b"\r\n\r\n")[0]
        check_partial_head(head[:length], 1 << 20)

    def test_hopeless(self) -> None:
        """
        What can no longer become valid is refused before its end.
        """
        for head, expected in [
            (b"\x16\x03\x01", 400),
            (b"{", 400),
            (b"GET / HTTP/1.1\n", 400),
            (b"GET / HTTP/1.1\r\nA: b\nC", 400),
            (b"SSH-2.0\r\n", 400),
            (b"GET / HTTP/3.0\r\n", 505),
            (b"GET /" + b"a" * 96, 414),
            (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20, 431),
        ]:
            self.assertEqual(expected, status(lambda head=head: check_partial_head(head, 100)), head)  # type: ignore[misc]  # bound now

    def test_too_long(self) -> None:
        """
        A line that ends beyond the limit does not count as ended.
        """
        self.assertEqual(414, too_long(b"GET /" + b"a" * 100 + b"\r\n", 100).status)
        self.assertEqual(431, too_long(b"GET /\r\n" + b"a" * 100, 100).status)


class TestTarget(SynchronousTestCase):
    """
    ``check_target``.
    """

    @given(st.sampled_from([b"GET", b"OPTIONS"]), strategies.targets())
    def test_origin(self, method: bytes, target: bytes) -> None:
        """
        Anything that begins with a slash and holds no fragment.
        """
        check_target(method, target)

    def test_others(self) -> None:
        """
        The asterisk is for OPTIONS; absolute and authority form, and CONNECT, are for proxies of another kind.
        """
        for method, target, expected in [
            (b"OPTIONS", b"*", None),
            (b"GET", b"*", 400),
            (b"OPTIONS", b"*/", 400),
            (b"GET", b"http://a/", 400),
            (b"GET", b"a:80", 400),
            (b"CONNECT", b"a:80", 501),
            (b"CONNECT", b"/", 501),
            (b"GET", b"/#", 400),
        ]:
            self.assertEqual(expected, status(lambda m=method, t=target: check_target(m, t)), target)  # type: ignore[misc]  # bound now


class TestFields(SynchronousTestCase):
    """
    ``check_fields``.
    """

    HOST = (b"Host", b"a")

    def framing(self, *fields: tuple[bytes, bytes], method: bytes = b"GET", version: str = "1.1") -> Framing:
        return check_fields(method, version, [self.HOST, *fields])

    def refusal(self, *fields: tuple[bytes, bytes], method: bytes = b"GET", version: str = "1.1") -> int | None:
        return status(lambda: self.framing(*fields, method=method, version=version))

    @given(st.lists(st.tuples(strategies.names(), strategies.values())))
    def test_indecisive(self, fields: Fields) -> None:
        """
        Header lines that decide nothing do not matter.
        """
        nothing = Framing(has_body=False, length=None, expects_continue=False, upgrade=None)
        self.assertEqual(nothing, self.framing(*fields))

    def test_body(self) -> None:
        """
        A length, zero too, or the chunked coding means a body.
        """
        for line, length in [
            ((b"Content-Length", b"0"), 0),
            ((b"content-length", b"17"), 17),
            ((b"TRANSFER-ENCODING", b"Chunked"), None),
        ]:
            framing = self.framing(line)
            self.assertEqual((True, length), (framing.has_body, framing.length))

    def test_expectation(self) -> None:
        """
        100-continue is expected where there is a body to wait for, and by HTTP/1.1 only.
        """
        expect, length = (b"Expect", b"100-Continue"), (b"Content-Length", b"5")
        self.assertTrue(self.framing(expect, length).expects_continue)
        self.assertFalse(self.framing(expect).expects_continue)
        self.assertFalse(self.framing(expect, length, version="1.0").expects_continue)
        self.assertEqual(417, self.refusal((b"Expect", b"the best")))
        self.assertEqual(417, self.refusal(expect, expect))

    def test_coding(self) -> None:
        """
        Chunked is the only coding, and HTTP/1.1 the only version that has one.
        """
        chunked = (b"Transfer-Encoding", b"chunked")
        self.assertEqual(501, self.refusal((b"Transfer-Encoding", b"gzip, chunked")))
        self.assertEqual(501, self.refusal(chunked, chunked))
        self.assertEqual(400, self.refusal(chunked, version="1.0"))

    def test_host(self) -> None:
        """
        One, and valid; HTTP/1.0 may have none.
        """
        self.assertEqual(400, self.refusal(self.HOST))
        self.assertEqual(400, status(lambda: check_fields(b"GET", "1.1", [])))
        self.assertIsNone(status(lambda: check_fields(b"GET", "1.0", [])))
        for value in (b"a.b-c_d", b"127.0.0.1:80", b"[::1]", b"[fe80::1]:4000", b"a:"):
            check_fields(b"GET", "1.1", [(b"host", value)])
        for value in (
            b"",
            b"a b",
            b"a/",
            b"a@b",
            b"a:b",
            b"[::1",
            b"::1",
            b"[a]b",
            b"a,b:1,c",
            b"a\\b",
            b"a?",
            b"a#",
            b"\xff",
        ):
            self.assertEqual(400, status(lambda v=value: check_fields(b"GET", "1.0", [(b"host", v)])), value)  # type: ignore[misc]  # bound now

    def test_upgrade(self) -> None:
        """
        WebSocket can be asked for, by its own rules; nothing else can.
        """
        socket, named = (b"Upgrade", b"WebSocket"), (b"Connection", b"keep-alive, Upgrade")
        self.assertEqual(b"websocket", self.framing(socket, named).upgrade)
        self.assertIsNone(self.framing(socket).upgrade)
        self.assertIsNone(self.framing((b"Upgrade", b"h2c"), named).upgrade)
        self.assertIsNone(self.framing((b"Upgrade", b"h2c"), socket, named).upgrade)
        self.assertEqual(400, self.refusal(socket, named, method=b"POST"))
        self.assertEqual(400, self.refusal(socket, named, version="1.0"))
        self.assertEqual(400, self.refusal(socket, named, (b"Content-Length", b"0")))

"""
A head that comes again is what it was, and one that is another is not taken for it.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from twisted.trial.unittest import SynchronousTestCase

from dheera.errors import Refusal
from dheera.wire.heads import Head
from dheera.wire.limits import ServerLimits
from dheera.wire.parser import RequestParser
from dheera.wire.repeats import REMEMBERED_BYTES

LIMITS = ServerLimits(head_bytes=120, header_count=3, body_bytes=5000)
TIGHTER = ServerLimits(head_bytes=80, header_count=2, body_bytes=10)
POST = b"POST /a HTTP/1.1\r\nHost: a\r\n"

lines = st.sampled_from(
    [
        b"Content-Length: 5\r\n",
        b"Content-Length: 17\r\n",
        b"content-length:17\r\n",
        b"Content-Length: 017 \r\n",
        b"Content-Length: 5001\r\n",
        b"Content-Length: 5x\r\n",
        b"Content-Length: \r\n",
        b"Content-Length: %b\r\n" % (b"1" * 30),
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Connection: close\r\n",
        b"X: y\r\n",
    ]
)
heads = st.builds(
    lambda start, lines, end: start + b"".join(lines) + end,
    st.sampled_from([POST, POST, b"GET /a HTTP/1.1\r\nHost: a\r\n", b"POST /a HTTP/1.0\r\n", b"\r\n" + POST]),
    st.lists(lines, max_size=4),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\nrest", b"", b"\r"]),
)


def parsed(parser: RequestParser, data: bytes) -> tuple[object, ...]:
    """
    What becomes of *data*: all that is said of a head, and the rest; or the refusal.
    """
    try:
        head, rest = parser.head(data)
    except Refusal as refusal:
        return (type(refusal), refusal.message)
    return (None if head is None else structs.astuple(head)[:-1], rest)


class TestRepeats(SynchronousTestCase):
    """
    ``RequestParser.head``, when it remembers.
    """

    def head(self, data: bytes) -> Head:
        head, _ = self.parser.head(data)
        assert head is not None
        return head

    def setUp(self) -> None:
        self.parser = RequestParser(ServerLimits())

    @given(heads, heads, st.booleans())
    def test_as_if_it_were_the_first(self, first: bytes, second: bytes, tightened: bool) -> None:  # noqa: FBT001 - hypothesis
        """
        Whatever came before, and was valid: a head is read, or refused, as if it were the first one.
        """
        parser = RequestParser(LIMITS)
        head, _ = parser.head(first) if isinstance(parsed(RequestParser(LIMITS), first)[0], tuple) else (None, b"")
        if head is not None and (not head.keep_alive or (head.framing.has_body and head.framing.length is None)):
            return  # nothing follows, or a body first
        if tightened:
            parser.limits = TIGHTER
        fresh = RequestParser(parser.limits)
        self.assertEqual(parsed(fresh, second), parsed(parser, second))

    def test_memo(self) -> None:
        """
        What was made of a head is found again with the same one, also when its body has another length.
        """
        first = self.head(POST + b"Content-Length: 5\r\nX: y\r\n\r\n")
        first.memo.made = "this"
        longer = self.head(POST + b"Content-Length: 4321\r\nX: y\r\n\r\n")
        self.assertEqual(("this", 4321, b"4321"), (longer.memo.made, longer.framing.length, longer.fields[1][1]))
        self.assertEqual((5, b"5"), (first.framing.length, first.fields[1][1]))
        self.assertIs(longer, self.head(POST + b"Content-Length: 4321\r\nX: y\r\n\r\n"))
        other = self.head(POST + b"Content-Length: 4321\r\nX: z\r\n\r\n")
        self.assertIsNone(other.memo.made)

    def test_without_a_body(self) -> None:
        """
        The same for a head that announces none.
        """
        asked = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        first = self.head(asked)
        self.assertIs(first, self.head(asked + b"rest"))
        self.assertIsNot(first, self.head(asked.replace(b"GET", b"PUT")))

    def test_long(self) -> None:
        """
        A very long head is not kept.
        """
        asked = POST + b"X: %b\r\n\r\n" % (b"y" * REMEMBERED_BYTES)
        self.assertIsNot(self.head(asked), self.head(asked))

"""
The head of an answer as it is written for the client.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.proxy.crossing import Crossing, crossing_of
from dheera.proxy.headers import downward
from dheera.proxy.target import parse_base
from dheera.wire.heads import Fields
from dheera.wire.layout import Layout
from dheera.wire.response import Response
from tests.proxy.strategies import forbidden_back, free_lines
from tests.strategies import values

BASE = parse_base("https://api.mistral.ai")
DATE = (b"daTe", b"Sun, 06 Nov 1994 08:49:37 GMT")
CONNECTION = (b"Connection", b"keep-alive")


def answer(fields: Fields, code: int = 200) -> Response:
    """
    An answer with these header lines.
    """
    stream: Any = None
    return Response(stream, code, b"OK", Layout([name for name, _ in fields]), [value for _, value in fields], None)


class CrossingTestCase(SynchronousTestCase):
    """
    What is written from names that were seen before.
    """

    @given(st.lists(st.one_of(free_lines(), st.tuples(forbidden_back(), values())), max_size=8))
    def test_same(self, sent: Fields) -> None:
        """
        It is what `downward` makes of the lines, also of others with the same names; nothing, where that depends on
        what they say.
        """
        first = answer([*sent, DATE])
        crossing_of(first)
        fields = [(name, value + b"%s") for name, value in sent] + [DATE]
        response = Response(first, 200, b"OK", first.layout, [value for _, value in fields], None)  # type: ignore[arg-type]
        lines = crossing_of(response).lines(response)
        if any(name.lower() == b"connection" for name, _ in sent):
            self.assertIsNone(lines)
        else:
            said = [b"%b: %b" % line for line in downward(fields, BASE)]
            self.assertEqual(b"\r\n".join(said), b"\r\n".join(lines or []))

    def test_closer_look(self) -> None:
        """
        Where an answer leads to, what else it calls hop-by-hop, and how one without a body is framed, is not for names
        to tell.
        """
        for more, code in [((b"Location", b"/"), 201), ((b"connection", b"x-hop"), 200), ((b"X-Hop", b""), 204)]:
            response = answer([DATE, more], code)
            self.assertIsNone(crossing_of(response).lines(response))
        response = answer([DATE, CONNECTION, CONNECTION])
        self.assertIsNone(crossing_of(response).lines(response))

    def test_usual(self) -> None:
        """
        Most upstreams say that they keep the connection: this does not cross. Without a ``Date`` there is one.
        """
        response = answer([CONNECTION, (b"Content-Length", b"5"), DATE])
        self.assertEqual(
            [b"Content-Length: 5\r\ndaTe: Sun, 06 Nov 1994 08:49:37 GMT"], crossing_of(response).lines(response)
        )
        for fields in ([CONNECTION], []):
            (date,) = Crossing(answer(fields).layout).lines(answer(fields)) or []
            self.assertRegex(date, rb"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")

    def test_sized(self) -> None:
        """
        It tells whether the length of the body is among the lines.
        """
        self.assertTrue(crossing_of(answer([(b"content-Length", b"5")])).is_sized)
        self.assertFalse(crossing_of(answer([(b"content-Type", b"5")])).is_sized)

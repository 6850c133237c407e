from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.keys import Secret
from dheera.sinks.vendor import Table, basic, pieces
from tests.sinks.test_catalogue import tools


class TestTable(SynchronousTestCase):
    def setUp(self) -> None:
        self.table = Table(environment={"EMPTY": "", "FIRST": "one", "SECOND": "two", "URL": "https://h/"})

    def refusal(self, read: Callable[[], object]) -> str:
        """
        What is said.
        """
        self.setUp()
        read()
        return str(self.table.refusal())

    def test_all_at_once(self) -> None:
        """
        All that is refused is told at the end, in its order; of each setting the first only, since what is said of it
        later follows from that. Nothing is told if nothing was refused.
        """
        with Table.of(tools("")) as table:
            table.url("url", "https://h")

        def read() -> str:
            with Table.of(tools("")) as table:
                found = table.url("url", "ftp://h")
                table.token("token", None)
                table.refuse("url", "is too short")
                return found

        problems = self.assertRaises(ConfigurationError, read).problems
        self.assertEqual(["url", "token"], [problem.partition(":")[0] for problem in problems])
        self.assertNotIn("is too short", problems[0])

    def test_cannot_go_on(self) -> None:
        """
        Who cannot go on tells what was refused until then; what is broken is not taken for a refusal.
        """

        def read(error: Exception | None) -> None:
            with Table.of(tools("")) as table:
                table.refuse("a", "is wrong")
                raise error or table.refusal()

        self.assertEqual(["a: is wrong"], self.assertRaises(ConfigurationError, read, None).problems)
        self.assertRaises(LookupError, read, LookupError())

    def test_order(self) -> None:
        """
        The table comes first, then the variables in their order; one that is empty says nothing.
        """
        self.assertEqual("said", self.table.text("said", "FIRST"))
        self.assertEqual("one", self.table.text("", "MISSING", "EMPTY", "FIRST", "SECOND"))
        self.assertEqual("", self.table.text("", "EMPTY"))

    def test_secret(self) -> None:
        """
        So it is with secrets.
        """
        for expected, said in ("said", Secret("said")), ("one", None), ("one", Secret("")):
            found = self.table.secret(said, "EMPTY", "FIRST")
            assert found is not None
            self.assertEqual(expected, found.reveal())
        self.assertIsNone(self.table.secret(None, "EMPTY"))

    def test_url(self) -> None:
        """
        A URL is checked wherever it comes from, and has no slash at the end.
        """
        self.assertEqual("http://a:1/b", self.table.url("url", "http://a:1/b/", "URL"))
        self.assertEqual("https://h", self.table.url("url", "", "URL"))
        self.assertIn("url: ", self.refusal(lambda: self.table.url("url", "", "FIRST")))
        said = self.refusal(lambda: self.table.url("url", "", "MISSING", "EMPTY"))
        self.assertIn("here or in MISSING or EMPTY", said)

    def test_token(self) -> None:
        """
        A credential can stand in a header line, and is not shown if it cannot.
        """
        self.assertEqual("one", self.table.token("token", None, "FIRST").reveal())
        self.assertIn("token: ", self.refusal(lambda: self.table.token("token", None, "MISSING")))
        said = self.refusal(lambda: self.table.token("token", Secret("canary\r\nx: y")))
        self.assertIn("token: ", said)
        self.assertNotIn("canary", said)


class TestBasic(SynchronousTestCase):
    def test_vector(self) -> None:
        """
        The example of RFC 7617 §2.1, with letters beyond ASCII.
        """
        self.assertEqual("Basic dGVzdDoxMjPCow==", basic("test", Secret("123\u00a3")))


class TestPieces(SynchronousTestCase):
    @given(st.lists(st.integers(0, 50)), st.integers(1, 5), st.integers(1, 60))
    def test_limits(self, sizes: list[int], most: int, most_bytes: int) -> None:
        """
        Nothing is lost or moved; no piece is empty, longer, or larger than allowed but by one that is too large itself;
        and no two neighbours would fit into one.
        """
        found = list(pieces([(size, size) for size in sizes], most=most, most_bytes=most_bytes))
        self.assertEqual(sizes, [size for piece in found for size in piece])
        for piece in found:
            self.assertTrue(0 < len(piece) <= most)
            self.assertTrue(sum(piece) <= most_bytes or len(piece) == 1)
        for one, other in pairwise(found):
            self.assertTrue(len(one) == most or sum(one) + other[0] > most_bytes)

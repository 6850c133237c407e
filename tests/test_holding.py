from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.holding import Allowance, Rated, Release, member_of, member_subject, repeated, subject_of
from dheera.texts import LONGEST_TEXT_BYTES, bounded

IDS = st.text(st.sampled_from("ab/%2F5"), max_size=8) | st.text(st.characters(), max_size=300)


class SubjectTests(SynchronousTestCase):
    """
    How allowances name whom they are of.
    """

    @given(IDS, IDS)
    def test_there_and_back(self, team: str, user: str) -> None:
        """
        Whatever ids may hold, it is told which is that of the team.
        """
        self.assertEqual((bounded(team), bounded(user)), member_of(member_subject(team, user)))

    def test_as_written(self) -> None:
        """
        Ordinary ids are written as they are.
        """
        self.assertEqual("member/search/ada@example.org", member_subject("search", "ada@example.org"))
        self.assertEqual("team/a/b%", subject_of("team", "a/b%"))
        self.assertEqual("member/a%2Fb%25/c/d%", member_subject("a/b%", "c/d%"))

    @given(IDS)
    def test_bounds(self, name: str) -> None:
        """
        They fit where databases look for them.
        """
        self.assertLessEqual(len(subject_of("customer", name).encode()), len("customer/") + LONGEST_TEXT_BYTES)


class RepeatTests(SynchronousTestCase):
    """
    What is said once more.
    """

    def test_rates(self) -> None:
        """
        All of it, but for what would be subtracted twice.
        """
        tokens = Allowance(subject="key/k", kind="tokens")
        rates = [Rated(allowance=tokens, at_us=1, change=change) for change in (-1, 0, 1)]
        self.assertEqual(
            Release(call_id="a", usd=5, rates=rates[2:]), repeated(Release(call_id="a", usd=5, rates=rates))
        )

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from twisted.trial.unittest import SynchronousTestCase

from dheera.stores.ledger_rows import line_of, row_of
from dheera.texts import bounded
from tests.stores.books import a_record

STRANGE = ("a\0b", "\ud800", "x" * 300, "é" * 200)
TEXTS = (
    "call_id", "key_id", "key_alias", "user_id", "team_id", "end_user", "model", "endpoint", "error", "price_list",
    "client", "node", "upstream_id",
)  # fmt: skip


class TextTests(SynchronousTestCase):
    def test_each_is_bounded(self) -> None:
        """
        Whatever part of a record a strange text is in, the row has it as it can be kept, and all else as it is.
        """
        plain = line_of(row_of(a_record("c")))
        for name in TEXTS:
            for text in STRANGE:
                expected = structs.replace(plain, **{name: bounded(text)}, failed=name == "error")
                self.assertEqual(expected, line_of(row_of(a_record(**{"call_id": "c", name: text}))))

    def test_model(self) -> None:
        """
        The model is the one that answered, or else the one that was asked for; also where its name is strange.
        """
        for text in ("n", *STRANGE):
            self.assertEqual(bounded(text), line_of(row_of(a_record(answered_model=text))).model)
        self.assertEqual("m", line_of(row_of(a_record(answered_model=""))).model)


class TimeTests(SynchronousTestCase):
    @given(st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis wants it so
    def test_round_trip(self, time: datetime) -> None:
        """
        A time is kept to the microsecond.
        """
        self.assertEqual(time, line_of(row_of(a_record(started_at=time))).started_at)

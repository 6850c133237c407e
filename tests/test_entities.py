from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unittest import TestCase

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dheera.entities import (
    KINDS,
    AuditLine,
    Budget,
    Key,
    decoded,
    kind_of,
    now,
    to_document,
    to_json,
)
from dheera.money import Usd
from tests.stores.strategies import entities

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
ANY = st.sampled_from(sorted(KINDS)).flatmap(lambda kind: entities(KINDS[kind]))


def from_document(sort: type[Any], document: dict[str, Any]) -> Any:
    return msgspec.convert(document, type=sort, dec_hook=decoded)


def from_json(sort: type[Any], text: bytes | str) -> Any:
    return msgspec.json.decode(text, type=sort, dec_hook=decoded)


def budget(**fields: Any) -> Budget:
    """
    A budget.
    """
    return Budget(**{"id": "b", "created_at": NEW_YEAR, "updated_at": NEW_YEAR, **fields})


class KindTests(TestCase):
    def test_words(self) -> None:
        """
        Each kind has its word, for the class as for what is of it.
        """
        for word, sort in KINDS.items():
            self.assertEqual(word, kind_of(sort))
        self.assertEqual("budget", kind_of(budget()))


class SilenceTests(TestCase):
    @given(ANY)
    def test_repr(self, entity: Any) -> None:
        """
        How it shows itself in a traceback or a log tells which it is, and nothing of what is in it.
        """
        self.assertEqual(f"<{kind_of(entity)} {entity.id}>", repr(entity))


class DocumentTests(TestCase):
    @given(ANY)
    def test_there_and_back(self, entity: Any) -> None:
        """
        What was made a document is the same when it is read, whatever it holds.
        """
        document = to_document(entity)
        self.assertEqual(entity, from_document(type(entity), document))
        self.assertEqual({each.name for each in msgspec.structs.fields(entity)}, set(document))

    def test_plain(self) -> None:
        """
        A document holds amounts as numbers of dollars, times as times, and is not the entity's own.
        """
        document = to_document(budget(max_budget=Usd(1_500_000_000), rest={"a": [1]}))
        self.assertEqual("1.5", str(document["max_budget"]))
        self.assertEqual(NEW_YEAR, document["created_at"])
        self.assertEqual({"a": [1]}, document["rest"])


class JsonTests(TestCase):
    @given(ANY, st.integers(-(10**15), 10**15))
    def test_there_and_back(self, entity: Any, nano: int) -> None:
        """
        What was written as JSON is the same when it is read; amounts up to fifteen digits.
        """
        amounts = {name: Usd(nano) for name in ("spend", "max_budget", "soft_budget")}
        entity = replace(entity, **amounts)
        self.assertEqual(entity, from_json(type(entity), to_json(entity)))

    def test_looks(self) -> None:
        """
        Amounts are numbers of dollars, written out to the last digit; times are RFC 3339 in UTC.
        """
        text = to_json(budget(spend=Usd(8_999_999_999_123_456_789), budget_reset_at=NEW_YEAR))
        self.assertIn(b'"spend":8999999999.123456789,', text)
        self.assertEqual("2026-01-01T00:00:00Z", json.loads(text)["budget_reset_at"])

    def test_other_time_zones(self) -> None:
        """
        A time of another zone is the same time when it is read.
        """
        east = NEW_YEAR.astimezone(timezone(timedelta(hours=5)))
        text = to_json(budget(budget_reset_at=east))
        self.assertEqual(NEW_YEAR, from_json(Budget, text).budget_reset_at)

    def test_wrong(self) -> None:
        """
        What is no such entity is a validation error: without an id, with an amount that is none, with a wrong type.
        """
        right = json.loads(to_json(budget()))
        for field, value in (
            ("id", None),
            ("id", 1),
            ("max_budget", "much"),
            ("max_budget", True),
            ("max_budget", []),
            ("max_budget", 1e300),
            ("created_at", "yesterday"),
            ("rpm_limit", 1.5),
        ):
            with self.assertRaises(msgspec.ValidationError, msg=f"{field}: {value}"):
                from_json(Budget, json.dumps({**right, field: value}))
        del right["id"]
        with self.assertRaises(msgspec.ValidationError):
            from_json(Budget, json.dumps(right))

    def test_audit_lines(self) -> None:
        """
        An audit line takes the amounts and times of documents.
        """
        document = to_document(budget(max_budget=Usd(1)))
        line = AuditLine(
            id="1",
            at=NEW_YEAR,
            actor="master",
            address="::1",
            action="budget.new",
            kind="budget",
            subject="b",
            after={name: document[name] for name in ("max_budget", "created_at")},
        )
        after = json.loads(to_json(line))["after"]
        self.assertEqual({"max_budget": 1e-9, "created_at": "2026-01-01T00:00:00Z"}, after)

    def test_strange_types(self) -> None:
        """
        What is nobody's is refused by both hooks, so that msgspec tells of it.
        """
        self.assertRaises(NotImplementedError, decoded, complex, 1)
        self.assertRaises(NotImplementedError, to_json, object())


class ValueTests(TestCase):
    def test_frozen(self) -> None:
        """
        An entity can be shared: it does not change.
        """
        with self.assertRaises(AttributeError):
            budget().id = "other"  # type: ignore[misc]  # that it is wrong is the point

    def test_own_defaults(self) -> None:
        """
        Two keys do not share the lists that they were not given.
        """
        made = [
            Key(id=id_, created_at=NEW_YEAR, updated_at=NEW_YEAR, digest=id_, name="sk-...") for id_ in ("one", "other")
        ]
        made[0].models.append("a")
        self.assertEqual([], made[1].models)

    def test_now(self) -> None:
        """
        The time is aware, and in UTC.
        """
        self.assertEqual(timedelta(0), now().utcoffset())

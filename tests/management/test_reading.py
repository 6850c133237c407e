"""
What is wrong with a request, and where.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any
from unittest import TestCase

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.errors import BadRequest, Invalid
from dheera.management.keys.shapes import GenerateKey, UpdateKeys
from dheera.management.reading import read_body, read_query
from dheera.management.shapes import DEEPEST, Count, Document, Name, Span
from dheera.management.teams.member_shapes import AddMembers
from dheera.money import Usd


class Inner(Struct, kw_only=True, frozen=True):
    amount: Usd
    when: datetime | UnsetType | None = UNSET


class Outer(Struct, kw_only=True, frozen=True):
    name: Name | UnsetType | None = UNSET
    count: Count | UnsetType | None = UNSET
    span: Span | UnsetType | None = UNSET
    free: Document | UnsetType | None = UNSET
    inner: Annotated[list[Inner], Meta(max_length=3, description="several")] | UnsetType | None = UNSET
    many: Annotated[list[Name], Meta(max_length=3, description="several")] | UnsetType | None = UNSET


def faults(content: bytes, *, strict_fields: bool = False) -> list[tuple[Any, ...]]:
    """
    What is found wrong with a body: places and sorts.
    """
    try:
        read_body(content, Outer, strict_fields=strict_fields)
    except Invalid as invalid:
        return [(*place, sort) for place, _, sort in invalid.faults]
    return []


class Bodies(TestCase):
    def test_places(self) -> None:
        """
        A fault is found where it is.
        """
        for body, fault in {
            "[]": ("type_error",),
            "5": ("type_error",),
            '{"name": 5}': ("name", "type_error"),
            '{"name": ""}': ("name", "value_error"),
            '{"name": "%s"}' % ("x" * 257): ("name", "value_error"),
            '{"name": "a\\u0000"}': ("name", "value_error"),
            '{"name": "a\\n"}': ("name", "value_error"),
            '{"name": "\\u0085"}': ("name", "value_error"),
            '{"count": -1}': ("count", "value_error"),
            '{"count": 9007199254740992}': ("count", "value_error"),
            '{"count": 1.5}': ("count", "type_error"),
            '{"count": "many"}': ("count", "type_error"),
            '{"span": "1d\\n"}': ("span", "value_error"),
            '{"free": []}': ("free", "type_error"),
            '{"inner": [{"amount": 1}, {}]}': ("inner", 1, "amount", "missing"),
            '{"inner": [{"amount": 1}, {"amount": []}]}': ("inner", 1, "amount", "type_error"),
            '{"inner": [{"amount": 1e300}]}': ("inner", 0, "amount", "value_error"),
            '{"inner": [{"amount": true}]}': ("inner", 0, "amount", "type_error"),
            '{"inner": [{"amount": 1, "when": "now"}]}': ("inner", 0, "when", "value_error"),
            '{"inner": [{"amount": 1, "when": "0001-01-01T00:00:00+01:00"}]}': ("inner", 0, "when", "value_error"),
            '{"many": ["a", "b", "c", "d"]}': ("many", "value_error"),
        }.items():
            self.assertEqual([("body", *fault)], faults(body.encode()), body)

    def test_not_json(self) -> None:
        """
        What is not JSON, or more than we can keep, is a fault of the body as a whole.
        """
        for body in (b"{", b"\xff", b'{"name": "\xff"}', b"name=x", b"\xef\xbb\xbf{}", b'{"free": {"a": NaN}}'):
            self.assertEqual([("body", "json_invalid")], faults(body), body)
        for body in (b'{"free": {"a": "\\ud800"}}', b'{"free": {"a": 1e999}}', b'{"free": {"a": %s}}' % (b"9" * 5000)):
            self.assertEqual([("body", "json_invalid")], faults(body), body)
        for number in (2**64, -(2**63) - 1, 10**30):
            self.assertEqual([("body", "value_error")], faults(b'{"free": {"a": [%d]}}' % number))
        for number in (2**64 - 1, -(2**63)):
            self.assertEqual([], faults(b'{"free": {"a": [%d]}}' % number))

    def test_deep(self) -> None:
        """
        Nesting has a limit, however much deeper it goes.
        """
        for depth in (DEEPEST - 2, DEEPEST + 1, 500_000):
            body = b'{"free": {"a": ' + b"[" * depth + b"]" * depth + b"}}"
            self.assertEqual([] if depth < DEEPEST else [("body", "value_error")], faults(body))

    def test_nothing(self) -> None:
        """
        No body is an empty object.
        """
        self.assertEqual(Outer(), read_body(b"", Outer, strict_fields=True))

    def test_negative(self) -> None:
        """
        A negative amount is refused by name, wherever it is.
        """
        with self.assertRaises(BadRequest) as caught:
            read_body(b'{"inner": [{"amount": -1}]}', Outer, strict_fields=False)
        self.assertEqual("amount", caught.exception.param)

    def test_unknown_fields(self) -> None:
        """
        Unknown fields are let pass; where that is wanted, each is named, unless its name may be a secret.
        """
        body = json.dumps(
            {"nam": 1, "free": {"any": 1}, "inner": [{"amount": 1, "x": 1}], "sk-aaaaaaaaaaaaaaaaaa": 1, "a b": 1}
        ).encode()
        self.assertEqual([], faults(body))
        extra = "extra_forbidden"
        self.assertEqual(
            [("body", "nam", extra), ("body", "inner", 0, "x", extra), ("body", "...", extra), ("body", "...", extra)],
            faults(body, strict_fields=True),
        )
        many = json.dumps({f"x{at}": 1 for at in range(1000)}).encode()
        self.assertEqual(20, len(faults(many, strict_fields=True)))

    def test_says_what_is_wanted(self) -> None:
        """
        Where a text is not written as it must be, it is said how it must, wherever it is.
        """
        span = "Expected a whole number and one of s, m, h, d, w, mo: `30s`, `15m`, `12h`, `30d`, `2w`, `1mo`"
        plain = "Expected text without control characters"
        wrong = "a\n"
        for shape, body, text in (
            (Outer, {"span": wrong}, span),
            (Outer, {"name": wrong}, plain),
            (Outer, {"many": ["a", wrong]}, plain),
            (GenerateKey, {"duration": wrong}, f"{span}, or `-1` for ever"),
            (GenerateKey, {"budget_limits": [{"budget_duration": wrong, "max_budget": 1}]}, span),
            (GenerateKey, {"model_rpm_limit": {wrong: 1}}, plain),
            (
                GenerateKey,
                {"rpm_limit_type": wrong},
                "Expected one of `best_effort_throughput`, `dynamic`, `guaranteed_throughput`",
            ),
            (
                GenerateKey,
                {"key": "x", "key_type": wrong},
                "Expected one of `default`, `llm_api`, `management`, `read_only`",
            ),
            (UpdateKeys, {"keys": [{"key": wrong}]}, plain),
            (AddMembers, {"team_id": "t", "member": [{"role": wrong}]}, "Expected one of `admin`, `user`"),
        ):
            with self.assertRaises(Invalid, msg=body) as caught:
                read_body(json.dumps(body).encode(), shape, strict_fields=False)
            [(_, said, _)] = caught.exception.faults
            self.assertEqual(text, said)

    def test_says_no_value(self) -> None:
        """
        What was sent is not repeated: it may be a secret.
        """
        for name in ("name", "count", "span", "free", "inner", "many"):
            for value in ("sk-planted\n", ["sk-planted\n"], {"amount": "sk-planted"}, [{"amount": "sk-planted"}]):
                try:
                    read_body(json.dumps({name: value}).encode(), Outer, strict_fields=True)
                except Invalid as invalid:
                    self.assertNotIn("planted", invalid.envelope().decode())
                else:
                    self.assertEqual("free", name)

    @given(st.binary(max_size=200))
    @example(b'{"inner":[{"amount":"1e-99999999999999999999"}]}')
    @example(b'{"inner":[{"amount":1,"when":1e300}]}')
    def test_any_bytes(self, content: bytes) -> None:
        """
        Any bytes are a body, or refused.
        """
        faults(content, strict_fields=True)


class Queries(TestCase):
    def test_values(self) -> None:
        """
        A query is decoded once; lists may be written with ``[]``.
        """
        query = read_query(
            b"name=a%2Bb+c%2525&count=5&many=x&many%5b%5D=y&&other=1&other=2", Outer, strict_fields=False
        )
        self.assertEqual(("a+b c%25", 5, ["x", "y"]), (query.name, query.count, query.many))
        self.assertEqual(Outer(), read_query(b"", Outer, strict_fields=True))

    def test_faults(self) -> None:
        """
        A fault is found where it is.
        """
        for text, place in {
            b"name=a&name=b": ("query", "name"),
            b"name=%ff": ("query",),
            b"%ff=1": ("query",),
            b"name=": ("query", "name"),
            b"name": ("query", "name"),
            b"name=%00": ("query", "name"),
            b"count=-1": ("query", "count"),
            b"many=a&many=": ("query", "many", 1),
            b"free=a": ("query", "free"),
        }.items():
            with self.assertRaises(Invalid, msg=text) as caught:
                read_query(text, Outer, strict_fields=False)
            self.assertEqual([place], [fault[0] for fault in caught.exception.faults], text)
        with self.assertRaises(Invalid) as caught:
            read_query(b"nam=1", Outer, strict_fields=True)
        self.assertEqual(("query", "nam"), caught.exception.faults[0][0])

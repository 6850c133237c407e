"""
The scanner, against a parser of whole documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.metering.finds import EACH, LONGEST_VALUE, Found, Kept, Tree
from dheera.metering.lengths import Length
from dheera.metering.scanning import Scanner
from tests.strategies import chunkings

TREE: Tree = {
    "value": Kept.VALUE,
    "there": Kept.PRESENCE,
    "text": Kept.LENGTH,
    "inner": {"value": Kept.VALUE, "list": {EACH: {"value": Kept.VALUE}}},
}
NAMES = st.sampled_from(["value", "there", "text", "inner", "list", "other", "", 'a"b\\', "vàlue"])
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False),
    st.text('ab"\\{}[],:\n\té\U0001f600', max_size=8),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=6)


def written(document: Any, indent: int | None, ascii_only: bool) -> bytes:  # noqa: FBT001 - drawn
    """
    *document* as JSON, in one of several styles.
    """
    return json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()


def expected(document: Mapping[str, Any], tree: Tree) -> dict[str, Any]:
    """
    What should be found.
    """
    found: dict[str, Any] = {}
    for name, wanted in tree.items():
        value = document.get(name)
        if value is None:
            continue
        if wanted is Kept.VALUE:
            found[name] = value
        elif wanted is Kept.PRESENCE:
            found[name] = True
        elif wanted is Kept.LENGTH and isinstance(value, str):
            found[name] = len(value)
        elif isinstance(wanted, Mapping) and EACH in wanted and isinstance(value, list):
            each = wanted[EACH]
            assert isinstance(each, Mapping)
            found[name] = [expected(one, each) for one in value if isinstance(one, dict) and expected(one, each)]
        elif isinstance(wanted, Mapping) and EACH not in wanted and isinstance(value, dict):
            found[name] = expected(value, wanted)
    return found


def read(found: Any) -> Any:
    """
    What was *found*, with its values read.
    """
    match found:
        case bytes():
            return json.loads(found)
        case Length():
            return found.characters
        case dict():
            return {name: read(value) for name, value in found.items()}
        case list():
            return [read(value) for value in found]
        case _:
            return found


def scanned(pieces: list[bytes]) -> tuple[Found, bool, bool]:
    """
    What is found in *pieces*, and whether they are complete, or broken.
    """
    scanner = Scanner(TREE)
    for piece in pieces:
        scanner.feed(piece)
    return read(scanner.found), scanner.complete, scanner.broken


def single(content: bytes) -> list[bytes]:
    """
    *content*, byte by byte.
    """
    return [content[at : at + 1] for at in range(len(content))]


STYLES = {"indent": st.sampled_from([None, 0, 2]), "ascii_only": st.booleans()}


class ScannerTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(st.builds(lambda document, **style: (document, written(document, **style)), DOCUMENTS, **STYLES), st.data())
    def test_finds_all(self, drawn: tuple[Any, bytes], data: st.DataObject) -> None:
        """
        All that is looked for is found, and nothing else, however the document is cut.
        """
        document, content = drawn
        wanted = (expected(document, TREE), True, False)
        self.assertEqual(wanted, scanned([content]))
        self.assertEqual(wanted, scanned(single(content)))
        self.assertEqual(wanted, scanned(data.draw(chunkings(content))))

    @settings(deadline=None)
    @given(st.builds(written, DOCUMENTS, **STYLES), st.data())
    def test_any_bytes(self, content: bytes, data: st.DataObject) -> None:
        """
        Whatever the bytes are, their cuts make no difference.
        """
        at = data.draw(st.integers(0, len(content)))
        noise = data.draw(st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b"\\", b"{", b"]", b",", b"\\u00"])))
        damaged = content[:at] + noise + content[at + data.draw(st.integers(0, 2)) :]
        raw = [self._raw(pieces) for pieces in ([damaged], single(damaged), data.draw(chunkings(damaged)))]
        self.assertEqual([raw[0]] * 3, raw)

    @settings(deadline=None)
    @given(st.builds(written, DOCUMENTS, **STYLES), st.data())
    def test_beginnings(self, content: bytes, data: st.DataObject) -> None:
        """
        A beginning is never broken, and never complete.
        """
        scanner = Scanner(TREE)
        scanner.feed(content[: data.draw(st.integers(0, len(content) - 1))])
        self.assertEqual((False, False), (scanner.broken, scanner.complete))

    def test_broken(self) -> None:
        """
        What breaks the order of an object that is looked into is noticed, and takes back what was found.
        """
        rest = [
            b'"a":1,}',
            b'"a" 1}',
            b'"a":,"b":1}',
            b'"a":1 "b":2}',
            b"a:1}",
            b'"inner":{]}',
            b'"a":1}x',
            b'"a":1}{}',
        ]
        for wrong in rest:
            self.assertEqual(({}, False, True), scanned([b'{"value":1,' + wrong]), wrong)
        for wrong in (b"[1]", b"1", b'"value"', b"\xef\xbb\xbf{}"):
            self.assertEqual(({}, False, True), scanned([wrong]), wrong)

    def test_twice(self) -> None:
        """
        Of a name that stands twice, the last value counts.
        """
        self.assertEqual({"value": 2}, scanned([b'{"value":1,"value":2}'])[0])
        self.assertEqual({}, scanned([b'{"value":1,"there":2,"value":null,"there":null}'])[0])

    def test_escaped_name(self) -> None:
        """
        A name counts however it is written.
        """
        self.assertEqual({"value": 1}, scanned([b'{"\\u0076alue":1}'])[0])

    def test_long_values(self) -> None:
        """
        What is too long to be kept is absent, though it is there.
        """
        text = b'"' + b"x" * LONGEST_VALUE + b'"'
        found = scanned([b'{"value":' + text + b',"there":' + text + b',"text":' + text + b',"' + b"n" * 300 + b'":1}'])
        self.assertEqual(({"there": True, "text": LONGEST_VALUE}, True, False), found)

    def _raw(self, pieces: list[bytes]) -> tuple[Any, ...]:
        scanner = Scanner(TREE)
        for piece in pieces:
            scanner.feed(piece)
        found = {
            name: value.characters if isinstance(value, Length) else value for name, value in scanner.found.items()
        }
        return found, scanner.complete, scanner.broken

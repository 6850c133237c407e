"""
Bodies for records.
"""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64encode
from hashlib import sha256
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.content import Capture
from dheera.records import Content
from dheera.redaction import Redaction
from tests.strategies import chunkings

LIMIT = 4096
NOTHING = Redaction()
CONTENTS = Redaction.of(["$..content"], ())
JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"


def content(
    body: bytes, kind: bytes = JSON, coding: bytes = b"", redaction: Redaction = NOTHING, limit: int = LIMIT
) -> Content:
    """
    What is shown of *body*.
    """
    capture = Capture(limit)
    capture.feed(body)
    return capture.content(kind, coding, redaction)


def encoded(value: Any) -> bytes:
    """
    *value* as JSON.
    """
    return json.dumps(value).encode()


class CaptureTests(SynchronousTestCase):
    """
    A body that passes by.
    """

    @given(st.data(), st.binary(max_size=200), st.integers(1, 100))
    @settings(deadline=None)
    def test_any_pieces(self, data: st.DataObject, body: bytes, limit: int) -> None:
        """
        In whatever pieces a body comes, the same is shown of it.
        """
        body = b'{"a": "' + body
        capture = Capture(limit)
        for piece in data.draw(chunkings(body)):
            capture.feed(piece)
        self.assertEqual(content(body, limit=limit), capture.content(JSON, b"", NOTHING))

    def test_again(self) -> None:
        """
        It can be asked for while it goes on, and again.
        """
        capture = Capture(10)
        for piece, size in (b"abc", 3), (b"def", 6), (b"ghijkl", 12):
            capture.feed(piece)
            self.assertEqual(size, capture.content(b"text/plain", b"", NOTHING).size_bytes)
        self.assertEqual(
            Content(body="abcdefghij", size_bytes=12, truncated=True), capture.content(b"text/plain", b"", NOTHING)
        )

    def test_memory(self) -> None:
        """
        No more is kept than the limit; size and digest are of all.
        """
        capture = Capture(LIMIT)
        for _ in range(100):
            capture.feed(b"x" * 1000)
        self.assertEqual(LIMIT, len(capture._kept))
        shown = capture.content(b"text/plain", b"", NOTHING)
        self.assertEqual(
            (100_000, sha256(b"x" * 100_000).hexdigest(), True), (shown.size_bytes, shown.sha256, shown.truncated)
        )

    @given(
        st.binary(max_size=60) | st.text(max_size=60).map(str.encode),
        st.sampled_from([b"", JSON, EVENTS, b"application/x-ndjson", b"text/plain", b"audio/wav", b";;", b"a/b+json"]),
        st.sampled_from([b"", b"gzip", b"deflate", b"br", b"identity", b"gzip, br"]),
        st.booleans(),
    )
    def test_any_bytes(self, body: bytes, kind: bytes, coding: bytes, paths: bool) -> None:  # noqa: FBT001 - drawn
        """
        Whatever comes, there is a content, and it can be written as JSON.
        """
        for start in b"", b"data: ", b"{", b'{"a":':
            shown = content(start + body, kind, coding, CONTENTS if paths else NOTHING)
            self.assertEqual(len(start + body), shown.size_bytes)
            msgspec.json.encode(shown)


class JsonTests(SynchronousTestCase):
    """
    JSON bodies.
    """

    def test_shown(self) -> None:
        """
        A body in which nothing is hidden is shown as the value it is, without a digest.
        """
        body = encoded({"model": "m", "messages": [{"content": "héllo"}], "n": 1.5, "x": None})
        for kind in (JSON, b"application/json; charset=utf-8", b"application/problem+json", b"", b"text/plain"):
            self.assertEqual(Content(body=json.loads(body), size_bytes=len(body)), content(body, kind))

    def test_digest(self) -> None:
        """
        A body that is not shown as it was has the digest of how it was, unless it is so short that it could be guessed.
        """
        for text, has_digest in ("short", False), ("long " * 60, True):
            body = encoded({"content": text})
            digest = sha256(body).hexdigest() if has_digest else None
            self.assertEqual(
                Content(body={"content": "[redacted]"}, size_bytes=len(body), sha256=digest),
                content(body, redaction=CONTENTS),
            )

    def test_binary_parts(self) -> None:
        """
        Images are not kept: their size and digest are.
        """
        image = bytes(1500)
        body = encoded({"image_url": "data:image/png;base64," + b64encode(image).decode()})
        shown = content(body)
        part = {"type": "image/png", "size_bytes": 1500, "sha256": sha256(image).hexdigest()}
        self.assertEqual({"image_url": {"base64": part}}, shown.body)
        self.assertEqual(sha256(body).hexdigest(), shown.sha256)

    def test_cut(self) -> None:
        """
        JSON that was cut off is a text, from which keys, patterns and binary parts are taken away.
        """
        key = "sk-" + "k" * 30
        body = encoded({"a": f"my {key}", "b": "call 555-1234", "c": b64encode(bytes(LIMIT)).decode()})
        shown = content(body, redaction=Redaction.of((), [r"\d{3}-\d{4}"]))
        self.assertTrue(shown.truncated)
        self.assertEqual(sha256(body).hexdigest(), shown.sha256)
        self.assertRegex(
            shown.body, r'\A{"a": "my \[key\]", "b": "call \[redacted\]", "c": "\[base64: [0-9]+ bytes\]\Z'
        )

    def test_cut_with_paths(self) -> None:
        """
        Where members were to be taken away of what cannot be read as JSON, nothing is shown but size and digest.
        """
        cut = encoded({"content": "planted " * LIMIT})
        for body in cut, b'{"content": "planted"' + b" " * 300, b'{"content": "planted \xff"}' + b" " * 300:
            for kind in JSON, b"", b"text/plain":
                shown = content(body, kind, redaction=CONTENTS)
                self.assertEqual(Content(size_bytes=len(body), sha256=sha256(body).hexdigest()), shown)

    def test_deep(self) -> None:
        """
        What is nested too deep to be looked through is not shown.
        """
        for depth in 600, 900, 2000:
            body = b'{"a":' * depth + b'"sk-planted-0123456789"' + b"}" * depth
            self.assertNotIn(b"planted", msgspec.json.encode(content(body, limit=10**6)))

    def test_no_key(self) -> None:
        """
        No key is in the content, nor its digest, though the body be nothing else.
        """
        key = "sk-" + "planted-" * 5
        for body, kind in (
            (key.encode(), b"text/plain"),
            (encoded(key), JSON),
            (key.encode(), b"application/octet-stream"),
        ):
            text = repr(content(body, kind))
            self.assertNotIn("planted", text)
            self.assertNotIn(sha256(body).hexdigest(), text)


class StreamTests(SynchronousTestCase):
    """
    Events, and other texts.
    """

    events = (
        b'event: x\r\ndata: {"model":"m","choices":[{"delta":{"content":"planted"}}]}\r\n\r\n'
        b': note\ndata: {"model":"m",\ndata: "content":"planted"}\n\ndata: [DONE]\n\n'
    )

    def test_shown(self) -> None:
        """
        Events are shown as the text that they are.
        """
        self.assertEqual(Content(body=self.events.decode(), size_bytes=len(self.events)), content(self.events, EVENTS))

    def test_paths(self) -> None:
        """
        Members are taken away from each event; one that cannot be read is not shown.
        """
        expected = (
            'event: x\r\ndata: {"model":"m","choices":[{"delta":{"content":"[redacted]"}}]}\r\n\r\n'
            ": note\ndata: [redacted]\ndata: [redacted]\n\ndata: [DONE]\n\n"
        )
        self.assertEqual(expected, content(self.events, EVENTS, redaction=CONTENTS).body)

    def test_cut_with_paths(self) -> None:
        """
        Wherever the stream was cut, nothing is shown that was to be taken away.
        """
        for limit in range(1, len(self.events)):
            self.assertNotIn("plan", content(self.events, EVENTS, redaction=CONTENTS, limit=limit).body or "")

    def test_json_lines(self) -> None:
        """
        So it is with JSON that comes a line each.
        """
        body = b'{"content":"planted","a":1}\n{"content"\n'
        shown = content(body, b"application/x-ndjson", redaction=CONTENTS).body
        self.assertEqual('{"content":"[redacted]","a":1}\n[redacted]\n', shown)

    def test_cut_characters(self) -> None:
        """
        A character that was cut in two is not shown as another one.
        """
        self.assertEqual("aé", content("aéé".encode(), b"text/plain", limit=4).body)

    def test_forms(self) -> None:
        """
        A form has no paths that could be followed.
        """
        form = b"content=planted"
        self.assertEqual("content=planted", content(form, b"application/x-www-form-urlencoded").body)
        self.assertIsNone(content(form, b"application/x-www-form-urlencoded", redaction=CONTENTS).body)


class BinaryTests(SynchronousTestCase):
    """
    What is no text.
    """

    def test_size_and_digest(self) -> None:
        """
        Of binary bodies and uploads there is nothing but size and digest.
        """
        body = b"planted \0" * 100
        for kind in (
            b"audio/wav",
            b"multipart/form-data; boundary=x",
            b"application/octet-stream",
            b"",
            b"text/plain",
            JSON,
        ):
            self.assertEqual(Content(size_bytes=len(body), sha256=sha256(body).hexdigest()), content(body, kind), kind)

    def test_empty(self) -> None:
        """
        Of nothing there is nothing.
        """
        for kind in JSON, b"", b"audio/wav":
            self.assertEqual(0, content(b"", kind).size_bytes)
            self.assertIn(content(b"", kind).body, (None, ""))


class CodingTests(SynchronousTestCase):
    """
    Compressed bodies.
    """

    plain = encoded({"a": "b " * 150})

    def test_inflated(self) -> None:
        """
        What is compressed is shown as what it was before, and has the size and digest of what passed.
        """
        raw = zlib.compressobj(wbits=-15)
        for body, coding in (
            (gzip.compress(self.plain), b"gzip"),
            (gzip.compress(self.plain[:9]) + gzip.compress(self.plain[9:]), b"x-gzip"),
            (zlib.compress(self.plain), b"deflate"),
            (raw.compress(self.plain) + raw.flush(), b"Deflate"),
        ):
            shown = content(body, JSON, coding)
            self.assertEqual(
                (json.loads(self.plain), len(body), False), (shown.body, shown.size_bytes, shown.truncated)
            )

    def test_bomb(self) -> None:
        """
        No more is inflated than the limit.
        """
        shown = content(gzip.compress(bytes([97]) * 10**6), b"text/plain", b"gzip")
        self.assertLessEqual(len(shown.body), LIMIT)
        self.assertTrue(shown.truncated)

    def test_cut(self) -> None:
        """
        What was cut off is shown up to there; with paths it is not, if it is JSON.
        """
        body = gzip.compress(encoded({"content": [f"planted {nth}" for nth in range(3000)]}))
        shown = content(body, JSON, b"gzip")
        self.assertTrue(shown.truncated)
        self.assertIn("planted 1", shown.body)
        self.assertIsNone(content(body, JSON, b"gzip", CONTENTS).body)

    def test_unknown(self) -> None:
        """
        What cannot be inflated is not shown.
        """
        body = self.plain * 2
        for coding in (b"br", b"zstd", b"gzip, gzip", b"gzip"):
            self.assertEqual(
                Content(size_bytes=len(body), sha256=sha256(body).hexdigest()), content(body, JSON, coding)
            )

"""
Forms, read so narrowly that no other reader finds something else in them.
"""

from __future__ import annotations

from email import message_from_bytes

from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from multipart import (  # type: ignore[import-untyped]  # it has hints, but no py.typed
    MultipartError,
    PushMultipartParser,
)
from twisted.trial.unittest import SynchronousTestCase

from dheera.proxy.forms import FORM, LONGEST_TEXT, MOST_PARTS, Ambiguous, texts_of_form
from tests.strategies import twisted_bytes

PLAIN = b'Content-Disposition: form-data; name="model"'


def form(*parts: tuple[bytes, bytes], end: bytes = b"\r\n") -> bytes:
    """
    A form of parts, each a head and a content.
    """
    return b"".join(b"--B\r\n%b\r\n\r\n%b\r\n" % part for part in parts) + b"--B--" + end


def read(content: bytes) -> dict[str, str]:
    return texts_of_form(content, b"B", ("model", "agent_id"))


def seen_by_multipart(content: bytes) -> set[str]:
    """
    What the parser that takes what it can makes of a form: all that it has found before it fails.
    """
    found, name, texts = set(), "", b""
    try:
        for event in PushMultipartParser("B").parse(content):
            if event is None:
                if name == "model":
                    found.add(texts.decode("latin-1"))
            elif isinstance(event, (bytes, bytearray)):
                texts += event
            else:
                name, texts = (event.name or "").lower(), b""
    except (MultipartError, ValueError):
        pass
    return found


def seen_by_email(content: bytes) -> set[str]:
    """
    What a parser of mail makes of it, which repairs line ends, and knows names in other codings.
    """
    message = message_from_bytes(b"Content-Type: multipart/form-data; boundary=B\r\n\r\n" + content)
    found = set()
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        name = name[2] if isinstance(name, tuple) else name
        text = part.get_payload(decode=True)
        if name is not None and name.lower() == "model" and isinstance(text, bytes):
            found.add(text.decode("latin-1"))
    return found


@st.composite
def forms(draw: DrawFn) -> bytes:
    """
    Forms that name the models ``good`` and ``evil`` in ways that readers differ on.
    """
    heads = st.sampled_from(
        [
            PLAIN, b"content-disposition: form-data; name=model", PLAIN.replace(b"model", b"MODEL"),
            b'Content-Disposition: form-data; name="x"', b'Content-Disposition: form-data; name="x"; filename="f"',
            b"Content-Disposition: form-data; name*=''model", PLAIN + b'; filename="f"',
            PLAIN + b"; filename*=utf-8''f",
            b'Content-Disposition: form-data; name="x"; name="model"', b"X: y\r\n" + PLAIN, PLAIN + b"\r\nX: y",
            b'Content-Disposition: form-data; name="x"; filename="; name=model"',
            b'Content-Disposition: form-data; name="x"; filename="\\"; name=\\"model"',
            b'Content-Disposition: form-data; name="x"\r\n' + PLAIN, PLAIN + b"\r\nContent-Type: text/plain",
            b'Content-Disposition: form-data;\r\n name="model"', b'Content-Disposition : form-data; name="model"',
            b'Content-Disposition: form-data; name="mo\\del"', PLAIN + b"\r\nContent-Transfer-Encoding: base64",
            PLAIN + b"\r\nContent-Length: 2", PLAIN.replace(b"model", b"model[]"), PLAIN.replace(b'"', b"'"),
            b"Content-Type: multipart/mixed; boundary=C", b"",
        ]
    )  # fmt: skip
    contents = st.sampled_from(
        [
            b"good", b"good", b"evil", b"", b"good\n--B\n" + PLAIN + b"\n\nevil\n", b"good\r\n--B \r\n" + PLAIN,
            b"good\r\n--B--\r\n--B\r\n" + PLAIN + b"\r\n\r\nevil", b"ZXZpbA==", b"good\r\n--BB",
            b"good\r--B\r" + PLAIN + b"\r\revil", b"\r\n",
        ]
    )  # fmt: skip
    parts = draw(st.lists(st.tuples(heads, contents), max_size=4))
    before = draw(st.sampled_from([b"", b"", b"", b"--B\n" + PLAIN + b"\n\nevil\n", b"\r\n", b"hello\r\n"]))
    after = draw(st.sampled_from([b"", b"\r\n", b"\r\n", b"\r\n--B\r\n" + PLAIN + b"\r\n\r\nevil\r\n--B--", b"x"]))
    return before + form(*parts, end=after)


class TestForms(SynchronousTestCase):
    """
    ``texts_of_form``.
    """

    def test_usual(self) -> None:
        """
        Forms as clients write them are read: texts that are wanted are told, all else is passed over.
        """
        file = (b'Content-Disposition: form-data; name="file"; filename="a b\xc3\xa9.wav"\r\nContent-Type: audio/wav',
                b"RIFF\r\n\r\n\0--\r\n--b")  # fmt: skip
        for head in (
            PLAIN, b"content-disposition: form-data; name=model", PLAIN + b"\r\nContent-Length: 4",
            PLAIN + b"\r\nContent-Type: text/plain; charset=utf-8", PLAIN + b"\r\nContent-Transfer-Encoding: 8bit",
        ):  # fmt: skip
            for end in (b"\r\n", b""):
                for parts in ([file, (head, b"good")], [(head, b"good"), file], [(head, b"good")]):
                    self.assertEqual({"model": "good"}, read(form(*parts, end=end)), parts)
        dotnet = (b"Content-Disposition: form-data; name=file; filename=a.wav; filename*=utf-8''a.wav", b"x")
        self.assertEqual({}, read(form(dotnet)))
        several = (b'Content-Disposition: form-data; name="timestamp_granularities[]"', b"word")
        self.assertEqual({}, read(form(several, several)))
        self.assertEqual({"model": ""}, read(form((PLAIN, b""))))
        self.assertEqual({}, read(b"--B--\r\n"))

    def test_ambiguous(self) -> None:
        """
        What others may read in another way is refused.
        """
        good = (PLAIN, b"good")
        name = b'Content-Disposition: form-data; name="%b"'
        for content in (
            form(good, good), form(good, (name % b"Model", b"x")), form(good, (name % b"model[]", b"x")),
            form((name % b"Model", b"x"), good), form((name % b"model[]", b"x"), good), form((name % b"MODEL", b"x")),
            form((PLAIN + b'; filename="f"', b"good")), form((PLAIN + b"; filename*=''f", b"good")),
            form((PLAIN + b"\r\nContent-Type: application/json", b"good")),
            form((PLAIN + b"\r\nContent-Type: text/plain; charset=utf-7", b"good")),
            form((PLAIN + b"\r\nContent-Transfer-Encoding: base64", b"good")), form((PLAIN, b"\xff")),
            form((PLAIN + b"\r\nContent-Length: 3", b"good")), form((PLAIN + b"\r\nContent-Length: +4", b"good")),
            form((PLAIN + b"\r\n" + PLAIN, b"good")), form((PLAIN + b"\r\n folded", b"good")),
            form((PLAIN.replace(b"\r\n", b"\n") + b"\nX: y", b"good")), form((b"", b"good")),
            form((name % b"x" + b'; name="model"', b"good")), form((name % b"_charset_", b"utf-7"), good),
            form((name % b"x" + b'; filename="\\"; name=\\"model"', b"")), form((name % b"a%22b", b"")),
            form((name % b"x" + b'; filename="; name=model"', b"")), form((b"Content-Type: text/plain", b"x")),
            form((name % b"x" + b"\r\nContent-Type: multipart/mixed; boundary=C", b"")), form((PLAIN + b"\0", b"")),
            form((name % b"x", b"a\n--B\n"), good), form((name % b"x", b"--B"), good), form((name % b"x", b"\r\n--Bx")),
            b"x" + form(good), b"\r\n" + form(good), form(good)[:-4], form(good, end=b"\r\n\r\n"), form(good, end=b"x"),
            form(good) + form(good), b"", b"--B", b"--B\r\n", b"--B\r\n" + PLAIN, b"--B\r\n\r\n\r\n\r\n--B--",
            b"--B\r\n" + PLAIN + b"\r\n\r\n--B--", b"--B\r\n" + PLAIN + b"\r\n\r\n\n--B--",
        ):  # fmt: skip
            self.assertRaises(Ambiguous, read, content)

    def test_bounds(self) -> None:
        """
        Parts, their heads, and the texts that are wanted are bounded.
        """
        part = (b'Content-Disposition: form-data; name="x"', b"")
        self.assertEqual({}, read(form(*[part] * (MOST_PARTS - 1))))
        self.assertRaises(Ambiguous, read, form(*[part] * MOST_PARTS))
        self.assertEqual(LONGEST_TEXT, len(read(form((PLAIN, b"x" * LONGEST_TEXT)))["model"]))
        self.assertRaises(Ambiguous, read, form((PLAIN, b"x" * (LONGEST_TEXT + 1))))
        self.assertRaises(Ambiguous, read, form((part[0] + b"\r\nContent-Type: " + b"x" * 5000, b"")))

    @given(forms())
    @example(form((PLAIN, b"good")))
    def test_other_readers(self, content: bytes) -> None:
        """
        If a form is read, then no other reader finds a model in it that is not told, nor misses the one that is.
        """
        try:
            texts = read(content)
        except Ambiguous:
            return
        expected = {texts["model"]} if "model" in texts else set()
        self.assertEqual((expected, expected), (seen_by_multipart(content), seen_by_email(content)))

    @given(forms().flatmap(twisted_bytes))
    def test_hurt(self, content: bytes) -> None:
        """
        The same for forms that are hurt in a few places.
        """
        try:
            texts = read(content)
        except Ambiguous:
            return
        expected = {texts["model"]} if "model" in texts else set()
        self.assertEqual(expected, seen_by_multipart(content))


class TestFormType(SynchronousTestCase):
    """
    ``FORM``.
    """

    def test_boundary(self) -> None:
        """
        A boundary is one word, of at most 70 characters, in quotes or without.
        """
        for kind, expected in (
            (b"multipart/form-data; boundary=----WebKitFormBoundary7MA4", b"----WebKitFormBoundary7MA4"),
            (b'Multipart/Form-Data;boundary="abc"', b"abc"),
            (b"multipart/form-data; charset=utf-8; boundary=abc", b"abc"),
            (b"multipart/form-data; boundary=abc; charset=UTF-8", b"abc"),
            (b"multipart/form-data; boundary=" + b"x" * 70, b"x" * 70),
        ):
            match = FORM.fullmatch(kind)
            assert match is not None, kind
            self.assertEqual(expected, match["boundary"])
        for kind in (
            b"multipart/form-data", b"multipart/form-data; boundary=" + b"x" * 71,
            b"multipart/form-data; boundary=a; boundary=b", b"multipart/form-data; boundary*=a",
            b"multipart/mixed; boundary=a", b'multipart/form-data; boundary="a', b"multipart/form-data; boundary=",
            b"multipart/form-data; charset=utf-7; boundary=a",
            b"multipart/form-data; boundary=a, application/json", b'multipart/form-data; boundary="a b"',
            b"multipart/form-data; boundary=a=b", b"multipart/form-data; boundary=a\n", b"x/form-data; boundary=a",
        ):  # fmt: skip
            self.assertIsNone(FORM.fullmatch(kind), kind)

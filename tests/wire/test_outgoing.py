"""
Requests as they go out, and the origins they go to.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.wire.limits import ServerLimits
from dheera.wire.outgoing import Origin, Outgoing, split, written
from dheera.wire.parser import RequestParser
from tests.strategies import names, targets, values
from tests.wire.caller import ORIGIN, Upload, whole


class Splitting(SynchronousTestCase):
    """
    An absolute URI, taken apart.
    """

    def test_parts(self) -> None:
        """
        Scheme, host, port and the bytes of the target; ``Host`` holds a port only if it is not the scheme's own.
        """
        for uri, origin, target in [
            (b"http://a.test", Origin("http", "a.test", 80, b"a.test"), b"/"),
            (b"https://a.test", Origin("https", "a.test", 443, b"a.test"), b"/"),
            (b"http://a.test:80/x", Origin("http", "a.test", 80, b"a.test"), b"/x"),
            (b"https://a.test:80/", Origin("https", "a.test", 80, b"a.test:80"), b"/"),
            (b"HTTPS://A.test:8443/x%2fY?a=1&a=", Origin("https", "A.test", 8443, b"A.test:8443"), b"/x%2fY?a=1&a="),
            (b"http://a.test?x=/y", Origin("http", "a.test", 80, b"a.test"), b"/?x=/y"),
            (b"http://[::1]:9/", Origin("http", "::1", 9, b"[::1]:9"), b"/"),
            (b"http://127.0.0.1", Origin("http", "127.0.0.1", 80, b"127.0.0.1"), b"/"),
        ]:
            self.assertEqual((origin, target), split(uri), uri)

    def test_refused(self) -> None:
        """
        What is no http(s) URI with a host is refused, and what could write header lines of its own.
        """
        for uri in [
            b"",
            b"a.test",
            b"/x",
            b"//a.test/",
            b"ftp://a.test/",
            b"http:///x",
            b"http://",
            b"http://user@a.test/",
            b"http://user:word@a.test/",
            b"http://a.test:/",
            b"http://a.test:0/",
            b"http://a.test:65536/",
            b"http://a.test:99999/",
            b"http://a.test:8o/",
            b"http://a.test/#x",
            b"http://a b.test/",
            b"http://a.test\r\nX: y/",
            b"http://a.test/\r\nX: y",
            b"http://a.test/x y",
            b"http://a.test\\@b.test/",
            b"http://[::1/",
            b"http://\xff.test/",
        ]:
            self.assertRaises(ValueError, split, uri)

    @given(targets())
    def test_target(self, target: bytes) -> None:
        """
        Whatever the target is, its bytes stay as they are.
        """
        self.assertEqual(target, split(b"http://a.test" + target)[1])


class Heads(SynchronousTestCase):
    """
    The head of a request.
    """

    @given(targets(), st.lists(st.tuples(names(), values()), max_size=8))
    def test_lines(self, target: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        """
        The request line, ``Host``, the header lines in their order and spelling, an empty line, and nothing more.
        """
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        self.assertEqual(
            b"PATCH " + target + b" HTTP/1.1\r\nHost: 10.0.0.9:8000\r\n" + lines + b"\r\n",
            Outgoing(origin=ORIGIN, method=b"PATCH", lines=written(ORIGIN, b"PATCH", target, fields)).head(),
        )

    def test_framing(self) -> None:
        """
        A body of known length, of none, and of unknown length.
        """
        for body, line in [
            (whole(b"abc"), b"Content-Length: 3"),
            (whole(b""), b"Content-Length: 0"),
            (whole(b"abc", chunked=True), b"Transfer-Encoding: chunked"),
            (Upload(7), b"Content-Length: 7"),
            (Upload(), b"Transfer-Encoding: chunked"),
        ]:
            head = Outgoing(origin=ORIGIN, method=b"POST", lines=written(ORIGIN, b"POST", b"/", []), body=body).head()
            self.assertEqual(b"POST / HTTP/1.1\r\nHost: 10.0.0.9:8000\r\n" + line + b"\r\n\r\n", head)

    def test_authorization(self) -> None:
        """
        The credential, on one line.
        """
        lines = written(ORIGIN, b"GET", b"/", [])
        sent = Outgoing(origin=ORIGIN, method=b"GET", lines=lines, authorization=b"Bearer real").head()
        self.assertEqual(b"GET / HTTP/1.1\r\nHost: 10.0.0.9:8000\r\nAuthorization: Bearer real\r\n\r\n", sent)

    def test_whole(self) -> None:
        """
        A body is whole if it is all here; one that is still to come is not, whoever brings it.
        """
        for body, content in [(None, b""), (whole(b"abc"), b"abc"), (Upload(3), None)]:
            outgoing = Outgoing(origin=ORIGIN, method=b"POST", lines=written(ORIGIN, b"POST", b"/", []), body=body)
            self.assertEqual(content, outgoing.whole_body())


class Hidden(SynchronousTestCase):
    """
    What must not be shown.
    """

    def test_credential(self) -> None:
        """
        Neither a request on its way out nor one that came in shows its header lines, which hold the credential.
        """
        lines = written(ORIGIN, b"GET", b"/", [(b"Cookie", b"canary")])
        outgoing = Outgoing(origin=ORIGIN, method=b"GET", lines=lines, authorization=b"Bearer sk-canary")
        self.assertNotIn("canary", repr(outgoing))
        head, _ = RequestParser(ServerLimits()).head(b"GET / HTTP/1.1\r\nHost: a\r\nX-Api-Key: sk-canary\r\n\r\n")
        self.assertIsNotNone(head)
        self.assertNotIn("canary", repr(head))

"""
Everything that can go wrong between a client and its answer, as a tree.

::

    Refusal                        we answer, not upstream
    ├── MalformedRequest     400   not HTTP as RFC 9112 has it (or 408, 414, 417, 431, 501, 505)
    ├── BadTarget            400   a path that could mean two things
    ├── NotAuthenticated     401   no credential, or not one of ours
    ├── NotAllowed           403   known, but not for you
    ├── NotFound             404   nothing here
    ├── MethodNotAllowed     405   there is something, but not for this method
    ├── BodyTooLarge         413   more than the limit
    └── Unavailable          503   not now: too many connections, draining, no upstream key
        UpstreamError        502   upstream gave no usable answer
        ├── ConnectFailed    502   it cannot be reached, or its certificate is not trusted
        ├── BadAnswer        502   what it sent is not HTTP
        ├── AnswerCut        502   it broke off
        └── TooSlow          504   it was not heard in time
    ClientLeft                     nobody is there to be answered

A message says what to do and never holds a key, a prompt or a header value. Each class carries its
HTTP ``status`` and the ``type`` that clients find in the JSON envelope.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import ClassVar


class Refusal(Exception):
    """
    The request is answered by dheera itself, with ``status`` and a JSON envelope.

    :param retry_after_seconds: told to the client as ``retry-after``.
    :ivar fields: header lines of the answer, beside those which every refusal has.
    :cvar advice: what to do, where all of a kind ask for the same.
    """

    status: int = 500
    type: ClassVar[str] = "api_error"
    advice: ClassVar[str] = ""
    fields: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, message: str, *, status: int | None = None, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if status is not None:
            self.status = status
        if retry_after_seconds is not None:
            self.fields = ((b"Retry-After", b"%d" % retry_after_seconds),)

    def envelope(self) -> bytes:
        """
        The JSON body in the shape that the Mistral and OpenAI SDKs can both show.
        """
        text = f"{self.message} {self.advice}".rstrip()
        return json.dumps(
            {
                "error": {
                    "message": text,
                    "type": self.type,
                    "param": None,
                    "code": str(self.status),
                },
                "message": text,
                "detail": text,
            }
        ).encode()

    def answer(self) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """
        Header lines and body of the answer.
        """
        content = self.envelope()
        return [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(content)),
            (b"x-dheera-error-source", b"dheera"),
            *self.fields,
        ], content


class MalformedRequest(Refusal):
    """
    The peer does not speak HTTP as RFC 9112 requires.
    """

    status = 400
    type = "invalid_request_error"


class BadTarget(Refusal):
    """
    The request target has no single meaning: dot segments, backslashes, NUL, a foreign authority.
    """

    status = 400
    type = "invalid_request_error"


class NotAuthenticated(Refusal):
    """
    There is no credential, or it is not one that this dheera knows.
    """

    status = 401
    type = "authentication_error"
    fields = ((b"WWW-Authenticate", b"Bearer"),)  # RFC 9110 §15.5.2


class NotAllowed(Refusal):
    """
    This peer may not do this here.
    """

    status = 403
    type = "permission_error"


class NotFound(Refusal):
    """
    There is nothing at this path.
    """

    status = 404
    type = "not_found_error"


class MethodNotAllowed(Refusal):
    """
    There is something at this path, but not for this method.

    :param allowed: the methods that there are (RFC 9110 §10.2.1).
    """

    status = 405
    type = "invalid_request_error"

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"This method is not offered here: use {' or '.join(allowed)}.")
        self.fields = ((b"Allow", ", ".join(allowed).encode()),)


class BodyTooLarge(Refusal):
    """
    The request body is, or says that it will be, larger than the limit.
    """

    status = 413
    type = "request_too_large"


class Unavailable(Refusal):
    """
    Not now: too many connections, draining, or no upstream key.
    """

    status = 503
    type = "service_unavailable"


class UpstreamError(Refusal):
    """
    Upstream gave no usable answer.
    """

    status = 502
    type = "upstream_error"
    advice = "Try again; if it stays so, give x-dheera-call-id to whoever runs this dheera."


class ConnectFailed(UpstreamError):
    """
    Upstream cannot be reached, refuses, or its TLS certificate is not trusted.
    """


class BadAnswer(UpstreamError):
    """
    What upstream sent is not a valid HTTP/1.1 answer.
    """


class AnswerCut(UpstreamError):
    """
    Upstream closed the connection before its answer was complete.

    :param nothing_came: not one byte of an answer had been received.
    """

    def __init__(self, message: str, *, nothing_came: bool = False) -> None:
        super().__init__(message)
        self.nothing_came = nothing_came


class TooSlow(UpstreamError):
    """
    Upstream was not heard in time.
    """

    status = 504
    type = "upstream_timeout"


class ClientLeft(Exception):
    """
    The client closed its connection before it had sent, or been sent, everything.
    """

"""
Everything that can go wrong between a client and its answer, as a tree.

::

    Refusal                        we answer, not upstream
    ├── MalformedRequest     400   not HTTP as RFC 9112 has it (or 408, 414, 417, 431, 501, 505)
    ├── BadTarget            400   a path that could mean two things
    ├── BadRequest           400   HTTP, but not what is asked for here
    ├── NotAuthenticated     401   no credential, or not one of ours
    │   ├── UnknownKey       401   a key that nobody has issued, or that was deleted
    │   ├── ExpiredKey       401   a key whose time is over
    │   └── BlockedKey       401   a key, or its team, that was blocked
    ├── NotAllowed           403   known, but not for you
    │   ├── ModelNotAllowed  403   not with this model
    │   └── Unpriced         403   not with a budget: nobody can tell what it may cost
    ├── NotFound             404   nothing here
    ├── MethodNotAllowed     405   there is something, but not for this method
    ├── BodyTooLarge         413   more than the limit
    ├── Invalid              422   JSON, but not of the shape that is asked for here
    ├── TooManyRequests      429   slow down
    │   ├── BudgetExceeded   429   a budget has no room for what this may cost
    │   └── RateLimited      429   too many requests or tokens in a minute, or too many at once
    ├── Unavailable          503   not now: too many connections, draining, no upstream key
    │   └── StoreAway        503   the database does not answer
    └── UpstreamError        502   upstream gave no usable answer
        ├── ConnectFailed    502   it cannot be reached, or its certificate is not trusted
        ├── BadAnswer        502   what it sent is not HTTP
        ├── AnswerCut        502   it broke off
        └── TooSlow          504   it was not heard in time
    ClientLeft                     nobody is there to be answered
    Outdated                       somebody else has changed it meanwhile: look again
    Taken                          another one has this name
    CannotStart                    the operator is told why, in a sentence
    └── NewerSchema                the database is that of a newer dheera

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

    :param param: what in the request it is about, for the envelope.
    :param retry_after_seconds: told to the client as ``retry-after``.
    :param more_fields: further header lines of the answer.
    :ivar known_as: the admission of the key that is refused, if it is known: so that the refusal is told to its team.
    :ivar fields: header lines of the answer, beside those which every refusal has.
    :cvar advice: what to do, where all of a kind ask for the same.
    """

    status: int = 500
    type: ClassVar[str] = "api_error"
    advice: ClassVar[str] = ""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    known_as: object = None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        param: str | None = None,
        retry_after_seconds: int | None = None,
        more_fields: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if status is not None:
            self.status = status
        if retry_after_seconds is not None:
            self.fields = ((b"Retry-After", b"%d" % retry_after_seconds),)
        if more_fields:
            self.fields = (*self.fields, *more_fields)

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
                    "param": self.param,
                    "code": str(self.status),
                },
                "message": text,
                "detail": self.detail() or text,
            }
        ).encode()

    def detail(self) -> object:
        """
        What is said under ``detail`` in place of the message; ``None`` for nothing.
        """
        return None

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


class BadRequest(Refusal):
    """
    HTTP, and perhaps JSON, but not what is asked for here.
    """

    status = 400
    type = "bad_request_error"


class NotAuthenticated(Refusal):
    """
    There is no credential, or it is not one that this dheera knows.
    """

    status = 401
    type = "auth_error"
    fields = ((b"WWW-Authenticate", b"Bearer"),)  # RFC 9110 §15.5.2


class UnknownKey(NotAuthenticated):
    """
    Nobody has issued this key, or it was deleted.
    """

    type = "token_not_found_in_db"

    def __init__(self) -> None:
        super().__init__("This API key is not known here. Ask whoever runs this dheera for one.", param="key")


class ExpiredKey(NotAuthenticated):
    """
    The key's time is over.

    :param name: the key as it may be shown.
    """

    type = "expired_key"

    def __init__(self, name: str) -> None:
        super().__init__("This API key has expired. Ask whoever runs this dheera for a new one.", param=name)


class BlockedKey(NotAuthenticated):
    """
    The key, or the team it belongs to, was blocked.
    """


class NotAllowed(Refusal):
    """
    This peer, or this key, may not do this here.
    """

    status = 403
    type = "auth_error"


class ModelNotAllowed(NotAllowed):
    """
    The key, its team or its user may not use this model.

    :param whose: whose list it is not on: ``key``, ``team``, ``user``.
    """

    def __init__(self, message: str, *, whose: str) -> None:
        super().__init__(message, param="model")
        self.type = f"{whose}_model_access_denied"  # type: ignore[misc]  # the one type that depends on a fact


class Unpriced(NotAllowed):
    """
    There is a budget, and nobody can tell what the call may cost.

    :param whose: budget: ``key``, ``team``, ``proxy``.
    :param reason: why, and what to do.
    :param param: what in the request is the reason, if that is one thing.
    """

    type = "price_unknown"

    def __init__(self, whose: str, reason: str, *, param: str | None = None) -> None:
        super().__init__(f"The {whose.replace('_', ' ')} has a budget, and {reason}.", param=param)


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


class Invalid(Refusal):
    """
    The body or query is not of the shape that is asked for here.

    :param faults: each with the place (``["body", "max_budget"]``), a sentence, and a word for the sort of fault.
    """

    status = 422
    type = "invalid_request_error"

    def __init__(self, faults: Sequence[tuple[Sequence[str | int], str, str]]) -> None:
        super().__init__("; ".join(f"{'.'.join(str(each) for each in place)}: {text}" for place, text, _ in faults))
        self.faults = faults

    def detail(self) -> object:
        """
        The faults in the shape that FastAPI made common.
        """
        return [{"loc": list(place), "msg": text, "type": sort} for place, text, sort in self.faults]


class TooManyRequests(Refusal):
    """
    Slow down.
    """

    status = 429
    type = "rate_limit_error"


class BudgetExceeded(TooManyRequests):
    """
    A budget has no room for what the call may cost: it is spent, or held by calls that are not over.
    """

    type = "budget_exceeded"


class RateLimited(TooManyRequests):
    """
    The call would be one too many, in this minute or at the same time, or take too many tokens in this minute.
    """


class Unavailable(Refusal):
    """
    Not now: too many connections, draining, or no upstream key.
    """

    status = 503
    type = "service_unavailable"


class StoreAway(Unavailable):
    """
    The database does not answer. What it would have said is not known; what it was told may not have happened.
    """

    type = "no_db_connection"

    def __init__(self) -> None:
        super().__init__("The database is not answering. Try again in a moment.", retry_after_seconds=1)


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


class Outdated(Exception):
    """
    What was to be written is based on a version that somebody else has changed meanwhile. Nothing was written: look
    again, and decide again.
    """


class Taken(Exception):
    """
    Another one has this name. Nothing was written.

    :param field: which: ``id``, ``alias`` or ``digest``.
    """

    def __init__(self, field: str) -> None:
        super().__init__(f"another one has this {field}")
        self.field = field


class CannotStart(Exception):
    """
    A room cannot be opened, for a reason that is the operator's to mend: the message says which, without a secret.
    """


class NewerSchema(CannotStart):
    """
    The database was set up by a newer dheera, which this one does not understand.
    """

    def __init__(self, *, found: int, known: int) -> None:
        super().__init__(
            f"the database has schema version {found}, and this dheera knows none above {known}: "
            "run the newer dheera that made it, or name another database"
        )

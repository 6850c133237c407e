"""
The tree of errors, and the shape in which clients see them.
"""

from __future__ import annotations

import json
import re

from twisted.trial.unittest import SynchronousTestCase

from dheera import errors
from dheera.errors import (
    AnswerCut,
    ClientLeft,
    MalformedRequest,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    RateLimited,
    Refusal,
    Unavailable,
    UpstreamError,
)


def refusals(kind: type[Refusal] = Refusal) -> list[type[Refusal]]:
    """
    *kind* and all below it that are of the tree; a room may have narrower ones of its own.
    """
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [kind, *(leaf for child in children for leaf in refusals(child))]


def made(kind: type[Refusal]) -> Refusal:
    match kind:
        case errors.MethodNotAllowed:
            return MethodNotAllowed(["GET", "HEAD"])
        case errors.UnknownKey | errors.StoreAway:
            return kind()
        case errors.ModelNotAllowed:
            return errors.ModelNotAllowed("Do this instead.", whose="key")
        case errors.Unpriced:
            return errors.Unpriced("key", "do this instead")
        case errors.Invalid:
            return errors.Invalid([(["body", "max_budget"], "Do this instead.", "value_error")])
        case _:
            return kind("Do this instead.")


class Tree(SynchronousTestCase):
    """
    The classes.
    """

    def test_drawing(self) -> None:
        """
        The tree that the module draws is the tree that it has, with its statuses.
        """
        drawn = dict(re.findall(r"[├└]── (\w+) +(\d{3})", errors.__doc__ or ""))
        drawn.update(re.findall(r"^ +(UpstreamError) +(\d{3})", errors.__doc__ or "", re.MULTILINE))
        self.assertEqual({kind.__name__: str(kind.status) for kind in refusals() if kind is not Refusal}, drawn)

    def test_client_left(self) -> None:
        """
        Nobody is refused who is not there.
        """
        self.assertNotIsInstance(ClientLeft(), Refusal)

    def test_upstream(self) -> None:
        """
        Errors of upstream's are told apart from our own refusals by their class, and have statuses of a gateway.
        """
        self.assertEqual({502, 504}, {kind.status for kind in refusals(UpstreamError)})
        self.assertTrue(AnswerCut("gone", nothing_came=True).nothing_came)
        self.assertFalse(AnswerCut("gone").nothing_came)


class Envelopes(SynchronousTestCase):
    """
    What clients get.
    """

    def test_shape(self) -> None:
        """
        Each refusal has the shape that the SDKs of Mistral and of OpenAI can show.
        """
        for kind in refusals():
            refusal = made(kind)
            text = f"{refusal.message} {kind.advice}".strip()
            self.assertEqual(
                {
                    "error": {
                        "message": text,
                        "type": refusal.type,
                        "param": refusal.param,
                        "code": str(kind.status),
                    },
                    "message": text,
                    "detail": refusal.detail() or text,
                },
                json.loads(refusal.envelope()),
            )
            self.assertEqual(refusal.message, str(refusal))

    def test_faults(self) -> None:
        """
        What is wrong with a body is told place by place, in the shape that FastAPI made common.
        """
        refusal = errors.Invalid([(["body", "models", 0], "Expected `str`", "type_error"), (["query"], "No", "x")])
        answer = json.loads(refusal.envelope())
        self.assertEqual(
            {"loc": ["body", "models", 0], "msg": "Expected `str`", "type": "type_error"}, answer["detail"][0]
        )
        self.assertEqual("body.models.0: Expected `str`; query: No", answer["message"])

    def test_advice(self) -> None:
        """
        What goes wrong behind us says what to do as well.
        """
        for kind in refusals():
            self.assertEqual(issubclass(kind, UpstreamError), "Try again" in kind.advice)

    def test_answer(self) -> None:
        """
        Type, length, and who says so.
        """
        for kind in refusals():
            fields, content = made(kind).answer()
            self.assertEqual(
                [
                    (b"Content-Type", b"application/json"),
                    (b"Content-Length", b"%d" % len(content)),
                    (b"x-dheera-error-source", b"dheera"),
                ],
                fields[:3],
            )

    def test_text(self) -> None:
        """
        Any text is told as it is, in ASCII on the wire.
        """
        refusal = NotFound('Not "here": ä\n\u2028 \U0001f600')
        self.assertTrue(refusal.envelope().isascii())
        self.assertEqual(refusal.message, json.loads(refusal.envelope())["error"]["message"])

    def test_more_lines(self) -> None:
        """
        What the status asks for is said: who may authenticate how, what is allowed, when to try again.
        """
        self.assertIn((b"WWW-Authenticate", b"Bearer"), NotAuthenticated("Who?").answer()[0])
        self.assertIn((b"Allow", b"GET, HEAD"), MethodNotAllowed(["GET", "HEAD"]).answer()[0])
        self.assertIn("GET or HEAD", MethodNotAllowed(["GET", "HEAD"]).message)
        self.assertIn((b"Retry-After", b"7"), Unavailable("Later.", retry_after_seconds=7).answer()[0])
        self.assertEqual((), Unavailable.fields)
        limited = RateLimited("Later.", retry_after_seconds=7, more_fields=[(b"a", b"b")])
        self.assertEqual([(b"Retry-After", b"7"), (b"a", b"b")], limited.answer()[0][3:])
        self.assertEqual((), RateLimited.fields)

    def test_status(self) -> None:
        """
        One refusal may have another status than its class.
        """
        refusal = MalformedRequest("Too long.", status=414)
        self.assertEqual((414, 400), (refusal.status, MalformedRequest.status))
        self.assertEqual("414", json.loads(refusal.envelope())["error"]["code"])

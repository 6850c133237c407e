"""
How the demo says no: in the several JSON shapes that Mistral's own errors have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from attrs import field, frozen


@frozen(eq=False)
class Refused(Exception):
    """
    The call is answered with this status and JSON body.
    """

    status: int
    body: Mapping[str, Any]
    fields: Sequence[tuple[bytes, bytes]] = field(factory=tuple, kw_only=True)


def no_route() -> Refused:
    """
    No endpoint at this path.
    """
    text = {"message": "no Route matched with those values", "request_id": uuid4().hex}
    return Refused(404, text)


def unauthorized() -> Refused:
    """
    No bearer.
    """
    return Refused(401, {"detail": "Unauthorized"})


def wrong_method(allowed: Sequence[str]) -> Refused:
    """
    The path is right, the method is not.
    """
    allow = (b"allow", ", ".join(allowed).encode("ascii"))
    return Refused(405, {"detail": "Method Not Allowed"}, fields=[allow])


def broken() -> Refused:
    """
    A fault of the demo itself.
    """
    return refused(500, "Something failed inside the demo; its log says what.", "api_error", "1000")


def refused(status: int, message: str, kind: str, code: str | None = None) -> Refused:
    """
    The shape that Mistral's model servers use.
    """
    body = {"object": "error", "message": message, "type": kind, "param": None, "code": code}
    return Refused(status, body)


def invalid(kind: str, where: Sequence[str | int], message: str, **more: object) -> Refused:
    """
    The shape of a validation error. ``input`` is not echoed: it may be the whole body.
    """
    complaint = {"type": kind, "loc": ["body", *where], "msg": message, "input": None, **more}
    return Refused(422, {"detail": [complaint]})


def unknown_model(name: str) -> Refused:
    """
    A model that this workspace does not have.
    """
    return refused(400, f"Invalid model: {name[:200]}", "invalid_model", "1500")


def not_found(what: str) -> Refused:
    """
    An id that names nothing here.
    """
    return Refused(404, {"detail": f"{what} not found."})


def too_large(message: str) -> Refused:
    """
    More than the demo is willing to hold.
    """
    return refused(413, message, "request_too_large")

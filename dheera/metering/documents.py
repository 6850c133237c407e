"""
An answer, or an event or line of one, as far as it is looked at: its model, its usage, its error.
"""

from __future__ import annotations

import re
from typing import Any, Optional, TypeVar

from msgspec import Struct

from dheera.metering.finds import EACH, Found, Kept, Tree
from dheera.metering.gathering import Shape
from dheera.metering.quantities import usage_of
from dheera.metering.texts import shown
from dheera.usage import Usage

_CODE = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_MOST_CODE = 10**18


AnyDocument = TypeVar("AnyDocument", bound="Document")


class Named(Struct):
    """
    One of a conversation's outputs.
    """

    model: Any = None


class Choice(Struct):
    """
    One of a completion's choices.
    """

    finish_reason: Any = None


class Document(Struct):
    """
    Whatever comes from upstream in JSON.

    :param response: what an event is about.
    """

    model: Any = None
    usage: Any = None
    usage_info: Any = None
    outputs: list[Named] | None = None
    choices: list[Choice] | None = None
    response: Optional[Document] = None  # noqa: UP045 - msgspec evaluates it, and cannot join a name and None
    session: Named | None = None
    type: Any = None
    object: Any = None
    code: Any = None
    error: Any = None

    def named_model(self) -> str | None:
        """
        The model that it names first; ``None`` if it names none.
        """
        named = shown(self.model)
        if named is None and self.response is not None:
            named = shown(self.response.model)
        if named is None and self.session is not None:
            named = shown(self.session.model)
        if named is None and self.outputs:
            named = next(filter(None, (shown(each.model) for each in self.outputs)), None)
        return named

    def used(self, *, annotates: bool = False) -> Usage | None:
        """
        What it says was used.
        """
        used = usage_of(self.usage, self.usage_info, annotates=annotates)
        return self.response.used() if used is None and self.response is not None else used

    def blamed(self, event: str | None = None) -> str | None:
        """
        The code or type of the error that it tells of; ``None`` if it tells of none.

        :param event: its name as an event.
        """
        error = self.error or (self.response.error if self.response is not None else None)
        kinds = [kind for kind in (self.type, self.object, event) if isinstance(kind, str) and kind.endswith("error")]
        if not error and not kinds:
            failed = any(choice.finish_reason == "error" for choice in self.choices or ())
            return "error" if failed else None
        inside = [error.get("code"), error.get("type")] if isinstance(error, dict) else [error]
        beside = [self.code, self.type, *kinds] if kinds else []
        return next(filter(None, map(_code, [*inside, *beside])), "error")


def _code(told: Any) -> str | None:
    """
    A word or a number, as codes are; messages are not for records.
    """
    text = str(told) if type(told) is int and abs(told) < _MOST_CODE else told
    return text if isinstance(text, str) and _CODE.fullmatch(text) else None


def built(kind: type[AnyDocument], found: Found) -> AnyDocument:
    """
    What a scanner *found* of one.
    """
    read = dict(found)
    if "response" in read:
        read["response"] = built(Document, read["response"])
    if "outputs" in read:
        read["outputs"] = [Named(**each) for each in read["outputs"]]
    if "choices" in read:
        read["choices"] = [Choice(**each) for each in read["choices"]]
    if "session" in read:
        read["session"] = Named(**read["session"])
    return kind(**read)


ANSWER: Tree = {
    **dict.fromkeys(["model", "usage", "usage_info", "type", "object", "code", "error"], Kept.VALUE),
    "outputs": {EACH: {"model": Kept.VALUE}},
    "choices": {EACH: {"finish_reason": Kept.VALUE}},
}
"""
What is looked for in all of them.
"""

DOCUMENT = Shape(
    kind=Document,
    tree={**ANSWER, "session": {"model": Kept.VALUE}, "response": ANSWER},
    build=lambda found: built(Document, found),
)

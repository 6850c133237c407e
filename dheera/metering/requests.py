"""
What a request's body says that matters for its price and its record.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

import msgspec
from attrs import define, field
from msgspec import Meta, Struct
from msgspec.structs import astuple

from dheera.metering.finds import Kept, Tree
from dheera.metering.gathering import HELD_BYTES, Gathering, Shape
from dheera.metering.lengths import Length
from dheera.metering.texts import shown
from dheera.usage import Wanted

MOST_TAGS = 32

_SPEECH = "audio/speech"
_MOST_NUMBER = 2**53
_KINDS = (bool, int, float)


class _Asked(Struct):
    """
    A request's body, as far as it is looked at. Anything may be anywhere: upstream judges that, not we. From `stream`
    on, these are the settings that are kept if they are numbers, or yes or no.
    """

    model: Any = None
    agent_id: Any = None
    user: Any = None
    metadata: Any = None
    document_annotation_format: Any = None
    bbox_annotation_format: Any = None
    completion_args: Any = None
    stream: Any = None
    expressiveness: Any = None
    frequency_penalty: Any = None
    handoff_execution: Any = None
    image_limit: Any = None
    image_min_size: Any = None
    include_image_base64: Any = None
    logprobs: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    max_tokens: Any = None
    min_tokens: Any = None
    n: Any = None
    output_dimension: Any = None
    parallel_tool_calls: Any = None
    presence_penalty: Any = None
    prompt_logprobs: Any = None
    random_seed: Any = None
    repetition_penalty: Any = None
    safe_prompt: Any = None
    store: Any = None
    temperature: Any = None
    top_k: Any = None
    top_logprobs: Any = None
    top_p: Any = None


class _Spoken(_Asked):
    """
    The same of a request for speech: its input is paid by the character.
    """

    input: Any = None


_FIRST_PARAMETER = _Asked.__struct_fields__.index("stream")
PARAMETERS = _Asked.__struct_fields__[_FIRST_PARAMETER:]
"""
Names of the settings that are kept.
"""
_PAST_PARAMETERS = len(_Asked.__struct_fields__)
_NO_PARAMETERS = (None,) * len(PARAMETERS)
Number = (
    bool
    | Annotated[int, Meta(ge=-_MOST_NUMBER, le=_MOST_NUMBER)]
    | Annotated[float, Meta(ge=-_MOST_NUMBER, le=_MOST_NUMBER)]
    | None
)
"""
What a setting is, if it is kept.
"""


class _Texts(Struct, omit_defaults=True):
    """
    What is a text.
    """

    model: str | None = None
    agent_id: str | None = None
    user: str | None = None


_OBJECTS = [name for name in _Asked.__struct_fields__[:_FIRST_PARAMETER] if name not in _Texts.__struct_fields__]
_usual: msgspec.json.Decoder[_Texts] = msgspec.json.Decoder(
    msgspec.defstruct(
        "_Usual",
        [*((name, Number, None) for name in PARAMETERS), *((name, None, None) for name in _OBJECTS)],
        bases=(_Texts,),
        omit_defaults=True,
    )
)
"""
Reads a body in which all that is looked at is of its usual kind, and is kept as it is.
"""

_TREE: Tree = dict.fromkeys(_Asked.__struct_fields__, Kept.VALUE) | {
    "document_annotation_format": Kept.PRESENCE,
    "bbox_annotation_format": Kept.PRESENCE,
}
_ASKED = Shape(kind=_Asked, tree=_TREE, build=lambda found: _Asked(**found))
_SPOKEN: Shape[_Asked] = Shape(kind=_Spoken, tree={**_TREE, "input": Kept.LENGTH}, build=lambda found: _Spoken(**found))


def read_request(content: bytes, kind: bytes | None, endpoint: str) -> Wanted:
    """
    What a whole body says. Nothing, if it is a form or no JSON; of the beginning of a body, what it says so far.

    :param kind: the value of ``Content-Type``.
    :param endpoint: a path without the version, as in records.
    """
    if not content or _is_form(kind):
        return _NOTHING
    if len(content) <= HELD_BYTES and endpoint != _SPEECH and (wanted := _usually_read(content)) is not None:
        return wanted
    return _wanted(_shape(endpoint).read(content))


def _usually_read(content: bytes) -> Wanted | None:
    """
    What *content* says, if it is a whole body of the usual kind: most are, and it takes a third of the time.
    """
    try:
        said = _usual.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    model, user = said.model or said.agent_id, said.user
    said.model = said.agent_id = said.user = None
    return usually_wanted(model, user, msgspec.to_builtins(said))


def usually_wanted(model: str | None, user: str | None, settings: dict[str, int | float | bool]) -> Wanted:
    """
    What a body of the usual kind says.

    :param settings: taken over.
    """
    return Wanted(
        model=shown(model), end_user=shown(user), is_stream=settings.get("stream") is True, parameters=settings
    )


@define(eq=False)
class RequestMeter:
    """
    The same for a body that comes in pieces, however long it is.
    """

    _kind: bytes | None
    _endpoint: str
    _content: Gathering[_Asked] | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._content = None if _is_form(self._kind) else Gathering(_shape(self._endpoint))

    def feed(self, piece: bytes) -> None:
        """
        Take what comes next.
        """
        if self._content is not None:
            self._content.feed(piece)

    def wanted(self) -> Wanted:
        """
        What is known so far.
        """
        return _NOTHING if self._content is None else _wanted(self._content.read())


_NOTHING = Wanted()


@lru_cache(maxsize=64)
def _is_form(kind: bytes | None) -> bool:
    return kind is not None and kind.lstrip()[:10].lower() == b"multipart/"


def _shape(endpoint: str) -> Shape[_Asked]:
    return _SPOKEN if endpoint == _SPEECH else _ASKED


def _wanted(asked: _Asked) -> Wanted:
    metadata = asked.metadata if isinstance(asked.metadata, dict) else {}
    return Wanted(
        model=shown(asked.model) or shown(asked.agent_id),
        end_user=shown(asked.user) or shown(metadata.get("user_id")),
        tags=_tags(metadata.get("tags")) if metadata else [],
        is_stream=asked.stream is True,
        annotates=asked.document_annotation_format is not None or asked.bbox_annotation_format is not None,
        characters=_characters(asked.input) if isinstance(asked, _Spoken) else 0,
        parameters=_parameters(asked),
    )


def _tags(told: Any) -> list[str]:
    if not isinstance(told, list):
        return []
    return list(dict.fromkeys(tag for tag in map(shown, told[: 2 * MOST_TAGS]) if tag))[:MOST_TAGS]


def _characters(spoken: Any) -> int:
    if isinstance(spoken, Length):
        return spoken.characters
    return len(spoken) if isinstance(spoken, str) else 0


def _parameters(asked: _Asked) -> dict[str, int | float | bool]:
    """
    Of a conversation, also those that stand in its ``completion_args``.
    """
    told = astuple(asked)[_FIRST_PARAMETER:_PAST_PARAMETERS]
    if told == _NO_PARAMETERS and asked.completion_args is None:
        return {}
    found = {
        name: value
        for name, value in zip(PARAMETERS, told, strict=True)
        if value is not None and type(value) in _KINDS and -_MOST_NUMBER <= value <= _MOST_NUMBER
    }
    if isinstance(asked.completion_args, dict):
        inside = {name: value for name, value in asked.completion_args.items() if name in PARAMETERS}
        found = {**_parameters(_Asked(**inside)), **found}
    return found

"""
What a request asks for, as far as it bounds what the call can cost. What could be read in different ways, and decides,
is refused; what passes goes up as it came, byte for byte. Nothing large is built of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from dheera.bounds import BATCHES, CONVERSATIONS, Asked, is_bound_by_body
from dheera.endpoints import PRICED
from dheera.errors import BadRequest
from dheera.proxy.contents import LONGEST_READ, Contents
from dheera.proxy.pages import count_pages
from dheera.proxy.searching import (
    LONGEST_VALUE,
    MOST_NAMES,
    OTHER,
    Asking,
    Pairs,
    Reader,
    Unclear,
    gather,
    has,
    is_written,
    kind_of_body,
    model_of_socket,
    models_of_query,
    named_in_form,
    require_utf_8,
    told,
)
from dheera.wire.headroom import Headroom

OWN_WORDS = 1024
"""
Tokens that upstream may add of its own: the prompt that asks for safety has about 60, the one that asks for reasoning
some hundred.
"""

REASONING = b"magistral"
"""
How the names of models begin that have such a prompt unless they are told not to.
"""

MOST_CHOICES = 1000
"""
Answers to one request: of more, the cost could be more than can be counted.
"""

_LONGEST_ANSWER = {"responses": "max_output_tokens"}
_USUAL_LONGEST_ANSWER = "max_tokens"
_ARGUMENTS = "completion_args"

_DECIDING = frozenset(
    {
        *("model", "agent_id", "conversation_id", "n", "best_of", "max_tokens", "max_output_tokens", _ARGUMENTS),
        *("messages", "prompt", "suffix", "input", "inputs", "instructions", "tools", "response_format", "text"),
        *("document", "pages", "document_annotation_format", "bbox_annotation_format", "safe_prompt", "prompt_mode"),
    }
)
_OF_PAGES = frozenset({"document", "pages", "document_annotation_format", "bbox_annotation_format"})
_OF_TEXTS = frozenset({"embeddings", "moderations", "classifications"})
PLAIN = frozenset(
    {
        *("stream", "stream_options", "stop", "temperature", "top_p", "top_k", "min_p", "min_tokens", "random_seed"),
        *("seed", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "logprobs", "user"),
        *("top_logprobs", "tool_choice", "parallel_tool_calls", "reasoning_effort", "reasoning", "metadata", "store"),
        *(
            "max_completion_tokens",
            "prediction",
            "prompt_cache_key",
            "service_tier",
            "encoding_format",
            "output_dtype",
            "output_dimension",
        ),
        *("dimensions", "handoff_execution", "name", "description", "truncation", "safety_identifier", "include"),
    }
)
"""
Members of which the model reads nothing but what they say. All others may stand for more.
"""

_object: Reader[Pairs] = Reader(Pairs, _DECIDING | PLAIN, most_names=MOST_NAMES)

MOST_DIGITS = 15
_WHOLE = re.compile(rb"\d{1,%d}" % MOST_DIGITS)
_CANCELS = re.compile(rb".*/batch/jobs/[A-Za-z0-9_-]+/cancel")
_STARTS = re.compile(rb".*/conversations")
_LONGEST_BUILT = 65536

_Found = Mapping[str, msgspec.Raw]


async def ask(request: Asking, target: bytes, endpoint: str, limit: int, headroom: Headroom | None = None) -> Asked:
    """
    What a request asks for. Its body, if that had to be read, is here afterwards for whoever takes it next; of calls
    that look up or delete nothing is read.

    :param target: the request's, or upstream's, with the query.
    :param endpoint: as in `dheera.endpoints`.
    :param limit: bytes of a body that is read.
    :param headroom: where the body counts until it is released.
    :raises BadRequest: it is not clear what it asks for.
    :raises BodyTooLarge: it has more than *limit* bytes.
    :raises Unavailable: there is no headroom for its body.
    :raises ClientLeft: the client went before all of it had come.
    """
    try:
        return await _asked(request, target, endpoint, limit, headroom)
    except Unclear as unclear:
        raise BadRequest(
            f"A budget or limit bounds this call, so it must be clear what it may cost, and {unclear}."
        ) from None


async def _asked(request: Asking, target: bytes, endpoint: str, limit: int, headroom: Headroom | None) -> Asked:
    path, _, query = target.partition(b"?")
    kind = kind_of_body(request.fields)
    if request.upgrade_to is not None:
        return _of_socket(query, endpoint)
    if not is_bound_by_body(endpoint, method_of(request)):
        return Asked()
    if endpoint == BATCHES and _CANCELS.fullmatch(path):
        return Asked(cancels=True)
    content, boundary = await gather(request, kind, limit, headroom)
    asked = _of_json(content, endpoint, path) if boundary is None else _of_form(content, boundary)
    models = dict.fromkeys([*([] if asked.model is None else [asked.model]), *models_of_query(query)])
    if len(models) > 1:
        raise Unclear("the query names another model than the body: name one")
    return msgspec.structs.replace(asked, model=next(iter(models), None))


def method_of(request: Asking) -> str:
    """
    What a request comes to. A WebSocket begins with a GET, and is none: anything may be said in it.
    """
    return "POST" if request.upgrade_to is not None else request.method.decode("latin-1")


def _of_socket(query: bytes, endpoint: str) -> Asked:
    if endpoint in PRICED:
        return Asked(model=model_of_socket(query), is_socket=True)
    models = models_of_query(query)
    if len(models) > 1:
        raise Unclear("a WebSocket must name one model: add ?model=... to its address, once")
    return Asked(model=next(iter(models), None), is_socket=True)


# JSON.


def _of_json(content: bytes, endpoint: str, path: bytes) -> Asked:
    require_utf_8(content)
    pairs = _object.read(content)
    found = told(pairs, _DECIDING)
    goes_on = endpoint == CONVERSATIONS and (_STARTS.fullmatch(path) is None or has(found, "conversation_id"))
    size = len(content)
    if endpoint == BATCHES:
        return Asked(model=_text(found, "model"), is_agent=has(found, "agent_id"), request_bytes=size)
    if endpoint == "ocr":
        return Asked(
            model=_text(found, "model"),
            request_bytes=size,
            pages=count_pages(found.get("document"), found.get("pages")),
            annotates=has(found, "document_annotation_format") or has(found, "bbox_annotation_format"),
        )
    if endpoint.startswith("audio/"):
        return Asked(model=_text(found, "model"), request_bytes=size, characters=_characters(found))
    said, arguments = _arguments(found) if endpoint == CONVERSATIONS else ({}, {})
    contents = _contents(found, arguments, endpoint)
    has_other = OTHER in pairs or OTHER in said or not _OF_PAGES.isdisjoint([*found, *arguments])
    return Asked(
        model=_text(found, "model"),
        is_agent=has(found, "agent_id") or has(arguments, "agent_id") or goes_on,
        request_bytes=size,
        added_tokens=contents.added_tokens + _own_words(found, arguments),
        has_more=contents.has_more or has_other,
        continues=goes_on or (endpoint == CONVERSATIONS and has_other),
        connectors=tuple(contents.connectors),
        max_tokens=_max_tokens(arguments if endpoint == CONVERSATIONS else found, endpoint),
        choices=max(_choices(found), _choices(arguments)),
    )


def _contents(found: _Found, arguments: _Found, endpoint: str) -> Contents:
    contents = Contents()
    for said in (found, arguments):
        for name in ("prompt", "suffix", "instructions"):
            contents.add_text(said.get(name))
        for name in ("messages", "input", "inputs"):
            if endpoint in _OF_TEXTS:
                contents.add_texts(said.get(name))
            else:
                contents.add_messages(said.get(name))
        contents.add_anew(said.get("response_format"))
        contents.add_anew(said.get("text"))
    for said in (found, arguments):
        contents.add_tools(said.get("tools"))
    return contents


def _text(found: _Found, name: str) -> str | None:
    if not has(found, name):
        return None
    written = found[name]
    if len(memoryview(written)) > LONGEST_VALUE or not bytes(written).startswith(b'"'):
        raise Unclear(f"the body does not have {name} as a text: write one")
    return msgspec.json.decode(written, type=str)


def _arguments(found: _Found) -> tuple[Pairs, _Found]:
    """
    Settings of a conversation, which stand in an object of their own: all, and those that decide.
    """
    if not has(found, _ARGUMENTS):
        return {}, {}
    if len(memoryview(found[_ARGUMENTS])) > LONGEST_READ:
        raise Unclear(f"{_ARGUMENTS} has more than {LONGEST_READ} bytes: send less")
    pairs = _object.read(found[_ARGUMENTS])
    return pairs, told(pairs, _DECIDING)


def _max_tokens(found: _Found, endpoint: str) -> int | None:
    """
    As the endpoint's documented name says it. No other name is known to limit anything, and what is no whole number
    above 0 counts as not said: upstream may take it so.
    """
    return _number(found, _LONGEST_ANSWER.get(endpoint, _USUAL_LONGEST_ANSWER)) or None


def _choices(found: _Found) -> int:
    choices = 1
    for name in ("n", "best_of"):
        if has(found, name):
            said = _number(found, name)
            if said is None:
                raise Unclear(f"the body does not have {name} as a whole number: write one, or leave it out")
            if said > MOST_CHOICES:
                raise Unclear(f"{name} is above {MOST_CHOICES}: ask for fewer answers at once")
            choices = max(choices, said)
    return choices


def _number(found: _Found, name: str) -> int | None:
    match = _WHOLE.fullmatch(found[name]) if name in found else None
    return None if match is None else int(match[0])


def _own_words(found: _Found, arguments: _Found) -> int:
    """
    Tokens of the prompts that upstream adds where it is asked to, or where a model has one unless it is told not to.
    """
    safe = any(not is_written(each["safe_prompt"], b"false") for each in (found, arguments) if has(each, "safe_prompt"))
    modes = [each for each in (found, arguments) if "prompt_mode" in each]
    reasons = any(has(each, "prompt_mode") for each in modes)
    unasked = not modes and bytes(found.get("model", b"")).startswith(b'"' + REASONING)
    return OWN_WORDS if safe or reasons or unasked else 0


def _characters(found: _Found) -> int:
    """
    Of what is to be spoken; of much, a bound: a character takes a byte at least.
    """
    if not has(found, "input"):
        return 0
    written = found["input"]
    size = len(memoryview(written))
    if size > _LONGEST_BUILT or not bytes(written).startswith(b'"'):
        return size
    return len(msgspec.json.decode(written, type=str))


# Forms.


def _of_form(content: bytes, boundary: bytes) -> Asked:
    """
    What a form says, which holds a file. Nothing but its model is of use.
    """
    texts = named_in_form(content, boundary)
    size = len(content)
    return Asked(
        model=texts.get("model"),
        is_agent="agent_id" in texts,
        request_bytes=size,
        has_more=True,
        continues=True,
        characters=size,
    )

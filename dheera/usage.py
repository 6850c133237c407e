"""
What an exchange used, as upstream tells it or as its request shows it: the quantities that have a price.

Imports no Twisted and does no I/O.
"""

from __future__ import annotations

from msgspec import Struct


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    Quantities, none of them negative. Totals are kept as upstream says them: they are not always sums.

    :param prompt_tokens: of the input, those from the cache included.
    :param cached_tokens: of the input, those that came from the cache.
    :param completion_tokens: of the output, those of reasoning included.
    :param reasoning_tokens: of the output, those of reasoning.
    :param total_tokens: what upstream calls the total; audio that was heard may be in it and nowhere else.
    :param connector_tokens: that connectors put into the input; priced as input.
    :param connectors: calls of connectors, by their name: ``web_search``.
    :param audio_ms: milliseconds of audio that was heard.
    :param pages: that were read, those with annotations not included.
    :param annotated_pages: that were read and annotated.
    :param characters: that were spoken.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    connector_tokens: int = 0
    connectors: dict[str, int] = {}
    audio_ms: int = 0
    pages: int = 0
    annotated_pages: int = 0
    characters: int = 0


class Part(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    What was used of one model.

    :param model: as upstream names it; ``None`` if it does not.
    :param is_batch: at the price of a batch.
    """

    model: str | None
    usage: Usage
    is_batch: bool = False


class Wanted(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    What a request's body says that matters for its price, its record, and who it is for.

    :param model: that is asked for, or an agent's id if no model is named.
    :param end_user: ``user``, or ``metadata.user_id``.
    :param tags: ``metadata.tags``.
    :param is_stream: an answer in events is asked for.
    :param annotates: pages are to be annotated, which costs more.
    :param characters: of the text that is to be spoken.
    :param parameters: other settings that hold no content: numbers, and yes or no.
    """

    model: str | None = None
    end_user: str | None = None
    tags: list[str] = []
    is_stream: bool = False
    annotates: bool = False
    characters: int = 0
    parameters: dict[str, int | float | bool] = {}


class Reading(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    What a meter read from an answer.

    :param model: that the answer names first.
    :param parts: what was used; empty if the answer does not say.
    :param events: of a stream, those with content: server-sent events with data, or messages.
    :param error: the code or type of an error that a stream told of after its status was 200.
    """

    model: str | None = None
    parts: list[Part] = []
    events: int = 0
    error: str | None = None

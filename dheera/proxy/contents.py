"""
How much a model may have to read of messages and tools: whether they are text, of which no tokenizer makes more tokens
than it has bytes. They are stepped through, and not built.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
from attrs import define, field

from dheera.proxy.searching import Pairs, Reader, Unclear, folded

MOST_NAMES_OF_PARTS = 30_000
"""
Names in all messages, their parts, and tools, of one request. Where there are more, the model's context bounds them.
"""

LONGEST_READ = 4_194_304
"""
Bytes of messages, tools or texts that are looked into: more than any model takes tokens. Whatever longer messages hold,
the model's context bounds them; to step through them would take most of a second.
"""

LONGEST_ANEW = 1_048_576
"""
The same of what upstream writes anew.
"""

MOST_CONNECTORS = 32

_KNOWN = frozenset(
    {
        *("content", "role", "name", "prefix", "tool_calls", "tool_call_id", "object", "created_at", "completed_at"),
        *("id", "type", "text", "thinking", "closed", "function", "status", "call_id", "arguments", "output", "result"),
        *("annotations", "refusal", "summary", "index", "strict", "connector_id"),
    }
)
_NESTED = frozenset({"content", "thinking", "summary", "output", "result"})
_WRITTEN_ANEW = frozenset({"tool_calls", "arguments", "output", "result"})
_PLAIN_ROLES = frozenset({b'"user"', b'"assistant"', b'"system"', b'"developer"'})
"""
Whose content is never taken for JSON. What a tool has said is, by some templates.
"""
_TEXTUAL = frozenset(
    {
        *(b'"text"', b'"input_text"', b'"output_text"', b'"summary_text"', b'"refusal"', b'"thinking"'),
        *(b'"message"', b'"function_call"', b'"function_call_output"', b'"reasoning"'),
        *(b'"message.input"', b'"message.output"', b'"function.call"', b'"function.result"'),
    }
)
"""
Types of messages and of their parts that hold text.
"""

_FUNCTION = b'"function"'
_DEEPEST = 4
_NAME = re.compile(rb'"[A-Za-z0-9_.:-]{1,128}"')
# 1e15 could be written with all its zeros, and 12345678901234567.0 with an exponent; a letter could be \u00e9. These
# begin with what is rare: else each digit would be tried.
_EXPONENT = re.compile(
    rb"[eE](?<=[0-9][eE])(?<!\\u[0-9A-Fa-f][eE])(?<!\\u[0-9A-Fa-f]{2}[eE])[+-]?[0-9]++(?![A-Za-z_-])"
)
_LONG_NUMBER = re.compile(rb"\.(?<=[0-9]{17}\.)[0-9]")
_HIDDEN_NUMBER = re.compile(rb"\\u00(?:3[0-9]|[46]5|2[bBdDeE])")
_PLAIN = re.compile(rb'(?:[\s\[\],0-9]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+', re.DOTALL)

_Items = list[Annotated[Pairs, msgspec.Meta(min_length=1)]]


@define(eq=False)
class Contents:
    """
    What one request gives its model to read.

    :ivar has_more: something in it can stand for more than its bytes.
    :ivar added_tokens: that upstream may make of it beyond one for each byte.
    :ivar connectors: that may be called, by the names that usage has for them.
    """

    has_more: bool = field(default=False, init=False)
    added_tokens: int = field(default=0, init=False)
    connectors: dict[str, None] = field(factory=dict, init=False)
    _has_begun: bool = field(default=False, init=False)

    def add_text(self, written: msgspec.Raw | None) -> None:
        """
        What should be one text.
        """
        if _is_object(written):
            self.has_more = True

    def add_texts(self, written: msgspec.Raw | None) -> None:
        """
        What should be a text, several, or their tokens.
        """
        if written is None or not _is_object(written):
            return
        text = bytes(written)
        if b"{" in text and (len(text) > LONGEST_READ or _PLAIN.fullmatch(text) is None):
            self.has_more = True

    def add_messages(self, written: msgspec.Raw | None) -> None:
        """
        What should be a text, or messages.
        """
        if written is None or not _is_object(written):
            return
        if len(memoryview(written)) > LONGEST_READ:
            self.has_more = True
            return
        self._step_through(written, 0)

    def add_anew(self, written: msgspec.Raw | None) -> None:
        """
        What upstream reads, be it JSON or a text that holds JSON, and writes into the prompt in its own way: with a
        space behind each comma and colon.
        """
        if written is None or self.has_more:
            return
        if len(memoryview(written)) > LONGEST_ANEW:
            self.has_more = True
            return
        text = bytes(written)
        self.added_tokens += text.count(b",") + text.count(b":")
        if any(number.search(text) for number in (_EXPONENT, _LONG_NUMBER, _HIDDEN_NUMBER)):
            self.has_more = True

    def add_tools(self, written: msgspec.Raw | None) -> None:
        """
        What the model may call.

        :raises Unclear: that cannot be told.
        """
        if written is None or not _is_object(written):
            return
        self.add_anew(written)
        for tool in _tools(written):
            said = [(folded(name.text), bytes(value)) for name, value in tool.items()]
            types = [value for name, value in said if name == "type"]
            if types and all(each == _FUNCTION for each in types):
                continue
            if not types and any(name == "function" for name, _ in said):
                continue
            self.has_more = True
            self.connectors["connector"] = None  # at least one, whatever its name is
            for value in (*types, *(value for name, value in said if name == "connector_id")):
                if _NAME.fullmatch(value):
                    self.connectors[value[1:-1].decode()] = None
        if len(self.connectors) > MOST_CONNECTORS:
            raise Unclear(f"there are more than {MOST_CONNECTORS} connectors: name fewer")

    def _step_through(self, written: msgspec.Raw, depth: int) -> None:
        if depth > _DEEPEST:
            self.has_more = True
            return
        for item in self._objects(written):
            roles = {bytes(value) for name, value in item.items() if folded(name.text) == "role"}
            is_said = bool(roles) and roles <= _PLAIN_ROLES
            for name, value in item.items():
                known = folded(name.text)
                if known in _WRITTEN_ANEW or (known == "content" and not is_said):
                    self.add_anew(value)
                if known in _NESTED and _is_object(value):
                    self._step_through(value, depth + 1)
                elif not known or (known == "type" and bytes(value) not in _TEXTUAL):
                    self.has_more = True
                if self.has_more:
                    return

    def _objects(self, written: msgspec.Raw) -> Sequence[Pairs]:
        """
        Those of a list; none, and `has_more`, if it is no list of objects, or if there are too many.
        """
        goes_on, self._has_begun = self._has_begun, True
        try:
            return _items.read(written, goes_on=goes_on)
        except Unclear:
            self.has_more = True
            return ()


_items: Reader[list[Pairs]] = Reader(_Items, _KNOWN, most_names=MOST_NAMES_OF_PARTS)


def _tools(written: msgspec.Raw) -> Sequence[Pairs]:
    try:
        if len(memoryview(written)) <= LONGEST_READ:
            return _items.read(written)
    except Unclear:
        pass
    raise Unclear("the tools are no list of objects, or more than can be searched: send fewer, each as an object")


def _is_object(written: msgspec.Raw | None) -> bool:
    """
    Whether it is an object or a list, and no text, number, or nothing.
    """
    return written is not None and bytes(memoryview(written)[:1]) in (b"{", b"[")

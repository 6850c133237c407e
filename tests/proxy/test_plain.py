"""
Plain chats: whatever is read in one go is what is found where nothing is taken for granted.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dheera.bounds import Asked
from dheera.metering.gathering import HELD_BYTES
from dheera.metering.requests import PARAMETERS, read_request
from dheera.proxy.asking import OWN_WORDS, ask
from dheera.proxy.plain import CHAT, LONGEST_MODEL, read_plain
from tests.proxy.test_inspection import Asked as Request
from tests.proxy.test_inspection import body_of

HELLO = [{"role": "user", "content": "Hello"}]
_numbers = st.one_of(st.booleans(), st.integers(-2, 2000), st.sampled_from([1e3, 10**15 - 1, 10**15, 2**53, 2**60]))
_texts = st.one_of(
    st.text(max_size=5), st.sampled_from(["\\", '"', '\\"', '","model":"x', "magistral-small", "m" * 200])
)
_said: st.SearchStrategy[Any] = st.one_of(_numbers, _texts, st.none(), st.just([]), st.just({}))
_messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "tool", "User"]), "content": _texts}),
    max_size=3,
)
_names = st.sampled_from([*PARAMETERS, "model", "user", "Model", "stop", "tools", "messages", "metadata"])


def written(pairs: list[tuple[str, Any]]) -> bytes:
    """
    An object in which names may stand twice.
    """
    return ("{" + ",".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in pairs) + "}").encode()


class TestPlain(SynchronousTestCase):
    """
    Chats that are read in one go.
    """

    def asked(self, content: bytes) -> Asked:
        request = Request(body_of(content))
        return self.successResultOf(Deferred.fromCoroutine(ask(request, b"/v1/" + CHAT.encode(), CHAT, 1 << 20)))

    def assert_same(self, content: bytes) -> None:
        plain = read_plain(content)
        assert plain is not None, content
        self.assertEqual(self.asked(content), plain.asked)
        self.assertEqual(read_request(content, None, CHAT), plain.wanted)

    @given(_messages, st.lists(st.tuples(_names, _said), max_size=3))
    def test_same(self, messages: object, more: list[tuple[str, Any]]) -> None:
        """
        It bounds the call, and is recorded, as if it had been searched. What cannot be read in one way only is not
        taken for plain.
        """
        content = written([("model", "mistral-small"), ("messages", messages), *more])
        if read_plain(content) is not None:
            self.assert_same(content)

    def test_usual(self) -> None:
        """
        What clients mostly send is plain, however it is spaced and whatever is written in it.
        """
        for text in ("Hello", '\n\\ " \\" \\\\', "é \u4e16 \U0001f600"):
            said = {
                "model": "m",
                "messages": [{"role": "system", "content": text}, *HELLO],
                "max_tokens": 5,
                "top_p": 0.1,
            }
            for more in (
                {},
                {"stream": True, "user": "u", "n": 2},
                {"safe_prompt": True},
                {"max_tokens": 2.0},
                {"n": 0},
            ):
                for ascii_ in (True, False):
                    self.assert_same(json.dumps(said | more, ensure_ascii=ascii_).encode())
                    self.assert_same(json.dumps(said | more, ensure_ascii=ascii_, separators=(",", ":")).encode())
        found = read_plain(written([("model", "magistral-medium"), ("messages", HELLO), ("max_tokens", 7), ("n", 3)]))
        assert found is not None
        self.assertEqual((7, 3, OWN_WORDS), (found.asked.max_tokens, found.asked.choices, found.asked.added_tokens))

    def test_out_of_the_ordinary(self) -> None:
        """
        What could be read in two ways, or may stand for more than its bytes, is left to those who search.
        """
        message = '{"role":"user","content":"a"}'
        odd = [
            *(
                f'{{"model":"m","messages":[{message}],{more}}}'
                for more in ('"model":"n"', '"max_tokens":null', '"x":1')
            ),
            *(
                f'{{"max_tokens":9,"messages":[{message}],{more}}}'
                for more in ('"max_tokens":1', r'"max\u005ftokens":1')
            ),
            *(f'{{"n":{choices},"messages":[{message}]}}' for choices in ("true", "1001", "1.5", "-1")),
            *(f'{{"messages":[{one}]}}' for one in ("{}", "null", '{"role":"tool","content":"a"}', message[:-1])),
            r'{"max_tokens":1,"messages":[{"role":"user","content":"\u0022\u0022"}],"max_tokens":2}',
            '{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}',
            '{"messages":[{"role":"user","role":"user","content":"a"}]}',
            '{"messages":[{"role":"user","content":"a","name":"b"}]}',
            f'{{"model":"{"m" * (LONGEST_MODEL + 1)}","messages":[]}}',
            f'{{"messages":[],"messages":[{message}]}}',
            '{"model":"m"}',
            "[]",
            "",
        ]
        for content in [*(each.encode() for each in odd), b'{"messages":[{"role":"user","content":"\xff"}]}']:
            self.assertIsNone(read_plain(content), content)
        self.assertIsNone(read_plain(b'{"messages":[]}' + b" " * HELD_BYTES))

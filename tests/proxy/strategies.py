"""
What the tests of the proxy rooms draw from.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from dheera.proxy.headers import NOT_SENT_BACK, NOT_SENT_UP
from tests.strategies import TOKEN_CHARS, values

PATH_CHARS = "".join(map(chr, range(0x21, 0x7F))).replace("#", "").replace("?", "").replace("\\", "")


def segments() -> st.SearchStrategy[bytes]:
    """
    Path segments that mean one thing: with percent-encoding in either case, ``;``, ``+``, dots within, or nothing.
    """
    encoded = st.sampled_from(
        ["%2F", "%2f", "%3A", "%20", "%c3%A9", "%25", "%252e", ";a=b", "+", ":", "a.b", "v1", "..x"]
    )
    plain = st.text(TOKEN_CHARS.translate({ord(char): None for char in ".%#"}), max_size=8)
    return st.lists(st.one_of(encoded, plain), max_size=3).map("".join).filter(_means_one_thing).map(str.encode)


def _means_one_thing(segment: str) -> bool:
    parts = segment.lower().replace("%2f", "/").split("/")
    return not any(part.partition(";")[0] in (".", "..") for part in parts)


def paths() -> st.SearchStrategy[bytes]:
    """
    What may stand below ``/mistral``, with its slash.
    """
    return st.lists(segments(), min_size=1, max_size=4).map(lambda parts: b"/" + b"/".join(parts))


def queries() -> st.SearchStrategy[bytes]:
    """
    Nothing, or a query with its mark, of any bytes that may stand in one.
    """
    chars = PATH_CHARS + "?\\"
    written = st.sampled_from([b"?", b"?a=1&a=2&a=", b"?a=b+c;d&%7e=%7E", b"?../..", b"?q=%00%5c", b"??"])
    return st.one_of(st.just(b""), written, st.text(chars, max_size=16).map(lambda query: b"?" + query.encode()))


@st.composite
def in_any_case(draw: DrawFn, name: bytes) -> bytes:
    """
    *name*, with some of its letters large.
    """
    return bytes(byte ^ 0x20 if chr(byte).isalpha() and draw(st.booleans()) else byte for byte in name)


def forbidden(names: frozenset[bytes], *prefixes: bytes) -> st.SearchStrategy[bytes]:
    """
    Names that must not cross, in any case.
    """
    known = st.sampled_from(sorted(names))
    tails = st.text(TOKEN_CHARS.lower(), min_size=1, max_size=8).map(str.encode)
    prefixed = st.tuples(st.sampled_from(prefixes), tails).map(b"".join)
    return st.one_of(known, prefixed).flatmap(in_any_case)


UP_PREFIXES = (b"proxy-", b"x-dheera-", b"x-litellm-", b"x-forwarded-")
BACK_PREFIXES = (b"x-dheera-",)


def forbidden_up() -> st.SearchStrategy[bytes]:
    """
    Names that must not reach upstream.
    """
    return forbidden(NOT_SENT_UP, *UP_PREFIXES)


def forbidden_back() -> st.SearchStrategy[bytes]:
    """
    Names that must not reach a client.
    """
    return forbidden(NOT_SENT_BACK, *BACK_PREFIXES)


def free_names() -> st.SearchStrategy[bytes]:
    """
    Names that cross either way, as they are.
    """
    bound = NOT_SENT_UP | NOT_SENT_BACK | {b"accept-encoding", b"location", b"date"}
    known = st.sampled_from([b"Content-Type", b"X-Stainless-Lang", b"accept", b"User-Agent", b"traceparent", b"Link"])
    drawn = st.text(TOKEN_CHARS, min_size=1, max_size=10).map(str.encode)
    return st.one_of(known, drawn).filter(
        lambda name: (
            name.lower().replace(b"_", b"-") not in bound
            and not name.lower().replace(b"_", b"-").startswith(UP_PREFIXES)
        )
    )


def free_lines() -> st.SearchStrategy[tuple[bytes, bytes]]:
    """
    Header lines that cross either way, as they are.
    """
    return st.tuples(free_names(), values())

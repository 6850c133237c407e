"""
``/mistral/...`` to the upstream target; other upstreams likewise. One canonical path serves routing, permission, price,
log and upstream.
"""

from __future__ import annotations

import re

from attrs import frozen

from dheera.errors import BadTarget, NotFound
from dheera.routes import TOP_SEGMENTS
from dheera.wire.outgoing import Origin, split

PREFIX = b"/mistral"
"""
Before the paths of Mistral's API. Other upstreams have others.
"""

_KEPT = re.compile(rf"/(?:{TOP_SEGMENTS})(?=[/?]|$)".encode())
_SUSPECT = re.compile(rb"[\\\x00]|\.|%(?:2e|5c|00)", re.IGNORECASE)
_DOT_SEGMENT = re.compile(rb"(?:^|/|%2f)(?:\.|%2e){1,2}(?:;[^/]*)?(?=/|%2f|$)", re.IGNORECASE)


@frozen
class Base:
    """
    Where the API lives: ``MISTRAL_API_BASE``, understood.

    :param prefix: what stands before ``/v1`` in each path, without a slash at the end.
    """

    origin: Origin
    prefix: bytes


def parse_base(text: str) -> Base:
    """
    Understand a base URL, given with or without ``/v1`` and with any path before it.

    :raises ValueError: it is not an http(s) URL with a host, or it has user information, a query or a fragment.
    """
    origin, path = split(text.strip().encode("ascii", "strict"))
    if b"?" in path:
        msg = "a base URL has no query"
        raise ValueError(msg)
    return Base(origin, path.rstrip(b"/").removesuffix(b"/v1").rstrip(b"/"))


def map_target(uri: bytes, base: Base, prefix: bytes = PREFIX) -> bytes:
    """
    The upstream's target for a request target below *prefix*. The bytes of path and query stay as written.

    A first segment of ``v`` and digits, ``telemetry`` or ``mcp`` is kept; before anything else comes ``/v1``.

    :raises NotFound: it is not below *prefix*.
    :raises BadTarget: it could be read in two ways.
    """
    length = len(prefix)
    if not uri.startswith(prefix) or uri[length : length + 1] != b"/":
        raise NotFound(f"There is nothing at this path. The API is below {prefix.decode('ascii')}/.")
    path = uri.partition(b"?")[0]
    if _SUSPECT.search(path):
        _check(path)
    rest = uri[length:]
    if _KEPT.match(rest):
        return base.prefix + rest
    return base.prefix + b"/v1" + rest


def _check(path: bytes) -> None:
    lowered = path.lower()
    if b"\\" in path or b"%5c" in lowered:
        raise BadTarget("The path holds a backslash, which servers read in different ways.")
    if b"\0" in path or b"%00" in lowered:
        raise BadTarget("The path holds a NUL.")
    if _DOT_SEGMENT.search(path):
        raise BadTarget("The path holds a dot segment (. or ..): write the path that you mean.")


def map_location(location: bytes, base: Base, prefix: bytes = PREFIX) -> bytes:
    """
    A ``Location`` of upstream's, as our clients must see it: one on upstream's own origin leads to ours, others stay.

    They are led by a path (RFC 9110 §10.2.2): under which name and scheme they know us, they know better than we do.
    """
    absolute, _, fragment = location.partition(b"#")
    if location.startswith(b"//"):
        absolute = base.origin.scheme.encode() + b":" + absolute
    elif location.startswith(b"/"):
        return prefix + _without(base.prefix, location)
    try:
        origin, target = split(absolute)
    except ValueError:
        return location
    if (origin.scheme, origin.host.lower(), origin.port) != (
        base.origin.scheme,
        base.origin.host.lower(),
        base.origin.port,
    ):
        return location
    rewritten = prefix + _without(base.prefix, target)
    return rewritten + b"#" + fragment if fragment else rewritten


def _without(prefix: bytes, target: bytes) -> bytes:
    return target[len(prefix) :] if prefix and target.startswith(prefix + b"/") else target

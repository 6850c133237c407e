"""
Where a key opens: the form of a path in which that is decided, the endpoints that are sensitive, and what the
``allowed_routes`` of a key mean.

Imports no Twisted and does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from attrs import frozen

from dheera.errors import BadTarget
from dheera.wildcards import EVERYTHING, Wildcards

SENSITIVE = {
    "/v1/admin/**": "issues API keys, and decides who may do what",
    "/v1/audio/sessions/**": "hands out a token, and the address of another server where it is good",
    "/v1/audio/workers/**": "likewise, for workers",
    "/v1/client/sessions/**": "hands out a secret that opens without us",
    "/v1/connectors/**/auth_url": "hands out an address that ties somebody's account to the workspace",
    "/v1/connectors/**/credentials/**": "keeps the credentials for services of others",
    "/v1/files/**/url": "hands out an address in the storage that needs no key",
    "/v1/observability/datasets/**/exports/**": "likewise",
    "/**/*signed-url": "likewise",
    "/v1/service-accounts/**": "makes accounts, and decides which roles they have",
    "/v1/webhooks/**": "sends what happens in the workspace elsewhere, and shows the secret that signs it",
    "/v1/workflows/deployments/**": "runs code with an account and secrets of its own, and hands out its archive",
    "/v1/workflows/workers/**": "tells where the scheduler is, which is spoken to without us",
}
"""
Endpoints that hand out other credentials, or ways round this gateway, and why each is one. ``*`` stands for one
segment, or a part of it, ``**`` for any number of segments; ``/v1`` for each version.
"""

OWN = frozenset(
    {
        "audit",
        "budget",
        "customer",
        "global",
        "health",
        "key",
        "metrics",
        "openapi.json",
        "spend",
        "tag",
        "team",
        "usage",
        "user",
    }
)
"""
First segments of the paths of our own API.
"""
TAKEN = OWN | {"v2"}
"""
First segments that stand for no upstream. ``/v2`` is not among our own, as a key's ``allowed_routes`` mean Mistral's by
it.
"""

TOP_SEGMENTS = r"v[0-9]+|telemetry|mcp"
"""
First segments of upstream's paths, as a regular expression; before all others stands ``/v1``.
"""

API_GROUPS = frozenset({"llm_api_routes", "mistral_routes", "openai_routes"})
MANAGEMENT_GROUP = "management_routes"
INFO_GROUP = "info_routes"
GROUPS = API_GROUPS | {MANAGEMENT_GROUP, INFO_GROUP}

KEY_TYPES: Mapping[str, tuple[str, ...]] = {
    "llm_api": ("llm_api_routes",),
    "management": (MANAGEMENT_GROUP,),
    "read_only": (INFO_GROUP,),
    "default": (),
}
"""
The ``allowed_routes`` that a ``key_type`` stands for.
"""

DECODINGS = 3
"""
How often a path may have been percent-encoded.
"""

REMEMBERED_BYTES = 200
"""
Longest path whose judgement is remembered.
"""

_READING = frozenset({"GET", "HEAD"})
_ROUTE = re.compile(r"(?:(?P<method>GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) )?(?P<path>[/*].*)", re.DOTALL)
_PLAIN = re.compile(rb"(?:/[A-Za-z0-9_~@:=+,-][A-Za-z0-9._~@:=+,-]*+)++(?=\?|\Z)")
_ENCODED = re.compile(rb"%[0-9A-Fa-f]{2}")
_AMBIGUOUS = re.compile(rb"[\x00-\x1f\x7f\\?#]")
_VERSIONED = re.compile(rf"/(?:{TOP_SEGMENTS})(?=/|$)|/(?:v[0-9]*)?\*")


def canonical_path(target: bytes) -> str:
    """
    The one form of a path in which permission is decided: nothing is encoded, each slash parts two segments, and what
    some servers ignore (parameters of segments, spaces at their ends, slashes at the end) is cut. Letters stay as they
    are. What upstream gets is not this, but the bytes as written.

    :param target: of upstream, without the base's prefix: ``/v1/models?page=2``.
    :raises BadTarget: it could be read in two ways that lead to different places.
    """
    plain = _PLAIN.match(target)
    if plain is not None:
        return plain[0].decode("ascii")
    path = _decoded(target.partition(b"?")[0])
    if _AMBIGUOUS.search(path):
        raise BadTarget("The path holds an encoded ?, #, backslash or control character. Servers differ on what it is.")
    segments = [segment for part in path.split(b"/") if (segment := part.partition(b";")[0].strip(b" "))]
    if b"." in segments or b".." in segments:
        raise BadTarget("The path holds an encoded dot segment (. or ..): write the path that you mean.")
    return "/" + b"/".join(segments).decode("utf-8", "surrogateescape")


def _decoded(path: bytes) -> bytes:
    for _ in range(DECODINGS):
        before, path = path, unquote_to_bytes(path)
        if path == before:
            return path
    if _ENCODED.search(path):
        raise BadTarget(f"The path is percent-encoded more than {DECODINGS} times over: encode it once.")
    return path


def is_sensitive(path: str) -> bool:
    """
    Whether a canonical *path* leads to an endpoint of `SENSITIVE`, in any case of letters.
    """
    return _SENSITIVE.fullmatch(path) is not None


def judged(target: bytes) -> tuple[str, bool]:
    """
    The canonical path of a target, and whether it is sensitive. Most clients ask for the same few paths again and
    again, so short ones are remembered.

    :raises BadTarget: it could be read in two ways that lead to different places.
    """
    path = target.partition(b"?")[0]
    return _judged(path) if len(path) <= REMEMBERED_BYTES else _judged.__wrapped__(path)


@lru_cache(maxsize=1024)
def _judged(path: bytes) -> tuple[str, bool]:
    canonical = canonical_path(path)
    return canonical, is_sensitive(canonical)


@frozen
class _Paths:
    """
    Paths of the Mistral API: those that are covered, and of these the sensitive ones that are named.
    """

    covered: Wildcards
    named: Wildcards

    @classmethod
    def of(cls, paths: Iterable[str]) -> _Paths:
        collapsed = [_collapsed(path) for path in paths]
        api = [_upstream(path) for path in collapsed if _first_segment(path) not in OWN]
        return cls(Wildcards.of(api), Wildcards.of(path for path in api if is_sensitive(_spelled(path))))


@frozen
class Routes:
    """
    What the ``allowed_routes`` of a key mean, compiled once.

    Each is a path, with or without ``/mistral`` and ``/v1`` in front, in which ``*`` stands for anything; or a method,
    a space and such a path; or the name of a group. A path that begins with a branch of our own API permits nothing
    that any key may not do anyway: who may change one key may give it every right, so managing is a right that is given
    whole, and by its group alone. What is none of these permits nothing.
    """

    _everything: bool
    _paths: _Paths
    _by_method: Mapping[str, _Paths]
    _manages: bool
    _looks: bool

    @classmethod
    def of(cls, allowed_routes: Sequence[str]) -> Routes:
        """
        Where a key opens that has *allowed_routes*. Without any, all of the Mistral API, and nothing of ours.
        """
        groups = frozenset(allowed_routes)
        matches = [match for match in map(_ROUTE.fullmatch, allowed_routes) if match is not None]
        by_method: dict[str, list[str]] = {}
        for match in matches:
            for method in () if match["method"] is None else _with_head(match["method"]):
                by_method.setdefault(method, []).append(match["path"])
        return cls(
            everything=not groups or bool(groups & API_GROUPS),
            paths=_Paths.of(match["path"] for match in matches if match["method"] is None),
            by_method={method: _Paths.of(paths) for method, paths in by_method.items()},
            manages=MANAGEMENT_GROUP in groups,
            looks=INFO_GROUP in groups,
        )

    @staticmethod
    def understands(route: str) -> bool:
        """
        Whether *route* is one that can be in a list: a path, a method and a path, or the name of a group.
        """
        return route in GROUPS or _ROUTE.fullmatch(route) is not None

    def permits(self, method: str, path: str) -> bool:
        """
        Whether the routes cover a canonical *path* of the Mistral API. For a sensitive one that is not enough.
        """
        if self._everything or self._paths.covered.match(path):
            return True
        paths = self._by_method.get(method)
        return paths is not None and paths.covered.match(path)

    def names(self, method: str, path: str) -> bool:
        """
        Whether a sensitive *path* is covered by a route that is itself spelled like a sensitive one: by
        ``/v1/files/*/url`` or ``/v1/admin/*``, but not by ``/v1/files/*``.
        """
        if self._paths.named.match(path):
            return True
        paths = self._by_method.get(method)
        return paths is not None and paths.named.match(path)

    def permits_management(self, method: str) -> bool:
        """
        Whether *method* may be used on our own API, beyond what any key may ask about itself.
        """
        return self._manages or (self._looks and method in _READING)


def _with_head(method: str) -> tuple[str, ...]:
    return ("GET", "HEAD") if method == "GET" else (method,)


def _collapsed(route: str) -> str:
    return "/" + "/".join(segment for segment in route.split("/") if segment)


def _first_segment(path: str) -> str:
    return path[1:].partition("/")[0]


def _upstream(path: str) -> str:
    """
    A route as upstream's paths are written: what ``proxy.target`` does to targets.
    """
    if _first_segment(path) == "mistral":
        path = path.removeprefix("/mistral") or "/"
    return path if _VERSIONED.match(path) else "/v1" + path


def _spelled(path: str) -> str:
    """
    A path that a route is spelled like: ``*`` as one segment, or as nothing within one.
    """
    return re.sub(r"(?<=/)\*+(?=/|\Z)", "x", path).replace("*", "")


def _sensitive(pattern: str) -> str:
    parts = []
    for segment in pattern.split("/")[1:]:
        if segment == "**":
            parts.append("(?:/.*)?")
        elif segment == "v1":
            parts.append("/v[0-9]+")
        else:
            parts.append("/" + re.escape(segment).replace(r"\*", "[^/]*"))
    return "".join(parts)


_SENSITIVE = re.compile("|".join(map(_sensitive, SENSITIVE)), re.IGNORECASE | re.DOTALL)

EVERYWHERE = Routes(everything=True, paths=_Paths(EVERYTHING, EVERYTHING), by_method={}, manages=True, looks=True)

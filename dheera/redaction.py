"""
What of a body may not be shown: keys, members that an operator names, what fits patterns, long binary parts.

Imports no Twisted and does no I/O.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeAlias

import msgspec
from attrs import field, frozen

from dheera.keys import HIDDEN, LOOK_OF_KEYS

REDACTED = "[redacted]"
LONGEST_BASE64 = 256
"""
Characters of what looks like base64 and is still shown: hashes and identifiers are shorter.
"""
SHORTEST_HASHED = 257
"""
Bytes: of less no digest is told, as what is short can be guessed from it, and a key may be all that there is.
"""

# Within the text of JSON a key ends at a quote, within a value at nothing visible. "Bearer": RFC 6750 §2.1, however it
# is spelt.
_KEYS_IN_TEXT = re.compile(r"(?<![A-Za-z0-9])sk-(?:[!#-\[\]-~]|\\[!-~]){8,}")
_BEARERS = re.compile(r"\b(bearer)((?:\s|%20|\+)+)[A-Za-z0-9._~+/=%-]{8,}", re.IGNORECASE)
_CREDENTIALS = frozenset(
    {
        "accesskey",
        "accesstoken",
        "apikey",
        "authorization",
        "clientsecret",
        "cookie",
        "idtoken",
        "participanttoken",
        "password",
        "privatekey",
        "proxyauthorization",
        "refreshtoken",
        "secret",
        "secretkey",
        "setcookie",
        "signingsecret",
        "xapikey",
    }
)
_SHORTEST_TOKEN = 20
_CREDENTIALS_IN_TEXT = re.compile(
    r'("(?:access[_-]?key|access[_-]?token|(?:x[_-])?api[_-]?key|(?:proxy-)?authorization|client[_-]?secret|'
    r"(?:set-)?cookie|id[_-]?token|participant[_-]?token|password|private[_-]?key|refresh[_-]?token|"
    r'secret(?:[_-]?key)?|signing[_-]?secret|token(?="\s*:\s*"[^"]{20}))"\s*:\s*)"(?:[^"\\]|\\.)*+"?',
    re.IGNORECASE | re.DOTALL,
)
_SIGNATURES = re.compile(
    r"([?&](?:sig|signature|token|x-(?:amz|goog)-(?:signature|security-token))=)[^&\s\"']+", re.IGNORECASE
)
# A match begins where a run does, and nothing is of unbounded length but what is taken away: so each takes a time that
# grows with the text's length and no faster. In the text of JSON a slash may be escaped.
_LONG = f"{{{LONGEST_BASE64 + 1}}}"
_BASE64 = re.compile(
    rf"(?<![A-Za-z0-9+/_\\-])(?=[A-Za-z0-9+/_\\-]{_LONG})(?:[A-Za-z0-9+/_-]|\\/){_LONG}(?:[A-Za-z0-9+/_-]|\\/)*+={{0,2}}"
)
_DATA_URL = re.compile(
    r"data:([^,:;\s\"]{0,100}+)(?:;[^,;\s\"]{0,100}){0,4};base64,((?:[A-Za-z0-9+/_-]|\\/)*+={0,2})", re.IGNORECASE
)

_STEP = re.compile(r"(\.\.|\.)?([\w-]+|\*)|\[(\*|[0-9]{1,9})\]")
_PATHS = 'names joined by ".", "[*]" for all elements of an array or "[0]" for one, ".." for any depth: "$..email"'

_Step: TypeAlias = tuple[bool, str | int]
"""
Whether it may be at any depth; the name or the place, ``"*"`` for all.
"""
_Path: TypeAlias = tuple[_Step, ...]


@frozen
class Redaction:
    """
    What is not to be shown, beside what never is.
    """

    _paths: tuple[_Path, ...] = ()
    _patterns: tuple[re.Pattern[str], ...] = ()
    _secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, paths: Sequence[str], patterns: Sequence[str], secrets: Iterable[str] = ()) -> Redaction:
        """
        The redaction of the members at *paths*, of what fits *patterns*, and of *secrets* wherever they stand.

        A path is written as a small part of JSONPath: ``messages[*].content``, ``$..email``, ``choices[0].*``.

        :raises ValueError: a path or a pattern is none; its text says what to write.
        """
        compiled = []
        for pattern in patterns:
            try:
                compiled.append(re.compile(pattern))
            except re.error as error:
                raise ValueError(f'found "{pattern}", wanted a regular expression ({error})') from None
            if compiled[-1].match(""):
                raise ValueError(f'found "{pattern}", which also fits where nothing stands, wanted one that does not')
        return cls(tuple(map(_path, paths)), tuple(compiled), tuple(each for each in secrets if each))

    @property
    def has_paths(self) -> bool:
        """
        Whether there are members that can be found in whole JSON alone.
        """
        return bool(self._paths)

    def value(self, value: Any) -> Any:
        """
        A JSON value as it may be shown: a new one, or a text if what fits a pattern goes beyond one of its texts.

        :raises RecursionError: it is nested too deep.
        """
        shown = self._shown(value, self._paths)
        if self._patterns or self._secrets:
            text = msgspec.json.encode(shown).decode()
            if (masked := self._without_patterns(self._without_secrets(text))) != text:
                return masked
        return shown

    def text(self, text: str) -> str:
        """
        A text as it may be shown; it may be JSON that was cut off. Paths do not apply.
        """
        text = masked_keys(self._without_secrets(text))
        text = _CREDENTIALS_IN_TEXT.sub(rf'\1"{REDACTED}"', text)
        return _BASE64.sub(_described, _DATA_URL.sub(_described_url, self._without_patterns(text)))

    def _shown(self, value: Any, paths: Sequence[_Path]) -> Any:
        if isinstance(value, str):
            return self._shown_text(value)
        if isinstance(value, Mapping):
            return {self._shown_name(name): self._member(name, each, paths) for name, each in value.items()}
        if isinstance(value, list):
            return [self._member(place, each, paths) for place, each in enumerate(value)]
        return value

    def _member(self, step: str | int, value: Any, paths: Sequence[_Path]) -> Any:
        if isinstance(step, str) and isinstance(value, str) and _is_credential(step, value):
            return REDACTED
        remaining: list[_Path] = []
        for path in paths:
            at_any_depth, wanted = path[0]
            if at_any_depth:
                remaining.append(path)
            if wanted in (step, "*"):
                if len(path) == 1:
                    return REDACTED
                remaining.append(path[1:])
        return self._shown(value, remaining)

    def _shown_name(self, name: str) -> str:
        return self._without_patterns(masked_keys(self._without_secrets(name), LOOK_OF_KEYS))

    def _shown_text(self, text: str) -> Any:
        text = self._without_patterns(masked_keys(self._without_secrets(text), LOOK_OF_KEYS))
        if match := _DATA_URL.fullmatch(text):
            return {"base64": {"type": match[1], **_measured(match[2])}}
        joined = "".join(text.split()) if "\n" in text else text
        if _BASE64.fullmatch(joined):
            return {"base64": _measured(joined)}
        return _BASE64.sub(_described, _DATA_URL.sub(_described_url, text))

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def _without_patterns(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern.sub(REDACTED, text)
        return text


def masked_keys(text: str, keys: re.Pattern[str] = _KEYS_IN_TEXT) -> str:
    """
    *text* without what looks like keys, credentials in headers, or signatures of URLs.
    """
    if "sk-" in text:
        text = keys.sub(HIDDEN, text)
    return _SIGNATURES.sub(rf"\1{HIDDEN}", _BEARERS.sub(rf"\1\2{HIDDEN}", text))


def _is_credential(name: str, value: str) -> bool:
    plain = name.replace("_", "").replace("-", "").lower()
    # The tokens of a model have the same name, and are short.
    return plain in _CREDENTIALS or (plain == "token" and len(value) >= _SHORTEST_TOKEN)


def _path(text: str) -> _Path:
    rest = text.removeprefix("$")
    steps: list[_Step] = []
    at = 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None or (at and match[2] and not match[1]):
            break
        place = match[3]
        steps.append((match[1] == "..", match[2] or (place if place == "*" else int(place))))
        at = match.end()
    if not steps or at < len(rest):
        raise ValueError(f'found "{text}", wanted {_PATHS}')
    return tuple(steps)


def _measured(text: str) -> dict[str, Any]:
    """
    Size and digest of what *text* is the base64 of; the digest only if all of it is there.
    """
    plain = text.replace("\\/", "/").rstrip("=").replace("-", "+").replace("_", "/")
    measured: dict[str, Any] = {"size_bytes": len(plain) * 3 // 4}
    if len(plain) % 4 != 1 and measured["size_bytes"] >= SHORTEST_HASHED:
        measured["sha256"] = sha256(b64decode(plain + "=" * (-len(plain) % 4))).hexdigest()
    return measured


def _described(match: re.Match[str]) -> str:
    return f"[base64: {_measured(match[0])['size_bytes']} bytes]"


def _described_url(match: re.Match[str]) -> str:
    return f"[base64: {match[1]}, {_measured(match[2])['size_bytes']} bytes]"

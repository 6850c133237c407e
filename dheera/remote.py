"""
The management API of a daemon that runs elsewhere: one call, and its answer or a sentence that says what is wrong.

Built on the standard library's urllib: a command makes few calls, one after another, and needs no reactor for them.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from decimal import Decimal
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit
from urllib.request import BaseHandler, HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

import msgspec
from attrs import field, frozen

from dheera import __version__
from dheera.keys import Secret

TIMEOUT_SECONDS = 30.0
"""
How long each step may take: to connect, and to hear something more.
"""
LARGEST_ANSWER_BYTES = 256 * 1024 * 1024
"""
Far beyond any page of the API.
"""
_LONGEST_MESSAGE = 2000


class CallFailed(Exception):
    """
    A call did not bring what was asked for. The text says why, and what to do.
    """


class Unreachable(CallFailed):
    """
    There was no answer, or none that a dheera would give. What was asked for may have been done nevertheless.
    """


class Refused(CallFailed):
    """
    The daemon answered that it will not, or cannot.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Api(Protocol):
    """
    The management API, wherever it is.
    """

    def call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        """
        Ask, and wait for the answer.

        :param path: ``/key/info``; never with a key in it.
        :return: the JSON of the answer; numbers with a decimal point are ``Decimal``.
        :raises CallFailed: there is none, or it is a refusal.
        """
        ...


def to_json(value: object) -> bytes:
    """
    *value* as JSON; ``Decimal`` as numbers.
    """
    return _encoder.encode(value)


@frozen(kw_only=True)
class Remote:
    """
    The management API behind a URL.

    Cookies are not kept, redirects not followed, certificates verified; a proxy that the environment names is used,
    but never on the way to this machine.

    :param base: an http or https URL without user, query and fragment (`kinds.API_BASE`).
    """

    base: str
    _key: Secret = field(repr=False)
    _opener: OpenerDirector = field(repr=False)
    _timeout_seconds: float = TIMEOUT_SECONDS

    @classmethod
    def at(
        cls, base: str, key: Secret, *, ca_file: Path | None = None, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> Remote:
        """
        The API at this URL, for the bearer of *key*.

        :param ca_file: PEM bundle that is trusted in place of the system's.
        """
        handlers: list[BaseHandler] = [
            HTTPHandler(),
            HTTPSHandler(context=ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))),
        ]
        if not is_loopback(base):
            handlers.append(ProxyHandler())
        # urllib's usual opener would follow redirects, and raise where the answer says no.
        opener = OpenerDirector()
        for each in handlers:
            opener.add_handler(each)
        return cls(base=base.rstrip("/"), key=key, opener=opener, timeout_seconds=timeout_seconds)

    def call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        """
        Ask, and wait for the answer.
        """
        request = Request(  # noqa: S310 - the scheme was checked where the URL was given
            self.base + path + (f"?{urlencode(query)}" if query else ""),
            data=None if body is None else to_json(body),
            headers={
                "Authorization": f"Bearer {self._key.reveal()}",
                "Accept": "application/json",
                "Content-Type": "application/json",
                "User-Agent": f"dheera_ai/{__version__}",
            },
            method=method,
        )
        try:
            with self._opener.open(request, timeout=self._timeout_seconds) as answer:
                content = answer.read(LARGEST_ANSWER_BYTES + 1)
                cut = bool(answer.length)  # what was promised and did not come
        except (OSError, HTTPException, ValueError) as error:
            raise Unreachable(self._unreachable(error)) from None
        if len(content) > LARGEST_ANSWER_BYTES:
            raise Unreachable(f"{self.base} answers with more than {LARGEST_ANSWER_BYTES} bytes. {_WHICH}")
        if cut:
            raise Unreachable(f"{self.base} cannot be reached: the answer broke off. {_WHICH}")
        return self._read(answer, content)

    def _read(self, answer: HTTPResponse, content: bytes) -> Any:
        try:
            document = _decoder.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = None
        if answer.status == HTTPStatus.OK and document is not None:
            return document
        raise self._refused(answer, document)

    def _refused(self, answer: HTTPResponse, document: object) -> CallFailed:
        status = answer.status
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            elsewhere = _clean(answer.headers.get("Location") or "nowhere")
            return Unreachable(
                f"{self.base} points elsewhere, to {elsewhere}. The key is not sent on: "
                "if that is your dheera, give its address with --url."
            )
        message = _message(document)
        if message is None:
            return Unreachable(f"{self.base} answers {status}, and not as a dheera does. {_WHICH}")
        if status == HTTPStatus.UNAUTHORIZED:
            message += (
                f" The key in DHEERA_AI_MASTER_KEY, or in --key-file, must be the master key of the dheera at "
                f"{self.base}, or a key of type management."
            )
        return Refused(message, status=status)

    def _unreachable(self, error: Exception) -> str:
        reason = getattr(error, "reason", error)  # urllib wraps what happened while it connected
        if isinstance(reason, ssl.SSLCertVerificationError):
            return (
                f"The certificate of {self.base} is not trusted: {reason.verify_message}. "
                "If an authority of your own signed it, name its PEM file with --ca-file."
            )
        if isinstance(reason, TimeoutError):
            return (
                f"{self.base} did not answer within {self._timeout_seconds:g} seconds. Try again, or look at its log."
            )
        if isinstance(reason, ConnectionRefusedError):
            return f"Nothing answers at {self.base}. {_WHICH}"
        told = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        return f"{self.base} cannot be reached: {_clean(told)}. {_WHICH}"


def is_loopback(base: str) -> bool:
    """
    Whether this URL leads to this machine, by its name alone. So does an address that listens everywhere (0.0.0.0).
    """
    host = urlsplit(base).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


_WHICH = (
    "Does your dheera run, and is that its address? It is taken from --url, else from DHEERA_AI_URL, else it is port "
    "DHEERA_AI_PORT or 4000 of this machine."
)


def _message(document: object) -> str | None:
    """
    What a dheera says in a refusal; ``None`` if this is none.
    """
    error = document.get("error") if isinstance(document, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return _clean(message) if isinstance(message, str) and message else None


def _clean(text: str) -> str:
    """
    *text* as it may be shown on a terminal, on one line.
    """
    return "".join(sign if sign.isprintable() else " " for sign in text[:_LONGEST_MESSAGE])


_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")
_: type[Api] = Remote

"""
One question by HTTP, and its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from attrs import frozen
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent

from dheera import __version__
from dheera.keys import Secret
from dheera.sinks.answers import beginning


@frozen(kw_only=True)
class Reply:
    """
    What was answered.

    :param fields: header lines, by their names in lower case; the last of each name.
    :param content: the beginning of its body.
    """

    status: int
    fields: Mapping[str, str]
    content: bytes

    @property
    def is_ok(self) -> bool:
        """
        Whether it brings what was asked for.
        """
        return self.status == HTTPStatus.OK

    @property
    def document(self) -> Any:
        """
        The JSON that it is; ``None`` if it is none.
        """
        try:
            return msgspec.json.decode(self.content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def text_at(self, *names: str) -> str:
        """
        The text at this place of the document; empty if there is none.
        """
        value = self.document
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, str) else ""


async def ask(agent: IAgent, url: str, key: Secret | None = None) -> Reply:
    """
    GET *url*.

    :param key: sent as the credential.
    """
    headers = Headers({"Accept": ["application/json"], "User-Agent": [f"dheera_ai/{__version__} doctor"]})
    if key is not None:
        headers.addRawHeader("Authorization", f"Bearer {key.reveal()}")
    response = await agent.request(b"GET", url.encode("ascii"), headers)
    fields = {
        name.decode("latin-1").lower(): values[-1].decode("latin-1")
        for name, values in response.headers.getAllRawHeaders()
    }
    return Reply(status=response.code, fields=fields, content=await beginning(response))

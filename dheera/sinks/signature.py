"""
AWS Signature Version 4, as far as it takes to put an object into S3: header lines that prove who sends a request. No
I/O.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from urllib.parse import quote, unquote, urlsplit

from attrs import field, frozen

from dheera.keys import Secret

ALGORITHM = "AWS4-HMAC-SHA256"


@frozen(kw_only=True)
class Credentials:
    """
    Who signs.

    :param token: of temporary credentials.
    """

    key_id: str
    secret: Secret
    token: Secret | None = None


@frozen(kw_only=True)
class Signer:
    """
    Signs requests to one service in one region.
    """

    credentials: Credentials = field(repr=False)
    region: str
    service: str = "s3"

    def signed(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes, now: datetime
    ) -> dict[str, str]:
        """
        *headers*, and those that the signature needs. All of them are signed.

        :param url: without a query; its path is percent-encoded.
        :param now: may be wrong by some minutes; then the service refuses.
        """
        parts = urlsplit(url)
        moment = now.strftime("%Y%m%dT%H%M%SZ")
        digest = sha256(content).hexdigest()
        lines = {**headers, "x-amz-content-sha256": digest, "x-amz-date": moment}
        if self.credentials.token:
            lines["x-amz-security-token"] = self.credentials.token.reveal()
        shown = {"host": parts.netloc} | {name.lower(): " ".join(value.split()) for name, value in lines.items()}
        names = ";".join(sorted(shown))
        path = quote(unquote(parts.path or "/"), safe="/~")
        canonical = [method, path, "", *(f"{name}:{shown[name]}" for name in sorted(shown)), "", names, digest]
        scope = f"{moment[:8]}/{self.region}/{self.service}/aws4_request"
        stated = sha256("\n".join(canonical).encode()).hexdigest()
        proof = self._keyed(scope, f"{ALGORITHM}\n{moment}\n{scope}\n{stated}")
        credential = f"{self.credentials.key_id}/{scope}"
        lines["Authorization"] = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={proof}"
        return lines

    def _keyed(self, scope: str, text: str) -> str:
        key = f"AWS4{self.credentials.secret.reveal()}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), sha256)
        return hmac.digest(key, text.encode(), sha256).hex()

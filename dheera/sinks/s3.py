"""
Objects in any store that speaks S3: compressed JSON lines, by the hour.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from datetime import UTC
from hashlib import sha256
from typing import ClassVar, Literal
from urllib.parse import quote, urlsplit

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

from dheera.bookkeeping import Entry
from dheera.keys import Secret
from dheera.records import Alert
from dheera.sinks import contract
from dheera.sinks.contract import SinkAway, SinkRefuses, SinkSettings, Tools
from dheera.sinks.signature import Credentials, Signer
from dheera.sinks.vendor import Table

DEFAULT_REGION = "us-east-1"
COMPRESSED_AT_ONCE_BYTES = 256 * 1024
"""
Some milliseconds of work; then others have their turn.
"""


class S3Settings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What ``[sinks.NAME] kind = "s3"`` may say.

    :param endpoint_url: of a store that is not Amazon's.
    :param prefix: of all names: ``dheera/calls``.
    :param path_style: the bucket stands in the path, not in the host's name; what fits the endpoint, if not said.
    """

    bucket: str
    prefix: str = "dheera"
    region: str = ""
    endpoint_url: str = ""
    path_style: bool | None = None
    access_key_id: str = ""
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    batch_records: int = 5000
    batch_seconds: float = 60.0


@define(eq=False)
class S3Sink:
    """
    Puts each batch into one object. The same batch has the same name, so that what is sent again takes the place of
    what may have arrived before.
    """

    _base: str
    _prefix: str
    _signer: Signer
    _timeout_seconds: float
    _tools: Tools

    def send(self, entries: Sequence[Entry]) -> Deferred[None]:
        """
        See `dheera.sinks.contract.Sink`.
        """
        return Deferred.fromCoroutine(self._send(entries))

    def close(self) -> Deferred[None]:
        """
        Nothing is open.
        """
        return succeed(None)

    async def _send(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        content = await self._compressed(b"".join(entry.line + b"\n" for entry in entries))
        url = f"{self._base}/{quote(self._name(entries), safe='/~')}"
        headers = {"Content-Type": "application/gzip"}
        headers = self._signer.signed("PUT", url, headers, content, self._tools.now())
        try:
            await self._tools.courier.send(
                url, content, headers, method="PUT", compress=False, timeout_seconds=self._timeout_seconds
            )
        except SinkRefuses as refusal:
            # To the store a batch is as good as any other: what it refuses is how we ask. Of its 400s some pass
            # (RequestTimeout), the others an operator mends (ExpiredToken, AuthorizationHeaderMalformed).
            raise SinkAway(str(refusal)) from refusal

    def _name(self, entries: Sequence[Entry]) -> str:
        first = entries[0].value
        moment = first.at if isinstance(first, Alert) else first.started_at
        ids = [_id(entry) for entry in entries]
        mark = sha256("\n".join(ids).encode()).hexdigest()[:16]
        hour = moment.astimezone(UTC).strftime("%Y/%m/%d/%H")
        return f"{self._prefix}{hour}/{self._tools.node}-{ids[0]}-{mark}.jsonl.gz"

    async def _compressed(self, content: bytes) -> bytes:
        packer = zlib.compressobj(wbits=31)  # a gzip header that holds no time: the same bytes for the same batch
        done = []
        for start in range(0, len(content), COMPRESSED_AT_ONCE_BYTES):
            if start:
                await deferLater(self._tools.reactor, 0)
            done.append(packer.compress(content[start : start + COMPRESSED_AT_ONCE_BYTES]))
        return b"".join([*done, packer.flush()])


class S3Factory:
    """
    Makes `S3Sink`.
    """

    kind: ClassVar[str] = "s3"
    settings: ClassVar[type[SinkSettings]] = S3Settings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "records"

    def make(self, settings: S3Settings, tools: Tools) -> S3Sink:
        """
        See `dheera.sinks.contract.SinkFactory`.
        """
        with Table.of(tools) as table:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", settings.bucket):
                table.refuse("bucket", "wanted the name of a bucket")
            prefix = settings.prefix.strip("/")
            if prefix and not re.fullmatch(r"[A-Za-z0-9_=-][A-Za-z0-9_.=-]*(/[A-Za-z0-9_=-][A-Za-z0-9_.=-]*)*", prefix):
                table.refuse("prefix", 'wanted words of letters, digits, _ = . and -, such as "dheera/calls"')
            region = table.text(settings.region, "AWS_REGION", "AWS_DEFAULT_REGION") or DEFAULT_REGION
            if not re.fullmatch(r"[A-Za-z0-9-]+", region):
                table.refuse("region", 'wanted the name of a region, such as "eu-west-3"')
                region = DEFAULT_REGION  # what would follow from the other is no news
            return S3Sink(
                base=_base(settings, table, region),
                prefix=f"{prefix}/" if prefix else "",
                signer=Signer(credentials=_credentials(settings, table), region=region),
                timeout_seconds=settings.timeout_seconds,
                tools=tools,
            )


def _base(settings: S3Settings, table: Table, region: str) -> str:
    """
    The URL of the bucket.
    """
    endpoint = table.text(settings.endpoint_url, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    # A certificate for *.s3... does not cover names with more dots.
    in_path = bool(endpoint) or "." in settings.bucket if settings.path_style is None else settings.path_style
    amazon = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    url = table.url("endpoint_url", endpoint or f"https://s3.{region}.{amazon}")
    if not url:
        return url
    parts = urlsplit(url)
    # As the wire will say it, since it is signed: RFC 9110 §7.2 leaves out the usual port.
    host = parts.netloc.lower().removesuffix({"http": ":80", "https": ":443"}[parts.scheme])
    if in_path:
        return parts._replace(netloc=host, path=f"{parts.path}/{settings.bucket}").geturl()
    return parts._replace(netloc=f"{settings.bucket}.{host}").geturl()


def _credentials(settings: S3Settings, table: Table) -> Credentials:
    """
    All from the table, or all from the environment: a token belongs to its key.
    """
    key_id, secret, token = settings.access_key_id, settings.secret_access_key, settings.session_token
    if not key_id and not secret:
        key_id = table.text("", "AWS_ACCESS_KEY_ID")
        secret = table.secret(None, "AWS_SECRET_ACCESS_KEY")
        token = table.secret(None, "AWS_SESSION_TOKEN")
    if not re.fullmatch(r"[!-+.0-~-]+", key_id):  # visible, without comma and slash
        table.refuse(
            "access_key_id", "wanted, here or in AWS_ACCESS_KEY_ID; the roles of instances and profiles are not asked"
        )
    return Credentials(
        key_id=key_id,
        secret=table.token("secret_access_key", secret),
        token=table.token("session_token", token) if token else None,
    )


def _id(entry: Entry) -> str:
    return entry.value.id if isinstance(entry.value, Alert) else entry.value.call_id


FACTORY = S3Factory()

_: contract.SinkFactory = FACTORY
_sink: type[contract.Sink] = S3Sink

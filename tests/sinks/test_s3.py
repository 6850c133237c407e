from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.keys import Secret
from dheera.sinks.contract import SinkAway, Tools
from dheera.sinks.s3 import FACTORY, S3Settings, S3Sink
from dheera.sinks.signature import Credentials, Signer
from tests.sinks import suite
from tests.sinks.records import NOON, bare, entries, fine, full
from tests.sinks.server import Answer, Received

FIRST = "01936f4e-0000-7000-8000-000000000001"
SECOND = "01936f4e-0000-7000-8000-000000000002"


class TestS3(suite.SinkContract):
    """
    A store with the bucket in the path, as most that are not Amazon's.
    """

    factory = FACTORY
    gzipped = False  # the object itself is

    def table(self, url: str) -> Mapping[str, Any]:
        """
        All that is needed.
        """
        return {
            "kind": "s3",
            "endpoint_url": url,
            "bucket": "calls",
            "access_key_id": "AKIDEXAMPLE",
            "secret_access_key": f"{suite.CANARY}/secret",
            "session_token": f"{suite.CANARY}-token",
        }

    def call_ids(self, request: Received) -> Sequence[str]:
        """
        Those of the lines of the object.
        """
        return [json.loads(line)["call_id"] for line in gzip.decompress(request.raw).splitlines()]

    async def test_refused(self) -> None:
        """
        A store never refuses a batch for what it is: what it answers with 400 passes, or is mended by an operator.
        """
        for code in b"ExpiredToken", b"RequestTimeout", b"AuthorizationHeaderMalformed":
            answer = Answer(status=400, body=b"<Error><Code>%b</Code></Error>" % code)
            error = await self.failure(answer, SinkAway)
            self.assertIn(code.decode(), str(error))

    async def test_repeated_credential(self) -> None:
        """
        An answer that repeats what was sent is not told as it is.
        """
        request = await self._a_request()
        said = " ".join(request.headers.values()) + request.path
        for status in 403, 400, 500:
            await self.failure(Answer(status=status, body=said.encode()), SinkAway)

    async def test_object(self) -> None:
        """
        A batch is one object of compressed JSON lines, as the spool has them, named by the hour of its first record.
        """
        batch = entries(full(FIRST), bare(SECOND))
        await self.make().send(batch)
        (request,) = self.server.requests
        self.assertEqual("PUT", request.method)
        pattern = rf"/calls/dheera/2026/11/22/12/north-1-{FIRST}-[0-9a-f]{{16}}\.jsonl\.gz"
        self.assertTrue(re.fullmatch(pattern, request.path), request.path)
        self.assertEqual(b"".join(each.line + b"\n" for each in batch), gzip.decompress(request.raw))
        self.assertEqual("application/gzip", request.headers["content-type"])
        self.assertNotIn("content-encoding", request.headers)

    async def test_same_name(self) -> None:
        """
        What is sent again takes the place of what was sent before, to the byte; another batch has another name, though
        it begins alike.
        """
        batch = entries(fine(FIRST), fine(SECOND))
        for each in batch, batch, batch[:1]:
            await self.make().send(each)
        first, again, other = self.server.requests
        self.assertEqual((first.path, first.raw), (again.path, again.raw))
        self.assertNotEqual(first.path, other.path)

    async def test_large(self) -> None:
        """
        What is compressed in several steps is whole.
        """
        batch = entries(*(full() for _ in range(600)))
        self.assertGreater(sum(len(each.line) for each in batch), 800_000)
        await self.make().send(batch)
        (request,) = self.server.requests
        self.assertEqual(b"".join(each.line + b"\n" for each in batch), gzip.decompress(request.raw))

    async def test_nothing(self) -> None:
        """
        An empty batch makes no object.
        """
        await self.make().send([])
        self.assertEqual([], self.server.requests)

    async def test_signed(self) -> None:
        """
        What arrives is what was signed: host, path, header lines, content.
        """
        await self.make(prefix="/dt=all/a.b/").send(entries(fine(FIRST)))
        (request,) = self.server.requests
        self.assertIn("/calls/dt%3Dall/a.b/2026/", request.path)
        names = re.search(r"SignedHeaders=([^,]+),", request.headers["authorization"])
        assert names is not None
        listed = names[1].split(";")
        self.assertEqual(["content-type", "host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"], listed)
        self.assertEqual("20261122T120000Z", request.headers["x-amz-date"])
        credentials = Credentials(
            key_id="AKIDEXAMPLE",
            secret=Secret(f"{suite.CANARY}/secret"),
            token=Secret(request.headers["x-amz-security-token"]),
        )
        own = {"content-type": request.headers["content-type"]}
        url = f"http://{request.headers['host']}{request.path}"
        expected = Signer(credentials=credentials, region="us-east-1").signed("PUT", url, own, request.raw, NOON)
        self.assertEqual(expected["Authorization"], request.headers["authorization"])
        self.assertNotIn("secret", "".join(request.headers.values()))


class TestFactory(SynchronousTestCase):
    environment: ClassVar[dict[str, str]] = {
        "AWS_ACCESS_KEY_ID": "AKIDENV",
        "AWS_SECRET_ACCESS_KEY": "environment-secret",
        "AWS_SESSION_TOKEN": "environment-token",
        "AWS_REGION": "eu-west-3",
    }

    def made(self, environment: Mapping[str, str] | None = None, **fields: Any) -> S3Sink:
        """
        The sink of a table and an environment.
        """
        tools = Tools(
            reactor=None,
            name="archive",
            courier=None,  # type: ignore[arg-type]  # nobody is called
            environment=self.environment if environment is None else environment,
            node="north-1",
            now=lambda: NOON + timedelta(days=1),
        )
        return FACTORY.make(S3Settings(**{"bucket": "calls", **fields}), tools)

    def refusal(self, environment: Mapping[str, str] | None = None, **fields: Any) -> str:
        """
        What is said of a table that cannot be used.
        """
        return str(self.assertRaises(ConfigurationError, self.made, environment, **fields))

    def test_environment(self) -> None:
        """
        Amazon's variables say what the table does not.
        """
        sink = self.made()
        self.assertEqual("https://calls.s3.eu-west-3.amazonaws.com", sink._base)
        credentials = sink._signer.credentials
        self.assertEqual("AKIDENV", credentials.key_id)
        self.assertEqual("environment-secret", credentials.secret.reveal())
        assert credentials.token is not None
        self.assertEqual("environment-token", credentials.token.reveal())

    def test_not_mixed(self) -> None:
        """
        A key of the table is not used with a secret or a token of the environment.
        """
        sink = self.made(access_key_id="AKIDTABLE", secret_access_key=Secret("table-secret"))
        self.assertEqual("AKIDTABLE", sink._signer.credentials.key_id)
        self.assertIsNone(sink._signer.credentials.token)
        self.assertIn("secret_access_key: ", self.refusal(access_key_id="AKIDTABLE"))
        self.assertIn("access_key_id: ", self.refusal(secret_access_key=Secret("table-secret")))

    def test_no_credentials(self) -> None:
        """
        Without credentials it is said where they may come from, and where not.
        """
        said = self.refusal({})
        self.assertIn("AWS_ACCESS_KEY_ID", said)
        self.assertIn("roles of instances", said)

    def test_addresses(self) -> None:
        """
        The bucket stands in the host's name at Amazon's, and in the path elsewhere, or if its name has dots; or where
        the table wants it.
        """
        for expected, fields in (
            ("https://calls.s3.eu-west-3.amazonaws.com", {}),
            ("https://s3.eu-west-3.amazonaws.com/calls", {"path_style": True}),
            ("https://s3.eu-west-3.amazonaws.com/my.calls", {"bucket": "my.calls"}),
            ("https://calls.s3.cn-north-1.amazonaws.com.cn", {"region": "cn-north-1"}),
            ("http://minio:9000/calls", {"endpoint_url": "http://minio:9000/"}),
            ("https://calls.r2.example", {"endpoint_url": "https://R2.example:443", "path_style": False}),
            ("http://minio/store/calls", {"endpoint_url": "http://minio:80/store"}),
        ):
            self.assertEqual(expected, self.made(**fields)._base)
        elsewhere = {**self.environment, "AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://b"}
        self.assertEqual("http://b/calls", self.made(elsewhere)._base)

    def test_prefixes(self) -> None:
        """
        A prefix may have slashes around it, or not be there.
        """
        for expected, prefix in ("", ""), ("", "/"), ("a/", "a"), ("a/b=c/", "/a/b=c/"):
            self.assertEqual(expected, self.made(prefix=prefix)._prefix)

    def test_faults(self) -> None:
        """
        What cannot be used is said by its name.
        """
        for field, value in (
            ("bucket", ""),
            ("bucket", "a/b"),
            ("bucket", "calls?x"),
            ("prefix", "a//b"),
            ("prefix", "a/../b"),
            ("prefix", "a b"),
            ("region", "eu west"),
            ("endpoint_url", "minio:9000"),
            ("endpoint_url", "http://user@minio"),
            ("session_token", Secret("line\nbreak")),
            ("access_key_id", "a/b"),
        ):
            whole: dict[str, Any] = {
                "access_key_id": "AKIDTABLE",
                "secret_access_key": Secret("table-secret"),
                field: value,
            }
            said = self.refusal({}, **whole)
            self.assertTrue(said.startswith(f"{field}: "), said)
            self.assertNotIn("line\nbreak", said)

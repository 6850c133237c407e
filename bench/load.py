"""
The clients' common ground, and the closed loop, which wrk makes.

Every client keeps to a core that no proxy runs on, and checks what it receives: a figure taken
from wrong answers is worth nothing.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import Factory, field, frozen

from bench.answers import told

CHAT: Mapping[str, Any] = {
    "model": "mistral-small-latest",
    "messages": [{"role": "user", "content": "I am going to Paris, what should I see?"}],
    "max_tokens": 2048,
    "temperature": 0.8,
    "top_p": 0.1,
}
_WRK_SPARE_SECONDS = 90.0
_ANSWER_SECONDS = 60


class WrongAnswer(Exception):
    """
    What came back is not what the upstream sent, so there is no figure.
    """


@frozen(kw_only=True)
class Place:
    """
    Where a client finds what stands for `https://api.mistral.ai/v1`, and what it says there.

    :param files_url: the same for files; None: there they cannot go through.
    :param extra: header lines that only this proxy wants.
    """

    url: str
    credential: str
    files_url: str | None = field(default=Factory(lambda place: place.url, takes_self=True))
    model: str = CHAT["model"]
    extra: Mapping[str, str] = field(factory=dict)
    ca_file: Path | None = None

    def headers(self) -> dict[str, str]:
        """What every JSON request bears, beside what HTTP wants."""
        return {"Authorization": self.credential, "Content-Type": "application/json", **self.extra}

    def chat(self, said: str = "", *, stream: bool = False, **directives: float) -> dict[str, object]:
        """
        A completion to ask for.

        :param said: the user's words, in place of the usual ones.
        :param directives: what the stand-in for Mistral is told, in these words: all proxies pass them.
        """
        body: dict[str, object] = {**CHAT, "model": self.model}
        if said or directives:
            body["messages"] = [{"role": "user", "content": told(**directives) + said}]
        if stream:
            body["stream"] = True
        return body

    def asking(self, body: Mapping[str, object]) -> bytes:
        """A request for a completion, as it goes over the wire."""
        data = json.dumps(body).encode()
        return _head(self.url, "POST", "/chat/completions", self.headers(), len(data)) + data

    def files_head(self, method: str, path: str, *, length: int = 0, media_type: str = "text/plain") -> bytes:
        """The head of a request about a file."""
        if self.files_url is None:
            raise WrongAnswer("files do not go through")
        headers = {**self.headers(), "Content-Type": media_type}
        return _head(self.files_url, method, path, headers, length)

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """A new connection, with TLS where the URL says so."""
        parts = urlsplit(self.url)
        assert parts.hostname and parts.port  # noqa: S101, PT018 -- our own URLs name both
        context = None
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self.ca_file)
        await asyncio.get_running_loop().create_connection(protocol, parts.hostname, parts.port, ssl=context)


def _head(url: str, method: str, path: str, headers: Mapping[str, str], length: int) -> bytes:
    parts = urlsplit(url)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"{method} {parts.path}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{lines}Content-Length: {length}\r\n\r\n"
    ).encode()


@frozen(kw_only=True)
class ClosedLoop:
    """
    What wrk saw: each connection sends its next request when the last one is answered.
    """

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float


_SCRIPT = """\
wrk.method = "POST"
wrk.headers = {headers}
wrk.body = {body}

function done(summary, latency)
  local bad = summary.errors
  io.write(string.format(
    '\\n{{"requests":%d,"us":%d,"p50_us":%d,"p99_us":%d,"status":%d,"socket":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    bad.status, bad.connect + bad.read + bad.write + bad.timeout))
end
"""


def wrk_missing() -> str | None:
    """A sentence that says how to install wrk, where it is not."""
    if shutil.which("wrk"):
        return None
    return "wrk is not installed; it makes the closed loop. Debian: apt install wrk"


def closed_loop(place: Place, *, connections: int, seconds: float, scratch: Path) -> ClosedLoop:
    """
    Chat completions as fast as answers come.

    :raises WrongAnswer: an answer was not 2xx, or a connection failed.
    """
    script = scratch / "wrk.lua"
    # JSON's strings of ASCII are Lua's too.
    headers = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in place.headers().items())
    script.write_text(_SCRIPT.format(headers=f"{{{headers}}}", body=json.dumps(json.dumps(place.chat()))))
    ran = subprocess.run(
        [
            *("wrk", "--threads", "1", "--connections", str(connections), "--timeout", f"{_ANSWER_SECONDS}s"),
            *("--duration", f"{max(1, round(seconds))}s", "--script", str(script)),
            f"{place.url}/chat/completions",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + _WRK_SPARE_SECONDS,
    )
    if ran.returncode != 0:
        raise WrongAnswer(f"wrk: {ran.stdout}{ran.stderr}")
    seen = json.loads(ran.stdout.strip().splitlines()[-1])
    if not seen["requests"] or seen["status"] or seen["socket"]:
        raise WrongAnswer(
            f"of {seen['requests']} answers {seen['status']} were errors, and {seen['socket']} connections failed"
        )
    return ClosedLoop(
        requests=seen["requests"],
        per_second=seen["requests"] / seen["us"] * 1e6,
        p50_ms=seen["p50_us"] / 1e3,
        p99_ms=seen["p99_us"] / 1e3,
    )

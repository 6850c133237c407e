"""
Daemons in turns: one whose store has seen much, and one whose store is new. Both keep account of all, and each call
takes a hold of its key's budget.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from statistics import median

from attrs import frozen

from bench.flat_stock import key_text
from bench.kernel import reading
from bench.load import CHAT, Place
from bench.programs import NotStarted, Program, program

MASTER_KEY = "sk-of-the-operator-of-this-bench"
PAGES = {
    "newest lines": "/spend/logs?page_size=100",
    "lines of a key": "/spend/logs?page_size=100&api_key=sk-one-of-many-000001",
    "lines by its name": "/spend/logs?page_size=100&key_alias=key-1",
    "sums of 30 days": "/spend/report?group_by=model&start_date={month_ago}",
    "keys, first page": "/key/list?size=100",
    "keys, last page": "/key/list?size=100&page={last}",
}
"""
What somebody looks at who runs a dheera.
"""
_START_SECONDS = 120.0
_ASKED = 5
_CONNECTIONS = 32
_PATIENCE_SECONDS = 30
"""
For an answer. A ledger of some gigabytes that nobody has read since the machine started is slow at first.
"""
_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = {body}

function request()
  wrk.headers["Authorization"] = string.format("Bearer sk-one-of-many-%06d", math.random(0, {keys} - 1))
  return wrk.format()
end

function done(summary, latency)
  local bad = summary.errors
  io.write(string.format(
    '\\n{{"requests":%d,"us":%d,"p50_us":%d,"p99_us":%d,"bad":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    bad.status + bad.connect + bad.read + bad.write + bad.timeout))
end
"""


@frozen(kw_only=True)
class Served:
    """
    A daemon that serves.

    :param keys: that it has.
    :param start_seconds: from its beginning to its first answer.
    """

    running: Program
    port: int
    keys: int
    start_seconds: float

    def load(self, keys: int, seconds: float, scratch: Path) -> Mapping[str, float]:
        """
        What a call costs while *keys* call, as fast as answers come.

        :raises NotStarted: an answer was wrong.
        """
        script = scratch / "flat.lua"
        script.write_text(_SCRIPT.format(body=json.dumps(json.dumps(CHAT)), keys=keys))
        before = reading(self.running.pid)
        said = subprocess.run(
            [
                *("wrk", "--threads", "1", "--connections", str(_CONNECTIONS), "--duration", f"{round(seconds)}s"),
                *("--timeout", f"{_PATIENCE_SECONDS}s"),
                *("--script", str(script), f"http://127.0.0.1:{self.port}/mistral/v1/chat/completions"),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        after = reading(self.running.pid)
        seen = json.loads(said.stdout.strip().splitlines()[-1])
        if not seen["requests"] or seen["bad"]:
            raise NotStarted(f"of {seen['requests']} answers {seen['bad']} were wrong\n{self.running.said()}")
        return {
            "CPU us per call": (after.cpu_us - before.cpu_us) / seen["requests"],
            "calls/s": seen["requests"] / seen["us"] * 1e6,
            "latency p50 ms": seen["p50_us"] / 1e3,
            "latency p99 ms": seen["p99_us"] / 1e3,
            "memory MiB": after.pss_kib / 1024,
        }

    def pages(self) -> Mapping[str, float]:
        """
        Milliseconds that each of `PAGES` takes, the middle of a few; endless for one that is not to be had.
        """
        said = {
            "last": max(1, self.keys // 100),
            "month_ago": (datetime.now(UTC) - timedelta(days=30)).date(),
        }
        return {name: self._milliseconds(path.format(**said)) for name, path in PAGES.items()}

    def _milliseconds(self, path: str) -> float:
        took = []
        for _ in range(_ASKED):
            start = time.monotonic()
            status = _asked(self.port, path, MASTER_KEY)
            took.append((time.monotonic() - start) * 1e3)
            if status != http.client.OK:
                return inf
        return median(took)


@contextmanager
def serving(
    name: str, url: str, *, keys: int, upstream: Place, core: int, scratch: Path, keep_days: int
) -> Iterator[Served]:
    """
    A daemon on the store at *url*, while the block lasts.
    """
    state = scratch / name
    state.mkdir()
    file = state / "dheera.toml"
    file.write_text(f'[sinks.file]\npath = "{state / "records.jsonl"}"\n[ledger]\nkeep_days = {keep_days}\n')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    start = time.monotonic()
    with program(
        [sys.executable, "-m", "dheera", "--host", "127.0.0.1", "--port", str(port), "--config", str(file)],
        cores=frozenset({core}),
        log=state / "log",
        environment={
            "DHEERA_AI_STATE_DIR": str(state),
            "DHEERA_AI_MASTER_KEY": MASTER_KEY,
            "DATABASE_URL": url,
            "MISTRAL_API_BASE": upstream.url,
            "MISTRAL_API_KEY": upstream.credential.removeprefix("Bearer "),
        },
    ) as running:
        while not _serves(port):
            if running.ended() or time.monotonic() - start > _START_SECONDS:
                raise NotStarted(f"{name} did not serve in time\n{running.said()}")
            time.sleep(0.02)
        yield Served(running=running, port=port, keys=keys, start_seconds=time.monotonic() - start)


def _serves(port: int) -> bool:
    try:
        return _asked(port, "/mistral/v1/models", key_text(0)) != http.client.SERVICE_UNAVAILABLE
    except OSError:
        return False


def _asked(port: int, path: str, key: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        with connection.getresponse() as answer:
            answer.read()
            return answer.status
    finally:
        connection.close()

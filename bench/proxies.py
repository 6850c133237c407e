"""
How each measured proxy is started.

A further proxy is a further class with `name`, `version`, `missing` and `plan`, and a line in
`PROXIES`.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from attrs import evolve, field, frozen

from bench.certificates import authority_and_server
from bench.load import CHAT, Place
from bench.programs import NotStarted, Program, program
from bench.upstream import CREDENTIAL

CLIENT_CREDENTIAL = "Bearer sk-of-the-client"
_MASTER_KEY = "sk-of-the-operator-of-this-bench"
_POSTGRES = "DHEERA_BENCH_POSTGRES"
_START_SECONDS = 30.0


@frozen(kw_only=True)
class Plan:
    """
    What to run for a proxy, and where it then serves.

    :param setup: done as soon as it listens, before the first completion is asked for; raises ``OSError`` until then.
    """

    arguments: Sequence[str]
    place: Place
    environment: Mapping[str, str] = field(factory=dict)
    setup: Callable[[], None] = lambda: None


class Proxy(Protocol):
    """
    One way to stand between a client and Mistral.
    """

    name: str

    def version(self) -> str:
        """What is measured, for the head of the table."""
        ...

    def missing(self) -> str | None:
        """A sentence that says what to install, or None."""
        ...

    def plan(self, upstream: Place, *, port: int, scratch: Path) -> Plan:
        """What to run so that it serves `upstream` on the loopback interface."""
        ...


class Dheera:
    """
    The daemon of this checkout in open mode: no master key, one process; calls are spooled and kept in a ledger.
    """

    name = "dheera"

    def version(self) -> str:
        """The version and the Python that runs it."""
        from dheera import __version__  # noqa: PLC0415 -- the others can be measured without it

        return f"{__version__} on {platform.python_implementation()} {platform.python_version()}"

    def missing(self) -> str | None:
        """Nothing: it is here."""
        return None

    def settings(self, _state: Path) -> list[str]:
        """Lines of the configuration file."""
        return []

    def plan(self, upstream: Place, *, port: int, scratch: Path) -> Plan:
        """Settings by environment, and what has no variable by a configuration file; a state directory of its own."""
        state = Path(tempfile.mkdtemp(dir=scratch))
        file = state / "dheera.toml"
        lines = self.settings(state)
        if upstream.ca_file is not None:
            lines = ["[mistral]", f'ca_file = "{upstream.ca_file}"', *lines]
        file.write_text("\n".join(lines))
        return Plan(
            arguments=[
                *(sys.executable, "-m", "dheera", "--host", "127.0.0.1", "--port", str(port)),
                *("--config", str(file)),
            ],
            environment={
                "DHEERA_AI_STATE_DIR": str(state),
                "MISTRAL_API_BASE": upstream.url,
                "MISTRAL_API_KEY": upstream.credential.removeprefix("Bearer "),
            },
            place=Place(
                url=f"http://127.0.0.1:{port}/mistral/v1",
                credential=CLIENT_CREDENTIAL,
            ),
        )


class DheeraWithKeys(Dheera):
    """
    The same with a virtual key, in SQLite: looked up once, then at hand. Its records go to a file too.
    """

    name = "dheera+keys"

    def settings(self, state: Path) -> list[str]:
        """One sink."""
        return ["[sinks.file]", f'path = "{state / "records.jsonl"}"']

    def plan(self, upstream: Place, *, port: int, scratch: Path) -> Plan:
        """A master key, and the client's key made before the first call."""
        plan = super().plan(upstream, port=port, scratch=scratch)
        environment = {**plan.environment, "DHEERA_AI_MASTER_KEY": _MASTER_KEY}
        return evolve(plan, environment=environment, setup=lambda: _make_key(port, self.limits))

    @property
    def limits(self) -> Mapping[str, float]:
        """Of the client's key."""
        return {}


class DheeraWithLimits(DheeraWithKeys):
    """
    The same, where the key has a budget, and limits of requests and tokens, which no load comes near.
    """

    name = "dheera+limits"

    @property
    def limits(self) -> Mapping[str, float]:
        """One of each."""
        return {"max_budget": 10**8, "rpm_limit": 10**9, "tpm_limit": 10**13}


class DheeraOnPostgres(DheeraWithKeys):
    """
    A virtual key, in a PostgreSQL that somebody else runs.
    """

    name = "dheera+pg"

    def missing(self) -> str | None:
        """The variable that says where it is."""
        if _POSTGRES in os.environ:
            return None
        return f"{_POSTGRES} names no empty database (postgresql://...): {self.name} is not measured."

    def plan(self, upstream: Place, *, port: int, scratch: Path) -> Plan:
        """The same on that database."""
        plan = super().plan(upstream, port=port, scratch=scratch)
        return evolve(plan, environment={**plan.environment, "DATABASE_URL": os.environ[_POSTGRES]})


class DheeraWithLimitsOnPostgres(DheeraOnPostgres, DheeraWithLimits):
    """
    Limits, in that PostgreSQL.
    """

    name = "dheera+pg+limits"


def _make_key(port: int, limits: Mapping[str, float]) -> None:
    key = CLIENT_CREDENTIAL.removeprefix("Bearer ")
    _manage(port, "/key/delete", {"keys": [key]})  # a database that was used before has it
    status, said = _manage(port, "/key/generate", {"key": key, **limits})
    if status != HTTPStatus.OK:
        raise NotStarted(f"the key could not be made: {said!r}")


def _manage(port: int, path: str, body: Mapping[str, object]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", path, json.dumps(body), {"Authorization": f"Bearer {_MASTER_KEY}"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


_NGINX = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {scratch}/nginx.pid;
error_log {scratch}/nginx.error warn;
{user}
events {{ worker_connections 16384; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 100000000;
    client_max_body_size 0;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;

    map $http_authorization $mistral_credential {{
        default "";
        "{client}" "{upstream}";
    }}
    upstream mistral {{
        server {address};
        keepalive 512;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location /mistral/v1/ {{
            if ($mistral_credential = "") {{ return 401; }}
            proxy_pass {scheme}://mistral/v1/;
            proxy_http_version 1.1;
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 300s;
            proxy_set_header Host {address};
            proxy_set_header Connection "";
            proxy_set_header Authorization $mistral_credential;
{tls}
        }}
    }}
}}
"""

# TLS 1.3 by name: older versions of nginx would leave it out, and the comparison would be of two
# different handshakes and ciphers.
_NGINX_TLS = """\
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {ca_file};
            proxy_ssl_server_name on;
            proxy_ssl_name localhost;
"""


class Nginx:
    """
    The yardstick: a key check, the credential put in, nothing buffered.
    """

    name = "nginx"

    def version(self) -> str:
        """As it says itself."""
        said = subprocess.run([_nginx(), "-v"], capture_output=True, text=True, check=True).stderr
        return said.strip().rpartition("/")[2]

    def missing(self) -> str | None:
        """The Debian package, where it is not installed."""
        if os.access(_nginx(), os.X_OK):
            return None
        return "nginx is not installed (Debian: apt install nginx-light): there will be no ratios."

    def plan(self, upstream: Place, *, port: int, scratch: Path) -> Plan:
        """A configuration of its own, with all of its files in the scratch directory."""
        parts = urlsplit(upstream.url)
        file = scratch / "nginx.conf"
        file.write_text(
            _NGINX.format(
                scratch=scratch,
                # Started by root it would drop to a user who may not enter our directory.
                user="user root;" if os.getuid() == 0 else "",
                client=CLIENT_CREDENTIAL,
                upstream=upstream.credential,
                address=parts.netloc,
                scheme=parts.scheme,
                port=port,
                tls=_NGINX_TLS.format(ca_file=upstream.ca_file) if upstream.ca_file else "",
            )
        )
        return Plan(
            arguments=[_nginx(), "-p", str(scratch), "-c", str(file)],
            place=Place(
                url=f"http://127.0.0.1:{port}/mistral/v1",
                credential=CLIENT_CREDENTIAL,
            ),
        )


def _nginx() -> str:
    # Debian keeps it where only root looks.
    return shutil.which("nginx") or "/usr/sbin/nginx"


PROXIES: Sequence[Proxy] = (
    Dheera(),
    DheeraWithKeys(),
    DheeraWithLimits(),
    DheeraOnPostgres(),
    DheeraWithLimitsOnPostgres(),
    Nginx(),
)


@contextmanager
def upstream_on(core: int, scratch: Path, *, tls: bool) -> Iterator[tuple[Place, Program]]:
    """
    The stand-in for Mistral, serving while the block lasts.
    """
    authority, server = authority_and_server(scratch) if tls else (None, None)
    with program(
        [sys.executable, "-m", "bench.upstream", *([str(server)] if server else [])],
        core=core,
        log=scratch / "upstream.log",
        piped=True,
    ) as running:
        found = re.fullmatch(r"PORT (\d+)", running.read_line())
        if found is None:
            raise NotStarted(f"the stand-in for Mistral did not start:\n{running.said()}")
        place = Place(
            url=f"{'https' if tls else 'http'}://127.0.0.1:{found[1]}/v1",
            credential=CREDENTIAL,
            ca_file=authority,
        )
        yield place, running


@contextmanager
def proxy_on(core: int, scratch: Path, proxy: Proxy, upstream: Place) -> Iterator[tuple[Place, Program]]:
    """
    A proxy in front of `upstream`, serving while the block lasts.

    :raises NotStarted: it ended, or answered no completion in time.
    """
    plan = proxy.plan(upstream, port=_free_port(), scratch=scratch)
    with program(
        plan.arguments,
        core=core,
        log=scratch / f"{proxy.name}.log",
        environment=plan.environment,
    ) as running:
        _await_completion(proxy.name, plan, running)
        yield plan.place, running


def _await_completion(name: str, plan: Plan, running: Program) -> None:
    deadline = time.monotonic() + _START_SECONDS
    answer = "no connection"
    setup: Callable[[], None] | None = plan.setup
    while time.monotonic() < deadline:
        if running.ended():
            raise NotStarted(f"{name} ended at its start:\n{running.said()}")
        try:
            if setup is not None:
                setup()
                setup = None
            answer = _completion(plan.place)
        except (OSError, http.client.HTTPException) as problem:
            answer = repr(problem)
        if answer.startswith("200"):
            return
        time.sleep(0.1)
    raise NotStarted(f"{name} did not serve in time: {answer}\n{running.said()}")


def _completion(place: Place) -> str:
    parts = urlsplit(place.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    try:
        connection.request(
            "POST",
            f"{parts.path}/chat/completions",
            json.dumps(CHAT),
            {"Authorization": place.credential, "Content-Type": "application/json"},
        )
        response = connection.getresponse()
        return f"{response.status} {response.read(500)!r}"
    finally:
        connection.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port

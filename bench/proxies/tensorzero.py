"""
TensorZero's gateway, which translates: the one that its Python package carries, as a process of its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from attrs import evolve, field, frozen

from bench.installing import Tools
from bench.load import CHAT, Place
from bench.proxy import CLIENT_CREDENTIAL, Plan

_PACKAGE = "tensorzero==2026.6.0"

_CONFIGURATION = """\
[gateway]
observability.enabled = false

[models.{model}]
routing = ["mistral"]

[models.{model}.providers.mistral]
type = "openai"
model_name = "{model}"
api_base = "{url}"
api_key_location = "env::MISTRAL_API_KEY"
"""

# The gateway takes a port of its own choice, and serves in threads of its own.
_START = """\
import pathlib, signal, sys
from tensorzero.tensorzero import _start_http_gateway
gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
pathlib.Path(sys.argv[2]).write_text(gateway.base_url)
signal.pause()
"""


@frozen
class TensorZero:
    """
    Without the databases in which it would keep keys and records: so it checks no key and notes nothing.
    """

    name: str = field(default="tensorzero", init=False)
    sections: frozenset[str] | None = field(default=None, init=False)
    pace: float = field(default=1.0, init=False)
    spread: bool = field(default=False, init=False)

    def version(self, tools: Tools) -> str:
        """The one that was asked for."""
        _home(tools)
        return _PACKAGE.partition("==")[2]

    def plan(self, upstream: Place, *, port: int, scratch: Path, tools: Tools) -> Plan:
        """One model; where it serves is read from a file."""
        del port
        folder = Path(tempfile.mkdtemp(dir=scratch))
        file, address = folder / "tensorzero.toml", folder / "address"
        file.write_text(_CONFIGURATION.format(model=CHAT["model"], url=upstream.url))
        environment = {"MISTRAL_API_KEY": upstream.credential.removeprefix("Bearer ")}
        if upstream.ca_file is not None:
            environment["SSL_CERT_FILE"] = str(upstream.ca_file)
        return Plan(
            arguments=[str(_home(tools) / "bin" / "python"), "-c", _START, str(file), str(address)],
            environment=environment,
            place=Place(
                url="http://127.0.0.1",
                files_url=None,
                credential=CLIENT_CREDENTIAL,
                model=f"tensorzero::model_name::{CHAT['model']}",
            ),
            settle=lambda place: evolve(place, url=address.read_text()),
        )


def _home(tools: Tools) -> Path:
    return tools.venv("tensorzero", _PACKAGE)

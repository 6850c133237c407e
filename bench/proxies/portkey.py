"""
Portkey's gateway, on Node: it reads bodies and answers, and forms them anew. Files for Mistral do not go through.
"""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen

from bench.installing import Tools, on_path
from bench.load import Place
from bench.proxy import Plan

# With what npm would choose for it, its streams fail with status 500.
_PACKAGES = {"@portkey-ai/gateway": "1.15.2", "hono": "4.9.7", "@hono/node-server": "1.13.5"}


@frozen
class Portkey:
    """
    It knows no keys of clients: they send the real one, and say where it goes.
    """

    name: str = field(default="portkey", init=False)
    sections: frozenset[str] | None = field(default=None, init=False)
    pace: float = field(default=0.1, init=False)
    spread: bool = field(default=False, init=False)

    def version(self, tools: Tools) -> str:
        """The one that was asked for, and what runs it."""
        _program(tools)
        return f"{_PACKAGES['@portkey-ai/gateway']} (hono {_PACKAGES['hono']})"

    def plan(self, upstream: Place, *, port: int, scratch: Path, tools: Tools) -> Plan:
        """All that it needs comes with each request."""
        del scratch
        environment = {"NODE_ENV": "production"}
        if upstream.ca_file is not None:
            environment["NODE_EXTRA_CA_CERTS"] = str(upstream.ca_file)
        return Plan(
            arguments=[str(on_path("node", "nodejs")), str(_program(tools)), f"--port={port}", "--headless"],
            environment=environment,
            place=Place(
                url=f"http://127.0.0.1:{port}/v1",
                files_url=None,
                credential=upstream.credential,
                extra={"x-portkey-provider": "mistral-ai", "x-portkey-custom-host": upstream.url},
            ),
        )


def _program(tools: Tools) -> Path:
    return tools.npm("portkey", _PACKAGES) / "node_modules/@portkey-ai/gateway/build/start-server.js"

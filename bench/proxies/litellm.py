"""
LiteLLM's proxy: one worker, which translates chat completions and streams. Files for Mistral do not go through.
"""

from __future__ import annotations

import json
from pathlib import Path

from attrs import field, frozen

from bench.installing import Tools
from bench.load import CHAT, Place
from bench.proxy import CLIENT_CREDENTIAL, Plan

_PACKAGE = "litellm[proxy]==1.106.2"


@frozen
class LiteLLM:
    """
    The client's key is its master key: virtual keys would want PostgreSQL, and an engine that PyPI does not have.
    """

    name: str = field(default="litellm", init=False)
    sections: frozenset[str] | None = field(default=None, init=False)
    pace: float = field(default=0.05, init=False)
    spread: bool = field(default=False, init=False)

    def version(self, tools: Tools) -> str:
        """The one that was asked for."""
        _program(tools)
        return _PACKAGE.partition("==")[2]

    def plan(self, upstream: Place, *, port: int, scratch: Path, tools: Tools) -> Plan:
        """One model, at its provider for Mistral."""
        key = upstream.credential.removeprefix("Bearer ")
        model = CHAT["model"]
        parameters = {"model": f"mistral/{model}", "api_base": upstream.url, "api_key": key}
        file = scratch / "litellm.yaml"
        # JSON is YAML too.
        file.write_text(
            json.dumps(
                {
                    "model_list": [{"model_name": model, "litellm_params": parameters}],
                    "general_settings": {"master_key": CLIENT_CREDENTIAL.removeprefix("Bearer ")},
                }
            )
        )
        environment = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would ask the network for prices
            "LITELLM_LOG": "ERROR",
        }
        if upstream.ca_file is not None:
            environment["SSL_CERT_FILE"] = str(upstream.ca_file)
        return Plan(
            arguments=[
                *(str(_program(tools)), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)),
                *("--num_workers", "1", "--telemetry", "False"),
            ],
            environment=environment,
            place=Place(
                url=f"http://127.0.0.1:{port}/v1",
                files_url=None,
                credential=CLIENT_CREDENTIAL,
            ),
        )


def _program(tools: Tools) -> Path:
    return tools.venv("litellm", _PACKAGE) / "bin" / "litellm"

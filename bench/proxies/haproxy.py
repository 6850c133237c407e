"""
HAProxy: one thread, a key check, the credential put in.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from attrs import field, frozen

from bench.installing import Tools, on_path, said
from bench.load import Place
from bench.proxy import CLIENT_CREDENTIAL, Plan

_CONFIGURATION = """\
global
    maxconn 8000
    nbthread 1
defaults
    mode http
    timeout connect 10s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
    option http-no-delay
    http-reuse always
frontend clients
    bind 127.0.0.1:{port} backlog 4096
    acl known req.hdr(authorization) -m str "{client}"
    http-request deny deny_status 401 unless known
    http-request set-header Authorization "{upstream}"
    http-request set-header Host {address}
    http-request replace-path ^/mistral/(.*) /\\1
    default_backend mistral
backend mistral
    server stand-in {address} pool-max-conn -1{tls}
"""
_TLS = " ssl verify required ca-file {ca_file} verifyhost localhost ssl-min-ver TLSv1.3"


@frozen
class HAProxy:
    """
    Debian's, which forwards as bytes come.
    """

    name: str = field(default="haproxy", init=False)
    sections: frozenset[str] | None = field(default=None, init=False)
    pace: float = field(default=1.0, init=False)
    spread: bool = field(default=False, init=False)

    def version(self, tools: Tools) -> str:
        """As it says itself."""
        del tools
        return said(str(_program()), "-v").split()[2]

    def plan(self, upstream: Place, *, port: int, scratch: Path, tools: Tools) -> Plan:
        """A configuration of its own."""
        del tools
        file = scratch / "haproxy.cfg"
        file.write_text(
            _CONFIGURATION.format(
                port=port,
                client=CLIENT_CREDENTIAL,
                upstream=upstream.credential,
                address=urlsplit(upstream.url).netloc,
                tls=_TLS.format(ca_file=upstream.ca_file) if upstream.ca_file else "",
            )
        )
        return Plan(
            arguments=[str(_program()), "-db", "-f", str(file)],
            place=Place(url=f"http://127.0.0.1:{port}/mistral/v1", credential=CLIENT_CREDENTIAL),
        )


def _program() -> Path:
    return on_path("haproxy", "haproxy")

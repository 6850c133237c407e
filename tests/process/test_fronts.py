"""
The samples for fronts, with the real programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.process import fronts
from tests.process.programs import program


class NginxTests(fronts.Fronts):
    """
    ``conf/nginx.conf``.
    """

    sample = "nginx.conf"

    @classmethod
    def check(cls, conf: Path) -> list[str]:
        return [program("nginx", "nginx-light"), "-t", "-q", "-c", str(conf)]

    @classmethod
    def run_with(cls, conf: Path) -> list[str]:
        return [program("nginx", "nginx-light"), "-c", str(conf), "-g", "daemon off;"]

    @classmethod
    def places(cls, folder: Path, port: int) -> Mapping[str, str]:
        return {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/nginx/dheera.crt": f"{folder}/both.pem",
            "/etc/nginx/dheera.key": f"{folder}/both.pem",
            "/run/nginx.pid": f"{folder}/nginx.pid",
            "/var/log/nginx/": f"{folder}/",
            # As much shorter than in earnest as the delay of the nodes.
            "keepalive_timeout 5s": "keepalive_timeout 500ms",
        }


class HaproxyTests(fronts.Fronts):
    """
    ``conf/haproxy.cfg``.
    """

    sample = "haproxy.cfg"

    @classmethod
    def check(cls, conf: Path) -> list[str]:
        return [program("haproxy", "haproxy"), "-c", "-q", "-f", str(conf)]

    @classmethod
    def run_with(cls, conf: Path) -> list[str]:
        return [program("haproxy", "haproxy"), "-db", "-f", str(conf)]

    @classmethod
    def places(cls, folder: Path, port: int) -> Mapping[str, str]:
        return {
            "bind :443 ssl": f"bind 127.0.0.1:{port} ssl",
            "/etc/haproxy/dheera.pem": f"{folder}/both.pem",
            # As much shorter than in earnest as the delay of the nodes.
            "inter 2s": "inter 200ms",
        }

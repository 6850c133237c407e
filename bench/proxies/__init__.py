"""
The proxies that can be measured: each does the same job, as far as it can.

A further one is a class that is a `bench.proxy.Proxy`, and a line in `PROXIES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.proxies.dheera import SUBJECT, VARIANTS
from bench.proxies.envoy import Envoy
from bench.proxies.haproxy import HAProxy
from bench.proxies.litellm import LiteLLM
from bench.proxies.nginx import Nginx
from bench.proxies.portkey import Portkey
from bench.proxies.tensorzero import TensorZero
from bench.proxy import Proxy

_ALL: Sequence[Proxy] = (SUBJECT, Nginx(), HAProxy(), Envoy(), TensorZero(), Portkey(), LiteLLM(), *VARIANTS)

PROXIES: Mapping[str, Proxy] = {proxy.name: proxy for proxy in _ALL}

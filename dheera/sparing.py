"""
Twisted loads pyOpenSSL, and with it cryptography and another OpenSSL than Python's, as soon as there are sockets: 12
MiB of the 66 that dheera took when idle. Upstreams and sinks are spoken to by Python's own (`dheera.wire.tls`), so it
is needed for certificates that dheera itself shows to its clients, and for nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dheera.settings import Listen

_NAME = "OpenSSL"
_PLAIN = ("tcp:", "tcp6:", "unix:", "systemd:")


def shows_no_certificate(listen: Listen) -> bool:
    """
    Whether nothing that dheera listens at speaks TLS. Of endpoints that Twisted does not bring nobody knows.
    """
    if listen.endpoints:
        return all(each.startswith(_PLAIN) for each in listen.endpoints)
    return listen.tls_certificate is None


@contextmanager
def without_openssl() -> Iterator[None]:
    """
    Modules that are imported meanwhile find no pyOpenSSL, unless it is here already: Twisted then does without.
    """
    if _NAME in sys.modules:
        yield
        return
    sys.modules[_NAME] = None  # type: ignore[assignment]  # how Python says that a module is not to be found
    try:
        yield
    finally:
        del sys.modules[_NAME]

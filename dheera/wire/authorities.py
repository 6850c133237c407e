"""
Whom TLS to an upstream trusts, and what it insists on.
"""

from __future__ import annotations

import ssl
from os import environ
from pathlib import Path
from ssl import OP_NO_RENEGOTIATION, PROTOCOL_TLS_CLIENT, SSLContext, TLSVersion, get_default_verify_paths

from dheera.wire.tls import TLSSocket

CIPHERS = "ECDH+AESGCM:ECDH+CHACHA20:DH+AESGCM:DH+CHACHA20:ECDH+AES:DH+AES:RSA+AESGCM:RSA+AES:!aNULL:!MD5:!DSS"
"""
For TLS 1.2: those that Twisted takes, which are more than Python does.
"""

TRUNCATION_IS_AN_END: int = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # OpenSSL 1.1.1 has no such option
"""
Set in the Python of Debian 12, among others: an answer that was cut would be taken for complete.
"""

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # RHEL
    "/etc/ssl/cert.pem",  # Alpine, macOS
)
"""
Where systems keep their authorities, for an OpenSSL that was built elsewhere and looks elsewhere.
"""


def trusting(bundle: bytes) -> SSLContext:
    """
    What trusts the authorities in *bundle*, in PEM.

    :raises OSError: there is none in it.
    """
    context = _context()
    text = bundle.decode("ascii", "ignore")  # between them may be comments
    context.load_verify_locations(cadata=text or " ")  # else Python raises a ValueError
    return context


def trusting_system() -> SSLContext:
    """
    What trusts the authorities of the system, or those that ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name.
    """
    context = _context()
    context.set_default_verify_paths()
    paths = get_default_verify_paths()
    is_said = paths.openssl_cafile_env in environ or paths.openssl_capath_env in environ
    if not is_said and not context.cert_store_stats()["x509_ca"] and not _has_files(paths.capath):
        bundle = next((each for each in BUNDLES if Path(each).is_file()), None)
        if bundle is not None:
            context.load_verify_locations(bundle)
    return context


def _has_files(directory: str | None) -> bool:
    return directory is not None and any(Path(directory).glob("*"))  # which finds none where it may not look


def _context() -> SSLContext:
    context = SSLContext(PROTOCOL_TLS_CLIENT)  # which verifies, host names too
    context.sslsocket_class = TLSSocket
    context.hostname_checks_common_name = False  # RFC 9110 §4.3.4
    context.minimum_version = TLSVersion.TLSv1_2
    context.options |= OP_NO_RENEGOTIATION  # else OpenSSL may have to read before it can write
    context.options &= ~TRUNCATION_IS_AN_END
    context.set_ciphers(CIPHERS)
    return context

"""
The certificate that we show to clients, read again when its files change. Twisted's TLS is loaded when there is one,
and not before: see `dheera.sparing`.
"""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

if TYPE_CHECKING:
    from OpenSSL import SSL

log = Logger()

LOOK_AGAIN_SECONDS = 1.0


@implementer(IOpenSSLServerConnectionCreator)
class ReloadingCertificate:
    """
    Makes the TLS side of each new connection. Files that have changed are read again, at most once a second; if they
    cannot be used, the log says why and the old certificate stays.

    :param certificate: a PEM file with the certificate and its chain.
    :param key: a PEM file with its private key; may be the same file.
    :raises OSError: a file cannot be read (the first time).
    :raises SSL.Error: a file is not what it should be (the first time).
    """

    def __init__(self, clock: IReactorTime, certificate: Path, key: Path) -> None:
        self._clock = clock
        self._files = (certificate, key)
        self._looked = clock.seconds()
        self._seen = self._marks()
        self._context = self._read()

    def change(self, certificate: Path, key: Path) -> None:
        """
        Show the certificate in these files from now on; as at any change, the old one stays if they cannot be used.
        """
        self._files = (certificate, key)
        self._looked = -inf
        self._seen = []
        self._refresh()

    def before(self, factory: IProtocolFactory) -> IProtocolFactory:
        """
        *factory*, behind TLS that shows this certificate.
        """
        from twisted.protocols.tls import TLSMemoryBIOFactory  # noqa: PLC0415 - as said above

        return TLSMemoryBIOFactory(self, isClient=False, wrappedFactory=factory)

    def serverConnectionForTLS(self, _protocol: object) -> SSL.Connection:
        """
        A connection with the current certificate.
        """
        from OpenSSL import SSL  # noqa: PLC0415 - as said above

        self._refresh()
        return SSL.Connection(self._context, None)

    def _marks(self) -> list[tuple[int, int, int]]:
        return [(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in (file.stat() for file in self._files)]

    def _refresh(self) -> None:
        now = self._clock.seconds()
        if 0 <= now - self._looked < LOOK_AGAIN_SECONDS:
            return
        self._looked = now
        try:
            marks = self._marks()
            if marks != self._seen:
                self._seen = marks
                self._context = self._read()
                log.info("Read the certificate {file} again", file=str(self._files[0]))
        except Exception as error:  # noqa: BLE001 - half-written files fail in many ways; the old one still serves
            log.warn(
                "The certificate {file} has changed but cannot be used, the old one stays: {error}",
                file=str(self._files[0]),
                error=str(error),
            )

    def _read(self) -> SSL.Context:
        from twisted.internet.ssl import CertificateOptions, TLSVersion  # noqa: PLC0415 - as said above

        certificate, key = self._files
        options: Any = CertificateOptions(raiseMinimumTo=TLSVersion.TLSv1_2, acceptableProtocols=[b"http/1.1"])
        context: SSL.Context = options.getContext()
        context.use_certificate_chain_file(str(certificate))
        context.use_privatekey_file(str(key))
        context.check_privatekey()
        return context

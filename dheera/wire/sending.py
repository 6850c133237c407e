"""
Writing to a socket at once. Twisted keeps what is written until the reactor finds the socket writable, which for the
small pieces of a stream costs more than the piece: two changes of the epoll set and another round of the loop. Trying
the socket first took FIGURE (``docs/performance.md``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Connection


def sender(transport: Any) -> Callable[[bytes], None]:
    """
    A function that writes bytes to *transport*: to a plain socket with nothing queued at once, otherwise, and whatever
    the socket does not take, in Twisted's usual way. So order, back-pressure and the telling of errors stay Twisted's.
    """
    if not isinstance(transport, Connection) or transport.TLS:
        return transport.write  # type: ignore[no-any-return]  # untyped there

    def send(data: bytes) -> None:
        if transport.connected and not (
            transport.dataBuffer or transport._tempDataBuffer or transport.disconnecting  # noqa: SLF001 - see above
        ):
            sent = transport.writeSomeData(data)
            if sent.__class__ is int and sent > 0:
                if sent == len(data):
                    return
                data = data[sent:]
        transport.write(data)

    return send

"""
What a peer may take: sizes in bytes, times in seconds, counts. Values only, no Twisted.
"""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class ServerLimits:
    """
    What a client may ask of us. Deadlines are checked once a second, so each may be up to a second late.

    :param head_bytes: request line and header lines together; more is 431 (414 when the target alone is too long).
    :param header_count: header lines; more is 431.
    :param head_seconds: from the first byte of a head to its last.
    :param body_bytes: request body; more is 413.
    :param body_bytes_per_second: slowest upload that is borne, over any stretch in which we are reading.
    :param idle_seconds: a connection without a request.
    :param send_seconds: a client that takes nothing of its answer.
    :param connections: open at once in all.
    :param connections_per_address: open at once from one client address (of IPv6, from one network of 64 bits).
    :param requests: passed on to upstream at once; one more waits.
    :param queue: of those that wait; one more is 503.
    :param queue_seconds: that one waits; then it is 503.
    """

    head_bytes: int = 32 * 1024
    header_count: int = 200
    head_seconds: float = 10.0
    body_bytes: int = 1 << 30
    body_bytes_per_second: float = 240.0
    idle_seconds: float = 75.0
    send_seconds: float = 300.0
    connections: int = 10_000
    connections_per_address: int = 4096
    requests: int = 4096
    queue: int = 4096
    queue_seconds: float = 10.0


@frozen(kw_only=True)
class ClientLimits:
    """
    What an upstream may take. Deadlines are checked once a second, so each may be up to a second late.

    :param connect_seconds: name look-up, TCP and TLS together.
    :param first_byte_seconds: from the last byte of the request to the head of the answer.
    :param between_chunks_seconds: silence within a body, either way.
    :param names_seconds: how long the addresses of a name are taken for granted.
    :param pool_idle_seconds: how long a connection is kept for the next request.
    :param pool_connections: idle connections kept per origin.
    :param head_bytes: status line and header lines together, 1xx answers included.
    :param header_count: header lines.
    """

    connect_seconds: float = 10.0
    first_byte_seconds: float = 300.0
    between_chunks_seconds: float = 300.0
    names_seconds: float = 30.0
    pool_idle_seconds: float = 60.0
    pool_connections: int = 512
    head_bytes: int = 64 * 1024
    header_count: int = 200

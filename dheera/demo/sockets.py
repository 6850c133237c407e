"""
WebSockets: frames in, JSON messages to whoever speaks, frames out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason
from wsproto.handshake import server_extensions_handshake
from wsproto.utilities import generate_accept_token
from zope.interface import implementer

from dheera.demo.calls import dumps, parsed_object
from dheera.demo.refusals import Refused, refused

log = Logger()

MOST_MESSAGE_CHARACTERS = 1024 * 1024
_FEED_BYTES = 4096
"""
Deflate makes at most about a thousand bytes of one: fed in such pieces, a bomb is noticed four
megabytes in.
"""
GOODBYE_SECONDS = 2.0
_KEY_LENGTH = 24


class Speaker(Protocol):
    """
    One end of a realtime session.
    """

    def opening(self) -> dict[str, Any]:
        """
        What is said first.
        """
        ...

    def hear(self, message: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """
        What is said to *message*.
        """
        ...

    @property
    def over(self) -> bool:
        """
        Nothing more will be said.
        """
        ...


@implementer(IPushProducer)
class Socket(TwistedProtocol):
    """
    One WebSocket after its handshake. While the client does not read, nothing is read from it.
    """

    def __init__(self, clock: IReactorTime, speaker: Speaker, extensions: list[PerMessageDeflate]) -> None:
        self._clock = clock
        self._speaker = speaker
        self._frames = Connection(ConnectionType.SERVER, [*extensions])
        self._message: list[str] = []
        self._characters = 0
        self._closing: IDelayedCall | None = None
        self._deaf = False
        self._wire: Any = None  # Twisted's transports have no type that knows producers

    def connectionMade(self) -> None:
        """
        The handshake is done: speak first.
        """
        self._wire = self.transport
        self._wire.registerProducer(self, True)  # noqa: FBT003 - Twisted's signature
        self._say(self._speaker.opening())

    def dataReceived(self, data: bytes) -> None:
        """
        Take what the client sent.
        """
        for start in range(0, len(data), _FEED_BYTES):
            if self._deaf:
                return
            self._frames.receive_data(data[start : start + _FEED_BYTES])
            for event in self._frames.events():
                self._take(event)
                if self._deaf:
                    return

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's
        """
        The client has gone.
        """
        self._deaf = True
        if self._closing is not None and self._closing.active():
            self._closing.cancel()

    def pauseProducing(self) -> None:
        """
        The client does not take what is said.
        """
        self._wire.pauseProducing()

    def resumeProducing(self) -> None:
        """
        The client has caught up.
        """
        self._wire.resumeProducing()

    def stopProducing(self) -> None:
        """
        The connection is gone; ``connectionLost`` says so as well.
        """

    def _take(self, event: Event) -> None:
        match event:
            case CloseConnection():
                self._take_close(event)
            case _ if self._closing is not None:
                pass
            case TextMessage():
                self._take_text(event)
            case BytesMessage():
                self._close(CloseReason.UNSUPPORTED_DATA, "Messages are JSON text")
            case Ping():
                self._write(event.response())
            case _:
                pass

    def _take_text(self, event: TextMessage) -> None:
        if event.data:
            self._message.append(event.data)
            self._characters += len(event.data)
        if self._characters > MOST_MESSAGE_CHARACTERS:
            self._message.clear()
            self._close(CloseReason.MESSAGE_TOO_BIG, "At most 1 MiB in a message")
        elif event.message_finished:
            text = "".join(self._message)
            self._message.clear()
            self._characters = 0
            self._hear(text)

    def _take_close(self, event: CloseConnection) -> None:
        """
        The client closes, or its frames are at fault: the state is still open then.
        """
        match self._frames.state:
            case ConnectionState.REMOTE_CLOSING:
                self._write(event.response())
                self._hang_up()
            case ConnectionState.OPEN:
                self._close(event.code, event.reason or "")
                self._deaf = True
            case ConnectionState.CLOSED:
                self._hang_up()
            case _:
                self._deaf = True

    def _hear(self, text: str) -> None:
        try:
            for said in self._speaker.hear(dict(parsed_object(text.encode("utf-8", "replace")))):
                self._say(said)
        except Refused as no:
            message = no.body.get("message") or "The message is not what this session expects."
            self._say({"type": "error", "error": {"message": message, "code": no.status}})
        except Exception:  # noqa: BLE001 - the edge of the session: log, and say so
            log.failure("A realtime session failed")
            self._close(CloseReason.INTERNAL_ERROR, "Something failed inside the demo")
            return
        if self._speaker.over:
            self._close(CloseReason.NORMAL_CLOSURE, "")

    def _say(self, message: dict[str, Any]) -> None:
        self._write(TextMessage(data=dumps(message).decode()))

    def _write(self, event: Event) -> None:
        self._wire.write(self._frames.send(event))

    def _close(self, code: int, reason: str) -> None:
        """
        Say goodbye, and give the client a moment to say it too: hanging up on what it still sends
        would reset the connection and take our last words away from it.
        """
        self._write(CloseConnection(code, reason))
        self._closing = self._clock.callLater(GOODBYE_SECONDS, self._hang_up)

    def _hang_up(self) -> None:
        self._deaf = True
        self._wire.unregisterProducer()
        self._wire.loseConnection()


def accepted(
    key: str | None, version: str | None, offers: Iterable[bytes]
) -> tuple[list[tuple[bytes, bytes]], list[PerMessageDeflate]]:
    """
    The header lines that accept a handshake (RFC 6455 section 4.2.2), and the extensions agreed on.

    :raises Refused: 400, the handshake is not a valid one.
    """
    if key is None or len(key) != _KEY_LENGTH or version != "13":
        raise refused(400, "This is not a WebSocket handshake.", "invalid_request_error")
    fields = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Accept", generate_accept_token(key.encode("latin-1"))),
    ]
    deflate = PerMessageDeflate()
    try:
        wanted = [offer.strip() for line in offers for offer in line.decode("ascii").split(",")]
        agreed = server_extensions_handshake(wanted, [deflate])
    except ValueError as error:
        # What an offer says is not a number, or not ASCII.
        raise refused(400, "An extension is not offered as it should be.", "api_error") from error
    if agreed is None:
        return fields, []
    return [*fields, (b"Sec-WebSocket-Extensions", agreed)], [deflate]

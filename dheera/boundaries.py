"""
What one room may rely on in another. Protocols and the values that they speak in; no logic.
"""

from __future__ import annotations

from typing import Protocol

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress


@frozen(kw_only=True)
class Caller:
    """
    What a request says, and the network knows, of who sends it.

    :param credential: the bearer or key offered, or ``None``.
    :param peer: the other end of the connection.
    :param host: the ``Host`` header, empty if there is none.
    :param origin: the ``Origin`` header that browsers send, empty if there is none.
    :param cross_site: a browser says that a page of another site makes it ask (``Sec-Fetch-Site``).
    :param forwarded: another proxy says that it speaks for somebody.
    """

    credential: bytes | None = field(repr=False)
    peer: IAddress
    host: bytes
    origin: bytes
    cross_site: bool
    forwarded: bool


@frozen(kw_only=True)
class Admission:
    """
    That a caller may go on, and as whom.

    :param alias: a name for logs; never a secret.
    """

    alias: str


class Gate(Protocol):
    """
    Decides who may call.
    """

    def admit(self, caller: Caller) -> Deferred[Admission]:
        """
        Let *caller* in.

        :return: fails with a ``Refusal`` that says what to do.
        """
        ...

    def describe(self) -> str:
        """
        One line for the log at start: who will be let in.
        """
        ...

"""
What the sinks of vendors have in common: settings that the vendor's own environment variables fill, and batches that
are larger than what the vendor takes at once.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from attrs import define, field

from dheera import kinds
from dheera.config import ConfigurationError
from dheera.keys import Secret
from dheera.sinks.contract import Tools

T = TypeVar("T")


@define(eq=False, kw_only=True)
class Table:
    """
    A sink's table of the configuration, with what stands in for it, and what is found to be wrong with it.
    """

    environment: Mapping[str, str] = field(repr=False)
    _problems: dict[str, str] = field(factory=dict, init=False)

    @classmethod
    @contextmanager
    def of(cls, tools: Tools) -> Iterator[Table]:
        """
        The table that is read with these tools. What is made of it within the block is worth nothing if any of it is
        refused, and is let go at its end.

        :raises ConfigurationError: at the end, with all that was refused.
        """
        table = cls(environment=tools.environment)
        yield table
        if table._problems:
            raise table.refusal()

    def text(self, said: str, *variables: str) -> str:
        """
        What the table says, or else the first variable that says something; "" if none does.
        """
        return said or next((self.environment[each] for each in variables if self.environment.get(each)), "")

    def secret(self, said: Secret | None, *variables: str) -> Secret | None:
        """
        As `text`, of what is not shown.
        """
        text = self.text(said.reveal() if said else "", *variables)
        return Secret(text) if text else None

    def url(self, setting: str, said: str, *variables: str) -> str:
        """
        The URL of a server, without a slash at the end; "", and refused, if there is none, or it is no URL.
        """
        found = self.text(said, *variables)
        if not found:
            self.refuse(setting, f"wanted {kinds.API_BASE.wanted}{_or_in(variables)}")
            return ""
        try:
            return str(kinds.API_BASE.read(found)).rstrip("/")
        except kinds.Unfit as unfit:
            self.refuse(setting, kinds.API_BASE.problem(found, unfit))
            return ""

    def token(self, setting: str, said: Secret | None, *variables: str) -> Secret:
        """
        A credential that stands in a header line; empty, and refused, if there is none, or it cannot stand there.
        """
        found = self.secret(said, *variables)
        if found is None:
            self.refuse(setting, f"wanted {kinds.KEY.wanted}{_or_in(variables)}")
            return Secret("")
        try:
            kinds.KEY.read(found.reveal())
        except kinds.Unfit as unfit:
            self.refuse(setting, kinds.KEY.problem(found.reveal(), unfit))
            return Secret("")
        return found

    def refuse(self, setting: str, problem: str) -> None:
        """
        Say what is wrong with a setting; whoever reads the configuration says of which sink. What is said of the same
        setting later only follows from that, and is passed over.
        """
        self._problems.setdefault(setting, f"{setting}: {problem}")

    def refusal(self) -> ConfigurationError:
        """
        All that was refused, to be raised by those who cannot go on.
        """
        return ConfigurationError(list(self._problems.values()))


def _or_in(variables: tuple[str, ...]) -> str:
    return f", here or in {' or '.join(variables)}" if variables else ""


def basic(user: str, password: Secret) -> str:
    """
    The value of an ``Authorization`` header for *user* (RFC 7617).
    """
    return f"Basic {b64encode(f'{user}:{password.reveal()}'.encode()).decode('ascii')}"


def pieces(items: Iterable[tuple[T, int]], *, most: int, most_bytes: int) -> Iterator[list[T]]:
    """
    *items*, in their order, in as few lists as the limits allow. One that is too large is alone.

    :param items: each with its size in bytes.
    """
    piece: list[T] = []
    total = 0
    for item, size in items:
        if piece and (len(piece) == most or total + size > most_bytes):
            yield piece
            piece, total = [], 0
        piece.append(item)
        total += size
    if piece:
        yield piece

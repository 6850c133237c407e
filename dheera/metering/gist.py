"""
What the documents of a stream have told so far.
"""

from __future__ import annotations

from attrs import define

from dheera.metering.documents import Document
from dheera.metering.quantities import added
from dheera.usage import Part, Reading, Usage

_MOST_TRIES = 64


@define(eq=False)
class Gist:
    """
    Of the model and the errors, what was told first; of the usage, what was told last, or all of it.

    :param bills: the usage that is told is the stream's own; if not, it is not read.
    :param sums: each usage that is told is of something else.
    :ivar events: how many there were.
    """

    bills: bool = True
    sums: bool = False
    events: int = 0
    _model: str | None = None
    _used: Usage | None = None
    _error: str | None = None
    _tries_left: int = _MOST_TRIES

    @property
    def looks_for_model(self) -> bool:
        """
        Whether none is known yet. After some tries it is not worth the time.
        """
        return self._model is None and self._tries_left > 0

    def asks_for_model(self, content: bytes) -> bool:
        """
        Whether *content* may name the model, and that is looked for.
        """
        if not self.looks_for_model or b'"model"' not in content:
            return False
        self._tries_left -= 1
        return True

    def learn(self, document: Document, event: str | None = None, *, has_usage: bool = True) -> None:
        """
        Take in what *document* tells.

        :param event: its name as an event.
        :param has_usage: whatever usage it tells is meant to be read.
        """
        self._model = self._model or document.named_model()
        self._error = self._error or document.blamed(event)
        used = document.used() if self.bills and has_usage else None
        if used is not None:
            self._used = added(self._used, used) if self.sums and self._used is not None else used

    def reading(self) -> Reading:
        """
        What is known so far.
        """
        parts = [] if self._used is None else [Part(model=self._model, usage=self._used)]
        return Reading(model=self._model, parts=parts, events=self.events, error=self._error)

"""
A coroutine on its way: as `Deferred.fromCoroutine`, but for what an exchange does without. That copies a context for
each, and looks for generators: this takes 25,000 instructions less of the 400,000 of an exchange in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from dheera.wire.awaited import Awaited


@define(eq=False)
class Progress:
    """
    Goes on whenever what the coroutine awaits has fired: a Deferred, or a coroutine that awaits such.

    :param failed: told of what it raises.
    :ivar is_over: it has ended, in whatever way.
    """

    _coroutine: Coroutine[Deferred[object], None, None]
    _failed: Callable[[Failure], object]
    is_over: bool = field(default=False, init=False)
    _awaited: Deferred[object] | None = field(default=None, init=False)
    _end: Deferred[None] | None = field(default=None, init=False)

    def begin(self) -> None:
        """
        Go as far as it can go now.
        """
        self._go_on(None)

    def cancel(self) -> None:
        """
        Cancel what it waits for. The coroutine hears of it there, and may still go on.
        """
        if self._awaited is not None:
            self._awaited.cancel()

    def end(self) -> Deferred[None]:
        """
        :return: the one that fires when it is over, even if it fails.
        """
        if self._end is None:
            self._end = succeed(None) if self.is_over else Deferred()
        return self._end

    def _go_on(self, result: object) -> None:
        self._awaited = None
        coroutine = self._coroutine
        try:
            # A value it takes from the Deferred, which does not have the failure of a callback under way.
            awaited = (
                result.throwExceptionIntoGenerator(coroutine) if isinstance(result, Failure) else coroutine.send(None)
            )
        except StopIteration:
            failure = None
        except BaseException:  # noqa: BLE001 - it is told
            failure = Failure()
        else:
            self._awaited = awaited
            if isinstance(awaited, Awaited):
                awaited.tell(self._go_on)
            else:
                awaited.addBoth(self._go_on)
            return
        self.is_over = True
        if failure is not None:
            self._failed(failure)
        if self._end is not None:
            self._end.callback(None)

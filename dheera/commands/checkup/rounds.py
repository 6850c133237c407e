"""
All checks at the same time, each bounded, told in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from threading import Thread
from typing import Any, TypeAlias, TypeVar

import click
from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, TimeoutError  # noqa: A004 - Twisted's name
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dheera.commands.checkup.findings import Finding

Look: TypeAlias = Callable[[], Coroutine[Any, Any, Sequence[Finding]]]
Result = TypeVar("Result")


@frozen(kw_only=True)
class Check:
    """
    Something that can be looked at.

    :param hangs: what to do if it takes no end.
    """

    name: str
    look: Look
    hangs: str


def examine(
    reactor: IReactorTime, checks: Sequence[Check], seconds: float, tell: Callable[[Finding], None]
) -> Deferred[list[Finding]]:
    """
    Do all checks.

    :param seconds: that each may take.
    :param tell: is told each finding as soon as those of the checks before it are told.
    """
    return Deferred.fromCoroutine(_examine(reactor, checks, seconds, tell))


async def _examine(
    reactor: IReactorTime, checks: Sequence[Check], seconds: float, tell: Callable[[Finding], None]
) -> list[Finding]:
    all_of_them: list[Finding] = []
    for looking in [Deferred.fromCoroutine(_look(reactor, each, seconds)) for each in checks]:
        for finding in await looking:
            all_of_them.append(finding)
            tell(finding)
    return all_of_them


async def _look(reactor: IReactorTime, check: Check, seconds: float) -> Sequence[Finding]:
    try:
        return await Deferred.fromCoroutine(check.look()).addTimeout(seconds, reactor)
    except TimeoutError:
        return [Finding.fail(check.name, f"did not end within {seconds:g} seconds", check.hangs)]
    except Exception as error:  # noqa: BLE001 - the others go on; its text may hold anything, and is not told
        bug = f"a bug of this check ({type(error).__name__})"
        return [Finding.fail(check.name, bug, "Nothing is known of it: tell whoever makes dheera.")]


def on_thread(reactor: Any, work: Callable[[], Result]) -> Deferred[Result]:
    """
    What *work* returns, which may block for ever: nobody waits for its thread, not even the end of the process.
    """

    def work_and_tell() -> None:
        result: Result | Failure
        try:
            result = work()
        except Exception:  # noqa: BLE001 - it is whoever waits who knows what to do
            result = Failure()
        reactor.callFromThread(tell, result)

    def tell(result: Result | Failure) -> None:
        if not done.called:
            done.callback(result)

    done: Deferred[Any] = Deferred(lambda cancelled: cancelled.errback(CancelledError()))
    Thread(target=work_and_tell, daemon=True).start()
    return done


def turn(reactor: Any, work: Callable[[], Deferred[Result]]) -> Result:
    """
    Turn the reactor, which can be done once, until *work* is done.

    :raises click.Abort: somebody has pressed Ctrl-C.
    """
    results: list[Any] = []

    def finish(result: Any) -> None:
        results.append(result)
        reactor.stop()

    reactor.callWhenRunning(lambda: work().addBoth(finish))
    reactor.run()
    if not results:
        raise click.Abort
    result = results[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result  # type: ignore[no-any-return]  # of what the Deferred fired with

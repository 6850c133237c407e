"""
One worker: watched, told, and started again.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from dheera.children import READY, Child, Exit
from dheera.errors import CannotStart
from dheera.succession import PATIENCE_SECONDS
from dheera.supervisor.worker import Worker
from tests.house import Overheard


class Puppet(Child):
    """
    A process that does what the test says, and knows what it was told.
    """

    def __init__(self, said: Callable[[str], None], ended: Callable[[Exit], None]) -> None:
        super().__init__(said, ended, None)
        self.say = said
        self.told: list[object] = []
        self._tell_end = ended

    def signal(self, number: int) -> None:
        self.told.append(signal.Signals(number).name)

    def release(self, word: str) -> None:
        self.told.append(word)

    def end(self, code: int = 0) -> None:
        gone, self._gone = self._gone or [], None
        self._tell_end(Exit(code))
        for each in gone:
            each.callback(None)


class WorkerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.puppets: list[Puppet] = []
        self.problem: OSError | None = None
        self.withdrawals: list[int] = []
        self.worker = Worker(self.clock, 2, self.launch, self.withdraw)
        self.heard = Overheard.by(self)

    def launch(self, said: Callable[[str], None], ended: Callable[[Exit], None]) -> Puppet:
        if self.problem is not None:
            raise self.problem
        self.puppets.append(Puppet(said, ended))
        return self.puppets[-1]

    def withdraw(self) -> None:
        self.withdrawals.append(len(self.puppets))

    def serving(self) -> Puppet:
        """
        It has started.
        """
        starting = self.worker.start()
        self.assertNoResult(starting)
        self.puppets[0].say(READY)
        self.successResultOf(starting)
        return self.puppets[0]


class StartTests(WorkerCase):
    def test_other_words(self) -> None:
        """
        Only READY=1 means that it serves.
        """
        starting = self.worker.start()
        for each in "STATUS=READY=1", "READY=0", "WATCHDOG=1":
            self.puppets[0].say(each)
        self.assertNoResult(starting)

    def test_ends_before(self) -> None:
        """
        One that ends before it serves cannot start; nothing is tried again.
        """
        starting = self.worker.start()
        self.puppets[0].end(2)
        failure = self.failureResultOf(starting, CannotStart)
        self.assertEqual("worker 2 ended before it could serve (exit code 2)", failure.getErrorMessage())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_slow(self) -> None:
        """
        The first may take as long as it likes: whoever has started the supervisor waits for it.
        """
        starting = self.worker.start()
        self.clock.advance(10 * PATIENCE_SECONDS)
        self.assertEqual([], self.puppets[0].told)
        self.puppets[0].say(READY)
        self.successResultOf(starting)

    def test_no_program(self) -> None:
        """
        Nor can one whose program is not there.
        """
        self.problem = FileNotFoundError(2, "No such file or directory")
        failure = self.failureResultOf(self.worker.start(), CannotStart)
        self.assertIn("No such file or directory", failure.getErrorMessage())


class DeathTests(WorkerCase):
    def test_again(self) -> None:
        """
        One that dies is replaced after a delay that grows from 0.1 s to 10 s, and the log says how it ended.
        """
        self.serving().end(-signal.SIGKILL)
        for delay in 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0:
            before = len(self.puppets)
            self.clock.advance(delay - 0.01)
            self.assertEqual(before, len(self.puppets))
            self.clock.advance(0.02)
            self.assertEqual(before + 1, len(self.puppets))
            self.puppets[-1].end(1)
        [first, *others] = self.heard.lines(LogLevel.critical)
        self.assertIn("Worker 2 ended (SIGKILL); another one is started in 0.1 s", first)
        self.assertIn("Worker 2 ended before it could serve (exit code 1)", others[0])

    def test_withdrawn(self) -> None:
        """
        When a new one ends before it serves, twice in a row, others get its connections from then on; those of one
        that comes back at once wait for it.
        """
        self.serving().end(1)
        self.clock.advance(0.1)
        self.puppets[-1].end(2)
        self.assertEqual([], self.withdrawals)
        self.clock.advance(0.2)
        self.puppets[-1].end(2)
        self.assertEqual([3], self.withdrawals)
        self.assertIn("The other workers get new connections until worker 2 serves", self.heard.lines()[-1])

    def test_does_not_start(self) -> None:
        """
        One that has not come to serve after a minute is killed, and others get its connections.
        """
        self.serving().end(1)
        self.clock.advance(0.1)
        self.clock.advance(PATIENCE_SECONDS - 1)
        self.assertEqual([], self.puppets[-1].told)
        self.clock.advance(1)
        self.assertEqual(["SIGKILL"], self.puppets[-1].told)
        self.assertIn("Worker 2 does not serve after 60 s", self.heard.lines(LogLevel.error)[-1])
        self.puppets[-1].end(-signal.SIGKILL)
        self.assertEqual([2], self.withdrawals)
        self.clock.advance(10)
        self.puppets[-1].say(READY)
        self.assertEqual(True, self.worker.serves)
        self.clock.advance(20)
        self.puppets[-1].say("WATCHDOG=1")
        self.clock.advance(29)
        self.puppets[-1].say("WATCHDOG=1")
        self.clock.advance(29)
        self.assertEqual([], self.puppets[-1].told)

    def test_does_not_serve(self) -> None:
        """
        One that is dead does not serve.
        """
        self.serving().end(1)
        self.assertEqual(False, self.worker.serves)

    def test_settled(self) -> None:
        """
        One that has lived for a minute is replaced as fast as the first.
        """
        self.serving().end(1)
        self.clock.advance(0.1)
        self.puppets[-1].end(1)
        self.clock.advance(0.2)
        self.puppets[-1].say(READY)
        for _ in range(6):
            self.clock.advance(10)
            self.puppets[-1].say("WATCHDOG=1")
        self.puppets[-1].end(1)
        self.clock.advance(0.1)
        self.assertEqual(4, len(self.puppets))

    def test_program_is_gone(self) -> None:
        """
        If it cannot be started again now, it is tried again later.
        """
        self.serving().end(1)
        self.problem = FileNotFoundError(2, "No such file or directory")
        self.clock.advance(0.1)
        self.problem = None
        self.clock.advance(0.2)
        self.assertEqual(2, len(self.puppets))

    def test_silent(self) -> None:
        """
        One that gives no sign of life for 30 s is killed; each sign gives it 30 s more.
        """
        puppet = self.serving()
        self.clock.advance(29)
        puppet.say("WATCHDOG=1")
        self.clock.advance(29)
        self.assertEqual([], puppet.told)
        self.clock.advance(1)
        self.assertEqual(["SIGKILL"], puppet.told)
        puppet.end(-signal.SIGKILL)
        self.clock.advance(0.1)
        self.assertEqual(2, len(self.puppets))


class StopTests(WorkerCase):
    def test_stop(self) -> None:
        """
        It is told to stop and waited for as long as it takes; then it is not started again.
        """
        puppet = self.serving()
        stopping = self.worker.stop()
        self.worker.hurry()
        self.assertEqual(["SIGTERM", "SIGTERM"], puppet.told)
        puppet.say("STOPPING=1")
        self.clock.advance(3600)
        self.assertNoResult(stopping)
        puppet.end()
        self.successResultOf(stopping)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([], self.heard.lines(LogLevel.warn))
        self.worker.hurry()

    def test_relieve(self) -> None:
        """
        One whose place is taken is told so, and not that it stop.
        """
        puppet = self.serving()
        relieving = self.worker.relieve()
        self.assertEqual(["RELIEVED"], puppet.told)
        puppet.end(1)
        self.successResultOf(relieving)
        [line] = self.heard.lines(LogLevel.warn)
        self.assertIn("Worker 2 ended while it stopped (exit code 1)", line)

    def test_stop_between_lives(self) -> None:
        """
        One that is dead when it is stopped stays so.
        """
        self.serving().end(1)
        self.successResultOf(self.worker.stop())
        self.clock.advance(3600)
        self.assertEqual(1, len(self.puppets))


class ReloadTests(WorkerCase):
    def test_reload(self) -> None:
        """
        One that serves is told at once; READY=1 that follows is no second start.
        """
        puppet = self.serving()
        self.worker.reload()
        puppet.say(READY)
        self.assertEqual(["SIGHUP"], puppet.told)

    def test_reload_while_it_starts(self) -> None:
        """
        One that does not serve yet, and may have read the old configuration, is told when it does.
        """
        self.worker.start()
        self.worker.reload()
        self.assertEqual([], self.puppets[0].told)
        self.puppets[0].say(READY)
        self.assertEqual(["SIGHUP"], self.puppets[0].told)

    def test_reload_between_lives(self) -> None:
        """
        One that is yet to be started reads the new configuration by itself.
        """
        self.serving().end(1)
        self.worker.reload()
        self.clock.advance(0.1)
        self.puppets[1].say(READY)
        self.assertEqual([], self.puppets[1].told)

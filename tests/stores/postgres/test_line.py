from __future__ import annotations

from twisted.internet.error import ConnectionDone

from dheera.stores.database import Step
from dheera.stores.postgres.line import Line
from tests.postgres import OnPostgres


class HastyLine(Line):
    """
    Is hung up in the very moment in which it is there.
    """

    def continuePolling(self, swallowErrors: bool = False) -> None:  # noqa: FBT001, FBT002, N802, N803 - its signature
        super().continuePolling(swallowErrors)
        if self._pollingD is None:
            self.hang_up()


class LineTests(OnPostgres):
    async def test_hung_up_at_once(self) -> None:
        """
        A connection that is closed when it has just been made fails as any other, and leaves nothing behind.
        """
        line = HastyLine(self.reactor)
        await self.fails(ConnectionDone, line.connect(self.server.url(self.name)))
        self.assertFalse(line.is_open())
        line.hang_up()

    async def test_cut_while_sending(self) -> None:
        """
        A connection that breaks while much is being sent leaves nothing behind in the reactor.
        """
        street = self.street()
        database = await self.opened(port=street.port, connections=1)
        street.block()
        asking = database.run([Step("select length(:text)", {"text": "x" * 30_000_000})], changes=[])
        await self.eventually(lambda: len(self.reactor.getWriters()) > 0, "it waits to send more")
        street.cut()
        street.block(blocked=False)
        # Sent once more on a new connection: nothing was committed.
        self.assertEqual([[(30_000_000,)]], await asking)

    async def test_never_connected(self) -> None:
        """
        What was never connected can be hung up.
        """
        line = Line(self.reactor)
        line.hang_up()
        self.assertFalse(line.is_open())

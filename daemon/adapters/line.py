"""One connection to a provider, between whose replies nothing may come."""

import asyncio

from aiohttp.client_proto import ResponseHandler

from daemon.adapters.incoming import Incoming


class Line(ResponseHandler):
    """What aiohttp's connector makes and keeps, and speaks to proxies with; the replies themselves are our own to read."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._incoming: Incoming | None = None
        self._resting = False

    def listen(self) -> Incoming:
        """What comes from now on is the reply."""
        self._incoming, self._resting = Incoming(), False
        return self._incoming

    def rest(self) -> None:
        """Until the next request nothing is asked, and what comes all the same would pass for its answer."""
        self._incoming, self._resting = None, True

    def data_received(self, data: bytes) -> None:
        if self._incoming is not None:
            self._incoming.feed(data)
        elif self._resting:
            self.abort()
        else:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._incoming is not None:
            self._incoming.lost(exc)
        super().connection_lost(exc)
